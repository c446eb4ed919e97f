//! The access state of a tensor's memory: who can reach it, and who may write it.

use super::Tensor;
use crate::storage::StorageState;
use crate::{Error, Rejected, Remedy, Result};

const WRITE_TO_CLONE: Error = Error::ReadOnly { remedy: Remedy::WriteToClone };

/// The access state of a tensor's memory: who can reach it, and what a handle may do with it.
///
/// | state | view in safe code | write in safe code | export writable | move into libtorch |
/// |---|---|---|---|---|
/// | `Exclusive` | yes | the only handle | [`into_dlpack`](Tensor::into_dlpack) of the only handle | the only handle |
/// | `ReadOnly` | yes | no | no | no: libtorch would write it |
/// | `Aliased { trusted: true, .. }` | yes | no | if `writable` | device memory: the only handle, if `writable`; host memory: no |
/// | `Aliased { trusted: false, .. }` | no; copies are allowed | no | if `writable` | as for `trusted: true` |
///
/// Three `unsafe` functions rely on a guarantee of the caller instead:
/// [`assume_exclusive`](Tensor::assume_exclusive) and
/// [`assume_read_only`](Tensor::assume_read_only) replace the state `Aliased`, and
/// [`copy_into_unchecked`](Tensor::copy_into_unchecked) writes to any memory that is not read-only.
///
/// ```
/// use dlbridge::{Access, Tensor};
///
/// let mut tensor = Tensor::from_vec(vec![1_u8, 2], [2])?; // only this handle reaches the Vec
/// assert_eq!(tensor.access(), Access::Exclusive);
/// tensor.as_slice_mut::<u8>()?[0] = 5;
/// let mut aliased = tensor.into_aliased()?; // other code may write the memory from now on
/// assert!(aliased.as_slice_mut::<u8>().is_err() && aliased.as_slice::<u8>().is_err());
/// assert_eq!(aliased.to_vec::<u8>()?, [5, 2]); // a copy is allowed
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Only this handle and the handles made from it by [`share`](Tensor::share) reach the memory.
    Exclusive,
    /// No code writes the memory, in this crate or elsewhere.
    ReadOnly,
    /// Code outside this crate may reach the memory and write it.
    Aliased {
        /// True if this crate may write the memory, too.
        writable: bool,
        /// True if the caller of an `unsafe` function guaranteed that no other code writes this
        /// memory while views exist.
        trusted: bool,
    },
}

impl Tensor {
    /// Returns the access state of the memory.
    ///
    /// ```
    /// use dlbridge::{Access, Tensor};
    ///
    /// let tensor = Tensor::from_vec(vec![1_u8, 2], [2])?;
    /// assert_eq!(tensor.access(), Access::Exclusive);
    /// let tensor = tensor.into_aliased()?;
    /// assert_eq!(tensor.access(), Access::Aliased { writable: true, trusted: false });
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn access(&self) -> Access {
        match self.buffer.state() {
            StorageState::Exclusive => Access::Exclusive,
            StorageState::ReadOnly => Access::ReadOnly,
            StorageState::Aliased { writable } => {
                Access::Aliased { writable, trusted: self.trusted }
            }
        }
    }

    /// Returns true if this crate must not write the memory.
    ///
    /// That is memory with the state [`Access::ReadOnly`], and aliased memory that is not writable.
    ///
    /// ```
    /// use dlbridge::{DType, Descriptor, Device, Layout, Tensor};
    ///
    /// static WEIGHTS: [f32; 3] = [1.0, 2.0, 3.0];
    /// let data = WEIGHTS.as_ptr().cast_mut().cast();
    /// let described = Descriptor::new(data, Layout::contiguous([3])?, DType::F32, Device::CPU)?;
    /// // SAFETY: a `static` is initialised, lives for the whole program, and is never written.
    /// let weights = unsafe { Tensor::from_raw_parts(described, false, ()) };
    /// assert!(weights.is_read_only());
    /// assert!(!Tensor::zeros::<f32>([3])?.is_read_only());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn is_read_only(&self) -> bool {
        matches!(self.access(), Access::ReadOnly | Access::Aliased { writable: false, .. })
    }

    /// Returns true if further owners of the memory may only read it.
    ///
    /// A further owner is, for example, the consumer of [`share_dlpack`](Self::share_dlpack). It
    /// may write only memory that is aliased and writable: memory that is
    /// [read-only](Self::is_read_only) is not written, and exclusive memory is written only while
    /// it has one handle.
    ///
    /// ```
    /// let tensor = dlbridge::Tensor::from_vec(vec![1_u8, 2], [2])?;
    /// assert!(tensor.is_shared_read_only()); // exclusive: a second owner must not write
    /// assert!(!tensor.into_aliased()?.is_shared_read_only());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn is_shared_read_only(&self) -> bool {
        !matches!(self.access(), Access::Aliased { writable: true, .. })
    }

    /// Changes the state to [`Access::Aliased`]: code outside this crate may write the memory.
    ///
    /// If the memory is writable, every later DLPack export is writable, too. Safe code gets no
    /// views of the memory through this handle any more, but copies remain possible.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1_u8, 2], [2])?.into_aliased()?;
    /// let for_consumer = tensor.share_dlpack(); // the consumer may write the memory
    /// assert!(tensor.as_slice::<u8>().is_err()); // so Rust gets no slice of it
    /// assert_eq!(tensor.to_vec::<u8>()?, [1, 2]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotUnique`] if there is another handle, unless the memory is aliased already. The
    /// tensor comes back inside the error.
    pub fn into_aliased(mut self) -> Result<Self, Rejected<Self>> {
        let writable = !self.is_read_only();
        let state = StorageState::Aliased { writable };
        if !self.buffer.storage().is_aliased_for_good() {
            // SAFETY: `set_state` requires that the state is true of the memory. `Aliased` allows
            // every other user, and `writable` is what the state before said.
            if !unsafe { self.buffer.storage_mut().set_state(state) } {
                return Err(Rejected::new(self, Error::NotUnique));
            }
        }
        self.trusted = false;
        Ok(self)
    }

    /// Changes the state to [`Access::ReadOnly`]: no code writes the memory any more.
    ///
    /// ```
    /// use dlbridge::{Access, DType, Descriptor, Device, Layout, Tensor};
    ///
    /// static TABLE: [u8; 3] = [1, 2, 3];
    /// let data = TABLE.as_ptr().cast_mut().cast();
    /// let described = Descriptor::new(data, Layout::contiguous([3])?, DType::U8, Device::CPU)?;
    /// // SAFETY: a `static` is initialised, and lives for the whole program.
    /// let table = unsafe { Tensor::from_raw_parts(described, false, ()) };
    /// // SAFETY: a `static` that is not `mut` is never written.
    /// let table = unsafe { table.assume_read_only() }?;
    /// assert_eq!(table.access(), Access::ReadOnly);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotUnique`] if there is another handle. The tensor comes back inside the error.
    ///
    /// # Safety
    /// * From now on until the memory's owner is dropped, no byte from the lowest to the highest
    ///   element is written, the bytes between the elements included.
    /// * Until then no code moves the memory, if other code may ([`may_move`](Self::may_move)).
    /// * A buffer of type `bool` holds the bytes 0 and 1 only.
    pub unsafe fn assume_read_only(self) -> Result<Self, Rejected<Self>> {
        // SAFETY: the caller guarantees that the memory is not written.
        unsafe { self.assume(StorageState::ReadOnly) }
    }

    /// Changes the state to [`Access::Exclusive`]: only this handle reaches the memory.
    ///
    /// ```
    /// use dlbridge::{DType, Descriptor, Device, Layout, Tensor};
    ///
    /// let mut pixels = vec![0_u8; 6];
    /// let data = pixels.as_mut_ptr().cast();
    /// let layout = Layout::contiguous([2, 3])?;
    /// let described = Descriptor::new(data, layout, DType::U8, Device::CPU)?;
    /// // SAFETY: the `Vec` keeps 6 initialised bytes at `data`, and moving it does not move them.
    /// let image = unsafe { Tensor::from_raw_parts(described, true, pixels) };
    /// // SAFETY: the `Vec` was moved into the tensor, so no other code reaches its bytes.
    /// let mut image = unsafe { image.assume_exclusive() }?;
    /// image.as_slice_mut::<u8>()?[0] = 255;
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ReadOnly`] if the memory [is read-only](Self::is_read_only), because its producer
    /// or the caller of [`from_raw_parts`](Self::from_raw_parts) declared that it must not be
    /// written; [`Error::NotUnique`] if there is another handle. The tensor comes back inside the
    /// error.
    ///
    /// # Safety
    /// * From now on until the memory's owner is dropped, nothing but this handle, and what is made
    ///   from it, reads or writes the memory: for host memory every byte from the lowest to the
    ///   highest element, the bytes between the elements included.
    /// * Until then no code moves the memory, if other code may ([`may_move`](Self::may_move)).
    /// * All these bytes may be written.
    pub unsafe fn assume_exclusive(self) -> Result<Self, Rejected<Self>> {
        if self.is_read_only() {
            return Err(Rejected::new(self, WRITE_TO_CLONE));
        }
        // SAFETY: the caller guarantees that only this handle reaches the memory.
        unsafe { self.assume(StorageState::Exclusive) }
    }

    /// # Safety
    /// * `state` is true of the memory from now on.
    unsafe fn assume(mut self, state: StorageState) -> Result<Self, Rejected<Self>> {
        // SAFETY: the caller guarantees the state.
        if unsafe { self.buffer.storage_mut().set_state(state) } {
            Ok(self)
        } else {
            Err(Rejected::new(self, Error::NotUnique))
        }
    }

    /// Refuses safe views of memory that is aliased and not trusted.
    #[inline]
    pub(crate) fn require_viewable(&self) -> Result<()> {
        if self.is_viewable() { Ok(()) } else { Err(Error::Aliased) }
    }

    /// Returns true unless the memory is aliased and not trusted.
    #[inline]
    pub(crate) fn is_viewable(&self) -> bool {
        !matches!(self.access(), Access::Aliased { trusted: false, .. })
    }

    /// Fails unless this is the only handle to exclusive memory.
    #[inline]
    pub(crate) fn require_exclusive(&mut self) -> Result<()> {
        match self.access() {
            Access::Exclusive if self.buffer.is_exclusive() => Ok(()),
            Access::Exclusive => Err(Error::NotUnique),
            Access::ReadOnly => Err(WRITE_TO_CLONE),
            Access::Aliased { .. } => Err(Error::Aliased),
        }
    }
}
