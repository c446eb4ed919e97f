//! Copies of runs, which are contiguous on both sides.

use std::cmp::Reverse;

use smallvec::SmallVec;

use super::endpoints::Endpoints;
use super::outer_loops::OuterLoops;
use super::processor::{JoinedRuns, Stores};
use super::sink::Sink;
use super::sizes::{CACHE_LINE_BYTES, PREFETCH_AHEAD_BYTES};
use crate::layout::paired::PairedDim;

/// Maximum size (bytes) of runs that are prefetched, and put in the source's order.
const SHORT_RUN_MAX_BYTES: usize = 2 << 10;

/// Copies a run in each turn of the outer loops.
///
/// # Safety
/// * In each turn, `run` bytes are readable in the source and writable in the target, none of them
///   both. The processor has the instructions of the sink's stores.
pub(super) unsafe fn copy_runs<S: Sink>(outer: OuterLoops<'_>, run: usize, sink: &mut S) {
    let stores = sink.stores();
    let has_lines = has_lines(outer.dims, run);
    let begins_with_line = in_lines(outer.ends.target.addr());
    if !(has_lines && begins_with_line)
        && let Some((&following, dims)) = outer.dims.split_last()
    {
        let around = OuterLoops { dims, ..outer };
        // SAFETY: the caller guarantees what the called function requires.
        if unsafe { copy_joined_runs(around, following, run, stores) } {
            return;
        }
    }
    let prefetch = sink.prefetch().filter(|_| run <= SHORT_RUN_MAX_BYTES);
    let in_any_order = prefetch.is_some() && has_lines;
    let mut dims: SmallVec<[PairedDim; 6]> = outer.dims.into();
    if in_any_order {
        // Most lines of the target are whole in each run, so their order matters less.
        sort_by_source(&mut dims);
    }
    let ahead = ahead(&dims, run);
    let copy = |ends: Endpoints| {
        if let Some(prefetch) = prefetch {
            prefetch(ends.source.wrapping_offset(ahead), 0, 1, run);
        }
        if in_any_order {
            // SAFETY: inside the plan's outer loops there is one run, which the caller says is
            // readable and writable; the processor has the instructions.
            unsafe { (stores.copy)(ends.source, ends.target, run) };
        } else {
            // SAFETY: the same.
            unsafe { sink.copy_run(ends, run) };
        }
    };
    // SAFETY: the plan's loops reach elements, which the caller says are in both memories.
    unsafe { OuterLoops { dims: &dims, ..outer }.for_each(copy) }
}

/// Whether all runs are whole cache lines, if the first one begins on a line.
fn has_lines(dims: &[PairedDim], run: usize) -> bool {
    in_lines(run) && dims.iter().all(|dim| in_lines(dim.target as usize))
}

fn in_lines(bytes: usize) -> bool {
    bytes.is_multiple_of(CACHE_LINE_BYTES)
}

/// Puts the loops in the source's order: memory is read faster if runs follow each other there.
fn sort_by_source(dims: &mut [PairedDim]) {
    dims.sort_by_key(|dim| Reverse(dim.source.unsigned_abs()));
}

/// The distance in the source from a run to the one that is prefetched meanwhile.
fn ahead(dims: &[PairedDim], run: usize) -> isize {
    let next = dims.last().map_or(0, |dim| dim.source);
    next.wrapping_mul(PREFETCH_AHEAD_BYTES.div_ceil(run) as isize)
}

/// Copies the runs of the outer loops and of the loop `following`, in which they follow each other
/// in the target, in the source's order. Each line is written once, also if it has the end of one
/// run and the beginning of the next. Returns false, and copies nothing, if there is no function
/// for it, if the runs do not follow each other, or if they are shorter than a line.
///
/// ```text
///   source, in the order of the copy    a0   b0   c0   a1   b1   c1 …
///   target                              a0a1a2…    b0b1b2…    c0c1c2…
///                                         ^ a line, which is written with a1
/// ```
///
/// # Safety
/// * As for [`copy_runs`], in each turn of all these loops.
pub(super) unsafe fn copy_joined_runs(
    outer: OuterLoops<'_>,
    following: PairedDim,
    run: usize,
    stores: &Stores,
) -> bool {
    let Some(join_runs) = stores.join_runs else { return false };
    if following.target != run as isize || run < CACHE_LINE_BYTES {
        return false;
    }
    let mut dims: SmallVec<[PairedDim; 6]> = outer.dims.into();
    sort_by_source(&mut dims);
    let distance = |dim: &PairedDim| dim.source.unsigned_abs();
    let place = dims.partition_point(|dim| distance(dim) >= distance(&following));
    let (around, within) = dims.split_at(place);
    let join = |ends, row: PairedDim, before, are_last| {
        let (source_step, target_step) = (row.source, row.target);
        let runs =
            JoinedRuns { ends, run, count: row.count, source_step, target_step, before, are_last };
        // SAFETY: the caller says that these runs are readable and writable, and those before them,
        // and that the processor has the instructions. A run is a line or more, as checked above.
        unsafe { join_runs(&runs) };
    };
    let copy = |ends: Endpoints| {
        // The innermost loop is the function's.
        let Some((&row, within)) = within.split_last() else {
            return join(ends, following, None, true);
        };
        for index in 0..following.count {
            let turn = index as isize;
            // SAFETY: one of the turns of the loop, which the caller says are in both memories.
            let ends = unsafe { ends.offset(turn * following.source, turn * following.target) };
            let before = (index > 0).then_some(-following.source);
            let copy = |ends| join(ends, row, before, index + 1 == following.count);
            // SAFETY: the plan's loops reach elements, which the caller says are in both memories.
            unsafe { OuterLoops { dims: within, ends }.for_each(copy) };
        }
    };
    // SAFETY: the plan's loops reach elements, which the caller says are in both memories.
    unsafe { OuterLoops { dims: around, ..outer }.for_each(copy) };
    true
}
