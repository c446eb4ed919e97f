//! Runs plans: the outer loops, and the kernel inside them.

use super::batched_transpose::BatchedTranspose;
use super::tiled_transpose::TiledTranspose;
use super::plan::{Kernel, Loop, CopyPlan};
use super::processor::{Processor, NontemporalStores, copy_run, strided_load_runs, strided_store};
use super::store_buffer::{APPEND_MAX_BYTES, StoreBuffer, StoreBufferMemory};

/// Rows of so many bytes are streamed from where they are.
const DIRECT_RUN_MIN_BYTES: usize = APPEND_MAX_BYTES / 2;

/// Copies what a plan says; past the caches, if so asked and where the processor has a way.
///
/// # Safety
/// * At the offsets from `from` and `to` that the plan names, elements are readable and writable,
///   and none of their bytes both. The processor has the instructions.
pub(super) unsafe fn run(plan: &CopyPlan, from: *const u8, to: *mut u8, processor: &Processor, nontemporal: bool) {
    // SAFETY: the first element that the plan reads.
    let from = unsafe { from.offset(plan.from) };
    // SAFETY: the first that it writes.
    let to = unsafe { to.offset(plan.to) };
    let staged = match &processor.nontemporal {
        Some(stores) if nontemporal => Some(stores),
        _ if has_conflicts(plan) => Some(&CACHED),
        _ => None,
    };
    match staged {
        // SAFETY: the caller's promise.
        Some(stores) => unsafe { run_through_buffer(plan, from, to, processor, stores) },
        // SAFETY: the caller's promise.
        None => unsafe { run_direct(plan, from, to, processor) },
    }
}

/// In a function of its own, so that others need no stack for the buffer.
///
/// # Safety
/// * As for [`run`], from the first elements on.
#[inline(never)]
unsafe fn run_through_buffer(
    plan: &CopyPlan,
    from: *const u8,
    to: *mut u8,
    processor: &Processor,
    stores: &NontemporalStores,
) {
    let mut memory = StoreBufferMemory::new();
    let mut buffer = StoreBuffer::new(&mut memory, stores);
    // SAFETY: the caller's promise.
    unsafe { run_buffered(plan, from, to, processor, &mut buffer) };
    buffer.flush();
    (stores.fence)();
}

/// Into the caches after all, but row by row.
static CACHED: NontemporalStores = NontemporalStores { copy: copy_run, fence: || {}, prefetch: |_| {} };

/// Whether rows of the target are so far apart that all of them compete for a few places in the caches.
fn has_conflicts(plan: &CopyPlan) -> bool {
    let (_, inner) = plan.loops();
    let tall = |rows: &Loop| rows.to.trailing_zeros() >= 9 && rows.count >= 16;
    plan.kernel == Kernel::TiledTranspose && plan.bytes() >= 32 << 10 && inner.first().is_some_and(tall)
}

/// Calls `body` with the addresses of every turn of the loops.
///
/// # Safety
/// * The loops stay within the memory of `from` and of `to`.
unsafe fn for_each<F: FnMut(*const u8, *mut u8)>(loops: &[Loop], from: *const u8, to: *mut u8, body: &mut F) {
    let Some((dim, inner)) = loops.split_first() else { return body(from, to) };
    for index in 0..dim.count as isize {
        // SAFETY: the caller's promise.
        let from = unsafe { from.offset(index * dim.from) };
        // SAFETY: likewise.
        let to = unsafe { to.offset(index * dim.to) };
        if inner.is_empty() {
            body(from, to);
        } else {
            // SAFETY: likewise.
            unsafe { for_each(inner, from, to, body) };
        }
    }
}

/// # Safety
/// * As for [`run`], from the first elements on.
unsafe fn run_direct(plan: &CopyPlan, from: *const u8, to: *mut u8, processor: &Processor) {
    let (outer, inner) = plan.loops();
    let unit = plan.unit.trailing_zeros() as usize;
    match (plan.kernel, inner) {
        (Kernel::StridedLoad, &[runs]) if plan.run == plan.unit => {
            let strided_load = processor.strided_load[unit];
            // SAFETY: the caller's promise, for the runs of this turn.
            let mut row = |from, to| unsafe { strided_load(from, runs.from, to, runs.count) };
            // SAFETY: the plan's loops.
            unsafe { for_each(outer, from, to, &mut row) };
        }
        (Kernel::StridedLoad, &[runs]) => {
            // SAFETY: the caller's promise, for the runs of this turn.
            let mut row = |from, to| unsafe { strided_load_runs(from, runs.from, to, plan.run, runs.count) };
            // SAFETY: the plan's loops.
            unsafe { for_each(outer, from, to, &mut row) };
        }
        (Kernel::TiledTranspose, &[rows, blocks, columns]) => {
            let matrix = TiledTranspose::new(plan, rows, blocks, columns, processor);
            // SAFETY: the caller's promise, for the matrix of this turn.
            let mut copy = |from, to| unsafe { matrix.copy(from, to, processor) };
            // SAFETY: the plan's loops.
            unsafe { for_each(outer, from, to, &mut copy) };
        }
        (Kernel::BatchedTranspose, &[matrices, rows, columns]) => {
            let small = BatchedTranspose::new(plan, rows, columns, processor);
            // SAFETY: the caller's promise, for the matrices of this turn.
            let mut copy = |from, to| unsafe { small.copy(from, to, matrices.count, processor) };
            // SAFETY: the plan's loops.
            unsafe { for_each(outer, from, to, &mut copy) };
        }
        (Kernel::StridedStore, &[rows, columns]) => {
            // SAFETY: the caller's promise, for the elements of this turn.
            let mut matrix = |from, to| unsafe { strided_store(from, to, plan.unit, rows, columns) };
            // SAFETY: the plan's loops.
            unsafe { for_each(outer, from, to, &mut matrix) };
        }
        _ => {
            // SAFETY: the caller's promise, for the run of this turn.
            let mut row = |from, to| unsafe { copy_run(from, to, plan.run) };
            // SAFETY: the plan's loops.
            unsafe { for_each(outer, from, to, &mut row) };
        }
    }
}

/// # Safety
/// * As for [`run`], from the first elements on.
unsafe fn run_buffered(
    plan: &CopyPlan,
    from: *const u8,
    to: *mut u8,
    processor: &Processor,
    buffer: &mut StoreBuffer<'_>,
) {
    let (outer, inner) = plan.loops();
    match (plan.kernel, inner) {
        (Kernel::Runs, _) if plan.run >= DIRECT_RUN_MIN_BYTES => {
            let copy = buffer.stores.copy;
            // SAFETY: the caller's promise, for the run of this turn.
            let mut row = |from, to| unsafe { copy(from, to, plan.run) };
            // SAFETY: the plan's loops.
            unsafe { for_each(outer, from, to, &mut row) };
        }
        (Kernel::Runs, _) => {
            let mut row = |from, to| {
                // SAFETY: the run of this turn goes there, and is put into the room at once.
                let room = unsafe { buffer.room(to, plan.run) };
                // SAFETY: readable, and there is room.
                unsafe { copy_run(from, room, plan.run) };
            };
            // SAFETY: the plan's loops.
            unsafe { for_each(outer, from, to, &mut row) };
        }
        (Kernel::StridedLoad, &[runs]) => {
            let strided_load = processor.strided_load[plan.unit.trailing_zeros() as usize];
            let most = APPEND_MAX_BYTES / plan.run;
            let mut row = |from: *const u8, to: *mut u8| {
                for first in (0..runs.count).step_by(most) {
                    let count = most.min(runs.count - first);
                    // SAFETY: the first of these runs.
                    let from = unsafe { from.offset(first as isize * runs.from) };
                    // SAFETY: where it goes.
                    let to = unsafe { to.add(first * plan.run) };
                    // SAFETY: these runs go there, and are put into the room at once.
                    let room = unsafe { buffer.room(to, count * plan.run) };
                    if plan.run == plan.unit {
                        // SAFETY: readable, and there is room.
                        unsafe { strided_load(from, runs.from, room, count) };
                    } else {
                        // SAFETY: likewise.
                        unsafe { strided_load_runs(from, runs.from, room, plan.run, count) };
                    }
                }
            };
            // SAFETY: the plan's loops.
            unsafe { for_each(outer, from, to, &mut row) };
        }
        (Kernel::TiledTranspose, &[rows, blocks, columns]) => {
            let matrix = TiledTranspose::new(plan, rows, blocks, columns, processor);
            let step = outer.last().map_or(0, |dim| dim.from);
            // SAFETY: the caller's promise, for the matrix of this turn.
            let mut stream = |from, to| unsafe { matrix.copy_through(from, to, step, processor, buffer) };
            // SAFETY: the plan's loops.
            unsafe { for_each(outer, from, to, &mut stream) };
        }
        (Kernel::BatchedTranspose, &[matrices, rows, columns]) => {
            let small = BatchedTranspose::new(plan, rows, columns, processor);
            let most = APPEND_MAX_BYTES / small.bytes();
            let mut stream = |from: *const u8, to: *mut u8| {
                for first in (0..matrices.count).step_by(most) {
                    let count = most.min(matrices.count - first);
                    let done = first * small.bytes();
                    // SAFETY: these matrices follow each other, on both sides, and are put into the room
                    // at once.
                    let room = unsafe { buffer.room(to.wrapping_add(done), count * small.bytes()) };
                    // SAFETY: the caller's promise, for these matrices; there is room.
                    unsafe { small.copy(from.wrapping_add(done), room, count, processor) };
                }
            };
            // SAFETY: the plan's loops.
            unsafe { for_each(outer, from, to, &mut stream) };
        }
        // Units with gaps between them make no whole lines.
        // SAFETY: the caller's promise.
        _ => unsafe { run_direct(plan, from, to, processor) },
    }
}
