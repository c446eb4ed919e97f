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
    /// use std::sync::atomic::{AtomicBool, Ordering};
    /// use std::sync::Arc;
    ///
    /// /// Memory of a device driver, which clears the flag before it unmaps the memory.
    /// struct Mapping(Arc<AtomicBool>);
    ///
    /// impl MovableOwner for Mapping {
    ///     fn check_address(&self) -> dlbridge::Result<()> {
    ///         if self.0.load(Ordering::Acquire) {
    ///             return Ok(());
    ///         }
    ///         let (field, value) = ("data".to_owned(), "unmapped".to_owned());
    ///         Err(Error::InvalidDescriptor { field, value, reason: "the driver was closed" })
    ///     }
    /// }
    ///
    /// static MAPPED: [u8; 3] = [1, 2, 3];
    /// let data = MAPPED.as_ptr().cast_mut().cast();
    /// let described = Descriptor::new(data, Layout::contiguous([3])?, DType::U8, Device::CPU)?;
    /// let is_mapped = Arc::new(AtomicBool::new(true));
    /// // SAFETY: the three bytes are initialised while the flag is set, and no other thread
    /// // clears it during a call.
    /// let tensor = unsafe {
    ///     Tensor::from_movable_parts(described, false, Mapping(is_mapped.clone()))
    /// };
    /// assert_eq!(tensor.to_vec::<u8>()?, [1, 2, 3]);
    /// is_mapped.store(false, Ordering::Release); // the driver unmaps the memory
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

    /// Fails if other code moved or freed the memory since the tensor was made.
    ///
    /// The owner of the memory, and the owners of tensors that own the memory, are asked
    /// ([`MovableOwner::check_address`]). Each safe function that reads or writes elements calls
    /// this method itself. Code that uses [`data_ptr`](Self::data_ptr), or gives the memory to
    /// another library, calls it before. Memory of other owners never moves.
    ///
    /// ```
    /// let tensor = dlbridge::Tensor::from_vec(vec![1_u8, 2, 3], [3])?;
    /// assert!(tensor.check_address().is_ok()); // a `Vec` in a tensor does not grow
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// That of the owner.
    #[inline]
    pub fn check_address(&self) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        self.holders().try_for_each(|holder| holder.buffer.storage().check_address())
    }

    /// Returns true if other code may move the memory while the tensor lives, so that
    /// [`check_address`](Self::check_address) may fail later.
    ///
    /// ```
    /// assert!(!dlbridge::Tensor::zeros::<f32>([2, 3])?.may_move());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn may_move(&self) -> bool {
        self.holders().any(|holder| holder.buffer.storage().is_movable())
    }

    /// This tensor, the tensor that owns its memory, the one that owns the memory of that, and so
    /// on.
    #[inline]
    fn holders(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |holder| {
            // SAFETY: the memory must not be reached through the owner: the inner tensor is only
            // asked for its owner.
            unsafe { holder.owner_unchecked::<Self>() }
        })
    }
}
