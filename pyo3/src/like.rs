//! Results as arrays of the caller's library.

use dlbridge::{MemoryFormat, Tensor};
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;

use crate::clone::{clone, detach_if_large};
use crate::copies::{new_ndarray, to_library_of};
use crate::error::buffer_error;
use crate::export::{numpy, torch};
use crate::export_policy::StrideClass;
use crate::import;
use crate::known_types::{NDARRAY, NUMPY_NUMBER, TORCH_TENSOR};
use crate::py_tensor::PyTensor;
use crate::tensor_object::TensorObject;
use crate::torch_owner::check_owner_address;

/// Converts `result` to an array of the library of `original`.
pub fn like<'py>(
    original: &Bound<'py, PyAny>,
    result: impl Into<PyTensor>,
) -> PyResult<Bound<'py, PyAny>> {
    like_tensor(original, result.into().into_tensor(original.py())?)
}

fn like_tensor<'py>(original: &Bound<'py, PyAny>, result: Tensor) -> PyResult<Bound<'py, PyAny>> {
    let py = original.py();
    if NDARRAY.is_type_of(original) || NUMPY_NUMBER.is_type_of(original) {
        return owned_by_numpy(py, result);
    }
    let of_torch = TORCH_TENSOR.is_type_of(original);
    let object = |tensor| TensorObject::new(tensor).into_bound(py);
    // PyTorch has no negative strides and no read-only memory.
    let negative = StrideClass::of(&result) == StrideClass::Negative;
    let shared = object(if negative { clone(py, &result)? } else { result })?;
    let read_only = shared.get().tensor().is_shared_read_only();
    if of_torch {
        let writable = if read_only { object(clone(py, shared.get().tensor())?)? } else { shared };
        return torch::to_torch(&writable);
    }
    match to_library_of(original, shared.clone()) {
        Err(error) if read_only && error.is_instance_of::<PyBufferError>(py) => {
            to_library_of(original, object(clone(py, shared.get().tensor())?)?)
        }
        converted => converted,
    }
}

/// Copies `tensor` into a new NumPy array, which owns its memory.
fn owned_by_numpy(py: Python<'_>, tensor: Tensor) -> PyResult<Bound<'_, PyAny>> {
    let shared = TensorObject::new(tensor).into_bound(py)?;
    let source = shared.get().tensor();
    let new = new_ndarray(&numpy::to_numpy(&shared)?, MemoryFormat::Preserve)?;
    let target = import::share(&new)?;
    let copy = || {
        // SAFETY: `target` must not be in use by other code: NumPy just made it, and returned it
        // only to this function. If NumPy returned another array, it is checked for its shape, for
        // being writable, and for sharing memory with `source`.
        unsafe { source.copy_into_new_unchecked(&target) }
    };
    check_owner_address(py, source)?;
    detach_if_large(py, source, &target, copy).map_err(buffer_error)?;
    Ok(new)
}
