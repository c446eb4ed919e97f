//! What a storage remembers of the type of its owner.
//!
//! A storage's reference is a thin pointer, so that it takes one word in each handle. The functions
//! here know the type that the pointer has lost.

use std::any::{Any, TypeId};
use std::marker::PhantomData;
use std::ptr::NonNull;

#[cfg(any(feature = "ndarray", feature = "ndarray-0_16"))]
use super::OwnerHooks;
use super::{NewMemory, StorageHeader, StorageInner, StorageOwner};
use crate::movable::MovableOwner;
use crate::{Descriptor, Result};

/// What a storage remembers of the type of its owner.
pub(super) struct OwnerType {
    /// Gives a pointer to the header its metadata back. Reads nothing.
    pub(super) widen: fn(NonNull<StorageHeader>) -> NonNull<StorageInner<dyn StorageOwner>>,
    /// Drops and frees the inner struct, whose owner has this type.
    ///
    /// # Safety
    /// * The header is that of an inner struct in a `Box`, which is given up.
    pub(super) free: unsafe fn(NonNull<StorageHeader>),
    pub(super) take_vec: fn(&mut dyn Any, TypeId) -> Option<Box<dyn Any>>,
    pub(super) copy_to_host: fn(&dyn Any, &Descriptor) -> Option<NewMemory>,
    /// For owners whose memory other code may move.
    pub(super) check_address: Option<fn(&dyn Any) -> Result<()>>,
}

/// The [`OwnerType`] of `O`. Only the constructors below make one.
pub(super) struct OwnerTypeOf<O>(OwnerType, PhantomData<fn() -> O>);

impl<O: StorageOwner> OwnerTypeOf<O> {
    /// The same without the type.
    #[inline]
    pub(super) fn erased(&'static self) -> &'static OwnerType {
        &self.0
    }

    /// The type of an owner that only keeps memory.
    pub(super) const fn plain() -> Self {
        let owner_type = OwnerType {
            widen: widen::<O>,
            free: free::<O>,
            take_vec: |_, _| None,
            copy_to_host: |_, _| None,
            check_address: None,
        };
        Self(owner_type, PhantomData)
    }

    /// The type of an owner whose memory other code may move.
    pub(super) const fn movable() -> Self
    where
        O: MovableOwner,
    {
        let check_address: fn(&dyn Any) -> Result<()> =
            |owner| owner.downcast_ref::<O>().map_or(Ok(()), O::check_address);
        let Self(plain, _) = Self::plain();
        Self(OwnerType { check_address: Some(check_address), ..plain }, PhantomData)
    }

    /// The type of an owner with hooks.
    #[cfg(any(feature = "ndarray", feature = "ndarray-0_16"))]
    pub(super) const fn with_hooks() -> Self
    where
        O: OwnerHooks,
    {
        let Self(plain, _) = Self::plain();
        let owner_type = OwnerType {
            take_vec: |owner, wanted| owner.downcast_mut::<O>()?.take_vec(wanted),
            copy_to_host: |owner, part| owner.downcast_ref::<O>()?.copy_to_host(part),
            ..plain
        };
        Self(owner_type, PhantomData)
    }
}

/// Gives a pointer to the header of an inner struct with this owner its metadata back.
fn widen<O: StorageOwner>(
    header: NonNull<StorageHeader>,
) -> NonNull<StorageInner<dyn StorageOwner>> {
    header.cast::<StorageInner<O>>()
}

/// Drops and frees an inner struct with this owner.
///
/// # Safety
/// * The header is that of an inner struct in a `Box`, which is given up. Its owner is of type `O`.
unsafe fn free<O: StorageOwner>(header: NonNull<StorageHeader>) {
    // SAFETY: the caller gives up the `Box` of a struct of this type.
    drop(unsafe { Box::from_raw(header.cast::<StorageInner<O>>().as_ptr()) });
}
