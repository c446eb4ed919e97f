//! Owners that give out their memory as a slice, and stay borrowed as long as the slice is used.
//!
//! Why the slice stays valid, for every owner whose code is sound:
//!
//! ```text
//!   Storage ──► StorageInner { BorrowedOwner { pointer } }
//!                                      │
//!                                      ▼
//!                              O, in a Box of its own ──► [T], anywhere: in O itself, in memory
//!                              borrowed until the end     that O owns, in a static, in a mapping
//! ```
//!
//! * **The owner is at its final place before the slice is made.** Moving an owner would invalidate
//!   the slice if the elements are in the owner itself (`[T; N]`), and, by Rust's aliasing rules,
//!   if they are in a `Box<[T]>`. So the owner is moved into a `Box` first. The `Box` is kept as a
//!   raw pointer: moving a `Box`, and the `&mut` to the storage that its only reference makes,
//!   would invalidate pointers into the memory, too.
//! * **`as_ref` or `as_mut` is called once.** An implementation may return another slice for each
//!   call. All uses are of the slice that the one call returned.
//! * **The borrow lasts until the owner is dropped or given back.** In between, no code moves the
//!   owner, makes a reference to it, or calls a method of it. Safe code could do the same: it would
//!   leak the `Box`, and keep the borrow. So an implementation that is sound keeps the slice valid;
//!   no code writes it if the borrow is shared, and no other code reaches it if it is mutable.
//! * **Only the slice is used on other threads**, and `T: Send + Sync`. The owner may be dropped or
//!   given back on another thread than the one that made it, so it has to be `Send`. The slice is
//!   not used after that.
//! * **`bool` elements that other code could write are checked** before the owner is given back,
//!   and made valid before it is dropped: code of the owner may read them.

use std::ptr::NonNull;

use crate::{DType, Element, Error, Result};

/// An owner whose elements are borrowed, for as long as this value lives.
pub(crate) struct BorrowedOwner<O> {
    /// From `Box::into_raw`.
    owner: NonNull<O>,
    /// The bytes of the slice, if they are of type `bool` and may be written.
    bools: Option<NonNull<[u8]>>,
}

// SAFETY: `BorrowedOwner` owns the `O` behind the pointer, as a `Box<O>` does, and `bools` are
// bytes in memory that the `O` keeps. A shared reference gives no access to either.
unsafe impl<O: Send> Send for BorrowedOwner<O> {}

impl<O> BorrowedOwner<O> {
    fn new(owner: O) -> Self {
        Self { owner: NonNull::from(Box::leak(Box::new(owner))), bools: None }
    }

    /// Borrows the elements of an owner. No code writes them as long as the result lives.
    ///
    /// The slice is valid for reads until the result is dropped or consumed.
    pub(crate) fn shared<T: Element>(owner: O) -> (Self, NonNull<[T]>)
    where
        O: AsRef<[T]>,
    {
        let this = Self::new(owner);
        // SAFETY: the pointer comes from a `Box`, and no other reference to the owner exists before
        // `this` is dropped or consumed. If `as_ref` panics, unwinding ends the borrow and then
        // drops `this`.
        let borrowed: &O = unsafe { this.owner.as_ref() };
        let elements = NonNull::from(borrowed.as_ref());
        (this, elements)
    }

    /// Borrows the elements of an owner mutably. No other code reaches them as long as the result
    /// lives.
    ///
    /// The slice is valid for reads and writes until the result is dropped or consumed.
    pub(crate) fn exclusive<T: Element>(owner: O) -> (Self, NonNull<[T]>)
    where
        O: AsMut<[T]>,
    {
        let mut this = Self::new(owner);
        // SAFETY: as in `shared`.
        let borrowed: &mut O = unsafe { this.owner.as_mut() };
        let elements = NonNull::from(borrowed.as_mut());
        if T::DTYPE == DType::BOOL {
            this.bools = Some(NonNull::slice_from_raw_parts(elements.cast(), elements.len()));
        }
        (this, elements)
    }

    /// Returns [`Error::InvalidBool`] if the owner's elements are of type `bool` and other code
    /// left a byte among them that is not 0 or 1. The mutable borrow is proof that no code writes
    /// them.
    pub(crate) fn check_bools(&mut self) -> Result<()> {
        // SAFETY: the borrow of the owner keeps the initialised bytes.
        let bytes = self.bools.map(|bytes| unsafe { bytes.as_ref() });
        match bytes.into_iter().flatten().find(|&&byte| byte > 1) {
            None => Ok(()),
            Some(&value) => Err(Error::InvalidBool { value }),
        }
    }

    /// Ends the borrow, and gives the owner back. [`check_bools`](Self::check_bools) passed, or
    /// bytes that are not 0 or 1 become 1.
    pub(crate) fn into_inner(self) -> O {
        *std::mem::ManuallyDrop::new(self).end_borrow()
    }

    /// Makes the elements valid for code of the owner, and takes the owner. This is called once,
    /// and last.
    fn end_borrow(&mut self) -> Box<O> {
        if self.check_bools().is_err()
            && let Some(mut bytes) = self.bools
        {
            // SAFETY: `exclusive` borrowed the bytes mutably, and the borrow lasts until the next
            // line.
            let bytes = unsafe { bytes.as_mut() };
            bytes.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
        }
        // SAFETY: the pointer comes from a `Box` (`new`), and both callers call this once: `drop`
        // runs once, and `into_inner` prevents it.
        unsafe { Box::from_raw(self.owner.as_ptr()) }
    }
}

impl<O> Drop for BorrowedOwner<O> {
    fn drop(&mut self) {
        drop(self.end_borrow());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements in the owner itself, which reads them when it is dropped.
    struct Flags([bool; 3]);

    impl AsMut<[bool]> for Flags {
        fn as_mut(&mut self) -> &mut [bool] {
            &mut self.0
        }
    }

    impl Drop for Flags {
        fn drop(&mut self) {
            assert!(self.0.iter().all(|&flag| u8::from(flag) <= 1));
        }
    }

    fn with_byte(byte: u8) -> BorrowedOwner<Flags> {
        let (owner, elements) = BorrowedOwner::exclusive(Flags([false; 3]));
        // SAFETY: the second byte of three, which `owner` keeps; no other code uses it.
        unsafe { elements.cast::<u8>().as_ptr().wrapping_add(1).write(byte) };
        owner
    }

    #[test]
    fn bools_are_valid_when_the_owner_is_used_again() {
        let mut owner = with_byte(1);
        assert_eq!(owner.check_bools(), Ok(()));
        assert_eq!(owner.into_inner().0, [false, true, false]);
        let mut owner = with_byte(7);
        assert_eq!(owner.check_bools(), Err(Error::InvalidBool { value: 7 }));
        assert_eq!(owner.into_inner().0, [false, true, false]);
        drop(with_byte(0xff)); // the owner's `drop` reads its elements
    }

    #[test]
    fn the_slice_survives_moves_of_the_borrowed_owner() {
        let (owner, elements) = BorrowedOwner::exclusive([1_u8, 2, 3]);
        let mut moved = vec![owner];
        moved.reserve(1000);
        // SAFETY: `moved` keeps the three bytes, and no other code uses them.
        unsafe { elements.cast::<u8>().write(5) };
        assert_eq!(moved.pop().map(BorrowedOwner::into_inner), Some([5, 2, 3]));
        let (owner, elements) = BorrowedOwner::shared::<u16>(vec![1_u16, 2].into_boxed_slice());
        let moved = Box::new(owner);
        // SAFETY: `moved` keeps the numbers, and no code writes them.
        assert_eq!(unsafe { elements.as_ref() }, [1, 2]);
        assert_eq!(*moved.into_inner(), [1, 2]);
    }
}
