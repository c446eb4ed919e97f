//! One counted reference to the inner struct of a storage.
//!
//! std's `Arc` has a second count, of weak references, which a storage never makes. To find out
//! whether a reference is the only one, `Arc` has to lock that count, and to free the value it
//! changes both. These read-modify-write instructions take most of the time of a conversion that
//! copies nothing. Here one load is enough: only the holder of a reference can make a further one,
//! so a count of 1 stays 1 until the holder of that reference makes one.
//!
//! The orders are those of `Arc`. A subtraction is a release, and a reference that turns out to be
//! the only one has read the count with an acquire, so all that other holders did before they
//! dropped theirs happens before what its holder does next.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

use super::{Guarded, StorageHeader, StorageInner, StorageOwner};
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// More references than this are not made, so that the count cannot overflow.
const MAX_COUNT: usize = isize::MAX as usize;

/// Owns one of the references that `count` of the header counts.
///
/// Invariant: the pointer is to the header at the beginning of a [`StorageInner`] and came from a
/// `Box` of that struct, all of which may be reached through it. The struct lives as long as the
/// count is not 0, and its owner has the type that `owner_type` and `owner_id` are of.
pub(super) struct Reference(NonNull<StorageHeader>);

// SAFETY: as for `Arc`: references on several threads share the inner struct, which is `Send` and
// `Sync`, and the last of them drops it on its thread.
unsafe impl Send for Reference where StorageInner<dyn StorageOwner>: Send + Sync {}
// SAFETY: a shared reference to this gives shared references to the inner struct, and more counted
// ones.
unsafe impl Sync for Reference where StorageInner<dyn StorageOwner>: Send + Sync {}

impl Reference {
    /// Puts an inner struct on the heap. Its count is 1. The allocation comes first, so that the
    /// compiler writes the header there instead of copying it.
    ///
    /// # Safety
    /// * `owner_type` and `owner_id` of the header are those of `O`.
    #[inline]
    pub(super) unsafe fn new<O: StorageOwner>(
        header: impl FnOnce() -> StorageHeader,
        owner: O,
    ) -> Self {
        let room = Box::<StorageInner<O>>::new_uninit();
        let inner = Box::write(room, StorageInner { header: header(), owner: Guarded(owner) });
        Self(NonNull::from(Box::leak(inner)).cast())
    }

    /// Makes one more reference.
    #[inline]
    pub(super) fn share(&self) -> Self {
        // This reference keeps the struct, and the new one is given to another thread by a way that
        // orders memory.
        if self.count.fetch_add(1, Relaxed) > MAX_COUNT {
            std::process::abort();
        }
        Self(self.0)
    }

    /// The number of references a moment ago. If it is 1, this is the only reference, and what the
    /// holders of all others did happened before.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count.load(Acquire)
    }

    /// The header, if this is the only reference.
    #[inline]
    pub(super) fn get_mut(&mut self) -> Option<&mut StorageHeader> {
        if self.count() != 1 {
            return None;
        }
        // SAFETY: the only reference is mutably borrowed, so no other code reaches the struct.
        Some(unsafe { self.0.as_mut() })
    }

    /// The inner struct, whatever the type of its owner.
    #[inline]
    pub(super) fn inner(&self) -> &StorageInner<dyn StorageOwner> {
        let inner = (self.owner_type.widen)(self.0);
        // SAFETY: the struct lives as long as this reference, and `widen` is that of its owner's
        // type.
        unsafe { inner.as_ref() }
    }

    /// The inner struct, whatever the type of its owner, if this is the only reference.
    #[inline]
    pub(super) fn inner_mut(&mut self) -> Option<&mut StorageInner<dyn StorageOwner>> {
        if self.count() != 1 {
            return None;
        }
        let mut inner = (self.owner_type.widen)(self.0);
        // SAFETY: the only reference is mutably borrowed, so no other code reaches the struct, and
        // `widen` is that of its owner's type.
        Some(unsafe { inner.as_mut() })
    }

    /// The inner struct with the type of its owner.
    ///
    /// # Safety
    /// * The owner is of type `O`.
    #[inline]
    pub(super) unsafe fn inner_of<O: StorageOwner>(&self) -> &StorageInner<O> {
        // SAFETY: the struct lives as long as this reference, and is of this type, which the caller
        // checked.
        unsafe { self.0.cast().as_ref() }
    }

    /// The inner struct with the type of its owner, if this is the only reference.
    ///
    /// # Safety
    /// * The owner is of type `O`.
    #[inline]
    pub(super) unsafe fn inner_mut_of<O: StorageOwner>(&mut self) -> Option<&mut StorageInner<O>> {
        if self.count() != 1 {
            return None;
        }
        // SAFETY: the struct is of this type, which the caller checked. The only reference is
        // mutably borrowed, so no other code reaches the struct.
        Some(unsafe { self.0.cast().as_mut() })
    }

    /// Gives the inner struct in its `Box`, if this is the only reference.
    ///
    /// # Safety
    /// * The owner is of type `O`.
    #[inline]
    pub(super) unsafe fn into_inner<O: StorageOwner>(self) -> Result<Box<StorageInner<O>>, Self> {
        if self.count() != 1 {
            return Err(self);
        }
        let inner = ManuallyDrop::new(self).0.as_ptr().cast::<StorageInner<O>>();
        // SAFETY: the struct came from a `Box` and is of this type, which the caller checked. The
        // only reference to it is not dropped.
        Ok(unsafe { Box::from_raw(inner) })
    }

    /// Turns the reference into an untyped pointer.
    #[cfg(any(feature = "torch", test))]
    #[inline]
    pub(super) fn into_raw(self) -> *mut c_void {
        ManuallyDrop::new(self).0.as_ptr().cast()
    }

    /// Turns a pointer back into the reference that it was.
    ///
    /// # Safety
    /// * `raw` came from [`into_raw`](Self::into_raw) and stands for one reference, which the
    ///   result owns from now on.
    #[inline]
    pub(super) unsafe fn from_raw(raw: *const c_void) -> Self {
        // SAFETY: the address came from `into_raw`, which does not return NULL.
        Self(unsafe { NonNull::new_unchecked(raw.cast_mut().cast()) })
    }
}

impl Deref for Reference {
    type Target = StorageHeader;

    #[inline]
    fn deref(&self) -> &Self::Target {
        // SAFETY: the struct lives as long as this reference.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Reference {
    #[inline]
    fn drop(&mut self) {
        if self.count.fetch_sub(1, Release) != 1 {
            return;
        }
        // The acquire of this load orders what other holders did before what follows.
        self.count();
        let free = self.owner_type.free;
        // SAFETY: the struct came from a `Box`, and this was the last reference. `free` is that of
        // the owner's type.
        unsafe { free(self.0) };
    }
}
