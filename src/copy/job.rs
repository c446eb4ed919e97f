//! Who runs a plan: this thread, or several.

#[cfg(feature = "parallel")]
use std::sync::OnceLock;

use super::copy_plan::CopyPlan;
use super::endpoints::Endpoints;
use super::kernels;
use super::processor::{self, Processor};

/// Minimum copy size (bytes) for using several threads. Below it, waking a thread costs more than
/// it saves.
const PARALLEL_MIN_BYTES: usize = 1 << 20;

/// Minimum size (bytes) of the part of a copy that a thread runs.
const PART_MIN_BYTES: usize = PARALLEL_MIN_BYTES / 4;

/// How many parts there are for each thread, so that all of them are busy to the end.
const PARTS_PER_THREAD: usize = 4;

/// What is the same for all parts of a copy.
pub(super) struct Job {
    ends: Endpoints,
    processor: &'static Processor,
    nontemporal: bool,
}

// SAFETY: the pointers are only used by `run`, whose caller guarantees that they may be read and
// written for the plan; threads run different parts of it, and no byte of the target belongs to
// two.
unsafe impl Sync for Job {}

impl Job {
    /// A copy from the elements at `ends.source` to those at `ends.target`, with non-temporal
    /// stores if asked to.
    #[inline]
    pub(super) fn new(ends: Endpoints, nontemporal: bool) -> Self {
        Self { ends, processor: processor::detect(), nontemporal }
    }

    /// Copies what a plan of `bytes` bytes says. Large plans are shared out among the threads of
    /// the rayon pool that the caller is in, or of the global one.
    ///
    /// # Safety
    /// * As for [`kernels::run`], but for the processor, which is this one.
    #[inline]
    pub(super) unsafe fn run(&self, plan: CopyPlan, bytes: usize) {
        let threads = if bytes < PARALLEL_MIN_BYTES { 1 } else { threads() };
        if threads == 1 {
            // SAFETY: the caller's guarantee for this method is that one's precondition.
            unsafe { self.run_here(&plan) }
        } else {
            let part = (bytes / (PARTS_PER_THREAD * threads)).max(PART_MIN_BYTES);
            // SAFETY: the caller's guarantee for this method is that one's precondition.
            unsafe { self.split_and_run(plan, part) }
        }
    }

    /// # Safety
    /// * As for [`run`](Self::run).
    #[inline]
    unsafe fn run_here(&self, plan: &CopyPlan) {
        // SAFETY: the caller's guarantee for this method; `detect` found the instructions.
        unsafe { kernels::run(plan, self.ends, self.processor, self.nontemporal) }
    }

    /// Splits the plan in halves until its parts are at most `part` bytes large, and runs them.
    ///
    /// # Safety
    /// * As for [`run`](Self::run).
    #[cfg(feature = "parallel")]
    unsafe fn split_and_run(&self, plan: CopyPlan, part: usize) {
        match if plan.bytes() > part { plan.split() } else { Err(plan) } {
            // SAFETY: the caller's guarantee for this method is that one's precondition.
            Err(plan) => unsafe { self.run_here(&plan) },
            Ok((one, other)) => {
                // SAFETY: a part of the plan that the caller's guarantee is for.
                let one = || unsafe { self.split_and_run(one, part) };
                // SAFETY: the other part of it.
                let other = || unsafe { self.split_and_run(other, part) };
                rayon::join(one, other);
            }
        }
    }

    /// # Safety
    /// * As for [`run`](Self::run).
    #[cfg(not(feature = "parallel"))]
    unsafe fn split_and_run(&self, plan: CopyPlan, _part: usize) {
        // SAFETY: the caller's guarantee for this method is that one's precondition.
        unsafe { self.run_here(&plan) }
    }
}

/// Number of threads to share work among, this one included.
#[cfg(feature = "parallel")]
fn threads() -> usize {
    /// The process that used the global pool first. The child of a fork inherits the pool, but not
    /// its threads, and would wait for them without end.
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
