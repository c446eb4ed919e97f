//! Tensors of memory that other code may move.

use super::Tensor;
use crate::movable::MovableOwner;
use crate::shared_buffer::SharedBuffer;
use crate::storage::Storage;
use crate::{Descriptor, Result};

impl Tensor {
    /// Makes a tensor of memory that other code may move or free while the tensor lives.
    ///
    /// Nothing is copied. The thread that drops the last handle drops `owner`, once.
    ///
    /// The result is [`Access::Aliased`](crate::Access) and not trusted: safe code may copy the
    /// elements, and gets no views. Each copy first asks the owner whether the memory is still at
    /// its address ([`MovableOwner::check_address`]).
    ///
    /// ```
    /// use dlbridge::{DType, Descriptor, Device, Error, Layout, MovableOwner, Tensor};
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
    /// let data = buffer.lock().unwrap().as_mut_ptr();
    /// let layout = Layout::contiguous(&[3])?;
    /// let described = Descriptor::new(data.cast(), layout, DType::U8, Device::CPU)?;
    /// let owner = Samples { buffer: buffer.clone(), address: data.addr() };
    /// // SAFETY: the three bytes are initialised, `owner` knows when the buffer moves, and no
    /// // other thread has the buffer.
    /// let tensor = unsafe { Tensor::from_movable_parts(described, false, owner) };
    /// assert_eq!(tensor.to_vec::<u8>()?, [1, 2, 3]);
    /// *buffer.lock().unwrap() = vec![0; 1000];
    /// assert!(tensor.to_vec::<u8>().is_err());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Safety
    /// *The bytes of the tensor* are those of the elements of `descriptor` and, for host memory,
    /// every byte from the lowest to the highest element, the bytes between the elements included.
    ///
    /// * As long as `check_address` of `owner` succeeds, all bytes of the tensor are initialised
    ///   and valid for reads, and for writes if `writable`.
    /// * No other thread moves, frees or writes the memory while a call of this crate reads or
    ///   writes it.
    #[inline]
    pub unsafe fn from_movable_parts(
        descriptor: Descriptor,
        writable: bool,
        owner: impl MovableOwner,
    ) -> Self {
        let storage = Storage::aliased_movable(owner, writable);
        // SAFETY: the caller guarantees that the bytes are valid as long as `check_address`
        // succeeds, and each function that reads or writes them calls it first.
        Self::from_buffer(unsafe { SharedBuffer::new(storage, descriptor) })
    }

    /// Fails if the memory moved: that of this tensor, or of a tensor that owns its memory.
    #[inline]
    pub(crate) fn check_address(&self) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let mut holder = self;
        loop {
            holder.buffer.storage().check_address()?;
            // SAFETY: the memory must not be reached through the owner: the inner tensor is only
            // asked for the address.
            match unsafe { holder.owner_unchecked::<Self>() } {
                Some(inner) => holder = inner,
                None => return Ok(()),
            }
        }
    }
}
