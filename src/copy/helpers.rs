//! How threads share a copy: the caller's thread runs the parts of the copy together with helpers.
//!
//! ```text
//!   caller                     unclaimed parts           helper (a job of the pool)
//!     │ offers a helper ─────────── 0 1 2 3 ────────────► begins sooner, later or never
//!     │ claims part 0, runs it        1 2 3
//!     │ offers it again if it         1 2                   │ claims part 3, runs it
//!     │ has not begun
//!     │ claims part 1, runs it          2
//!     │                                                     │ claims part 2
//!     │ finds no part left                                  │ runs it
//!     │ waits, blocked                                      │ counts it as finished
//!     ▼ leaves ◄────────────── all parts are finished ──────┘
//! ```
//!
//! The caller does not need its helpers: it runs all parts itself if none of them begins. It waits
//! only for parts that a helper has claimed, and a helper waits for nothing, so the wait has an end
//! whatever locks the caller holds. While it waits the caller runs nothing else, so no other code
//! runs on its thread in the middle of a copy.
//!
//! Invariants, which [`Shared`] and the types around it keep:
//! * [`Shared::claim`] gives each number below `parts` to one thread only.
//! * `work` is called by [`Part::run`] only, so by a thread that has claimed a part.
//! * A claimed part is counted as finished when its [`Part`] is dropped, and not before: after it
//!   ran, after it panicked, and where it is not run.
//! * [`Caller`] leaves when all parts are finished, also where it unwinds. So `work`, and all that
//!   `work` borrows, outlives every call of it.
//! * No more helpers begin than the caller asked for, although one of them is offered twice.
//! * A helper that begins later finds no part. It reads only what is in the [`Arc`], its own.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;

use super::process_number::process_number;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard};

/// What runs a part, given its number.
type Work<'w> = dyn Fn(usize) + Sync + 'w;

/// Number of helpers that a helper offers when it begins, so that waking threads is shared work
/// too.
const OFFERS_PER_HELPER: usize = 2;

/// How many times the caller checks whether all parts are finished before it blocks. Being woken
/// takes longer than the rest of most parts. (0 in a loom model, where polling would not end.)
const SPINS_BEFORE_BLOCKING: usize = if cfg!(all(loom, test)) { 0 } else { 1000 };

/// Runs `work` once for each number below `parts`, on this thread and on up to `helpers` others,
/// and returns when all calls have returned. `offer` may run the helper on another thread at any
/// time, or drop it. It may be called once more than there are helpers.
///
/// # Panics
/// If a call of `work` panics, with the same payload, after all other calls have returned.
pub(super) fn share_out(parts: usize, helpers: usize, offer: fn(Helper), work: &Work<'_>) {
    let caller = Caller::new(parts, helpers, offer, work);
    Shared::offer_helpers(&caller.shared, 1);
    if let Some(part) = caller.shared.claim(End::First) {
        part.run();
    }
    Shared::offer_again(&caller.shared);
    caller.shared.run_parts(End::First);
    caller.finish();
}

/// What the caller and its helpers share. It outlives the copy where a helper begins late.
struct Shared {
    parts: usize,
    /// The parts that no thread has claimed.
    unclaimed: Unclaimed,
    /// How many parts are finished.
    finished: AtomicUsize,
    /// How many helpers may still be offered.
    helpers: AtomicUsize,
    /// How many helpers may begin.
    helpers_max: usize,
    /// How many of them have not begun.
    not_begun: AtomicUsize,
    offer: fn(Helper),
    /// The process that the caller runs in. The child of a fork has no caller that waits.
    process: u32,
    /// Valid until `finished` is `parts`.
    work: *const Work<'static>,
    /// The payload of the first part that panicked.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Notified with the lock of `panic` held.
    all_finished: Condvar,
}

// SAFETY: all fields but `work` may be sent and shared. `work` points to a `Sync` value that any
// thread may call while it is valid, and only `Part::run` reads it.
unsafe impl Send for Shared {}

// SAFETY: shared references reach `work` in `Part::run` only, which calls it through `&`: it points
// to a `Sync` value. All other fields may be shared.
unsafe impl Sync for Shared {}

impl Shared {
    fn claim(&self, end: End) -> Option<Part<'_>> {
        let number = self.unclaimed.take(end)?;
        Some(Part { shared: self, number, panic: None })
    }

    /// Runs parts until none is left.
    fn run_parts(&self, end: End) {
        while let Some(part) = self.claim(end) {
            part.run();
        }
    }

    fn offer_helpers(this: &Arc<Self>, count: usize) {
        for _ in 0..count {
            if !take_one(&this.helpers) {
                return;
            }
            (this.offer)(Helper { shared: Arc::clone(this) });
        }
    }

    /// Offers the first helper once more if none has begun. Rayon wakes no thread for a job if one
    /// of its threads is awake, even if that thread has no processor. It does for a second job.
    fn offer_again(this: &Arc<Self>) {
        let none_has_begun = this.not_begun.load(Ordering::Relaxed) == this.helpers_max;
        if this.helpers_max > 0 && none_has_begun && !this.unclaimed.is_empty() {
            (this.offer)(Helper { shared: Arc::clone(this) });
        }
    }

    /// No code panics while the lock is held.
    fn lock(&self) -> MutexGuard<'_, Option<Box<dyn Any + Send>>> {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acquire: what other threads wrote in parts that are finished is seen after this.
    fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire) == self.parts
    }
}

/// Takes one from a number. Returns false if it is 0.
fn take_one(number: &AtomicUsize) -> bool {
    let less_one = |left: usize| left.checked_sub(1);
    number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less_one).is_ok()
}

/// From which end of the unclaimed parts a thread takes one. The caller takes the first and helpers
/// take the last, so that each of two threads stays in one half of the memory.
#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

/// The numbers that no thread has claimed, `first..end`, as the two halves of one word.
struct Unclaimed(AtomicUsize);

impl Unclaimed {
    const HALF: u32 = usize::BITS / 2;

    fn new(parts: usize) -> Self {
        assert!(parts >> Self::HALF == 0, "{parts} parts");
        Self(AtomicUsize::new(parts))
    }

    fn unpack(word: usize) -> (usize, usize) {
        (word >> Self::HALF, word & ((1 << Self::HALF) - 1))
    }

    /// Takes a number that no other call returns.
    fn take(&self, end: End) -> Option<usize> {
        // Relaxed: no other memory goes with a number. Threads see `Shared` because they made it or
        // got it through a queue.
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let (first, last) = Self::unpack(word);
            (first < last).then(|| match end {
                End::First => word + (1 << Self::HALF),
                End::Last => word - 1,
            })
        });
        let (first, last) = Self::unpack(taken.ok()?);
        Some(match end {
            End::First => first,
            End::Last => last - 1,
        })
    }

    /// Whether all numbers are taken.
    fn is_empty(&self) -> bool {
        let (first, last) = Self::unpack(self.0.load(Ordering::Relaxed));
        first == last
    }
}

/// A part that this thread has claimed. Until it is dropped, the caller waits.
struct Part<'s> {
    shared: &'s Shared,
    number: usize,
    panic: Option<Box<dyn Any + Send>>,
}

impl Part<'_> {
    fn run(mut self) {
        // SAFETY: this part is claimed and not finished, so the caller has not left: what it passed
        // to `Caller::new` is still borrowed.
        let work = unsafe { &*self.shared.work };
        self.panic = catch_unwind(AssertUnwindSafe(|| work(self.number))).err();
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        let shared = self.shared;
        if let Some(panic) = self.panic.take() {
            let mut first = shared.lock();
            match *first {
                None => *first = Some(panic),
                // Dropping a payload may panic in its turn.
                Some(_) => std::mem::forget(panic),
            }
        }
        // From here on the caller may leave if this was the last part. `shared` stays, because this
        // thread is the caller or has a `Helper`.
        if shared.finished.fetch_add(1, Ordering::AcqRel) + 1 == shared.parts {
            // With the lock, because the caller may be about to block.
            let _lock = shared.lock();
            shared.all_finished.notify_one();
        }
    }
}

/// The thread that called [`share_out`]. It cannot leave before all parts are finished.
struct Caller<'w> {
    shared: Arc<Shared>,
    work: PhantomData<&'w Work<'w>>,
}

impl<'w> Caller<'w> {
    fn new(parts: usize, helpers: usize, offer: fn(Helper), work: &'w Work<'w>) -> Self {
        let work: *const Work<'w> = work;
        // SAFETY: only the lifetime changes. `Part::run` alone uses the pointer, before the value
        // that is made here is dropped, and so within `'w`.
        let work: *const Work<'static> = unsafe { std::mem::transmute(work) };
        let shared = Shared {
            parts,
            unclaimed: Unclaimed::new(parts),
            finished: AtomicUsize::new(0),
            helpers: AtomicUsize::new(helpers),
            helpers_max: helpers,
            not_begun: AtomicUsize::new(helpers),
            offer,
            process: process_number(),
            work,
            panic: Mutex::new(None),
            all_finished: Condvar::new(),
        };
        Self { shared: Arc::new(shared), work: PhantomData }
    }

    /// Waits for all parts, and goes on with a panic of one of them.
    fn finish(self) {
        self.wait();
        let panic = self.shared.lock().take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Returns when no thread runs a part, or ever will. Runs no code but that of this module.
    fn wait(&self) {
        // No part is left unless this thread unwinds. Then those that are left are not run.
        while self.shared.claim(End::First).is_some() {}
        for _ in 0..SPINS_BEFORE_BLOCKING {
            if self.shared.is_finished() {
                return;
            }
            std::hint::spin_loop();
        }
        let mut lock = self.shared.lock();
        while !self.shared.is_finished() {
            lock = self.shared.all_finished.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.wait();
    }
}

/// A helper that was offered to other threads.
pub(super) struct Helper {
    shared: Arc<Shared>,
}

impl Helper {
    /// Runs parts until none is left. Does not panic, and waits for no other thread.
    pub(super) fn run(self) {
        // In the child of a fork, jobs that other threads of the parent had queued may run, but
        // those threads, and with them the owners of the memory, are gone.
        if self.shared.process != process_number() || self.shared.unclaimed.is_empty() {
            return;
        }
        // One helper was offered twice: no more begin than the caller asked for.
        if !take_one(&self.shared.not_begun) {
            return;
        }
        Shared::offer_helpers(&self.shared, OFFERS_PER_HELPER);
        self.shared.run_parts(End::Last);
    }
}

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;
