//! In: whatever an object offers, best offer first.

mod buffer;
mod interface;
mod protocol;

pub(crate) use buffer::from_bytes;
use protocol::Request;

use dlbridge::{Access, Tensor};
use pyo3::exceptions::{PyAttributeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::capsule;
use crate::copies;
use crate::device::TargetDevice;
use crate::library::{self, NDARRAY, NUMPY_NUMBER, TORCH_TENSOR};
use crate::numpy::{self, Refused};
use crate::tensor::PyTensor;
use crate::torch;

/// Shares an object's memory.
#[inline]
pub(crate) fn share(object: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    if NDARRAY.is_known_class_of(object) {
        return numpy::share(object).map_err(Refused::into_export_error);
    }
    if TORCH_TENSOR.is_known_class_of(object)
        && let Some(tensor) = torch::share(object)?
    {
        return Ok(tensor);
    }
    share_other(object, Request::default())
}

fn share_other(object: &Bound<'_, PyAny>, request: Request) -> PyResult<Tensor> {
    let py = object.py();
    if let Ok(tensor) = object.cast_exact::<PyTensor>() {
        return Ok(tensor.get().tensor().share());
    }
    if library::refresh(py) {
        return import(object, request);
    }
    if let Some(target) = library::behind_proxy(object)? {
        return import(&target, request);
    }
    // SAFETY: a live object.
    if unsafe { ffi::PyCapsule_CheckExact(object.as_ptr()) } != 0 {
        return capsule::take(object);
    }
    if object.is_instance_of::<PyType>() {
        let name = object.cast::<PyType>()?.fully_qualified_name()?;
        return Err(PyTypeError::new_err(format!("expected an array, got the class {name}")));
    }
    if NDARRAY.is_class_of(object) {
        numpy::refuse_mask(object)?;
    } else if TORCH_TENSOR.is_class_of(object) {
        torch::look_at(object)?;
    } else if NUMPY_NUMBER.is_class_of(object) {
        if request.copy == Some(false) {
            return Err(PyValueError::new_err(
                "a number of NumPy's has no memory to share: leave copy out",
            ));
        }
        return numpy::share_number(object);
    }
    if object.hasattr(intern!(py, "__dlpack__"))? {
        return protocol::share(object, request);
    }
    // SAFETY: a live object.
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
        "'{class}' object has no attribute '__dlpack__', is no buffer, and has no '__array_interface__'{remedy}"
    )))
}

/// Shares an object's memory, or copies it, as asked.
fn import(object: &Bound<'_, PyAny>, request: Request) -> PyResult<Tensor> {
    if NDARRAY.is_known_class_of(object) || TORCH_TENSOR.is_known_class_of(object) {
        share(object)
    } else {
        share_other(object, request)
    }
}

/// Shares the memory of an array that is to be written: of the array itself, not of a copy that its `__dlpack__`
/// makes.
pub(crate) fn share_to_write(object: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    import(object, Request { target: None, copy: Some(false) })
}

/// `dlbridge.from_dlpack`.
#[inline]
pub(crate) fn from_dlpack(
    object: &Bound<'_, PyAny>,
    device: Option<&Bound<'_, PyAny>>,
    copy: Option<&Bound<'_, PyAny>>,
) -> PyResult<Tensor> {
    if device.is_none() && copy.is_none() {
        return share(object);
    }
    from_dlpack_as_asked(object, device, copy)
}

#[cold]
fn from_dlpack_as_asked(
    object: &Bound<'_, PyAny>,
    device: Option<&Bound<'_, PyAny>>,
    copy: Option<&Bound<'_, PyAny>>,
) -> PyResult<Tensor> {
    let py = object.py();
    // SAFETY: a live object.
    if unsafe { ffi::PyCapsule_CheckExact(object.as_ptr()) } != 0 {
        return Err(PyValueError::new_err(
            "a capsule is what its producer made it: device and copy are for objects with __dlpack__",
        ));
    }
    let target = device.map(TargetDevice::parse).transpose()?;
    let copy = copy.map(copies::flag).transpose()?;
    let request = Request { target, copy };
    let tensor = import(object, request)?;
    if let Some(target) = target
        && !target.holds(tensor.device())
    {
        if copy == Some(false) {
            return Err(PyValueError::new_err(format!(
                "the memory is on {} and can't be on {target} without a copy: leave copy out",
                tensor.device()
            )));
        }
        return target.receive(py, tensor);
    }
    // A producer on another device was asked to copy. Otherwise nobody does it faster than we do.
    let asked = !tensor.device().is_host()
        && !object.is_exact_instance_of::<PyTensor>()
        && object.hasattr(intern!(py, "__dlpack__"))?;
    if copy == Some(true) && !asked && tensor.access() != Access::Exclusive {
        return copies::clone(py, &tensor);
    }
    Ok(tensor)
}
