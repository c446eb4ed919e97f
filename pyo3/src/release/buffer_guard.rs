//! A buffer that a Python object exported through the buffer protocol.

use std::ffi::c_int;
use std::mem::ManuallyDrop;

use pyo3::ffi;
use pyo3::prelude::*;

use super::with_gil::{ReleaseWithGil, release};

/// An exported buffer, which any thread may drop: dropping it releases the buffer.
pub(crate) struct BufferGuard(ManuallyDrop<Box<ffi::Py_buffer>>);

// SAFETY: the view must not be used by a thread that is not attached: `view` only reads numbers and
// addresses, and `release` attaches the thread before it releases the view.
unsafe impl Send for BufferGuard {}

impl BufferGuard {
    /// Asks `object` for its buffer.
    pub(crate) fn new(object: &Bound<'_, PyAny>, flags: c_int) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: the object must be alive, as a `Bound` is, and the view writable, as the box is.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &mut *view, flags) } == 0 {
            Ok(Self(ManuallyDrop::new(view)))
        } else {
            Err(PyErr::fetch(object.py()))
        }
    }

    pub(crate) fn view(&self) -> &ffi::Py_buffer {
        &self.0
    }
}

impl Drop for BufferGuard {
    fn drop(&mut self) {
        // SAFETY: the value must not be used afterwards: it is private, and this is its drop.
        release(unsafe { ManuallyDrop::take(&mut self.0) });
    }
}

impl ReleaseWithGil for Box<ffi::Py_buffer> {
    fn release_with_gil(mut self, _: Python<'_>) {
        // SAFETY: the thread must be attached, as the `Python` argument proves, and the view must
        // come from `PyObject_GetBuffer` and be released once: `BufferGuard::new` got it, and its
        // drop hands it over once.
        unsafe { ffi::PyBuffer_Release(&mut *self) };
    }
}
