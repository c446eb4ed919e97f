//! An exception that is pending while a deleter runs.

use pyo3::ffi;
use pyo3::prelude::*;

/// A pending exception, or none, that was set aside. Dropping this restores it, and clears any
/// other.
pub(crate) struct PendingException([*mut ffi::PyObject; 3]);

impl PendingException {
    #[inline]
    pub(crate) fn set_aside(_py: Python<'_>) -> Self {
        let mut parts = [std::ptr::null_mut(); 3];
        // SAFETY: the thread must be attached, as `_py` proves.
        if !unsafe { is_pending() } {
            return Self(parts);
        }
        let [class, value, traceback] = &mut parts;
        // SAFETY: the thread must be attached, as `_py` proves, and the three addresses must be
        // writable, as those of `parts` are.
        unsafe { ffi::PyErr_Fetch(class, value, traceback) };
        Self(parts)
    }
}

impl Drop for PendingException {
    #[inline]
    fn drop(&mut self) {
        let [class, value, traceback] = self.0;
        // SAFETY: the thread must be attached: each caller of `set_aside` drops this within the
        // function in which it was attached.
        if class.is_null() && !unsafe { is_pending() } {
            return;
        }
        // SAFETY: the thread must be attached: each caller of `set_aside` drops this within the
        // function in which it was attached. The three references are those that `PyErr_Fetch` gave
        // to `set_aside`, and are handed back once.
        unsafe { ffi::PyErr_Restore(class, value, traceback) };
    }
}

/// Whether an exception is pending in this thread.
///
/// # Safety
/// * The thread is attached.
#[inline]
unsafe fn is_pending() -> bool {
    // SAFETY: the thread must be attached: this function's contract says so.
    !unsafe { ffi::PyErr_Occurred() }.is_null()
}
