//! What may be done with a tensor's memory.

use super::Tensor;
use crate::storage::StorageState;
use crate::{Error, Rejected, Remedy, Result};

const WRITE_TO_CLONE: Error = Error::ReadOnly { remedy: Remedy::WriteToClone };

/// What is known about other ways to reach a tensor's memory, and what a handle may do with it.
///
/// | state | view in safe code | write in safe code | export writable | move into libtorch |
/// |---|---|---|---|---|
/// | `Exclusive` | yes | the only handle | [`into_dlpack`](Tensor::into_dlpack) of the only handle | the only handle |
/// | `ReadOnly` | yes | no | no | no: libtorch would write it |
/// | `Aliased { trusted: true, .. }` | yes | no | if `writable` | device memory: the only handle, if `writable`; host memory: no |
/// | `Aliased { trusted: false, .. }` | no; copies are allowed | no | if `writable` | as above |
///
/// `unsafe` functions go further: [`assume_exclusive`](Tensor::assume_exclusive) and
/// [`assume_read_only`](Tensor::assume_read_only) replace `Aliased` by a guarantee of the caller,
/// and [`copy_into_unchecked`](Tensor::copy_into_unchecked) writes to any memory that is not
/// read-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Proved: only this tensor and its [`share`](Tensor::share)s reach the memory.
    Exclusive,
    /// Proved: no one writes the memory.
    ReadOnly,
    /// Code outside this crate may reach the memory and write it.
    Aliased {
        /// Whether this crate may write it too.
        writable: bool,
        /// Whether the caller of an `unsafe` function guaranteed that no one writes this memory
        /// while views exist.
        trusted: bool,
    },
}

impl Tensor {
    /// What is known about other ways to reach the memory.
    ///
    /// ```
    /// use dlbridge::{Access, Tensor};
    ///
    /// let tensor = Tensor::from_vec(vec![1_u8, 2], [2])?;
    /// assert_eq!(tensor.access(), Access::Exclusive);
    /// let tensor = tensor.into_aliased()?; // for code outside that will hold it
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

    /// Whether the memory is never written through this crate: it is [`Access::ReadOnly`], or
    /// aliased and not writable.
    ///
    /// ```
    /// let tensor = dlbridge::Tensor::from_vec(vec![1_u8, 2], [2])?;
    /// assert!(!tensor.is_read_only());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn is_read_only(&self) -> bool {
        matches!(self.access(), Access::ReadOnly | Access::Aliased { writable: false, .. })
    }

    /// Whether further owners of the memory, such as the consumers of
    /// [`share_dlpack`](Self::share_dlpack), may only read it. That is so for memory that is
    /// [read-only](Self::is_read_only), and for exclusive memory, which only its only handle
    /// writes.
    ///
    /// ```
    /// let tensor = dlbridge::Tensor::from_vec(vec![1_u8, 2], [2])?;
    /// assert!(tensor.is_shared_read_only()); // a second owner must not write beside this handle
    /// assert!(!tensor.into_aliased()?.is_shared_read_only());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn is_shared_read_only(&self) -> bool {
        !matches!(self.access(), Access::Aliased { writable: true, .. })
    }

    /// Gives up what is known about the memory, so that code outside this crate may hold and write
    /// it: every later DLPack export is writable, if the memory is. Safe code gets no more views of
    /// the memory through this handle; copies remain possible.
    ///
    /// # Errors
    /// [`Error::NotUnique`] when there is another handle, unless the memory is aliased already. The
    /// tensor comes back inside the error.
    pub fn into_aliased(mut self) -> Result<Self, Rejected<Self>> {
        let writable = !self.is_read_only();
        let state = StorageState::Aliased { writable };
        if !self.buffer.storage().is_aliased_for_good() {
            // SAFETY: less is claimed than before: the memory may be written exactly if it could.
            if !unsafe { self.buffer.storage_mut().set_state(state) } {
                return Err(Rejected::new(self, Error::NotUnique));
            }
        }
        self.trusted = false;
        Ok(self)
    }

    /// Declares that no one writes the memory any more, here or elsewhere.
    ///
    /// # Errors
    /// [`Error::NotUnique`] when there is another handle. The tensor comes back inside the error.
    ///
    /// # Safety
    /// * From now on until the memory's owner is dropped, no byte from the lowest to the highest
    ///   element is written, the bytes between the elements included.
    /// * A buffer of type `bool` holds the bytes 0 and 1 only.
    pub unsafe fn assume_read_only(self) -> Result<Self, Rejected<Self>> {
        // SAFETY: the caller guarantees that the memory is not written.
        unsafe { self.assume(StorageState::ReadOnly) }
    }

    /// Declares that only this handle, and what is made from it, reaches the memory.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] when the memory [is read-only](Self::is_read_only): its producer, or the
    /// caller of [`from_raw_parts`](Self::from_raw_parts), said that it must not be written.
    /// [`Error::NotUnique`] when there is another handle. The tensor comes back inside the error.
    ///
    /// # Safety
    /// * From now on until the memory's owner is dropped, nothing but this handle, and what is made
    ///   from it, reads or writes the memory: for host memory every byte from the lowest to the
    ///   highest element, the bytes between the elements included.
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

    /// Refuses safe views of memory that code outside may write and that no one guarantees.
    #[inline]
    pub(crate) fn require_viewable(&self) -> Result<()> {
        match self.access() {
            Access::Aliased { trusted: false, .. } => Err(Error::Aliased),
            _ => Ok(()),
        }
    }

    /// Refuses all but the only handle to memory that nothing else reaches.
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
