//! Runs plans: loops over the outer dimensions, and a kernel inside them for the inner dimensions.
//! There is one function for each kernel. A [`Sink`] decides whether it writes directly to the
//! target or through the store buffer.

use std::cmp::Reverse;
use std::ops::Range;

use smallvec::SmallVec;

use super::batched_transpose::BatchedTranspose;
use super::copy_plan::{CopyPlan, Kernel};
use super::endpoints::Endpoints;
use super::outer_loops::OuterLoops;
use super::processor::{
    CACHED_STORES, LoadLines, Prefetch, Processor, Stores, strided_load_runs, strided_store,
};
use super::runs::{copy_joined_runs, copy_runs};
use super::sink::{Direct, Sink};
use super::sizes::{CACHE_LINE_BYTES, PREFETCH_AHEAD_BYTES};
use super::store_buffer::{Items, StoreBuffer, StoreMemory};
use super::tiled_transpose::TiledTranspose;
use crate::layout::paired::PairedDim;

/// Minimum size (bytes) of a transpose that goes through the store buffer because its target rows
/// compete for the same sets of the caches.
const CONFLICT_MIN_BYTES: usize = 32 << 10;

/// Rows of the target compete for the same sets if their stride is a multiple of 2 to this power
/// (bytes).
const CONFLICT_STRIDE_LOG2: u32 = 9;

/// Minimum number of rows for a conflict. Fewer rows fit the ways of a set.
const CONFLICT_MIN_ROWS: usize = 16;

/// Maximum distance (bytes) of items in the source whose lines are all prefetched, one after the
/// other.
const PREFETCHED_STRIDE_MAX_BYTES: usize = 2 * CACHE_LINE_BYTES;

/// Minimum size (bytes) of contiguous items of the target whose whole lines bypass the store buffer
/// in loads of every second unit. Such rows are copied 1.26 times as fast on an Intel Xeon.
const LOAD_LINES_MIN_BYTES: usize = 1 << 10;

/// How many bytes before they are copied runs are prefetched that are farther apart in the source:
/// those of a later turn of the loop that steps least there. Turns share lines of the source.
const FAR_RUNS_AHEAD_BYTES: usize = 4 << 10;

/// How much of the source (bytes) is prefetched at once.
const PREFETCH_STEP_BYTES: usize = 1 << 10;

/// Runs a plan, with non-temporal stores if `nontemporal` and the processor has them.
///
/// # Safety
/// * At the offsets from `ends` that the plan names, elements are readable in the source and
///   writable in the target, and none of their bytes both. The processor has the instructions.
pub(super) unsafe fn run(
    plan: &CopyPlan,
    ends: Endpoints,
    processor: &'static Processor,
    nontemporal: bool,
) {
    let start = plan.start();
    // SAFETY: the plan's start is the offset of an element on both sides.
    let ends = unsafe { ends.offset(start.source, start.target) };
    let stores = match &processor.nontemporal {
        Some(stores) if nontemporal => Some(stores),
        _ if has_conflicts(plan) => Some(&CACHED_STORES),
        _ => None,
    };
    match stores {
        // SAFETY: the caller guarantees the plan's elements, here counted from the plan's start.
        Some(stores) => unsafe { run_through_buffer(plan, ends, processor, stores) },
        // SAFETY: the caller guarantees the plan's elements, here counted from the plan's start.
        None => unsafe { run_into(plan, ends, processor, &mut Direct) },
    }
}

/// In a function of its own, and never inlined, so that other copies need no stack for the buffer.
///
/// # Safety
/// * As for [`run`], counted from the plan's start.
#[inline(never)]
unsafe fn run_through_buffer(
    plan: &CopyPlan,
    ends: Endpoints,
    processor: &Processor,
    stores: &'static Stores,
) {
    let mut memory = StoreMemory::new();
    let mut buffer = StoreBuffer::new(&mut memory, stores);
    // SAFETY: the caller guarantees what the called function requires.
    unsafe { run_into(plan, ends, processor, &mut buffer) };
    buffer.finish();
}

/// Whether rows of the target are so far apart that all of them compete for a few sets of the
/// caches.
fn has_conflicts(plan: &CopyPlan) -> bool {
    let (_, inner) = plan.split_dims();
    let conflict = |rows: &PairedDim| {
        rows.target.trailing_zeros() >= CONFLICT_STRIDE_LOG2 && rows.count >= CONFLICT_MIN_ROWS
    };
    plan.kernel == Kernel::TiledTranspose
        && plan.bytes() >= CONFLICT_MIN_BYTES
        && inner.first().is_some_and(conflict)
}

/// Runs the kernel of a plan inside the plan's outer loops.
///
/// # Safety
/// * As for [`run`], counted from the plan's start.
unsafe fn run_into<S: Sink>(plan: &CopyPlan, ends: Endpoints, processor: &Processor, sink: &mut S) {
    let (dims, inner) = plan.split_dims();
    let outer = OuterLoops { dims, ends };
    match (plan.kernel, inner) {
        (Kernel::Runs, []) => {
            // SAFETY: the dimensions are the plan's; the caller says what it reaches is readable
            // and writable.
            unsafe { copy_runs(outer, plan.run, sink) }
        }
        (Kernel::StridedLoad, &[runs]) => {
            // SAFETY: the dimensions are the plan's; the caller says what it reaches is readable
            // and writable.
            unsafe { strided_load(outer, plan, runs, processor, sink) }
        }
        (Kernel::TiledTranspose, &[rows, outer_groups, groups, columns]) => {
            let row = [outer_groups, groups, columns];
            let matrix = TiledTranspose::new(plan, rows, row, processor, sink.is_nontemporal());
            // SAFETY: the dimensions are the plan's; the caller says what it reaches is readable
            // and writable.
            unsafe { tiled_transpose(outer, matrix, processor, sink) }
        }
        (Kernel::BatchedTranspose, &[matrices, rows, columns]) => {
            let small = BatchedTranspose::new(plan, rows, columns, processor);
            // SAFETY: the dimensions are the plan's; the caller says what it reaches is readable
            // and writable.
            unsafe { batched_transpose(outer, &small, matrices.count, processor, sink) }
        }
        (Kernel::StridedStore, &[rows, columns]) => {
            // Units with gaps between them make no whole cache lines: no sink would help.
            // SAFETY: inside the plan's outer loops there are these units, which the caller says
            // are readable and writable.
            let copy = |ends| unsafe { strided_store(ends, plan.unit, rows, columns) };
            // SAFETY: the plan's loops reach elements, which the caller says are in both memories.
            unsafe { outer.for_each(copy) }
        }
        (kernel, inner) => unreachable!("{kernel:?} with {} dimensions", inner.len()),
    }
}

/// Puts runs that the source has apart side by side, in each turn of the outer loops.
///
/// # Safety
/// * As for [`run`]; `outer` and `runs` are the plan's.
unsafe fn strided_load<S: Sink>(
    outer: OuterLoops<'_>,
    plan: &CopyPlan,
    runs: PairedDim,
    processor: &Processor,
    sink: &mut S,
) {
    let stride = runs.source;
    let items = Items { count: runs.count, bytes: plan.run };
    if plan.run == plan.unit {
        let load = processor.strided_load[plan.unit.trailing_zeros() as usize];
        // SAFETY: `load_items` gives the addresses of `count` units on both sides.
        let load =
            move |ends: Endpoints, count| unsafe { load(ends.source, stride, ends.target, count) };
        let unit = plan.unit as isize;
        let is_long = items.count * items.bytes >= LOAD_LINES_MIN_BYTES;
        let load_lines = match &sink.stores().shuffles {
            Some(shuffles) if is_long && stride == 2 * unit => Some(shuffles.load_every_second),
            Some(shuffles) if is_long && stride == -unit => Some(shuffles.load_reversed),
            _ => None,
        };
        if let Some(load_lines) = load_lines {
            // SAFETY: the caller guarantees the plan's units, `stride` apart, which is the distance
            // that `load_lines` is for; `load` writes all of them.
            unsafe { load_to_lines(outer, stride, items, (sink, load_lines), load) };
        } else {
            // SAFETY: the caller guarantees the plan's units; `load` writes all of them.
            unsafe { load_items(outer, stride, items, sink, load) };
        }
    } else {
        // SAFETY: the caller guarantees the plan's runs.
        if unsafe { copy_joined_runs(outer, runs, plan.run, sink.stores()) } {
            return;
        }
        let is_far = stride.unsigned_abs() > PREFETCHED_STRIDE_MAX_BYTES;
        let far = sink.prefetch().filter(|_| is_far).zip(outer.closest_in_source());
        let turns = FAR_RUNS_AHEAD_BYTES.div_ceil(items.count * items.bytes) as isize;
        let load = move |ends: Endpoints, count| {
            if let Some((prefetch, step)) = far {
                let source = ends.source.wrapping_offset(step.wrapping_mul(turns));
                prefetch(source, stride, count, items.bytes);
            }
            // SAFETY: `load_items` gives the addresses of `count` runs on both sides.
            unsafe { strided_load_runs(ends.source, stride, ends.target, items.bytes, count) }
        };
        // SAFETY: the caller guarantees the plan's runs; `load` writes all of them.
        unsafe { load_items(outer, stride, items, sink, load) };
    }
}

/// Loads units in each turn of the outer loops. The whole cache lines of the target are written by
/// `load_lines`, if they begin with whole units. The units before and after them are loaded by
/// `load`.
///
/// # Safety
/// * As for [`load_items`] with items that are units, at the distance that `load_lines` is for. The
///   processor has its instructions.
unsafe fn load_to_lines<S: Sink>(
    outer: OuterLoops<'_>,
    stride: isize,
    units: Items,
    (sink, load_lines): (&mut S, LoadLines),
    load: impl Fn(Endpoints, usize) + Copy,
) {
    let unit = units.bytes;
    let bytes = units.count * unit;
    let copy = |ends: Endpoints| {
        let mut load_units = |first: usize, count: usize| {
            if count == 0 {
                return;
            }
            // SAFETY: `first` is one of the units of this turn.
            let ends = unsafe { ends.offset(first as isize * stride, (first * unit) as isize) };
            let outer = OuterLoops { dims: &[], ends };
            // SAFETY: `count` of the caller's units from there on.
            unsafe { load_items(outer, stride, Items { count, ..units }, sink, load) };
        };
        let head = ends.target.align_offset(CACHE_LINE_BYTES).min(bytes);
        let begins_with_unit = head.is_multiple_of(unit);
        let lines = if begins_with_unit { (bytes - head) / CACHE_LINE_BYTES } else { 0 };
        let before = head / unit;
        let after = before + lines * CACHE_LINE_BYTES / unit;
        load_units(0, before);
        if lines > 0 {
            // SAFETY: units follow, so `before` is the number of one of them.
            let ends = unsafe { ends.offset(before as isize * stride, head as isize) };
            // SAFETY: the whole lines after the head are among the caller's units, and a line
            // begins there.
            unsafe { load_lines(ends, unit, lines) };
        }
        load_units(after, units.count - after);
    };
    // SAFETY: the caller says that the units of each turn are in the memories.
    unsafe { outer.for_each(copy) };
}

/// Calls `load` for parts of the items of each turn of the outer loops: with the address of the
/// first item of the part in the source, the address to write it to, and their number.
///
/// # Safety
/// * The items, `stride` bytes apart, are readable in the source and writable in the target in each
///   turn; `load` writes all bytes of as many as it is asked for, and nothing else.
#[inline]
unsafe fn load_items<S: Sink>(
    outer: OuterLoops<'_>,
    stride: isize,
    items: Items,
    sink: &mut S,
    load: impl Fn(Endpoints, usize),
) {
    let distance = stride.unsigned_abs();
    let close = items.bytes <= distance && distance <= PREFETCHED_STRIDE_MAX_BYTES;
    let prefetch = sink.prefetch().filter(|_| close);
    // As many items as span the lines that are prefetched at once.
    let step = if prefetch.is_some() { PREFETCH_STEP_BYTES / distance } else { items.count };
    let copy = move |ends: Endpoints| {
        let write = |part: Range<usize>, target: *mut u8| {
            for first in part.clone().step_by(step) {
                let count = step.min(part.end - first);
                let offset = first as isize * stride;
                // SAFETY: the first of `count` of the items that the caller says are readable.
                let source = unsafe { ends.source.offset(offset) };
                if let Some(prefetch) = prefetch {
                    prefetch_ahead(prefetch, source, stride.signum());
                }
                // SAFETY: the same item in the target, where all of the part are writable.
                let target = unsafe { target.add((first - part.start) * items.bytes) };
                load(Endpoints { source, target }, count);
            }
        };
        // SAFETY: `write` initializes whole items; they are contiguous in the target, where the
        // caller says that they are writable.
        unsafe { sink.write_items(ends.target, items, write) };
    };
    // SAFETY: the caller says that the items of each turn are in the memories.
    unsafe { outer.for_each(copy) };
}

/// Prefetches the lines that are read after the next [`PREFETCH_AHEAD_BYTES`].
fn prefetch_ahead(prefetch: Prefetch, source: *const u8, direction: isize) {
    let (line, ahead) = (CACHE_LINE_BYTES as isize, PREFETCH_AHEAD_BYTES as isize);
    let first = source.wrapping_offset(direction * ahead);
    prefetch(first, direction * line, PREFETCH_STEP_BYTES / CACHE_LINE_BYTES, CACHE_LINE_BYTES);
}

/// Transposes a matrix in each turn of the outer loops.
///
/// # Safety
/// * As for [`run`]; `outer` and `matrix` are the plan's.
unsafe fn tiled_transpose<S: Sink>(
    outer: OuterLoops<'_>,
    mut matrix: TiledTranspose,
    processor: &Processor,
    sink: &mut S,
) {
    // Matrices that follow each other share pages and cache lines of the source.
    let mut dims: SmallVec<[PairedDim; 6]> = outer.dims.into();
    dims.sort_by_key(|dim| Reverse(dim.source.unsigned_abs()));
    matrix.take_row_groups(&mut dims);
    // The matrix that comes after another one in the innermost of the outer loops.
    let next_source = dims.last().map_or(0, |dim| dim.source);
    // Matrices may be closer together than the columns of a matrix. Then the same band of each of
    // them is copied, and after that the next band: tiles that follow each other continue the cache
    // lines and the pages that the one before them read.
    let bands = matrix.bands().filter(|_| sink.is_nontemporal());
    let split = bands.map_or(dims.len(), |(distance, _)| {
        dims.partition_point(|dim| dim.source.unsigned_abs() >= distance)
    });
    let (around, within) = dims.split_at(split);
    let bands = bands.filter(|_| !within.is_empty());
    let copy = |ends| {
        for band in 0..bands.map_or(1, |(_, count)| count) {
            let band = bands.map(|_| band);
            // SAFETY: the caller says that the matrix of each turn is readable and writable.
            let copy =
                |ends| unsafe { sink.transpose(&matrix, ends, band, next_source, processor) };
            // SAFETY: the plan's loops reach elements, which the caller says are in both memories.
            unsafe { OuterLoops { dims: within, ends }.for_each(copy) };
        }
    };
    let outer = OuterLoops { dims: around, ..outer };
    // SAFETY: the plan's loops reach elements, which the caller says are in both memories.
    unsafe { outer.for_each(copy) };
}

/// Transposes `count` matrices that follow each other in each turn of the outer loops.
///
/// # Safety
/// * As for [`run`]; `outer`, `small` and `count` are the plan's.
unsafe fn batched_transpose<S: Sink>(
    outer: OuterLoops<'_>,
    small: &BatchedTranspose,
    count: usize,
    processor: &Processor,
    sink: &mut S,
) {
    let bytes = small.matrix_bytes();
    let copy = |ends: Endpoints| {
        // SAFETY: the caller says that the matrices are readable and writable.
        if unsafe { small.copy_to_lines(ends, count, processor, sink.stores()) } {
            return;
        }
        let write = |part: Range<usize>, target: *mut u8| {
            // SAFETY: matrices are contiguous in the source: the first one of this part.
            let source = unsafe { ends.source.add(part.start * bytes) };
            // SAFETY: the caller says that the matrices are readable; the sink says that `target`
            // is writable for those of this part.
            unsafe { small.copy(Endpoints { source, target }, part.len(), processor) };
        };
        // SAFETY: `write` initializes whole matrices; they are contiguous in the target, where the
        // caller says that they are writable.
        unsafe { sink.write_items(ends.target, Items { count, bytes }, write) };
    };
    // SAFETY: the plan's loops reach elements, which the caller says are in both memories.
    unsafe { outer.for_each(copy) };
}
