//! Calls of Python functions with one argument.

use pyo3::ffi;
use pyo3::prelude::*;

/// Calls `function` with one argument, without a tuple around it.
#[inline]
pub(crate) fn call_one<'py>(
    function: &Bound<'py, PyAny>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let end = std::ptr::null_mut::<ffi::PyObject>();
    // SAFETY: the function and its arguments must be alive, as a `Bound` is, and end with NULL.
    let answer =
        unsafe { ffi::PyObject_CallFunctionObjArgs(function.as_ptr(), argument.as_ptr(), end) };
    // SAFETY: the pointer must be a new reference, or NULL with an exception set: the interpreter's
    // call functions return that.
    unsafe { Bound::from_owned_ptr_or_err(function.py(), answer) }
}
