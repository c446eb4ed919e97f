//! Owners whose memory other code may move.

#![forbid(unsafe_code)]

use crate::Result;

/// An owner whose memory other code may move or free while tensors of it live.
///
/// A storage of PyTorch is such an owner: `resize_` and `share_memory_` give it other memory, and
/// free the memory that it had. [`Tensor::from_movable_parts`](crate::Tensor::from_movable_parts)
/// makes a tensor of such memory, and shows an example.
pub trait MovableOwner: Send + Sync + 'static {
    /// Fails if the memory is not where it was when the tensor was made.
    ///
    /// Each safe function that reads or writes elements calls this method first, on any thread. The
    /// function then returns this error: for example an
    /// [`Error::InvalidDescriptor`](crate::Error::InvalidDescriptor) about `data`. The method must
    /// not use tensors of this owner.
    ///
    /// # Errors
    /// One that says that the memory moved.
    fn check_address(&self) -> Result<()>;
}
