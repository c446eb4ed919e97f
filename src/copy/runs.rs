//! Copies of runs, which are contiguous on both sides.

use std::cmp::Reverse;

use smallvec::SmallVec;

use super::endpoints::Endpoints;
use super::outer_loops::OuterLoops;
use super::sink::Sink;
use super::sizes::CACHE_LINE_BYTES;
use crate::layout::paired::PairedDim;

/// How far ahead (bytes) of the runs that are copied the source is prefetched. The processor's own
/// prefetches end at each page of 4 KiB.
const PREFETCH_AHEAD_BYTES: usize = 2 << 10;

/// Maximum size (bytes) of runs that are prefetched, and put in the source's order.
const SHORT_RUN_MAX_BYTES: usize = 2 << 10;

/// Copies a run in each turn of the outer loops.
///
/// # Safety
/// * In each turn, `run` bytes are readable in the source and writable in the target, none of them
///   both. The processor has the instructions of the sink's stores.
pub(super) unsafe fn copy_runs<S: Sink>(outer: OuterLoops<'_>, run: usize, sink: &mut S) {
    let prefetch = sink.prefetch().filter(|_| run <= SHORT_RUN_MAX_BYTES);
    let in_lines = |bytes: usize| bytes.is_multiple_of(CACHE_LINE_BYTES);
    let has_lines = in_lines(run) && outer.dims.iter().all(|dim| in_lines(dim.target as usize));
    let in_any_order = prefetch.is_some() && has_lines;
    let mut dims: SmallVec<[PairedDim; 6]> = outer.dims.into();
    if in_any_order {
        // Memory is read faster if runs follow each other in the source. Most lines of the target
        // are whole in each run, so their order matters less.
        dims.sort_by_key(|dim| Reverse(dim.source.unsigned_abs()));
    }
    let next = dims.last().map_or(0, |dim| dim.source);
    let ahead = next.wrapping_mul(PREFETCH_AHEAD_BYTES.div_ceil(run) as isize);
    let copy = |ends: Endpoints| {
        if let Some(prefetch) = prefetch {
            prefetch(ends.source.wrapping_offset(ahead), 0, 1, run);
        }
        if in_any_order {
            // SAFETY: inside the plan's outer loops there is one run, which the caller says is
            // readable and writable; the processor has the instructions.
            unsafe { (sink.stores().copy)(ends.source, ends.target, run) };
        } else {
            // SAFETY: the same.
            unsafe { sink.copy_run(ends, run) };
        }
    };
    // SAFETY: the plan's loops reach elements, which the caller says are in both memories.
    unsafe { OuterLoops { dims: &dims, ..outer }.for_each(copy) }
}
