//! Elements in reference-counted memory: a storage, and the description of elements in it.
//!
//! *The bytes of a buffer* are those of the elements of its descriptor and, for host memory, every
//! byte from the lowest to the highest element, the bytes between the elements included.
//!
//! Invariant of a [`SharedBuffer`]: as long as its storage lives, the bytes of the buffer are
//! initialised and valid for reads, and for writes if the storage's state allows them. The state is
//! true of all of these bytes. The constructors are `unsafe`, because only their callers can
//! guarantee this. The methods keep the invariant.

use crate::layout::View;
use crate::storage::{Storage, StorageOwner, StorageState};
use crate::{Descriptor, Layout, Result};

/// One reference to a storage, and the description of elements in its memory.
#[derive(Debug)]
pub(crate) struct SharedBuffer {
    storage: Storage,
    descriptor: Descriptor,
}

impl SharedBuffer {
    /// # Safety
    /// * `storage` keeps the bytes of the buffer initialised and valid for reads, and for writes
    ///   unless its state says that they are not written.
    #[inline]
    pub(crate) unsafe fn new(storage: Storage, descriptor: Descriptor) -> Self {
        Self { storage, descriptor }
    }

    /// Makes a buffer of memory that only `owner` reaches.
    ///
    /// # Safety
    /// * `owner` keeps the bytes of the buffer initialised and valid for reads and writes, and
    ///   nothing but `owner` reaches them.
    #[inline]
    pub(crate) unsafe fn exclusive(owner: impl StorageOwner, descriptor: Descriptor) -> Self {
        // SAFETY: the caller guarantees that only `owner` reaches the memory.
        Self { storage: unsafe { Storage::exclusive(owner) }, descriptor }
    }

    /// Makes a buffer of memory that this crate allocated for a copy.
    ///
    /// # Safety
    /// * As for [`exclusive`](Self::exclusive), except that the elements may be written later,
    ///   before other code gets the buffer.
    #[inline]
    pub(crate) unsafe fn copied(owner: impl StorageOwner, descriptor: Descriptor) -> Self {
        // SAFETY: the caller guarantees that only `owner` reaches the memory.
        Self { storage: unsafe { Storage::copied(owner) }, descriptor }
    }

    /// Makes a buffer of memory that code outside this crate may reach.
    ///
    /// # Safety
    /// * `owner` keeps the bytes of the buffer initialised and valid for reads, and for writes if
    ///   `writable`.
    #[inline]
    pub(crate) unsafe fn aliased(
        owner: impl StorageOwner,
        descriptor: Descriptor,
        writable: bool,
    ) -> Self {
        Self { storage: Storage::aliased(owner, writable), descriptor }
    }

    /// Makes another reference to the same memory.
    #[inline]
    pub(crate) fn share(&self) -> Self {
        Self { storage: self.storage.share(), descriptor: self.descriptor.clone() }
    }

    #[inline]
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    #[inline]
    pub(crate) fn storage_mut(&mut self) -> &mut Storage {
        &mut self.storage
    }

    #[inline]
    pub(crate) fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    #[inline]
    pub(crate) fn layout(&self) -> &Layout {
        self.descriptor.layout()
    }

    #[inline]
    pub(crate) fn state(&self) -> StorageState {
        self.storage.state()
    }

    /// Returns true if this is the only reference to memory that nothing else reaches.
    #[inline]
    pub(crate) fn is_exclusive(&mut self) -> bool {
        self.state() == StorageState::Exclusive && self.storage.is_unique()
    }

    #[cfg(feature = "torch")]
    #[inline]
    pub(crate) fn into_parts(self) -> (Storage, Descriptor) {
        (self.storage, self.descriptor)
    }

    #[inline]
    pub(crate) fn into_storage(self) -> Storage {
        self.storage
    }

    /// Gives the owner, if this is the only reference and the owner has the type `O`.
    #[inline]
    pub(crate) fn into_owner<O: StorageOwner>(self) -> Result<O, Self> {
        let Self { storage, descriptor } = self;
        match storage.into_owner() {
            Ok(owner) => Ok(owner),
            Err(storage) => Err(Self { storage, descriptor }),
        }
    }

    /// Describes a view of the elements instead of the elements. On failure nothing is changed.
    ///
    /// The bytes of the buffer with the view are among those of the buffer: a view lies within the
    /// bytes from the lowest to the highest element, and for memory that is not on the host it
    /// consists of elements. So the storage keeps them, and its state is true of them.
    ///
    /// # Errors
    /// Those of `make`, and of [`Descriptor::set_view`].
    #[inline]
    pub(crate) fn set_view(&mut self, make: impl FnOnce(&Layout) -> Result<View>) -> Result<()> {
        self.descriptor.set_view(make)
    }

    /// Changes the device to no device, so that no code reads the elements. This is for host memory
    /// that a device may still be writing after a failure.
    pub(crate) fn detach(&mut self) {
        self.descriptor = self.descriptor.detached();
    }
}
