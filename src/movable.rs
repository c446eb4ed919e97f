//! Owners whose memory other code may move.

#![forbid(unsafe_code)]

use crate::Result;

/// An owner whose memory other code may move or free while tensors of it live.
///
/// A storage of PyTorch is such an owner: `resize_` and `share_memory_` give it other memory, and
/// free the memory that it had. [`Tensor::from_movable_parts`](crate::Tensor::from_movable_parts)
/// makes a tensor of such memory.
///
/// ```
/// use dlbridge::{Error, MovableOwner};
/// use std::sync::{Arc, Mutex};
///
/// /// A growable buffer that other code has, too, and its address at first.
/// struct Samples { buffer: Arc<Mutex<Vec<u8>>>, address: usize }
///
/// impl MovableOwner for Samples {
///     fn check_address(&self) -> dlbridge::Result<()> {
///         let now = self.buffer.lock().map_or(0, |buffer| buffer.as_ptr().addr());
///         if now == self.address {
///             return Ok(());
///         }
///         let (field, value) = ("data".to_owned(), format!("{:#x}", self.address));
///         Err(Error::InvalidDescriptor { field, value, reason: "the buffer has grown" })
///     }
/// }
///
/// let buffer = Arc::new(Mutex::new(vec![1_u8, 2, 3]));
/// let address = buffer.lock().unwrap().as_ptr().addr();
/// let owner = Samples { buffer: buffer.clone(), address };
/// assert!(owner.check_address().is_ok());
/// *buffer.lock().unwrap() = vec![0; 1000];
/// assert!(owner.check_address().is_err());
/// ```
pub trait MovableOwner: Send + Sync + 'static {
    /// Fails if the memory is not where it was when the tensor was made.
    ///
    /// Each safe function that reads or writes elements calls this method first, on any thread. The
    /// function then returns this error: for example an
    /// [`Error::InvalidDescriptor`](crate::Error::InvalidDescriptor) about `data`. The method must
    /// not use tensors of this owner, and must not move the memory of any tensor.
    ///
    /// # Errors
    /// One that says that the memory moved.
    fn check_address(&self) -> Result<()>;
}
