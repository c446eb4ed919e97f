//! How threads share a copy: the thread that wants it runs its parts together with helpers.
//!
//! ```text
//!   caller                    counter of parts           helper (a job of the pool)
//!     │ offers a helper ────────────────────────────────► begins sooner, later or never
//!     │ claims part 0              0 │ 1                    │ claims part 1
//!     │ runs it                      │                      │ runs it
//!     │ claims part 2              2 │ 3                    │ claims part 3
//!     │ finds no part left           │                      │ runs it
//!     │ waits, blocked               │                      │ counts it as finished
//!     ▼ leaves  ◄──────────── all parts are finished ───────┘
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
//! * A helper that begins later finds no part. It reads only what is in the [`Arc`], its own.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard};

/// What runs a part, given its number.
type Work<'w> = dyn Fn(usize) + Sync + 'w;

/// How many more helpers a helper offers when it begins: waking them is shared work, too.
const OFFERS_PER_HELPER: usize = 2;

/// How often the caller lets another thread run before it blocks: parts are short, and being woken
/// takes longer than what is left of most of them.
const YIELDS_BEFORE_BLOCKING: usize = if cfg!(loom) { 0 } else { 16 };

/// Runs `work` once for each number below `parts`, on this thread and on up to `helpers` others,
/// and returns when all calls have returned. `offer` may run the helper on another thread at any
/// time, or drop it.
///
/// # Panics
/// If a call of `work` panics, with the same payload, after all other calls have returned.
pub(super) fn share_out(parts: usize, helpers: usize, offer: fn(Helper), work: &Work<'_>) {
    let caller = Caller::new(parts, helpers, offer, work);
    Shared::offer_helpers(&caller.shared, 1);
    caller.shared.run_parts();
    caller.finish();
}

/// What the caller and its helpers share. It outlives the copy where a helper begins late.
struct Shared {
    parts: usize,
    /// The first part that no thread has claimed, or more than that.
    next: AtomicUsize,
    /// How many helpers may still be offered.
    helpers: AtomicUsize,
    offer: fn(Helper),
    /// The process that the caller runs in. The child of a fork has no caller that waits.
    process: u32,
    /// Valid until `finished` is `parts`.
    work: *const Work<'static>,
    progress: Mutex<Progress>,
    all_finished: Condvar,
}

struct Progress {
    /// How many parts are finished.
    finished: usize,
    /// What the first part that panicked did so with.
    panic: Option<Box<dyn Any + Send>>,
}

// SAFETY: all fields but `work` may be sent and shared. `work` points to a `Sync` value that any
// thread may call while it is valid, and only `Part::run` reads it.
unsafe impl Send for Shared {}

// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn claim(&self) -> Option<Part<'_>> {
        // Relaxed: a thread got `self` through a queue or made it, so it sees `work`. The counter
        // hands out each number once in whatever order.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.parts).then_some(Part { shared: self, number, panic: None })
    }

    /// Whether a part may be left.
    fn has_parts(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.parts
    }

    /// Runs parts until none is left.
    fn run_parts(&self) {
        while let Some(part) = self.claim() {
            part.run();
        }
    }

    fn offer_helpers(this: &Arc<Self>, count: usize) {
        let less_one = |left: usize| left.checked_sub(1);
        for _ in 0..count {
            if this.helpers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less_one).is_err() {
                return;
            }
            (this.offer)(Helper { shared: Arc::clone(this) });
        }
    }

    /// The lock is held for a moment only, and no code panics meanwhile.
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut progress = self.shared.progress();
        progress.finished += 1;
        if let Some(panic) = self.panic.take() {
            match progress.panic {
                None => progress.panic = Some(panic),
                // Dropping a payload may panic in its turn.
                Some(_) => std::mem::forget(panic),
            }
        }
        if progress.finished == self.shared.parts {
            self.shared.all_finished.notify_one();
        }
    }
}

/// The thread that the work belongs to. It cannot leave before all parts are finished.
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
            next: AtomicUsize::new(0),
            helpers: AtomicUsize::new(helpers),
            offer,
            process: std::process::id(),
            work,
            progress: Mutex::new(Progress { finished: 0, panic: None }),
            all_finished: Condvar::new(),
        };
        Self { shared: Arc::new(shared), work: PhantomData }
    }

    /// Waits for all parts, and goes on with a panic of one of them.
    fn finish(self) {
        self.wait();
        let panic = self.shared.progress().panic.take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Returns when no thread runs a part, or ever will. Runs no code but that of this module.
    fn wait(&self) {
        // No part is left unless this thread unwinds. Then those that are left are not run.
        while self.shared.claim().is_some() {}
        for _ in 0..YIELDS_BEFORE_BLOCKING {
            if self.shared.progress().finished == self.shared.parts {
                return;
            }
            std::thread::yield_now();
        }
        let mut progress = self.shared.progress();
        while progress.finished < self.shared.parts {
            progress =
                self.shared.all_finished.wait(progress).unwrap_or_else(PoisonError::into_inner);
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
        if self.shared.process != std::process::id() || !self.shared.has_parts() {
            return;
        }
        Shared::offer_helpers(&self.shared, OFFERS_PER_HELPER);
        self.shared.run_parts();
    }
}

