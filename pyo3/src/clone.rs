//! Copies of a tensor into new memory on its own device.

#![forbid(unsafe_code)]

use dlbridge::{MemoryFormat, Tensor};
use pyo3::prelude::*;

use crate::detached::detached;
use crate::error::buffer_error;
use crate::torch_owner::check_owner_address;

/// Minimum size of a copy (bytes) for detaching from the interpreter, so that other Python threads
/// run meanwhile. A smaller copy takes less time than detaching and attaching again.
const DETACH_MIN_BYTES: usize = 64 << 10;

/// Copies `tensor` into new memory and keeps the order of its strides.
pub(crate) fn clone(py: Python<'_>, tensor: &Tensor) -> PyResult<Tensor> {
    clone_as(py, tensor, MemoryFormat::Preserve)
}

/// Copies `tensor` into new memory that is laid out as `format` says.
pub(crate) fn clone_as(py: Python<'_>, tensor: &Tensor, format: MemoryFormat) -> PyResult<Tensor> {
    check_owner_address(py, tensor)?;
    detach_if_large(py, tensor, tensor, || tensor.deep_clone_with(format)).map_err(buffer_error)
}

/// Runs `copy`, which copies the elements of `from` into memory on the device of `to`. The thread
/// is detached from the interpreter meanwhile, unless the copy is small and on the host. A copy on
/// a device may wait for work that itself waits for the interpreter.
pub(crate) fn detach_if_large<T: Send>(
    py: Python<'_>,
    from: &Tensor,
    to: &Tensor,
    copy: impl FnOnce() -> T + Send,
) -> T {
    let small = from.nbytes() < DETACH_MIN_BYTES;
    if small && from.device().is_host() && to.device().is_host() {
        return copy();
    }
    detached(py, [from, to], copy)
}
