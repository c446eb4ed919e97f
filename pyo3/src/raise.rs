//! Errors of the core crate as Python exceptions.

#![forbid(unsafe_code)]

use dlbridge::Error;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::error::{buffer_error, dimensions};

/// Turns an error of the crate `dlbridge` into a Python exception.
///
/// A function of Python returns `PyResult`, and `dlbridge::Error` is no `PyErr`.
/// [`or_raise`](Self::or_raise) converts it, so that `?` works.
///
/// ```
/// use dlbridge_pyo3::{OrRaise, PyTensor};
/// use pyo3::prelude::*;
///
/// #[pyfunction]
/// fn column_major(py: Python<'_>, x: PyTensor) -> PyResult<PyTensor> {
///     let transposed = x.deep_clone(py)?.to_ndarray::<f32, ndarray::Ix2>().or_raise()?;
///     Ok(transposed.reversed_axes().into())
/// }
/// # fn main() -> PyResult<()> {
/// # Python::attach(|py| {
/// # let x = PyTensor::from_vec(vec![1_u8, 2], [1, 2])?;
/// # let error = column_major(py, x).map(drop).unwrap_err();
/// # assert_eq!(error.to_string(), "TypeError: expected float32, got uint8");
/// # Ok(())
/// # })
/// # }
/// ```
pub trait OrRaise<T> {
    /// The value, or the Python exception for the error.
    ///
    /// The exception is `TypeError` for another element type than the operation needs, `ValueError`
    /// for another number of dimensions and for a view that does not exist, `IndexError` for a
    /// dimension or an index out of range, `MemoryError` if memory cannot be allocated,
    /// `RuntimeError` if CUDA reports a failure, and `BufferError` otherwise. The text names the
    /// remedy in Python's words. It names no argument of the function:
    /// [`Argument`](crate::Argument) checks an argument first and names it.
    ///
    /// ```
    /// use dlbridge_pyo3::OrRaise;
    /// use pyo3::prelude::*;
    ///
    /// # Python::attach(|_| -> PyResult<()> {
    /// let failed = dlbridge::Tensor::from_vec(vec![1_u8, 2, 3], [2]).or_raise();
    /// let text = failed.map(drop).unwrap_err().to_string();
    /// assert_eq!(text, "BufferError: shape (2,) needs 2 elements, found 3");
    /// let missing = dlbridge::Tensor::zeros::<u8>([2, 3]).or_raise()?.select(2, 0).or_raise();
    /// let text = missing.map(drop).unwrap_err().to_string();
    /// assert_eq!(text, "IndexError: dimension 2 is out of range: expected -2 to 1");
    /// let twice = dlbridge::Tensor::zeros::<u8>([3]).or_raise()?.flip([0, -1]).or_raise();
    /// assert!(twice.map(drop).unwrap_err().to_string().starts_with("ValueError: shape (3,) "));
    /// # Ok(())
    /// # })?;
    /// # Ok::<(), PyErr>(())
    /// ```
    fn or_raise(self) -> PyResult<T>;
}

impl<T, E: Into<Error>> OrRaise<T> for Result<T, E> {
    #[inline]
    fn or_raise(self) -> PyResult<T> {
        self.map_err(exception)
    }
}

/// The exception for a conversion in an extension module that failed with `error`.
#[cold]
pub(crate) fn exception(error: impl Into<Error>) -> PyErr {
    match error.into() {
        Error::DTypeMismatch { expected, found } => {
            PyTypeError::new_err(format!("expected {expected}, got {found}"))
        }
        Error::RankMismatch { expected, found } => {
            PyValueError::new_err(format!("expected {}, got {found}", dimensions(expected)))
        }
        error => buffer_error(error),
    }
}
