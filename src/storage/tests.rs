//! References, states, owners, and pointers that C++ keeps.

use super::*;
use std::sync::Arc;
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

fn exclusive(owner: impl StorageOwner) -> Storage {
    // SAFETY: the tests' owners keep no memory that anything else reaches.
    unsafe { Storage::exclusive(owner) }
}

fn set_read_only(storage: &mut Storage) -> bool {
    // SAFETY: nothing writes the memory of the tests' owners.
    unsafe { storage.set_state(StorageState::ReadOnly) }
}

#[test]
fn the_owner_is_dropped_with_the_last_reference() {
    let (owner, drops) = counted();
    let mut first = exclusive(owner);
    let second = first.share();
    assert!(!first.is_unique() && !set_read_only(&mut first));
    drop(second);
    assert!(first.is_unique() && set_read_only(&mut first));
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    drop(first);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn shared_out_memory_is_exclusive_again_when_one_reference_is_left() {
    let mut storage = exclusive(vec![1_u8]);
    let other = storage.share();
    assert!(!storage.share_out(), "not alone");
    drop(other);
    assert!(storage.share_out() && !storage.share_out());
    let other = storage.share();
    // SAFETY: nothing reaches the memory of the tests' owners.
    assert!(!unsafe { storage.reclaim() });
    assert_eq!(storage.state(), StorageState::Aliased { writable: true });
    drop(other);
    // SAFETY: `other` is gone, and the owner's memory is reached through `storage` only.
    assert!(unsafe { storage.reclaim() });
    assert_eq!(storage.state(), StorageState::Exclusive);
}

#[test]
fn owners_come_out_by_type_and_alone() {
    let mut storage = exclusive(vec![1_u8]);
    assert!(storage.owner_mut::<Vec<u16>>().is_none());
    assert_eq!(storage.owner_mut::<Vec<u8>>().map(|owner| owner.len()), Some(1));
    let storage = storage.into_owner::<String>().expect_err("not a String");
    let other = storage.share();
    let storage = storage.into_owner::<Vec<u8>>().expect_err("not alone");
    drop(other);
    assert_eq!(storage.into_owner::<Vec<u8>>().ok(), Some(vec![1]));
}

#[test]
fn raw_pointers_carry_one_reference() {
    let (owner, drops) = counted();
    let raw = exclusive(owner).marked_as_copied().into_raw();
    // SAFETY: `raw` holds its reference until `release` below.
    let mut shared = unsafe { Storage::with_raw(raw, |storage| storage.share()) };
    assert!(shared.is_copied() && !shared.is_unique());
    // SAFETY: every inner struct begins with a header, and the reference lives.
    let header = unsafe { &*raw.cast::<StorageHeader>() };
    assert!(std::ptr::eq(header.copy, &raw const THIS_COPY), "what C++ recognises");
    // SAFETY: the one call that this pointer's reference stands for.
    unsafe { release(raw) };
    assert!(shared.is_unique());
    drop(shared);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn a_panicking_owner_does_not_pass_the_c_boundary() {
    let (owner, drops) = counted();
    let raw = exclusive(Explosive(owner)).into_raw();
    // SAFETY: the one call that this pointer's reference stands for.
    unsafe { release(raw) };
    assert_eq!(drops.load(Ordering::SeqCst), 1, "its fields are dropped all the same");
}
