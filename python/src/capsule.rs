//! DLPack's structs in Python's capsules, in and out.
//! <https://dmlc.github.io/dlpack/latest/python_spec.html>

use std::ffi::CStr;
use std::ptr::NonNull;

use dlbridge::ffi::{DLManagedTensor, DLManagedTensorVersioned};
use dlbridge::{Exported, ManagedStruct, Rejected, Tensor};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::device;
use crate::error::buffer_error;
use crate::owner::Pending;

/// A struct that goes into capsules. Their names live as long as any capsule may.
pub(crate) trait Enclosed: ManagedStruct {
    /// The name of a capsule that nobody has taken the struct of.
    const NEW: &'static CStr;
    /// Its name from then on.
    const USED: &'static CStr;

    /// # Safety
    /// * As for `Tensor::from_dlpack`.
    unsafe fn take(raw: NonNull<Self>) -> Result<Tensor, Rejected<Exported<Self>>>;

    /// # Safety
    /// * `this` points to a valid struct.
    unsafe fn deleter_of(this: *const Self) -> Option<unsafe extern "C" fn(*mut Self)>;
}

impl Enclosed for DLManagedTensorVersioned {
    const NEW: &'static CStr = c"dltensor_versioned";
    const USED: &'static CStr = c"used_dltensor_versioned";

    unsafe fn take(raw: NonNull<Self>) -> Result<Tensor, Rejected<Exported<Self>>> {
        // SAFETY: the caller's promise.
        unsafe { Tensor::from_dlpack(raw) }
    }

    unsafe fn deleter_of(this: *const Self) -> Option<unsafe extern "C" fn(*mut Self)> {
        // SAFETY: the caller's promise.
        unsafe { (*this).deleter }
    }
}

impl Enclosed for DLManagedTensor {
    const NEW: &'static CStr = c"dltensor";
    const USED: &'static CStr = c"used_dltensor";

    unsafe fn take(raw: NonNull<Self>) -> Result<Tensor, Rejected<Exported<Self>>> {
        // SAFETY: the caller's promise.
        unsafe { Tensor::from_dlpack_legacy(raw) }
    }

    unsafe fn deleter_of(this: *const Self) -> Option<unsafe extern "C" fn(*mut Self)> {
        // SAFETY: the caller's promise.
        unsafe { (*this).deleter }
    }
}

/// Puts a struct into a capsule, which releases it unless somebody takes it over.
#[inline]
pub(crate) fn enclose<M: Enclosed>(
    py: Python<'_>,
    exported: Exported<M>,
) -> PyResult<Bound<'_, PyAny>> {
    let raw = exported.as_ptr().as_ptr().cast();
    // SAFETY: an address, and a name that lives for ever.
    let capsule = unsafe { ffi::PyCapsule_New(raw, M::NEW.as_ptr(), Some(destroy::<M>)) };
    // SAFETY: a new reference, or NULL with an exception.
    let capsule = unsafe { Bound::from_owned_ptr_or_err(py, capsule) }?;
    let _capsules = exported.into_raw();
    Ok(capsule)
}

/// Destroys a capsule: releases the struct, unless somebody took it over and changed the name.
unsafe extern "C" fn destroy<M: Enclosed>(capsule: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls this for a capsule, attached.
    if unsafe { ffi::PyCapsule_IsValid(capsule, M::NEW.as_ptr()) } == 0 {
        return;
    }
    // SAFETY: a capsule of this name.
    let raw = unsafe { ffi::PyCapsule_GetPointer(capsule, M::NEW.as_ptr()) }.cast::<M>();
    // SAFETY: the interpreter calls destructors attached.
    let py = unsafe { Python::assume_attached() };
    let _pending = Pending::put_aside(py);
    // SAFETY: a valid capsule holds a struct, which is its own while it has its first name.
    if let Some(deleter) = unsafe { M::deleter_of(raw) } {
        // SAFETY: likewise; destroyed once.
        unsafe { deleter(raw) };
    }
}

/// Takes over what is in a capsule. The struct is released when it is refused, because then nobody else
/// would: the capsule has given it up by then.
pub(crate) fn take(capsule: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    if let Some(tensor) = take_struct::<DLManagedTensorVersioned>(capsule)? {
        return Ok(tensor);
    }
    if let Some(tensor) = take_struct::<DLManagedTensor>(capsule)? {
        return Ok(tensor);
    }
    // SAFETY: a live object.
    if unsafe { ffi::PyCapsule_CheckExact(capsule.as_ptr()) } == 0 {
        let class = capsule.get_type().fully_qualified_name()?;
        return Err(PyTypeError::new_err(format!("__dlpack__ gave '{class}', not a capsule")));
    }
    // SAFETY: a capsule; the name may be NULL.
    let name = unsafe { ffi::PyCapsule_GetName(capsule.as_ptr()) };
    let name = match NonNull::new(name.cast_mut()) {
        // SAFETY: a capsule's name is a string that lives as long as the capsule.
        Some(name) => unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy(),
        None => "NULL".into(),
    };
    if name == <DLManagedTensor as Enclosed>::USED.to_string_lossy()
        || name == <DLManagedTensorVersioned as Enclosed>::USED.to_string_lossy()
    {
        return Err(PyValueError::new_err(
            "the capsule was consumed already: ask the producer's __dlpack__ for another",
        ));
    }
    Err(PyValueError::new_err(format!("a capsule of name '{name}' holds no DLPack tensor")))
}

fn take_struct<M: Enclosed>(capsule: &Bound<'_, PyAny>) -> PyResult<Option<Tensor>> {
    // SAFETY: a live object of any type.
    if unsafe { ffi::PyCapsule_IsValid(capsule.as_ptr(), M::NEW.as_ptr()) } == 0 {
        return Ok(None);
    }
    // SAFETY: a capsule of this name.
    let raw = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), M::NEW.as_ptr()) };
    let Some(raw) = NonNull::new(raw.cast::<M>()) else { return Err(PyErr::fetch(capsule.py())) };
    if !raw.is_aligned() {
        return Err(PyBufferError::new_err("the capsule's struct is misaligned"));
    }
    // Renamed before anything else: at every moment one of us is to release the struct.
    // SAFETY: a capsule, and a name that lives for ever.
    if unsafe { ffi::PyCapsule_SetName(capsule.as_ptr(), M::USED.as_ptr()) } != 0 {
        return Err(PyErr::fetch(capsule.py()));
    }
    // SAFETY: a capsule of this name holds such a struct, which is ours now; whoever made it answers for what it
    // says. No Rust view is ever made here.
    let tensor = unsafe { M::take(raw) }.map_err(buffer_error)?;
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
