//! Import: shares the memory of an object through the best protocol that it offers.

mod base_buffer;
mod buffer;
mod capsule;
mod copy_errors;
mod interface;
pub(crate) mod numpy;
mod protocol;
mod proxy;
mod readable;
pub(crate) mod torch;
mod torch_checks;

pub(crate) use buffer::from_bytes;
pub(crate) use protocol::Request;
pub(crate) use readable::{Readable, readable};
pub(crate) use torch_checks::without_torch_function;

use dlbridge::Tensor;
use pyo3::exceptions::{PyAttributeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::known_types::{self, NDARRAY, NUMPY_NUMBER, TORCH_TENSOR};
use crate::release::ensure_ready;
use crate::tensor_object::TensorObject;
use crate::torch_owner::check_owner_address;
use numpy::Refused;
use torch_checks::Purpose;

/// Shares the memory of `object`.
#[inline]
pub(crate) fn share(object: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    ensure_ready(object.py())?;
    if NDARRAY.is_exact_type_of(object) {
        return numpy::share(object).map_err(Refused::into_export_error);
    }
    if TORCH_TENSOR.is_exact_type_of(object)
        && let Some(tensor) = torch::share(object)?
    {
        return Ok(tensor);
    }
    share_other(object, Request::default())
}

/// Shares the memory of `object`, or has its producer copy it, as `request` says.
pub(crate) fn share_as(object: &Bound<'_, PyAny>, request: Request) -> PyResult<Tensor> {
    if NDARRAY.is_exact_type_of(object) || TORCH_TENSOR.is_exact_type_of(object) {
        return share(object);
    }
    ensure_ready(object.py())?;
    share_other(object, request)
}

/// Shares the memory of an array that is to be written: of the array itself, not of a copy that its
/// `__dlpack__` makes.
pub(crate) fn share_to_write(object: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    share_without_copy(object)
        .map_err(|error| copy_errors::target_error(object, error, Purpose::CopyTo))
}

/// As [`share_to_write`], for an argument of a function of an extension module.
pub(crate) fn share_argument_to_write(object: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    share_without_copy(object)
        .map_err(|error| copy_errors::target_error(object, error, Purpose::WriteTo))
}

fn share_without_copy(object: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    share_as(object, Request { target: None, copy: Some(false) })
}

/// Shares the memory of an argument of a function of an extension module.
#[inline]
pub(crate) fn share_argument(object: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    share(object).map_err(|error| copy_errors::argument_error(object, error))
}

/// Shares the memory of an object that is not of a known class.
fn share_other(object: &Bound<'_, PyAny>, request: Request) -> PyResult<Tensor> {
    if let Ok(tensor) = object.cast_exact::<TensorObject>() {
        let tensor = tensor.get().tensor();
        check_owner_address(object.py(), tensor)?;
        return Ok(tensor.share());
    }
    if known_types::refresh(object.py()) {
        return share_as(object, request);
    }
    if let Some(target) = proxy::target_of(object)? {
        return share_as(&target, request);
    }
    if is_capsule(object) {
        return capsule::consume(object);
    }
    if object.is_instance_of::<PyType>() {
        let name = object.cast::<PyType>()?.fully_qualified_name()?;
        return Err(PyTypeError::new_err(format!("expected an array, got the class {name}")));
    }
    // These checks are missing in the exports of NumPy and PyTorch.
    if NDARRAY.is_type_of(object) {
        numpy::refuse_mask(object)?;
        if numpy::has_own_dlpack(object)? {
            // A capsule would hide the owner of the memory from the garbage collector.
            return numpy::share(object).map_err(Refused::into_export_error);
        }
    } else if TORCH_TENSOR.is_type_of(object) {
        return torch::share_derived(object, request);
    } else if NUMPY_NUMBER.is_type_of(object) {
        if request.copy == Some(false) {
            return Err(PyValueError::new_err(
                "a NumPy scalar has no memory to share: leave copy out",
            ));
        }
        return numpy::share_number(object);
    }
    share_through_protocol(object, request)
}

/// Shares the memory of an object through the first protocol that it has.
fn share_through_protocol(object: &Bound<'_, PyAny>, request: Request) -> PyResult<Tensor> {
    let py = object.py();
    if object.hasattr(intern!(py, "__dlpack__"))? {
        return protocol::share(object, request);
    }
    // SAFETY: the object must be alive, as a `Bound` is.
    if unsafe { ffi::PyObject_CheckBuffer(object.as_ptr()) } != 0 {
        return buffer::share(object);
    }
    if let Some(tensor) = interface::share(object)? {
        return Ok(tensor);
    }
    let class = object.get_type().fully_qualified_name()?;
    let remedy =
        if object.hasattr(intern!(py, "__array__"))? { ": use numpy.asarray()" } else { "" };
    Err(PyAttributeError::new_err(format!(
        "'{class}' object has no attribute '__dlpack__', is no buffer, and has no \
         '__array_interface__'{remedy}"
    )))
}

/// Whether `object` is a capsule.
pub(crate) fn is_capsule(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object must be alive, as a `Bound` is.
    unsafe { ffi::PyCapsule_CheckExact(object.as_ptr()) != 0 }
}
