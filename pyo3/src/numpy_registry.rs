//! NumPy's registry of element types (`numpy.dtypes.register_dlpack_dtype`, NumPy 2.5). Packages
//! register their element types there, so that NumPy's own `from_dlpack` and `__dlpack__` have
//! them.
//!
//! NumPy has no function that reads the registry. It is read by an exchange of an array without
//! elements.

#![forbid(unsafe_code)]

use dlbridge::{DType, Layout, Tensor};
use pyo3::exceptions::{PyBufferError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::error::buffer_error;
use crate::tensor_object::TensorObject;

/// Whether this NumPy has a registry.
fn exists(py: Python<'_>) -> PyResult<bool> {
    static EXISTS: PyOnceLock<bool> = PyOnceLock::new();
    let look = || {
        let dtypes = py.import(intern!(py, "numpy"))?.getattr(intern!(py, "dtypes"))?;
        dtypes.hasattr(intern!(py, "register_dlpack_dtype"))
    };
    EXISTS.get_or_try_init(py, look).copied()
}

/// NumPy's dtype for elements of a type that NumPy does not have itself; `None` if none is
/// registered.
pub(crate) fn imported_as(py: Python<'_>, dtype: DType) -> PyResult<Option<Bound<'_, PyAny>>> {
    if !exists(py)? || dtype.itemsize().is_none() || !dtype.is_known() {
        return Ok(None);
    }
    let layout = Layout::contiguous([0]).map_err(buffer_error)?;
    let empty = Tensor::zeros_with(layout, dtype).map_err(buffer_error)?;
    let empty = TensorObject::new(empty).into_bound(py)?;
    match py.import(intern!(py, "numpy"))?.call_method1(intern!(py, "from_dlpack"), (empty,)) {
        Ok(array) => array.getattr(intern!(py, "dtype")).map(Some),
        Err(error) => none_if_refused(py, error),
    }
}

/// The capsule that NumPy exports for an array of this dtype, without elements; `None` if NumPy
/// refuses the dtype.
pub(crate) fn export_of<'py>(dtype: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = dtype.py();
    if !exists(py)? {
        return Ok(None);
    }
    let empty = py.import(intern!(py, "numpy"))?.call_method1(intern!(py, "empty"), (0, dtype))?;
    match empty.call_method0(intern!(py, "__dlpack__")) {
        Ok(capsule) => Ok(Some(capsule)),
        Err(error) => none_if_refused(py, error),
    }
}

/// `None` for an exception that NumPy raises for element types that DLPack does not have.
fn none_if_refused<T>(py: Python<'_>, error: PyErr) -> PyResult<Option<T>> {
    let refused =
        error.is_instance_of::<PyBufferError>(py) || error.is_instance_of::<PyRuntimeError>(py);
    if refused { Ok(None) } else { Err(error) }
}
