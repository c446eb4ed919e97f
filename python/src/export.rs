//! Out: `__dlpack__`, with all that a consumer may ask for.

use std::ffi::CStr;
use std::ptr::NonNull;

use dlbridge::ffi::{DLManagedTensor, DLManagedTensorVersioned};
use dlbridge::{Error, Exported, Managed, Tensor};
use pyo3::Borrowed;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};

use crate::copies;
use crate::device::{self, Place};
use crate::error::{buffer_error, tuple};
use crate::exchange::is_read_only;
use crate::owner::Pending;

/// What a consumer asks of `__dlpack__`; all optional.
pub(crate) struct Wishes<'a, 'py> {
    pub(crate) stream: Option<Borrowed<'a, 'py, PyAny>>,
    pub(crate) max_version: Option<Borrowed<'a, 'py, PyAny>>,
    pub(crate) dl_device: Option<Borrowed<'a, 'py, PyAny>>,
    pub(crate) copy: Option<Borrowed<'a, 'py, PyAny>>,
}

/// Makes the capsule.
#[inline]
pub(crate) fn dlpack<'py>(
    py: Python<'py>,
    tensor: &Tensor,
    wishes: &Wishes<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let versioned = wishes.max_version.map_or(Ok(false), |version| wants_versioned(&version))?;
    if let Some(stream) = wishes.stream {
        device::check_stream(tensor.device(), &stream)?;
    }
    let copy = wishes.copy.map(|copy| copies::flag(&copy)).transpose()?;
    if let Some(wanted) = wishes.dl_device {
        let place = Place::from_device(device::from_pair(&wanted)?);
        if !place.holds(tensor.device()) {
            if copy == Some(false) || !place.is_host() {
                return Err(PyBufferError::new_err(format!(
                    "unsupported device requested: the memory is on {}, not on {place}",
                    tensor.device()
                )));
            }
            return capsule(py, place.receive(py, tensor.share())?, versioned);
        }
    }
    let kind = Kind::of(tensor);
    if copy == Some(true) || (kind == Kind::Reversed && copy.is_none()) {
        return capsule(py, copies::clone(py, tensor)?, versioned);
    }
    match kind {
        Kind::Ordinary if versioned => {
            enclose(py, tensor.share_dlpack(), c"dltensor_versioned", delete::<DLManagedTensorVersioned>)
        }
        Kind::Ordinary => capsule(py, tensor.share(), false),
        Kind::Broadcast => capsule(py, read_only(tensor), versioned),
        Kind::Reversed => Err(reversed(tensor)),
    }
}

/// What there is to mind about a layout.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ordinary,
    /// Several indices reach one element: a consumer that writes would write all of them.
    Broadcast,
    /// Some strides are negative, which PyTorch does not survive.
    Reversed,
}

impl Kind {
    #[inline]
    pub(crate) fn of(tensor: &Tensor) -> Self {
        let mut kind = Self::Ordinary;
        for (&size, &stride) in tensor.shape().iter().zip(tensor.strides()) {
            if size > 1 && stride <= 0 {
                kind = if stride < 0 { return Self::Reversed } else { Self::Broadcast };
            }
        }
        kind
    }
}

/// The error for layouts that some consumers do not survive.
#[cold]
pub(crate) fn reversed(tensor: &Tensor) -> PyErr {
    PyBufferError::new_err(format!(
        "strides {} are negative, which PyTorch does not survive: leave copy out for a copy, or share the memory \
         through Tensor.numpy() or the buffer protocol",
        tuple(tensor.strides())
    ))
}

/// The same memory, not to be written.
pub(crate) fn read_only(tensor: &Tensor) -> Tensor {
    if is_read_only(tensor) {
        return tensor.share();
    }
    // SAFETY: the tensor's own memory, which it keeps.
    unsafe { Tensor::from_raw_parts(tensor.descriptor().clone(), false, tensor.share()) }
}

#[inline]
fn wants_versioned(max_version: &Bound<'_, PyAny>) -> PyResult<bool> {
    let wrong = || PyTypeError::new_err("max_version is None or a tuple of two integers");
    let version = max_version.cast::<PyTuple>().map_err(|_| wrong())?;
    if version.len() != 2 {
        return Err(wrong());
    }
    let major = version.get_borrowed_item(0)?;
    let minor = version.get_borrowed_item(1)?;
    let (Ok(major), Ok(_)) = (major.cast::<PyInt>(), minor.cast::<PyInt>()) else { return Err(wrong()) };
    let mut overflow = 0;
    // SAFETY: an int, and room for a number. Of an int beyond all bounds it says in which direction.
    let major = unsafe { ffi::PyLong_AsLongAndOverflow(major.as_ptr(), &mut overflow) };
    Ok(overflow > 0 || major >= 1)
}

/// A capsule around the tensor.
#[inline]
fn capsule<'py>(py: Python<'py>, tensor: Tensor, versioned: bool) -> PyResult<Bound<'py, PyAny>> {
    if versioned {
        return enclose(py, tensor.into_dlpack(), c"dltensor_versioned", delete::<DLManagedTensorVersioned>);
    }
    match tensor.into_dlpack_legacy() {
        Ok(exported) => enclose(py, exported, c"dltensor", delete::<DLManagedTensor>),
        Err(rejected) => Err(match rejected.error {
            Error::ReadOnly { .. } => PyBufferError::new_err(
                "Cannot export readonly array since signalling readonly is unsupported by DLPack before 1.0, which the \
                 consumer asks for: give it tensor.clone(), or have it ask with max_version=(1, 0)",
            ),
            error => buffer_error(error),
        }),
    }
}

#[inline]
fn enclose<'py, M: Managed>(
    py: Python<'py>,
    exported: Exported<M>,
    name: &'static CStr,
    destructor: unsafe extern "C" fn(*mut ffi::PyObject),
) -> PyResult<Bound<'py, PyAny>> {
    let raw = exported.as_ptr().as_ptr().cast();
    // SAFETY: an address, and a name that lives for ever.
    let capsule = unsafe { ffi::PyCapsule_New(raw, name.as_ptr(), Some(destructor)) };
    // SAFETY: a new reference, or NULL with an exception.
    let capsule = unsafe { Bound::from_owned_ptr_or_err(py, capsule) }?;
    let _capsules = exported.into_raw();
    Ok(capsule)
}

/// The struct in a capsule that nobody took over; NULL when somebody did, and changed the name.
trait Enclosed {
    const NAME: &'static CStr;
    /// # Safety
    /// * `this` points to a struct whose owner calls this, once.
    unsafe fn delete(this: *mut Self);
}

impl Enclosed for DLManagedTensorVersioned {
    const NAME: &'static CStr = c"dltensor_versioned";

    unsafe fn delete(this: *mut Self) {
        // SAFETY: the caller's promise.
        if let Some(deleter) = unsafe { (*this).deleter } {
            // SAFETY: likewise.
            unsafe { deleter(this) };
        }
    }
}

impl Enclosed for DLManagedTensor {
    const NAME: &'static CStr = c"dltensor";

    unsafe fn delete(this: *mut Self) {
        // SAFETY: the caller's promise.
        if let Some(deleter) = unsafe { (*this).deleter } {
            // SAFETY: likewise.
            unsafe { deleter(this) };
        }
    }
}

/// Destroys a capsule: releases the tensor, unless somebody took it over.
unsafe extern "C" fn delete<M: Enclosed>(capsule: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls this for a capsule, attached.
    if unsafe { ffi::PyCapsule_IsValid(capsule, M::NAME.as_ptr()) } == 0 {
        return;
    }
    // SAFETY: a capsule of this name.
    let raw = unsafe { ffi::PyCapsule_GetPointer(capsule, M::NAME.as_ptr()) };
    // SAFETY: the interpreter calls destructors attached.
    let py = unsafe { Python::assume_attached() };
    let _pending = Pending::put_aside(py);
    if let Some(raw) = NonNull::new(raw.cast::<M>()) {
        // SAFETY: the capsule still has its first name, so the struct in it is its own.
        unsafe { M::delete(raw.as_ptr()) };
    }
}
