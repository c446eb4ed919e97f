//! Runs a plan: on this thread alone, or on this thread and helpers.

use super::Memory;
use super::copy_plan::CopyPlan;
use super::endpoints::Endpoints;
use super::kernels;
use super::processor::{self, Processor};
#[cfg(feature = "parallel")]
use super::thresholds::{PARALLEL_MIN_BYTES, part_bytes};
#[cfg(feature = "parallel")]
use super::{helpers, sharing, sharing::Sharing};

/// The facts that are the same for all parts of a copy.
pub(super) struct Job {
    ends: Endpoints,
    processor: &'static Processor,
    #[cfg_attr(not(feature = "parallel"), expect(dead_code, reason = "no plan is cut"))]
    memory: Memory,
    nontemporal: bool,
}

// SAFETY: the pointers are only used by `run`, whose caller guarantees that they may be read and
// written for the plan; threads run different parts of it, and no byte of the target belongs to
// two.
unsafe impl Sync for Job {}

impl Job {
    /// A copy from the elements at `ends.source` to those at `ends.target`, which is memory of this
    /// kind, with non-temporal stores if asked to.
    #[inline]
    pub(super) fn new(ends: Endpoints, memory: Memory, nontemporal: bool) -> Self {
        Self { ends, processor: processor::detect(), memory, nontemporal }
    }

    /// Runs a plan that copies `bytes` bytes. Large plans are shared with threads of the rayon
    /// pool that the caller is in, or else of this crate.
    ///
    /// # Safety
    /// * As for [`kernels::run`], but for the processor, which is this one.
    #[inline]
    pub(super) unsafe fn run(&self, plan: &CopyPlan, bytes: usize) {
        #[cfg(feature = "parallel")]
        if bytes >= PARALLEL_MIN_BYTES {
            // SAFETY: the caller guarantees what the called function requires.
            return unsafe { self.run_shared(plan, bytes) };
        }
        let _ = bytes;
        // SAFETY: the caller guarantees what the called function requires.
        unsafe { self.run_here(plan) }
    }

    /// # Safety
    /// * As for [`run`](Self::run).
    #[inline]
    unsafe fn run_here(&self, plan: &CopyPlan) {
        // SAFETY: the caller guarantees that the plan's elements may be read and written; `detect`
        // found the processor's instructions.
        unsafe { kernels::run(plan, self.ends, self.processor, self.nontemporal) }
    }

    /// Runs a large plan on this thread and on helpers, if there are any.
    ///
    /// # Safety
    /// * As for [`run`](Self::run).
    #[cfg(feature = "parallel")]
    #[inline(never)]
    unsafe fn run_shared(&self, plan: &CopyPlan, bytes: usize) {
        let Some(Sharing { threads, offer }) = sharing::sharing(bytes) else {
            // SAFETY: the caller guarantees what the called function requires.
            unsafe { self.run_here(plan) };
            return sharing::note_copy();
        };
        let halvings = bytes.div_ceil(part_bytes(bytes, threads)).next_power_of_two().ilog2();
        let parts = 1 << halvings;
        let run_part = |number: usize| {
            if let Some(part) = plan.part(number, halvings, self.memory) {
                // SAFETY: the caller guarantees that the whole plan may run, and this is a part of
                // it. Each number is run once, so no byte of the target is written by two threads.
                unsafe { self.run_here(&part) }
            }
        };
        helpers::share_out(parts, threads.min(parts) - 1, offer, &run_part);
        sharing::note_copy();
    }
}
