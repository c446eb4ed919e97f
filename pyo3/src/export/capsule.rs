//! Exports a tensor as a capsule.

use dlbridge::{Error, Exported, Stream, Tensor};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::capsule::CapsuleStruct;
use crate::error::buffer_error;
use crate::release::PendingException;

/// Makes a capsule around `tensor`, whose memory will be ready on `stream`, or, without one, on the
/// default stream. The struct is versioned (DLPack 1) or legacy (before DLPack 1).
#[inline]
pub(crate) fn export<'py>(
    py: Python<'py>,
    tensor: Tensor,
    versioned: bool,
    stream: Option<Stream>,
) -> PyResult<Bound<'py, PyAny>> {
    let tensor = match stream {
        Some(stream) => tensor.with_stream(&stream).map_err(buffer_error)?,
        None => tensor,
    };
    if versioned {
        return enclose(py, tensor.into_dlpack());
    }
    match tensor.into_dlpack_legacy() {
        Ok(exported) => enclose(py, exported),
        Err(rejected) => Err(match rejected.into_error() {
            Error::ReadOnly { .. } => PyBufferError::new_err(
                "Cannot export readonly array since signalling readonly is unsupported by DLPack \
                 before 1.0, which the consumer asks for: give it tensor.clone(), or have it ask \
                 with max_version=(1, 0)",
            ),
            error => buffer_error(error),
        }),
    }
}

/// Makes a capsule that owns `exported` until a consumer takes it.
#[inline]
pub(crate) fn enclose<M: CapsuleStruct>(
    py: Python<'_>,
    exported: Exported<M>,
) -> PyResult<Bound<'_, PyAny>> {
    let raw = exported.as_ptr().as_ptr().cast();
    // SAFETY: the pointer must not be NULL, as a `NonNull` is not, and the name must outlive the
    // capsule, as a constant does.
    let capsule = unsafe { ffi::PyCapsule_New(raw, M::NAME.as_ptr(), Some(destroy::<M>)) };
    // SAFETY: the pointer must be a new reference, or NULL with an exception set: `PyCapsule_New`
    // returns that.
    let capsule = unsafe { Bound::from_owned_ptr_or_err(py, capsule) }?;
    let _owned_by_capsule = exported.into_raw();
    Ok(capsule)
}

/// Destroys a capsule: releases the struct, unless a consumer took it and renamed the capsule.
unsafe extern "C" fn destroy<M: CapsuleStruct>(capsule: *mut ffi::PyObject) {
    // SAFETY: `PyCapsule_IsValid` takes any pointer, on an attached thread: the interpreter calls
    // destructors attached.
    if unsafe { ffi::PyCapsule_IsValid(capsule, M::NAME.as_ptr()) } == 0 {
        return;
    }
    // SAFETY: the object must be a capsule of this name, as was checked above.
    let raw = unsafe { ffi::PyCapsule_GetPointer(capsule, M::NAME.as_ptr()) }.cast::<M>();
    // SAFETY: the thread must be attached: the interpreter calls destructors attached.
    let py = unsafe { Python::assume_attached() };
    let _pending = PendingException::set_aside(py);
    // SAFETY: `raw` must point to a valid struct: `enclose` put one there, and the capsule owns it
    // as long as it has this name.
    if let Some(deleter) = unsafe { M::deleter_of(raw) } {
        // SAFETY: a deleter must be called once, with its struct: the capsule owns the struct, and
        // is destroyed once.
        unsafe { deleter(raw) };
    }
}
