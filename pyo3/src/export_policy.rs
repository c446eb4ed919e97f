//! How a tensor may be exported: writable or read-only, as it is or only as a copy.

use dlbridge::{Access, Tensor};
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;

use crate::error::tuple;

/// What the strides of a tensor mean for a consumer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum StrideClass {
    /// All strides are positive: a consumer may read and write the memory.
    Positive,
    /// Several indices reach one element: a consumer that writes one of them writes all.
    Broadcast,
    /// Some strides are negative. PyTorch does not support them: its import aborts the process.
    Negative,
}

impl StrideClass {
    #[inline]
    pub(crate) fn of(tensor: &Tensor) -> Self {
        // The strides of a layout without elements, and those of dimensions of size 1, are harmless
        // positive numbers: the core crate replaces others when it makes the layout.
        let mut class = Self::Positive;
        for (&size, &stride) in tensor.shape().iter().zip(tensor.strides()) {
            if size > 1 && stride <= 0 {
                class = if stride < 0 { return Self::Negative } else { Self::Broadcast };
            }
        }
        class
    }
}

/// Whether an export must be a copy, for a consumer that passed `copy` to `__dlpack__`. An error
/// if it must, and the consumer forbids it.
#[inline]
pub(crate) fn needs_copy(
    tensor: &Tensor,
    strides: StrideClass,
    copy: Option<bool>,
) -> PyResult<bool> {
    if copy == Some(true) {
        return Ok(true);
    }
    if rust_may_view(tensor) {
        return if copy.is_none() { Ok(true) } else { Err(viewed_error()) };
    }
    Ok(strides == StrideClass::Negative && copy.is_none())
}

/// Whether safe Rust code may have a view of the memory. Then the memory must not be written, but
/// DLPack can only ask for that, and PyTorch writes memory that is marked as read-only.
#[inline]
pub(crate) fn rust_may_view(tensor: &Tensor) -> bool {
    let may_view =
        |tensor: &Tensor| !matches!(tensor.access(), Access::Aliased { trusted: false, .. });
    if may_view(tensor) {
        return true;
    }
    let mut holder = tensor;
    // SAFETY: the memory must not be reached through the owner: the inner tensor is only asked for
    // its state and its own owner.
    while let Some(inner) = unsafe { holder.owner_unchecked::<Tensor>() } {
        // The handle in an owner gives no views. Another handle may.
        if may_view(inner) && !inner.is_unique() {
            return true;
        }
        holder = inner;
    }
    false
}

/// The error for memory of which Rust may have views, and which may not be copied.
#[cold]
pub(crate) fn viewed_error() -> PyErr {
    PyBufferError::new_err(
        "Rust code may have views of the memory, which a consumer of DLPack could write: leave copy \
         out for a copy, or share the memory through the buffer protocol, as numpy.asarray does",
    )
}

/// The error for negative strides that may not be copied away.
#[cold]
pub(crate) fn negative_strides(tensor: &Tensor) -> PyErr {
    PyBufferError::new_err(format!(
        "strides {} are negative, which PyTorch does not support: leave copy out for a copy, or \
         share the memory through Tensor.numpy() or the buffer protocol",
        tuple(tensor.strides())
    ))
}

/// Shares the memory of `tensor` as read-only.
pub(crate) fn share_read_only(tensor: &Tensor) -> Tensor {
    if tensor.is_shared_read_only() {
        return tensor.share();
    }
    // SAFETY: the descriptor must describe initialised memory that the owner keeps: it is the
    // tensor's own, and the owner is another handle of the tensor.
    unsafe { tensor.share_as_unchecked(tensor.descriptor().clone(), false, tensor.share()) }
}
