//! Imports the struct in a capsule.

use std::ffi::CStr;
use std::ptr::NonNull;

use dlbridge::Tensor;
use dlbridge::ffi::{DLManagedTensor, DLManagedTensorVersioned};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::capsule::CapsuleStruct;
use crate::device;
use crate::error::buffer_error;

/// Consumes the struct in a capsule. If the struct is refused, it is released here, because the
/// capsule does not own it any more.
pub(super) fn consume(capsule: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    if let Some(tensor) = consume_struct::<DLManagedTensorVersioned>(capsule)? {
        return Ok(tensor);
    }
    if let Some(tensor) = consume_struct::<DLManagedTensor>(capsule)? {
        return Ok(tensor);
    }
    Err(no_tensor_in(capsule)?)
}

/// The error for an object that is not a capsule of DLPack's, or one whose struct was consumed.
#[cold]
fn no_tensor_in(capsule: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    // SAFETY: the object must be alive, as a `Bound` is.
    if unsafe { ffi::PyCapsule_CheckExact(capsule.as_ptr()) } == 0 {
        let class = capsule.get_type().fully_qualified_name()?;
        return Ok(PyTypeError::new_err(format!("__dlpack__ gave '{class}', not a capsule")));
    }
    // SAFETY: the object must be a capsule, as was checked above; its name may be NULL.
    let name = unsafe { ffi::PyCapsule_GetName(capsule.as_ptr()) };
    let name = match NonNull::new(name.cast_mut()) {
        // SAFETY: the pointer must be that of a C string which lives until `name` is dropped: a
        // capsule's name does, and nothing renames the capsule meanwhile.
        Some(name) => unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy(),
        None => "NULL".into(),
    };
    let used = [DLManagedTensor::USED_NAME, DLManagedTensorVersioned::USED_NAME];
    Ok(PyValueError::new_err(if used.iter().any(|used| name == used.to_string_lossy()) {
        "the capsule was consumed already: ask the producer's __dlpack__ for another".to_owned()
    } else {
        format!("a capsule of name '{name}' holds no DLPack tensor")
    }))
}

/// Consumes the struct `M` in a capsule; `None` if the object is not a capsule of such a struct.
fn consume_struct<M: CapsuleStruct>(capsule: &Bound<'_, PyAny>) -> PyResult<Option<Tensor>> {
    // SAFETY: the object must be alive, as a `Bound` is; it may be of any type.
    if unsafe { ffi::PyCapsule_IsValid(capsule.as_ptr(), M::NAME.as_ptr()) } == 0 {
        return Ok(None);
    }
    // SAFETY: the object must be a capsule of this name, as was checked above.
    let raw = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), M::NAME.as_ptr()) };
    let Some(raw) = NonNull::new(raw.cast::<M>()) else { return Err(PyErr::fetch(capsule.py())) };
    if !raw.is_aligned() {
        return Err(PyBufferError::new_err("the capsule's struct is misaligned"));
    }
    // The capsule is renamed first, so that at every moment exactly one of the two is to release
    // the struct.
    // SAFETY: the object must be a capsule, as was checked above, and the name must outlive it, as
    // a constant does.
    if unsafe { ffi::PyCapsule_SetName(capsule.as_ptr(), M::USED_NAME.as_ptr()) } != 0 {
        return Err(PyErr::fetch(capsule.py()));
    }
    // SAFETY: `raw` must be a valid struct that nothing else owns: DLPack's rule for capsules of
    // this name, and the capsule was just renamed. The producer guarantees what the struct says,
    // and no Rust view of the memory is made in this crate.
    let tensor = unsafe { M::consume(raw) }.map_err(buffer_error)?;
    let (device, dtype) = (tensor.device(), tensor.dtype());
    if !device::is_known(device) {
        return Err(PyBufferError::new_err(format!(
            "DLPack has no device of type {}",
            device.device_type
        )));
    }
    if !dtype.is_known() {
        return Err(PyBufferError::new_err(format!("DLPack has no elements of type {dtype}")));
    }
    Ok(Some(tensor))
}
