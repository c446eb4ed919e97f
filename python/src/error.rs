//! The Python exceptions of errors: `BufferError` for everything about the data or the device,
//! `ValueError` and `TypeError` for wrong arguments, `RuntimeError` if CUDA itself fails.

use dlbridge::Error;
use pyo3::exceptions::{PyBufferError, PyMemoryError, PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

/// The exception for a tensor that cannot be exchanged.
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

/// The exception for a copy between two arrays that do not fit each other.
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

/// `numbers` as Python prints a tuple of them.
pub(crate) fn tuple(numbers: &[i64]) -> String {
    match numbers {
        [number] => format!("({number},)"),
        numbers => {
            format!("({})", numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(", "))
        }
    }
}

/// `error` with `cause` as its `__cause__`.
#[cold]
pub(crate) fn caused_by(py: Python<'_>, error: PyErr, cause: PyErr) -> PyErr {
    error.set_cause(py, Some(cause));
    error
}

/// Sets the exception for a panic of this crate. It uses no PyO3, which may be what panicked. The
/// thread must be attached.
#[cold]
pub(crate) fn set_panic_error() {
    // SAFETY: the static must be initialised: the interpreter is, as the thread is attached to it.
    let class = unsafe { ffi::PyExc_RuntimeError };
    // SAFETY: the thread must be attached, as every caller is, with a class and a C string.
    unsafe { ffi::PyErr_SetString(class, c"dlbridge panicked: this is a bug".as_ptr()) };
}
