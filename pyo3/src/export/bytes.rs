//! Exports the elements of a tensor as `bytes`.

use dlbridge::{MemoryFormat, Tensor};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::clone::clone_as;
use crate::torch_owner::check_owner_address;

/// `Tensor.__bytes__`: the bytes of all elements in row-major order, of whichever type they are.
pub(crate) fn to_bytes<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    let device = tensor.device();
    if !device.is_host() {
        let message = format!("the memory is on {device}: use Tensor.cpu() first");
        return Err(PyBufferError::new_err(message));
    }
    check_owner_address(py, tensor)?;
    let copy;
    let rows = if tensor.is_contiguous() {
        tensor
    } else {
        copy = clone_as(py, tensor, MemoryFormat::Contiguous)?;
        &copy
    };
    let (start, len) = rows.descriptor().span();
    let start = if len == 0 { c"".as_ptr() } else { start.cast() };
    let len = isize::try_from(len)
        .map_err(|_| PyBufferError::new_err("the elements are more than bytes can hold"))?;
    // SAFETY: `len` bytes must be readable at `start`: the span of a tensor's descriptor is memory
    // that the tensor keeps, and the elements of a contiguous tensor have no gaps between them.
    let bytes = unsafe { ffi::PyBytes_FromStringAndSize(start, len) };
    // SAFETY: the pointer must be a new reference, or NULL with an exception set:
    // `PyBytes_FromStringAndSize` returns that.
    unsafe { Bound::from_owned_ptr_or_err(py, bytes) }
}
