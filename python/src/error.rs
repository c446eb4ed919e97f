//! What errors are called in Python: `BufferError` for everything about the data or the device, `ValueError`
//! and `TypeError` for wrong arguments.

use dlbridge::Error;
use pyo3::exceptions::{PyBufferError, PyMemoryError, PyValueError};
use pyo3::prelude::*;

/// A refused exchange.
#[cold]
pub(crate) fn buffer_error(error: impl Into<Error>) -> PyErr {
    match error.into() {
        Error::OutOfMemory { bytes } => PyMemoryError::new_err(format!("out of memory: {bytes} bytes")),
        error => PyBufferError::new_err(error.to_string()),
    }
}

/// A refused copy: the two arrays do not fit each other.
#[cold]
pub(crate) fn copy_error(error: Error) -> PyErr {
    match error {
        Error::ShapeMismatch { .. }
        | Error::DTypeMismatch { .. }
        | Error::SharedMemory
        | Error::Overlap { .. }
        | Error::ReadOnly { .. } => PyValueError::new_err(error.to_string()),
        error => buffer_error(error),
    }
}

/// The same error with another as its cause.
#[cold]
pub(crate) fn caused_by(py: Python<'_>, error: PyErr, cause: PyErr) -> PyErr {
    error.set_cause(py, Some(cause));
    error
}
