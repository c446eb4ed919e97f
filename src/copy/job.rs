//! Who runs a plan: this thread, or several.

#[cfg(feature = "parallel")]
use std::sync::OnceLock;

use super::kernels;
use super::plan::CopyPlan;
use super::processor::{self, Processor};

/// Copies of so many bytes are shared out among threads: below, waking one takes longer than it saves.
const PARALLEL_MIN_BYTES: usize = 1 << 20;

/// What is the same for all parts of a copy.
pub(super) struct Job {
    source: *const u8,
    target: *mut u8,
    processor: &'static Processor,
    nontemporal: bool,
}

// SAFETY: threads run different parts, and no byte of the target belongs to two.
unsafe impl Sync for Job {}

impl Job {
    /// A copy from the elements at `source` to those at `target`, past the caches if it `nontemporal`.
    #[inline]
    pub(super) fn new(source: *const u8, target: *mut u8, nontemporal: bool) -> Self {
        Self { source, target, processor: processor::detect(), nontemporal }
    }

    /// Copies what a plan of so many bytes says. Large plans are shared out among the threads of the rayon
    /// pool that the caller is in, or of the global one.
    ///
    /// # Safety
    /// * As for [`kernels::run`].
    #[inline]
    pub(super) unsafe fn run(&self, plan: CopyPlan, bytes: usize) {
        let threads = if bytes < PARALLEL_MIN_BYTES { 1 } else { threads() };
        if threads == 1 {
            // SAFETY: the caller's promise.
            unsafe { self.run_here(&plan) }
        } else {
            // A few parts for each, so that all are busy to the end.
            let part = (bytes / (4 * threads)).max(PARALLEL_MIN_BYTES / 4);
            // SAFETY: likewise.
            unsafe { self.split_and_run(plan, part) }
        }
    }

    /// # Safety
    /// * As for [`kernels::run`].
    #[inline]
    unsafe fn run_here(&self, plan: &CopyPlan) {
        // SAFETY: the caller's promise; the processor is this one.
        unsafe { kernels::run(plan, self.source, self.target, self.processor, self.nontemporal) }
    }

    /// Halves the plan until its parts are as small as that, and runs them.
    ///
    /// # Safety
    /// * As for [`kernels::run`].
    #[cfg(feature = "parallel")]
    unsafe fn split_and_run(&self, plan: CopyPlan, part: usize) {
        match if plan.bytes() > part { plan.split() } else { Err(plan) } {
            // SAFETY: the caller's promise, for a part of the plan.
            Err(plan) => unsafe { self.run_here(&plan) },
            Ok((one, other)) => {
                // SAFETY: likewise.
                let one = || unsafe { self.split_and_run(one, part) };
                // SAFETY: likewise.
                let other = || unsafe { self.split_and_run(other, part) };
                rayon::join(one, other);
            }
        }
    }

    /// # Safety
    /// * As for [`kernels::run`].
    #[cfg(not(feature = "parallel"))]
    unsafe fn split_and_run(&self, plan: CopyPlan, _part: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.run_here(&plan) }
    }
}

/// Threads to share work with, this one included.
#[cfg(feature = "parallel")]
fn threads() -> usize {
    /// The process that used the global pool first. The child of a fork inherits the pool, but not its
    /// threads, and would wait for them for ever.
    static PROCESS: OnceLock<u32> = OnceLock::new();
    let in_pool = rayon::current_thread_index().is_some();
    if !in_pool && *PROCESS.get_or_init(std::process::id) != std::process::id() {
        return 1;
    }
    // Rayon panics where no thread can be started; then this one works alone.
    std::panic::catch_unwind(rayon::current_num_threads).unwrap_or(1)
}

#[cfg(not(feature = "parallel"))]
fn threads() -> usize {
    1
}
