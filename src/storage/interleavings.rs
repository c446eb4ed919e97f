//! Every order of the threads' steps, tried by loom: `cargo xtask loom`.
//!
//! loom fails a test if two accesses of the same [`Memory`], or of what a storage knows of it,
//! race: if one of them is a write and no chain of synchronisation puts one before the other. So
//! each scenario only accesses memory as a holder of its reference may; that no owner is dropped
//! twice or never is asserted. The scenarios run on [`Storage`] itself and on the [`Model`], and
//! must fail on a model that lacks an order or a check.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use loom::sync::atomic::{AtomicUsize, fence};
use loom::thread;

use super::model::{Memory, Model, Real, Rules, Subject};
use super::{Storage, StorageState, release};
#[cfg(feature = "cuda")]
use crate::device_state::DeviceStateCell;

/// Tries all interleavings of a scenario, each with new memory, whose owner is dropped once.
fn try_all<S: Subject>(new: impl Fn(Arc<Memory>) -> S + Send + Sync + 'static, scenario: fn(S)) {
    loom::model(move || {
        let memory = Arc::new(Memory::default());
        scenario(new(Arc::clone(&memory)));
        assert_eq!(memory.drops(), 1, "the owner is dropped once");
    });
}

/// Runs a scenario on the storage and on the model.
fn on_both(on_real: fn(Real), on_model: fn(Model)) {
    try_all(Real::new, on_real);
    on_rules(Rules::REAL, on_model);
}

fn on_rules(rules: Rules, scenario: fn(Model)) {
    try_all(move |memory| Model::new(rules, memory), scenario);
}

/// The only handle writes; another thread read through its own handle before it dropped it.
fn write_after_reads<S: Subject>(mut mine: S) {
    let other = mine.share();
    let reader = thread::spawn(move || other.memory().witness.read());
    if mine.is_unique() {
        mine.memory().witness.write();
    }
    reader.join().expect("no panic");
    assert!(mine.is_unique());
    mine.memory().witness.write();
}

/// Three threads read, and one of them, whichever comes last, drops the owner.
fn last_drop<S: Subject>(mine: S) {
    let threads = [mine.share(), mine.share()].map(|other| {
        thread::spawn(move || {
            other.memory().witness.read();
            drop(other);
        })
    });
    mine.memory().witness.read();
    drop(mine);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

/// Two threads ask for the owner at once; no more than one gets it.
fn owner_taken<S: Subject>(mine: S) {
    fn take<S: Subject>(reference: S) -> bool {
        reference.memory().witness.read();
        match reference.into_owner() {
            Ok(owner) => {
                owner.0.witness.write();
                true
            }
            Err(reference) => {
                reference.memory().witness.read();
                false
            }
        }
    }
    let other = mine.share();
    let taker = thread::spawn(move || take(other));
    let here = take(mine);
    let there = taker.join().expect("no panic");
    assert!(!(here && there));
}

/// One thread changes the state if it has the only reference, another reads the state.
fn state_set<S: Subject>(mut mine: S) {
    let other = mine.share();
    let reader = thread::spawn(move || {
        assert_eq!(other.state(), StorageState::Exclusive);
        other.share().memory().witness.read();
        assert_eq!(other.state(), StorageState::Exclusive, "it does not change under a reference");
    });
    let changed = mine.set_state(StorageState::ReadOnly);
    assert_eq!(mine.state() == StorageState::ReadOnly, changed);
    reader.join().expect("no panic");
    assert!(mine.set_state(StorageState::Aliased { writable: false }));
}

/// Memory that is shared out is written by other code, and by this thread when it is reclaimed.
fn reclaimed<S: Subject>(mut mine: S) {
    assert!(mine.share_out() && !mine.share_out() && !mine.is_aliased_for_good());
    let other = mine.share();
    let writer = thread::spawn(move || {
        let further = other.share();
        drop(other);
        assert_eq!(further.state(), StorageState::Aliased { writable: true });
        further.memory().witness.write();
    });
    if mine.reclaim() {
        assert_eq!(mine.state(), StorageState::Exclusive);
        mine.memory().witness.write();
    }
    writer.join().expect("no panic");
    assert!(mine.reclaim() && mine.is_unique());
    mine.memory().witness.write();
}

/// A thread shares memory out while another has a reference: it is refused, or the other is gone.
fn shared_out_meanwhile<S: Subject>(mut mine: S) {
    let other = mine.share();
    let reader = thread::spawn(move || {
        assert_eq!(other.state(), StorageState::Exclusive);
        other.memory().witness.read();
    });
    if mine.share_out() {
        mine.memory().witness.write();
    }
    reader.join().expect("no panic");
}

#[test]
fn loom_the_only_handle_writes_after_all_reads() {
    on_both(write_after_reads, write_after_reads);
}

#[test]
fn loom_the_last_reference_drops_the_owner_after_all_uses() {
    on_both(last_drop, last_drop);
}

#[test]
fn loom_one_thread_takes_the_owner() {
    on_both(owner_taken, owner_taken);
}

#[test]
fn loom_the_state_changes_under_no_other_reference() {
    on_both(state_set, state_set);
}

#[test]
fn loom_reclaimed_memory_holds_what_others_wrote() {
    on_both(reclaimed, reclaimed);
}

#[test]
fn loom_memory_is_shared_out_by_the_only_handle() {
    on_both(shared_out_meanwhile, shared_out_meanwhile);
}

/// Declares tests in which a model with other rules must fail.
macro_rules! caught {
    ($($test:ident: $scenario:ident with { $field:ident: $value:expr };)*) => {$(
        #[test]
        #[should_panic(expected = "Causality violation")]
        fn $test() {
            on_rules(Rules { $field: $value, ..Rules::REAL }, $scenario);
        }
    )*};
}

caught! {
    loom_catches_a_relaxed_subtraction_before_a_write:
        write_after_reads with { subtract: Relaxed };
    loom_catches_a_relaxed_subtraction_before_the_last: last_drop with { subtract: Relaxed };
    loom_catches_a_relaxed_subtraction_before_a_reclaim: reclaimed with { subtract: Relaxed };
    loom_catches_a_relaxed_last_read: last_drop with { last: Relaxed };
    loom_catches_a_relaxed_last_read_after_a_refusal: owner_taken with { last: Relaxed };
    loom_catches_a_relaxed_look_before_the_owner_is_taken: owner_taken with { unique: Relaxed };
    loom_catches_a_relaxed_look_before_a_write: write_after_reads with { unique: Relaxed };
    loom_catches_a_relaxed_look_before_a_change: state_set with { unique: Relaxed };
    loom_catches_a_relaxed_look_before_a_reclaim: reclaimed with { unique: Relaxed };
    loom_catches_a_relaxed_look_before_sharing_out: shared_out_meanwhile with { unique: Relaxed };
    loom_catches_a_change_without_a_look: state_set with { changes_alone: false };
    loom_catches_a_reclaim_without_a_look: reclaimed with { changes_alone: false };
    loom_catches_sharing_out_without_a_look: shared_out_meanwhile with { changes_alone: false };
    loom_catches_an_owner_taken_without_a_look: owner_taken with { takes_alone: false };
}

/// A reference that C++ keeps: used by a thread of libtorch, and released there by the function in
/// the header.
#[test]
fn loom_a_reference_of_cpp_is_released_before_this_thread_writes() {
    try_all(Real::new, |Real(mut mine)| {
        let raw = mine.share().into_raw().expose_provenance();
        let cpp = thread::spawn(move || {
            let raw = std::ptr::with_exposed_provenance_mut(raw);
            // SAFETY: this thread has the reference behind `raw` until `release` below.
            let shared = unsafe { Storage::with_raw(raw, |storage| storage.share()) };
            // SAFETY: the one call that this pointer's reference stands for.
            unsafe { release(raw) };
            Real(shared).memory().witness.read();
        });
        if mine.is_unique() {
            Real(mine.share()).memory().witness.write();
        }
        cpp.join().expect("no panic");
        assert!(mine.is_unique());
    });
}

/// libtorch's own count of a tensor's holders, next to ours: several C++ tensors hold the one
/// reference that libtorch has to a storage of ours. As in `shim.cpp`: a holder that lets go
/// subtracts with `AcqRel`; the count is read relaxed, and `FENCES` says whether a fence follows.
fn reclaimed_from_cpp<const FENCES: bool>(Real(mut storage): Real) {
    assert!(storage.share_out());
    let memory = memory_of(&storage);
    let raw = storage.into_raw().expose_provenance();
    let holders = loom::sync::Arc::new(AtomicUsize::new(2));
    let (theirs, their_memory) = (loom::sync::Arc::clone(&holders), Arc::clone(&memory));
    let cpp = thread::spawn(move || {
        their_memory.witness.write();
        let_go(&theirs, raw);
    });
    if holders.load(Relaxed) == 1 {
        if FENCES {
            fence(Acquire);
        }
        // SAFETY: this thread has the last holder, so that no other thread uses the memory.
        let reclaim = |storage: &mut Storage| unsafe { storage.reclaim() };
        let raw = std::ptr::with_exposed_provenance(raw);
        // SAFETY: the last holder keeps the reference, which no other thread uses.
        assert!(unsafe { Storage::with_raw(raw, reclaim) });
        memory.witness.write();
    }
    let_go(&holders, raw);
    cpp.join().expect("no panic");
}

fn memory_of(storage: &Storage) -> Arc<Memory> {
    // SAFETY: all that is done with the owner is to count one more reference to its memory.
    let owner = unsafe { storage.owner_ref_unchecked::<super::model::Owner>() };
    Arc::clone(&owner.expect("made by `Real::new`").0)
}

/// As libtorch's `intrusive_ptr`: the last holder calls the deleter.
fn let_go(holders: &AtomicUsize, raw: usize) {
    if holders.fetch_sub(1, AcqRel) == 1 {
        // SAFETY: the one call that this pointer's reference stands for.
        unsafe { release(std::ptr::with_exposed_provenance_mut(raw)) };
    }
}

#[test]
fn loom_memory_reclaimed_from_cpp_holds_what_cpp_wrote() {
    try_all(Real::new, reclaimed_from_cpp::<true>);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_catches_a_reclaim_from_cpp_without_a_fence() {
    try_all(Real::new, reclaimed_from_cpp::<false>);
}

/// Two threads put a state into one slot: both get the same, with all that was written to it.
#[cfg(feature = "cuda")]
#[test]
fn loom_a_slot_is_set_once() {
    loom::model(|| {
        let cell = loom::sync::Arc::new(DeviceStateCell::default());
        let set = |cell: &DeviceStateCell| {
            let new = loom::sync::Arc::new(Memory::default());
            new.witness.write();
            let state = cell.get_or_set(new);
            state.witness.read();
            state
        };
        let other = loom::sync::Arc::clone(&cell);
        let thread = thread::spawn(move || set(&other));
        if let Some(state) = cell.get::<Memory>() {
            state.witness.read();
        }
        let here = set(&cell);
        let there = thread.join().expect("no panic");
        assert!(loom::sync::Arc::ptr_eq(&here, &there));
    });
}
