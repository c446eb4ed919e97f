//! What errors are called in Python: `BufferError` for everything about the data or the device, `ValueError`
//! and `TypeError` for wrong arguments, `RuntimeError` where CUDA itself fails.

use dlbridge::Error;
use pyo3::exceptions::{PyBufferError, PyMemoryError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// A refused exchange.
#[cold]
pub(crate) fn buffer_error(error: impl Into<Error>) -> PyErr {
    match error.into() {
        Error::OutOfMemory { bytes } => {
            PyMemoryError::new_err(format!("out of memory: {bytes} bytes"))
        }
        error @ Error::Cuda { .. } => PyRuntimeError::new_err(error.to_string()),
        error => PyBufferError::new_err(error.to_string()),
    }
}

/// A refused copy: the two arrays do not fit each other.
#[cold]
pub(crate) fn copy_error(error: Error) -> PyErr {
    PyValueError::new_err(match error {
        Error::ShapeMismatch { expected, found } => {
            format!("dst has shape {}, src has {}", tuple(&expected), tuple(&found))
        }
        Error::DTypeMismatch { expected, found } => {
            format!("dst has elements of type {expected}, src has {found}: cast one of them first")
        }
        Error::SelfOverlap { shape, strides } => format!(
            "the elements of dst share memory (shape {}, strides {}): copy to a contiguous array",
            tuple(&shape),
            tuple(&strides)
        ),
        error => return buffer_error(error),
    })
}

/// Numbers as Python shows a tuple of them.
pub(crate) fn tuple(numbers: &[i64]) -> String {
    match numbers {
        [number] => format!("({number},)"),
        numbers => {
            format!("({})", numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(", "))
        }
    }
}

/// The same error with another as its cause.
#[cold]
pub(crate) fn caused_by(py: Python<'_>, error: PyErr, cause: PyErr) -> PyErr {
    error.set_cause(py, Some(cause));
    error
}
