//! The elements of a [`PyTensor`]: copies, which are safe, and memory that the caller vouches for.

use dlbridge::{Access, Element, Tensor};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::clone::{clone, detach_if_large};
use crate::error::buffer_error;
use crate::py_tensor::PyTensor;

impl PyTensor {
    /// Copies the elements into a new `Vec`, in row-major order.
    pub fn to_vec<T: Element>(&self, py: Python<'_>) -> PyResult<Vec<T>> {
        let tensor = self.tensor(py)?;
        detach_if_large(py, tensor, tensor, || tensor.to_vec::<T>()).map_err(buffer_error)
    }

    /// Copies the elements into a new `Array`.
    #[cfg(feature = "ndarray")]
    pub fn to_ndarray<T: Element, D: ndarray::Dimension + 'static>(
        &self,
        py: Python<'_>,
    ) -> PyResult<ndarray::Array<T, D>> {
        let tensor = self.tensor(py)?;
        detach_if_large(py, tensor, tensor, || tensor.to_ndarray::<T, D>()).map_err(buffer_error)
    }

    /// Copies the elements into a new tensor, which only Rust reaches.
    pub fn deep_clone(&self, py: Python<'_>) -> PyResult<Tensor> {
        clone(py, self.tensor(py)?)
    }

    /// Returns a handle that reads the memory without a copy.
    ///
    /// # Safety
    /// * Until the returned tensor and all that was made from it are dropped, no other thread, of
    ///   Python or of a library, writes the memory, and PyTorch does not move it.
    pub unsafe fn assume_read_only(&self, py: Python<'_>) -> PyResult<Tensor> {
        let tensor = self.tensor(py)?;
        if !matches!(tensor.access(), Access::Aliased { .. }) {
            return Ok(tensor.share());
        }
        // SAFETY: the memory must not be written while views exist: the caller guarantees it.
        let handle = unsafe { with_own_state(tensor, false) };
        // SAFETY: the memory must not be written until the owner of the handle, which is made for
        // this handle alone, is dropped: the caller guarantees it.
        unsafe { handle.assume_read_only() }.map_err(buffer_error)
    }

    /// Returns a handle that reads and writes the memory without a copy.
    ///
    /// # Safety
    /// * Until the returned tensor and all that was made from it are dropped, no other thread, of
    ///   Python or of a library, reads or writes the memory, and PyTorch does not move it.
    pub unsafe fn assume_exclusive(&self, py: Python<'_>) -> PyResult<Tensor> {
        let tensor = self.tensor(py)?;
        if tensor.is_read_only() {
            return Err(PyValueError::new_err("the memory is read-only: write to a copy instead"));
        }
        // SAFETY: the memory must not be written by others while views exist: the caller
        // guarantees it.
        let handle = unsafe { with_own_state(tensor, true) };
        // SAFETY: only this handle must reach the memory until its owner, which is made for this
        // handle alone, is dropped: the caller guarantees it.
        unsafe { handle.assume_exclusive() }.map_err(buffer_error)
    }
}

/// Another handle to the memory of `tensor`, with an access state of its own.
///
/// # Safety
/// * As for `Tensor::from_raw_parts`: no other code writes the memory while a view made from the
///   handle exists.
unsafe fn with_own_state(tensor: &Tensor, writable: bool) -> Tensor {
    // SAFETY: the descriptor must describe initialised memory that the owner keeps: it is the
    // tensor's own, and the owner is another handle of the tensor. The caller guarantees that no
    // other code writes the memory.
    unsafe { tensor.share_as_unchecked(tensor.descriptor().clone(), writable, tensor.share()) }
}
