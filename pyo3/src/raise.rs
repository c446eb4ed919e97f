//! Errors of the core crate as Python exceptions.

#![forbid(unsafe_code)]

use dlbridge::Error;
use pyo3::prelude::*;

use crate::error::buffer_error;

/// Turns an error of the crate `dlbridge` into a Python exception.
///
/// A function of Python returns `PyResult`, and `dlbridge::Error` is no `PyErr`.
/// [`or_raise`](Self::or_raise) converts it, so that `?` works.
pub trait OrRaise<T> {
    /// The value, or the Python exception for the error.
    ///
    /// An error becomes `MemoryError` if memory cannot be allocated, `RuntimeError` if CUDA reports
    /// a failure, and `BufferError` otherwise. The text names the remedy in Python's words.
    fn or_raise(self) -> PyResult<T>;
}

impl<T, E: Into<Error>> OrRaise<T> for Result<T, E> {
    #[inline]
    fn or_raise(self) -> PyResult<T> {
        self.map_err(buffer_error)
    }
}
