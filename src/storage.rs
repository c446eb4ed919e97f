//! Who owns the memory, and who may write it.
//!
//! A [`Storage`] is one reference to a shared block that holds the owner of some memory and what is
//! known about other ways to reach that memory. The owner is dropped once, with the last reference.
//!
//! Invariants:
//! * the owner is never reached through a shared reference to the block (that is what makes the
//!   block `Sync` for owners that are only `Send`), except by [`Storage::peek`];
//! * `Access::Exclusive` and `Access::ReadOnly` are proofs: whoever sets them has checked them, or
//!   was told so by the caller of an `unsafe` function;
//! * no weak references are ever made, so `Arc::get_mut` succeeds exactly for the only handle.

use std::{any::Any, ffi::c_void, panic, sync::Arc};

/// What is known about other ways to reach a tensor's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Proved: only this tensor and its [`share`](crate::Tensor::share)s reach the memory. The only
    /// handle may write it and may hand it to a side that writes.
    Exclusive,
    /// Proved: nobody writes the memory.
    ReadOnly,
    /// Code outside this crate may hold the memory and write it.
    Aliased {
        /// Whether we may write it too.
        writable: bool,
    },
}

/// Anything that keeps memory alive until it is dropped.
pub(crate) trait Owner: Any + Send {}
impl<O: Any + Send> Owner for O {}

/// What the blocks of all owners begin with, so that a thin pointer is enough to find the rest.
#[repr(C)]
struct Header {
    /// First, because C++ holds a thin pointer to the block as a deleter's context and calls this.
    release: unsafe extern "C" fn(*mut c_void),
    widen: fn(*const c_void) -> *const Block<dyn Owner>,
    access: Access,
    copied: bool,
    /// Exclusive memory that is foreign for as long as there are several references.
    lent: bool,
    /// For memory of a CUDA device. Dropped before the owner: what it sees to comes before the memory is released.
    #[cfg(feature = "cuda")]
    order: crate::cuda::OrderCell,
}

#[repr(C)]
struct Block<O: ?Sized> {
    header: Header,
    owner: Guarded<O>,
}

/// An owner out of reach of shared references.
#[repr(transparent)]
struct Guarded<O: ?Sized>(O);

// SAFETY: a shared reference gives no access to the owner: the field is private to this module,
// which uses it by value, through `&mut`, for its type id, and in `Storage::peek`, whose caller
// vouches for what it does.
unsafe impl<O: ?Sized + Send> Sync for Guarded<O> {}

/// One reference to a block.
pub(crate) struct Storage(Arc<Block<dyn Owner>>);

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("access", &self.access()).finish_non_exhaustive()
    }
}

impl Storage {
    /// One allocation, which holds the owner itself. `copied` says that this crate allocated the
    /// memory for a copy.
    #[inline]
    pub(crate) fn new<O: Owner>(owner: O, access: Access, copied: bool) -> Self {
        let header = Header {
            release,
            widen: widen::<O>,
            access,
            copied,
            lent: false,
            #[cfg(feature = "cuda")]
            order: crate::cuda::OrderCell::default(),
        };
        Self(Arc::new(Block { header, owner: Guarded(owner) }))
    }

    #[inline]
    pub(crate) fn access(&self) -> Access {
        self.0.header.access
    }

    /// Whether the memory is foreign for good, not only for as long as it is lent.
    #[inline]
    pub(crate) fn is_aliased(&self) -> bool {
        matches!(self.0.header, Header { access: Access::Aliased { .. }, lent: false, .. })
    }

    pub(crate) fn is_copied(&self) -> bool {
        self.0.header.copied
    }

    /// In which order memory of a CUDA device is used.
    #[cfg(feature = "cuda")]
    pub(crate) fn order(&self) -> &crate::cuda::OrderCell {
        &self.0.header.order
    }

    #[inline]
    pub(crate) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// Whether this is the only reference; then nobody can make another one while the borrow lasts.
    #[inline]
    pub(crate) fn is_unique(&mut self) -> bool {
        Arc::get_mut(&mut self.0).is_some()
    }

    /// Whether this was the only reference a moment ago; of use to people, not as a proof.
    pub(crate) fn looks_unique(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Sets the access if this is the only reference, and says whether it was.
    pub(crate) fn set_access(&mut self, access: Access) -> bool {
        match Arc::get_mut(&mut self.0) {
            Some(block) => {
                (block.header.access, block.header.lent) = (access, false);
                true
            }
            None => false,
        }
    }

    /// Lets every reference write exclusive memory until only one is left, which must be
    /// [reclaimed](Self::reclaim); says whether this is the only reference and the memory exclusive.
    #[cfg(any(feature = "torch", test))]
    pub(crate) fn lend(&mut self) -> bool {
        match Arc::get_mut(&mut self.0) {
            Some(Block { header, .. }) if header.access == Access::Exclusive => {
                (header.access, header.lent) = (Access::Aliased { writable: true }, true);
                true
            }
            _ => false,
        }
    }

    /// Makes lent memory exclusive again if this is the only reference, and says whether the memory
    /// is lent no longer.
    #[cfg(any(feature = "torch", test))]
    pub(crate) fn reclaim(&mut self) -> bool {
        if let Some(Block { header, .. }) = Arc::get_mut(&mut self.0)
            && header.lent
        {
            (header.access, header.lent) = (Access::Exclusive, false);
        }
        !self.0.header.lent
    }

    /// The owner itself, if this is the only reference and the owner is of this type.
    #[inline]
    pub(crate) fn into_owner<O: Owner>(self) -> Result<O, Self> {
        if !self.owner_is::<O>() {
            return Err(self);
        }
        let block = Arc::into_raw(self.0).cast::<Block<O>>();
        // SAFETY: the pointer comes from `into_raw` just above, and the owner's type was checked,
        // so the block was allocated as a `Block<O>`.
        let block = unsafe { Arc::from_raw(block) };
        match Arc::try_unwrap(block) {
            Ok(block) => Ok(block.owner.0),
            Err(block) => Err(Self(block)),
        }
    }

    /// The owner, if this is the only reference and the owner is of this type.
    #[inline]
    pub(crate) fn owner_mut<O: Owner>(&mut self) -> Option<&mut O> {
        let owner: &mut dyn Any = &mut Arc::get_mut(&mut self.0)?.owner.0;
        owner.downcast_mut()
    }

    /// Whether the owner is of this type.
    #[inline]
    pub(crate) fn owner_is<O: Owner>(&self) -> bool {
        let owner: &dyn Any = &self.0.owner.0;
        owner.is::<O>()
    }

    /// The owner, if it is of this type.
    ///
    /// # Safety
    /// * What the caller does with the owner is sound from any number of threads at once.
    pub(crate) unsafe fn peek<O: Owner>(&self) -> Option<&O> {
        let owner: &dyn Any = &self.0.owner.0;
        owner.downcast_ref()
    }

    /// Turns the reference into a thin pointer, for C++ to keep.
    #[cfg(any(feature = "torch", test))]
    pub(crate) fn into_thin(self) -> *mut c_void {
        Arc::into_raw(self.0).cast::<c_void>().cast_mut()
    }

    /// Turns a thin pointer back into the reference that it was.
    ///
    /// # Safety
    /// * `thin` came from [`into_thin`](Self::into_thin) and stands for one reference, which the
    ///   result takes over.
    pub(crate) unsafe fn from_thin(thin: *const c_void) -> Self {
        // SAFETY: every block starts with a header (`repr(C)`), and the reference keeps it alive.
        let widen = unsafe { (*thin.cast::<Header>()).widen };
        // SAFETY: `widen` gives back the wide pointer that `into_raw` gave, by the caller's promise
        // with one reference behind it.
        Self(unsafe { Arc::from_raw(widen(thin)) })
    }

    /// Looks at the reference behind a thin pointer, which stays where it is.
    ///
    /// # Safety
    /// * `thin` came from [`into_thin`](Self::into_thin) and its reference lives during the call.
    /// * Unless nothing else uses that reference meanwhile, `look` calls nothing that wants the only
    ///   reference.
    #[cfg(any(feature = "torch", test))]
    pub(crate) unsafe fn with_thin<R>(thin: *const c_void, look: impl FnOnce(&mut Self) -> R) -> R {
        // SAFETY: as the caller promises; `ManuallyDrop` leaves the reference where it was.
        let mut kept = std::mem::ManuallyDrop::new(unsafe { Self::from_thin(thin) });
        look(&mut kept)
    }
}

/// Gives a thin pointer to a block with this owner its vtable back. Reads nothing.
fn widen<O: Owner>(thin: *const c_void) -> *const Block<dyn Owner> {
    thin.cast::<Block<O>>()
}

/// Drops the reference behind a thin pointer.
unsafe extern "C" fn release(thin: *mut c_void) {
    contain_panic(|| {
        // SAFETY: the caller holds the pointer as a deleter's context: it came from `into_thin`,
        // and a deleter is called once.
        drop(unsafe { Storage::from_thin(thin) });
    });
}

/// Runs code that owners of other people's making take part in, where no panic may pass.
/// A panic ends here. Its payload may panic when it is dropped, and so may that payload; then it is
/// leaked.
pub(crate) fn contain_panic(run: impl FnOnce()) {
    let caught = |run: &mut dyn FnMut()| panic::catch_unwind(panic::AssertUnwindSafe(run)).err();
    let mut run = Some(run);
    let mut payload = caught(&mut || run.take().into_iter().for_each(|run| run()));
    for _ in 0..2 {
        payload = caught(&mut || drop(payload.take()));
    }
    std::mem::forget(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Counted(Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    struct Explosive(#[expect(dead_code, reason = "dropped after the panic")] Counted);

    impl Drop for Explosive {
        fn drop(&mut self) {
            std::panic::panic_any(Bomb);
        }
    }

    /// A panic payload that panics when it is dropped.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the payload itself");
        }
    }

    fn counted() -> (Counted, Arc<AtomicUsize>) {
        let drops = Arc::new(AtomicUsize::new(0));
        (Counted(Arc::clone(&drops)), drops)
    }

    #[test]
    fn the_owner_is_dropped_with_the_last_reference() {
        let (owner, drops) = counted();
        let mut first = Storage::new(owner, Access::Exclusive, false);
        let second = first.share();
        assert!(!first.is_unique() && !first.set_access(Access::ReadOnly));
        drop(second);
        assert!(first.is_unique() && first.set_access(Access::ReadOnly));
        assert_eq!(drops.load(Ordering::SeqCst), 0);
        drop(first);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn lent_memory_is_exclusive_again_when_one_reference_is_left() {
        let mut storage = Storage::new(vec![1_u8], Access::Exclusive, false);
        let other = storage.share();
        assert!(!storage.lend(), "not alone");
        drop(other);
        assert!(storage.lend() && !storage.lend());
        let other = storage.share();
        assert!(!storage.reclaim());
        assert_eq!(storage.access(), Access::Aliased { writable: true });
        drop(other);
        assert!(storage.reclaim());
        assert_eq!(storage.access(), Access::Exclusive);
    }

    #[test]
    fn owners_come_out_by_type_and_alone() {
        let mut storage = Storage::new(vec![1_u8], Access::Exclusive, false);
        assert!(storage.owner_mut::<Vec<u16>>().is_none());
        assert_eq!(storage.owner_mut::<Vec<u8>>().map(|owner| owner.len()), Some(1));
        let storage = storage.into_owner::<String>().expect_err("not a String");
        let other = storage.share();
        let storage = storage.into_owner::<Vec<u8>>().expect_err("not alone");
        drop(other);
        assert_eq!(storage.into_owner::<Vec<u8>>().ok(), Some(vec![1]));
    }

    #[test]
    fn thin_pointers_carry_one_reference() {
        let (owner, drops) = counted();
        let thin = Storage::new(owner, Access::Exclusive, true).into_thin();
        // SAFETY: `thin` holds its reference until `release` below.
        let mut shared = unsafe { Storage::with_thin(thin, |kept| kept.share()) };
        assert!(shared.is_copied() && !shared.is_unique());
        // SAFETY: the one call that this pointer's reference stands for.
        unsafe { release(thin) };
        assert!(shared.is_unique());
        drop(shared);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_panicking_owner_does_not_pass_the_c_boundary() {
        let (owner, drops) = counted();
        let thin = Storage::new(Explosive(owner), Access::Exclusive, false).into_thin();
        // SAFETY: the one call that this pointer's reference stands for.
        unsafe { release(thin) };
        assert_eq!(drops.load(Ordering::SeqCst), 1, "its fields are dropped all the same");
    }
}
