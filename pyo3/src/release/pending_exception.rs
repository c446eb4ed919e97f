//! An exception that is pending while a deleter runs.

use pyo3::ffi;
use pyo3::prelude::*;

/// A pending exception, or none, that was set aside. Dropping this restores it.
pub(crate) struct PendingException([*mut ffi::PyObject; 3]);

impl PendingException {
    pub(crate) fn set_aside(_py: Python<'_>) -> Self {
        let mut parts = [std::ptr::null_mut(); 3];
        let [class, value, traceback] = &mut parts;
        // SAFETY: the thread must be attached, as `_py` proves, and the three addresses must be
        // writable, as those of `parts` are.
        unsafe { ffi::PyErr_Fetch(class, value, traceback) };
        Self(parts)
    }
}

impl Drop for PendingException {
    fn drop(&mut self) {
        let [class, value, traceback] = self.0;
        // SAFETY: the thread must be attached: each caller of `set_aside` drops this within the
        // function in which it was attached. The three references are those that `PyErr_Fetch` gave
        // to `set_aside`, and are handed back once.
        unsafe { ffi::PyErr_Restore(class, value, traceback) };
    }
}
