//! The owner of memory, and the state that says which code may write the memory.
//!
//! A [`Storage`] is one reference to a reference-counted [`StorageInner`], which holds the owner of
//! some memory and a state that says which other code can reach that memory. The owner is dropped
//! once, with the last reference, on the thread that drops that reference.
//!
//! ```text
//!   Storage ──┐                             ┌─ StorageHeader  release function, THIS_COPY, type of
//!   Storage ──┼──► StorageInner<O> ─────────┤                 the owner, count, facts, device
//!   libtorch ─┘    (a thin pointer there)   └─ owner: O       out of reach of shared references
//! ```
//!
//! The states, and the calls that lead from one to another. Each call needs the only reference, so
//! no other reference sees a state change:
//!
//! ```text
//!                        share_out
//!      Exclusive ────────────────────► Aliased { writable: true }, shared out: libtorch and DLPack
//!          ▲     ◄────────────────────   structs hold the memory
//!          │             reclaim
//!          │
//!          │  set_state, whose caller guarantees the new state
//!          ▼
//!      ReadOnly  ◄───────────────────►  Aliased { writable }, for good
//! ```
//!
//! | state | what safe code may do |
//! |---|---|
//! | `Exclusive` | read through every reference; write through the only one |
//! | `ReadOnly` | read through every reference |
//! | `Aliased` | copy the elements; the layer above may allow more (`Access::Aliased::trusted`) |
//!
//! Invariants:
//! * No shared reference to the inner struct reaches the owner (that is what makes the inner struct
//!   `Sync` for owners that are only `Send`), except in [`Storage::owner_ref_unchecked`],
//!   [`Storage::copy_to_host`] and [`Storage::check_address`], whose uses are thread-safe.
//! * [`StorageState::Exclusive`] and [`StorageState::ReadOnly`] are proofs. The constructors that
//!   set them are `unsafe`, and their callers either checked them or pass a guarantee on.
//! * There are no weak references: `get_mut` succeeds exactly for the only handle.

use std::any::{Any, TypeId};
use std::ffi::c_void;
use std::mem::offset_of;
use std::sync::atomic::AtomicU8;

use crate::contain_panic::contain_panic;
use crate::device_state::DeviceStateCell;
use crate::movable::MovableOwner;
use crate::sync::atomic::AtomicUsize;
use crate::{Descriptor, Result};

use owner_type::{OwnerType, OwnerTypeOf};
use reference::Reference;
use witness::Witnessed;

/// What is known about other ways to reach the memory of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StorageState {
    /// Proved: only the references to this storage reach the memory, which may be written.
    Exclusive,
    /// Proved: no one writes the memory.
    ReadOnly,
    /// Code outside this crate may reach the memory and write it.
    Aliased {
        /// Whether this crate may write it too.
        writable: bool,
    },
}

/// Anything that keeps memory alive until it is dropped.
pub(crate) trait StorageOwner: Any + Send {}
impl<O: Any + Send> StorageOwner for O {}

/// What some owners can do beyond keeping memory. Layers above the storage implement it for the
/// owners that they know, so that the storage need not know them.
///
/// # Safety
/// * `copy_to_host` is sound while other threads call it on the same owner. The storage that it
///   returns keeps the elements of the descriptor that it returns, which are copies of `part`.
/// * `take_vec` returns the `Vec` whose memory this owner keeps, or nothing.
#[cfg(any(feature = "ndarray", feature = "ndarray-0_16"))]
pub(crate) unsafe trait OwnerHooks: StorageOwner + Sized {
    /// Takes the `Vec` that this owner keeps its elements in, and leaves an empty owner. Does
    /// nothing unless that `Vec` is of the type `wanted`.
    fn take_vec(&mut self, _wanted: TypeId) -> Option<Box<dyn Any>> {
        None
    }

    /// Copies elements of the owner's memory into a new storage on the host, if the owner can do
    /// that for memory which this crate cannot read. `part` describes all of the owner's elements
    /// or a view of them.
    fn copy_to_host(&self, _part: &Descriptor) -> Option<NewMemory> {
        None
    }
}

/// Memory of a new storage, and the description of the elements in it.
pub(crate) type NewMemory = Result<(Storage, Descriptor)>;

/// What the inner structs of all owners begin with, so that a thin pointer is enough to find the
/// rest.
#[repr(C)]
struct StorageHeader {
    /// C++ holds a thin pointer to the inner struct as a deleter's context, and calls this.
    release: unsafe extern "C" fn(*mut c_void),
    /// [`THIS_COPY`]: C++ compares it before it takes a context for one of this crate's.
    copy: &'static AtomicU8,
    owner_type: &'static OwnerType,
    /// The owner's type: here, because `Any::type_id` is a call through a table.
    owner_id: TypeId,
    /// References to the storage.
    count: AtomicUsize,
    facts: Witnessed<Facts>,
    /// For memory of a device. Dropped before the owner: the device finishes with the memory before
    /// the owner releases it.
    device_state: DeviceStateCell,
}

/// What is known about the memory. Any reference may read it; only the only reference writes it.
#[derive(Clone, Copy)]
struct Facts {
    state: StorageState,
    /// Whether this crate allocated the memory for a copy (DLPack's `IS_COPIED`).
    copied: bool,
    /// Whether exclusive memory is aliased for as long as there are several references.
    shared_out: bool,
}

#[repr(C)]
struct StorageInner<O: ?Sized> {
    header: StorageHeader,
    owner: Guarded<O>,
}

// `shim.cpp` calls the function at the beginning of the context that it was given, and compares
// what follows.
const _: () = assert!(offset_of!(StorageHeader, release) == 0);
const _: () = assert!(offset_of!(StorageHeader, copy) == size_of::<*const c_void>());
const _: () = assert!(offset_of!(StorageInner<()>, header) == 0);

/// Its address tells this copy of the crate from other copies in the same process, whose headers
/// may be laid out in another way. An atomic is in writable memory, which linkers do not merge.
static THIS_COPY: AtomicU8 = AtomicU8::new(0);

/// The address that the headers of this copy of the crate hold after their release function.
#[cfg(feature = "torch")]
#[inline]
pub(crate) fn this_copy() -> *const c_void {
    (&raw const THIS_COPY).cast()
}

/// An owner out of reach of shared references.
#[repr(transparent)]
struct Guarded<O: ?Sized>(O);

// SAFETY: a shared reference gives no access to the owner: the field is private to this module,
// which uses it by value, through `&mut`, for its type id, in `Storage::owner_ref_unchecked`, whose
// caller guarantees that the use is thread-safe, for `OwnerHooks::copy_to_host`, whose
// implementation does, and for `MovableOwner::check_address`, whose owner is `Sync`.
unsafe impl<O: ?Sized + Send> Sync for Guarded<O> {}

/// One reference to a storage.
pub(crate) struct Storage(Reference);

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Storage {
    /// One allocation, which holds the owner itself.
    #[inline]
    fn new<O: StorageOwner>(
        owner: O,
        owner_type: &'static OwnerTypeOf<O>,
        state: StorageState,
    ) -> Self {
        let header = || StorageHeader {
            release,
            copy: &THIS_COPY,
            owner_type: owner_type.erased(),
            owner_id: TypeId::of::<O>(),
            count: AtomicUsize::new(1),
            facts: Witnessed::new(Facts { state, copied: false, shared_out: false }),
            device_state: DeviceStateCell::default(),
        };
        // SAFETY: `owner_id` and, by its type, `owner_type` are those of `O`.
        Self(unsafe { Reference::new(header, owner) })
    }

    /// A storage of memory that only its owner reaches.
    ///
    /// # Safety
    /// * Nothing but `owner` reaches the memory that it keeps, which may be written.
    #[inline]
    pub(crate) unsafe fn exclusive<O: StorageOwner>(owner: O) -> Self {
        Self::new(owner, const { &OwnerTypeOf::<O>::plain() }, StorageState::Exclusive)
    }

    /// As [`exclusive`](Self::exclusive), for an owner with hooks.
    ///
    /// # Safety
    /// * As for [`exclusive`](Self::exclusive).
    #[inline]
    #[cfg(any(feature = "ndarray", feature = "ndarray-0_16"))]
    pub(crate) unsafe fn exclusive_with_hooks<O: OwnerHooks>(owner: O) -> Self {
        Self::new(owner, const { &OwnerTypeOf::<O>::with_hooks() }, StorageState::Exclusive)
    }

    /// A storage of memory that this crate allocated just now, for a copy.
    ///
    /// # Safety
    /// * Nothing but `owner` reaches the memory that it keeps, which may be written.
    #[inline]
    pub(crate) unsafe fn copied<O: StorageOwner>(owner: O) -> Self {
        // SAFETY: the caller guarantees that nothing but `owner` reaches the memory.
        unsafe { Self::exclusive(owner) }.marked_as_copied()
    }

    /// A storage of memory that no one writes.
    ///
    /// # Safety
    /// * The memory that `owner` keeps is not written until `owner` is dropped.
    #[inline]
    pub(crate) unsafe fn read_only<O: StorageOwner>(owner: O) -> Self {
        Self::new(owner, const { &OwnerTypeOf::<O>::plain() }, StorageState::ReadOnly)
    }

    /// A storage of memory that code outside this crate may reach.
    #[inline]
    pub(crate) fn aliased<O: StorageOwner>(owner: O, writable: bool) -> Self {
        Self::new(owner, const { &OwnerTypeOf::<O>::plain() }, StorageState::Aliased { writable })
    }

    /// As [`aliased`](Self::aliased), for an owner whose memory other code may move.
    #[inline]
    pub(crate) fn aliased_movable<O: MovableOwner>(owner: O, writable: bool) -> Self {
        let owner_type = const { &OwnerTypeOf::<O>::movable() };
        Self::new(owner, owner_type, StorageState::Aliased { writable })
    }

    /// As [`aliased`](Self::aliased), for an owner with hooks.
    #[cfg(feature = "torch")]
    pub(crate) fn aliased_with_hooks<O: OwnerHooks>(owner: O, writable: bool) -> Self {
        Self::new(
            owner,
            const { &OwnerTypeOf::<O>::with_hooks() },
            StorageState::Aliased { writable },
        )
    }

    /// Notes that the memory is a copy that was made for its consumer.
    #[inline]
    pub(crate) fn marked_as_copied(mut self) -> Self {
        if let Some(facts) = self.facts_mut() {
            facts.copied = true;
        }
        self
    }

    #[inline]
    pub(crate) fn state(&self) -> StorageState {
        self.facts().state
    }

    #[inline]
    fn facts(&self) -> Facts {
        self.0.facts.get()
    }

    /// What is known about the memory, to be changed, if this is the only reference.
    #[inline]
    fn facts_mut(&mut self) -> Option<&mut Facts> {
        self.0.get_mut().map(|header| header.facts.get_mut())
    }

    /// Whether the memory is aliased for good, not only for as long as it is shared out.
    #[inline]
    pub(crate) fn is_aliased_for_good(&self) -> bool {
        let facts = self.facts();
        matches!(facts.state, StorageState::Aliased { .. }) && !facts.shared_out
    }

    pub(crate) fn is_copied(&self) -> bool {
        self.facts().copied
    }

    /// What the layer of a device keeps with memory of that device.
    #[cfg(feature = "cuda")]
    pub(crate) fn device_state(&self) -> &DeviceStateCell {
        &self.0.device_state
    }

    #[inline]
    pub(crate) fn share(&self) -> Self {
        Self(self.0.share())
    }

    /// Whether this is the only reference; then no other can be made while the borrow lasts.
    #[inline]
    pub(crate) fn is_unique(&mut self) -> bool {
        self.0.get_mut().is_some()
    }

    /// Whether this was the only reference a moment ago. Informative; proves nothing.
    pub(crate) fn looks_unique(&self) -> bool {
        self.0.count() == 1
    }

    /// Sets the state if this is the only reference, and returns whether it was.
    ///
    /// # Safety
    /// * The state is true of the memory from now on: see the constructors.
    pub(crate) unsafe fn set_state(&mut self, state: StorageState) -> bool {
        match self.facts_mut() {
            Some(facts) => {
                (facts.state, facts.shared_out) = (state, false);
                true
            }
            None => false,
        }
    }

    /// Makes exclusive memory aliased, and writable through every reference, until only one
    /// reference is left and [`reclaim`](Self::reclaim) is called. Returns false, and changes
    /// nothing, if there is another reference or the memory is not exclusive.
    #[cfg(any(feature = "torch", test))]
    pub(crate) fn share_out(&mut self) -> bool {
        match self.facts_mut() {
            Some(facts) if facts.state == StorageState::Exclusive => {
                (facts.state, facts.shared_out) = (StorageState::Aliased { writable: true }, true);
                true
            }
            _ => false,
        }
    }

    /// Makes shared-out memory exclusive again if this is the only reference. Returns whether the
    /// memory is not shared out afterwards.
    #[cfg(any(feature = "torch", test))]
    ///
    /// # Safety
    /// * If this is the only reference, nothing but its holder reaches the memory.
    pub(crate) unsafe fn reclaim(&mut self) -> bool {
        if let Some(facts) = self.facts_mut()
            && facts.shared_out
        {
            (facts.state, facts.shared_out) = (StorageState::Exclusive, false);
        }
        !self.facts().shared_out
    }

    /// The owner itself, if this is the only reference and the owner is of type `O`.
    #[inline]
    pub(crate) fn into_owner<O: StorageOwner>(self) -> Result<O, Self> {
        if !self.owner_is::<O>() {
            return Err(self);
        }
        // SAFETY: the owner's type was checked just above.
        match unsafe { self.0.into_inner::<O>() } {
            Ok(inner) => Ok(inner.owner.0),
            Err(reference) => Err(Self(reference)),
        }
    }

    /// The owner, if this is the only reference and the owner is of type `O`.
    #[inline]
    pub(crate) fn owner_mut<O: StorageOwner>(&mut self) -> Option<&mut O> {
        if !self.owner_is::<O>() {
            return None;
        }
        // SAFETY: the owner's type was checked just above.
        unsafe { self.0.inner_mut_of::<O>() }.map(|inner| &mut inner.owner.0)
    }

    /// The `Vec<T>` of an owner that keeps its elements in one, if this is the only reference.
    ///
    /// # Safety
    /// * Descriptors of elements in this storage are not used afterwards: it keeps none.
    pub(crate) unsafe fn take_vec<T: 'static>(&mut self) -> Option<Vec<T>> {
        let take = self.0.owner_type.take_vec;
        let vec = take(&mut self.0.inner_mut()?.owner.0, TypeId::of::<Vec<T>>())?;
        vec.downcast().ok().map(|vec| *vec)
    }

    /// Whether the owner is of type `O`.
    #[inline]
    pub(crate) fn owner_is<O: StorageOwner>(&self) -> bool {
        self.0.owner_id == TypeId::of::<O>()
    }

    /// The owner, if it is of type `O`.
    ///
    /// # Safety
    /// * What the caller does with the owner is sound from any number of threads at once.
    pub(crate) unsafe fn owner_ref_unchecked<O: StorageOwner>(&self) -> Option<&O> {
        if !self.owner_is::<O>() {
            return None;
        }
        // SAFETY: the owner's type was checked just above.
        Some(unsafe { &self.0.inner_of::<O>().owner.0 })
    }

    /// Lets the owner copy elements of its memory to the host, if it can
    /// ([`OwnerHooks::copy_to_host`]).
    pub(crate) fn copy_to_host(&self, part: &Descriptor) -> Option<NewMemory> {
        (self.0.owner_type.copy_to_host)(&self.0.inner().owner.0, part)
    }

    /// Fails if the owner says that its memory moved ([`MovableOwner::check_address`]).
    #[inline]
    pub(crate) fn check_address(&self) -> Result<()> {
        match self.0.owner_type.check_address {
            Some(check_address) => check_address(&self.0.inner().owner.0),
            None => Ok(()),
        }
    }

    /// Whether the owner is a [`MovableOwner`].
    #[inline]
    pub(crate) fn is_movable(&self) -> bool {
        self.0.owner_type.check_address.is_some()
    }

    /// Turns the reference into a thin pointer, for C++ to keep.
    #[cfg(any(feature = "torch", test))]
    pub(crate) fn into_raw(self) -> *mut c_void {
        self.0.into_raw()
    }

    /// Turns a thin pointer back into the reference that it was.
    ///
    /// # Safety
    /// * `raw` came from [`into_raw`](Self::into_raw) and stands for one reference, which the
    ///   result owns from now on.
    pub(crate) unsafe fn from_raw(raw: *const c_void) -> Self {
        // SAFETY: the caller passes the one reference behind `raw`.
        let storage = Self(unsafe { Reference::from_raw(raw) });
        debug_assert!(std::ptr::eq(storage.0.copy, &raw const THIS_COPY), "not of this crate");
        storage
    }

    /// Uses the reference behind a thin pointer, which stays where it is.
    ///
    /// # Safety
    /// * `raw` came from [`into_raw`](Self::into_raw) and its reference lives during the call.
    /// * Unless nothing else uses that reference meanwhile, `use_it` calls nothing that needs the
    ///   only reference.
    #[cfg(any(feature = "torch", test))]
    pub(crate) unsafe fn with_raw<R>(raw: *const c_void, use_it: impl FnOnce(&mut Self) -> R) -> R {
        // SAFETY: the caller guarantees that the reference lives; `ManuallyDrop` does not drop it.
        let mut storage = std::mem::ManuallyDrop::new(unsafe { Self::from_raw(raw) });
        use_it(&mut storage)
    }
}

/// Drops the reference behind a thin pointer.
unsafe extern "C" fn release(raw: *mut c_void) {
    contain_panic(|| {
        // SAFETY: the caller holds the pointer as a deleter's context, which came from `into_raw`,
        // and calls a deleter once.
        drop(unsafe { Storage::from_raw(raw) });
    });
}

mod owner_type;
mod reference;
mod witness;

#[cfg(all(loom, test))]
mod interleavings;
#[cfg(test)]
mod model;
#[cfg(all(test, not(loom)))]
mod model_tests;
#[cfg(test)]
mod tests;
