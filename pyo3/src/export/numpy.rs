//! Exports a tensor as a NumPy array, without linking NumPy: through the buffer protocol.

#![forbid(unsafe_code)]

use dlbridge::{DType, Tensor};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::buffer::memoryview;
use crate::dtype;
use crate::numpy_asarray::numpy_asarray;
use crate::numpy_registry;
use crate::tensor_object::TensorObject;

/// Makes an array that shares the memory of `tensor`.
pub(crate) fn to_numpy<'py>(tensor: &Bound<'py, TensorObject>) -> PyResult<Bound<'py, PyAny>> {
    let py = tensor.py();
    let this = tensor.get().tensor();
    if !this.device().is_host() {
        return Err(PyTypeError::new_err(format!(
            "can't convert {} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to \
             host memory first.",
            this.device()
        )));
    }
    if dtype::format(this.dtype()).is_some() {
        return as_array(tensor);
    }
    let (bits, class) = match numpy_registry::imported_as(py, this.dtype())? {
        Some(registered) => (integers_like(this)?, registered),
        None => {
            if !dtype::is_ml_dtypes(this.dtype()) {
                return Err(unsupported(this.dtype(), ""));
            }
            let bits = integers_like(this)?;
            let ml_dtypes = py.import(intern!(py, "ml_dtypes")).map_err(|_| {
                unsupported(this.dtype(), ": NumPy has it only with the package ml_dtypes")
            })?;
            let name = this.dtype().to_string();
            let class = ml_dtypes.getattr(name.as_str());
            (bits, class.map_err(|_| unsupported(this.dtype(), ""))?)
        }
    };
    let integers = as_array(&tensor.get().with_dtype(bits)?.into_bound(py)?)?;
    integers.call_method1(intern!(py, "view"), (class,))
}

/// Calls `numpy.asarray` with a memoryview of `tensor`. If it were called with the tensor itself
/// and the tensor exported no buffer, NumPy would call `__array__`, and so this module again.
fn as_array<'py>(tensor: &Bound<'py, TensorObject>) -> PyResult<Bound<'py, PyAny>> {
    numpy_asarray(&memoryview(tensor.as_any())?)
}

/// The unsigned integers as large as the elements of `tensor`.
fn integers_like(tensor: &Tensor) -> PyResult<DType> {
    let dtype = tensor.dtype();
    // Elements of less than a byte have an address only if each is padded to a byte.
    let itemsize = match (dtype.itemsize(), tensor.descriptor().is_padded()) {
        (Some(itemsize), _) if dtype.lanes == 1 => itemsize,
        (None, true) if dtype.lanes == 1 => 1,
        _ => return Err(unsupported(dtype, "")),
    };
    let bits = DType::scalar(1, u8::try_from(8 * itemsize).unwrap_or(0));
    if dtype::format(bits).is_none() {
        return Err(unsupported(dtype, ""));
    }
    Ok(bits)
}

#[cold]
fn unsupported(dtype: DType, remedy: &str) -> PyErr {
    PyTypeError::new_err(format!("Got unsupported ScalarType {dtype}{remedy}"))
}

/// `Tensor.__array__`, which `numpy.asarray` and `numpy.array` call if the buffer protocol is not
/// enough.
pub(crate) fn array<'py>(
    tensor: &Bound<'py, TensorObject>,
    dtype: Option<&Bound<'py, PyAny>>,
    copy: Option<bool>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = tensor.py();
    let array = to_numpy(tensor)?;
    if dtype.is_none() && copy != Some(true) {
        return Ok(array);
    }
    let options = PyDict::new(py);
    options.set_item("dtype", dtype)?;
    options.set_item("copy", copy)?;
    py.import(intern!(py, "numpy"))?.call_method("array", (array,), Some(&options))
}
