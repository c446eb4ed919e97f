//! Shuffle plans that are run with non-temporal stores, straight from the source to the target:
//! each vector of the plan is a whole cache line of the target.
//!
//! A row of the target need not begin on a cache line. So each row has a *head*: the number of its
//! first items, pixels or matrices, after which a line begins. With two rows and turns of 4 items:
//!
//! ```text
//!   lines of the target   |           |           |           |           |
//!   row 0, head 1             ·aaaabbbbcccc·····         a, b, c: turns with non-temporal stores
//!   row 1, head 3           ···aaaabbbbcccc···
//! ```
//!
//! The items before and after these turns are written with ordinary stores, by one turn at the
//! beginning of the rows and two turns at their end.

use smallvec::SmallVec;

use super::endpoints::Endpoints;
use super::processor::{Processor, Stores};
use super::shuffle_plan::ShufflePlan;
use super::sizes::CACHE_LINE_BYTES;
use crate::layout::paired::PairedOffset;

/// Turns with ordinary stores at the beginning and at the end of the rows.
const FIRST_TURNS: usize = 1;
const LAST_TURNS: usize = 2;

/// Something of each row of a plan.
type Heads<T> = SmallVec<[T; 16]>;

/// Copies `count` items with `plan`, most of them with non-temporal stores. Rows of the target are
/// `pitch` bytes apart. Returns whether it did; if not, it has copied nothing. It does not if there
/// are too few items, if a row has no item that begins on a cache line, or if there are no
/// instructions for it.
///
/// # Safety
/// * The items are readable from `ends.source` on and writable from `ends.target` on, and no byte
///   is both. The processor has the instructions.
pub(super) unsafe fn shuffle_to_lines(
    plan: &ShufflePlan,
    count: usize,
    ends: Endpoints,
    pitch: isize,
    (processor, stores): (&Processor, &Stores),
) -> bool {
    let per_turn = plan.items_per_turn;
    let (Some(shuffle), Some(shuffles)) = (processor.shuffle, &stores.shuffles) else {
        return false;
    };
    if plan.vector_bytes != CACHE_LINE_BYTES || count < LAST_TURNS * per_turn {
        return false;
    }
    let Some(heads) = heads(plan, ends.target, pitch) else { return false };
    let step = plan.step_of_item();
    let after = |items: usize| PairedOffset {
        source: items as isize * step.source,
        target: items as isize * step.target,
    };
    for (first, turns) in [(0, FIRST_TURNS), (count - LAST_TURNS * per_turn, LAST_TURNS)] {
        let PairedOffset { source, target } = after(first);
        // SAFETY: an item of the caller's, as many before the end as these turns copy.
        let ends = unsafe { ends.offset(source, target) };
        // SAFETY: the plan reads and writes the whole items of these turns, which the caller says
        // are readable and writable.
        unsafe { shuffle(plan, ends.source, ends.target, pitch, turns) };
    }
    let longest = heads.iter().copied().max().unwrap_or(0);
    let turns = (count - longest) / per_turn;
    let heads: Heads<PairedOffset> = heads.into_iter().map(after).collect();
    // SAFETY: the plan reads and writes the whole items of these turns. After the longest head
    // there are as many items as they copy, which the caller says are readable and writable. In
    // each row a cache line begins after the head, and all steps of the target are whole lines.
    unsafe { (shuffles.run)(plan, ends, pitch, &heads, turns) };
    true
}

/// The heads of the plan's rows, each shorter than a turn. `None` if a row has none.
fn heads(plan: &ShufflePlan, target: *const u8, pitch: isize) -> Option<Heads<usize>> {
    let item = plan.step_of_item().target as usize;
    let rows = plan.outputs.iter().map(|output| output.row + 1).max()?;
    let head = |row: usize| {
        let row = target.wrapping_offset(row as isize * pitch);
        let begins_line =
            |items: &usize| row.wrapping_add(items * item).addr().is_multiple_of(CACHE_LINE_BYTES);
        (0..plan.items_per_turn).find(begins_line)
    };
    (0..rows).map(head).collect()
}

#[cfg(all(test, target_arch = "x86_64", not(miri)))]
mod tests {
    use super::*;
    use crate::copy::processor::AVX512_VBMI;

    /// Planes that begin at different distances from cache lines are written to lines, unless no
    /// unit of them begins on one.
    #[test]
    fn rows_are_written_to_lines_wherever_they_begin() {
        const UNIT: usize = 4;
        if !is_x86_feature_detected!("avx512vbmi") || !is_x86_feature_detected!("avx512bw") {
            return;
        }
        let stores = AVX512_VBMI.nontemporal.as_ref().expect("x86-64 has them");
        for (planes, pixels) in [(2, 32), (3, 777), (4, 1001)] {
            let source: Vec<u8> =
                (0..planes * pixels * UNIT).map(|byte| (byte % 251) as u8).collect();
            for (shift, gap, written) in
                [(0, 0, true), (20, 4, true), (60, 68, true), (2, 0, false)]
            {
                let pitch = pixels * UNIT + gap;
                let mut target = vec![0xEE; 64 + shift + planes * pitch];
                let first = target.as_ptr().align_offset(CACHE_LINE_BYTES) + shift;
                let mut expected = target.clone();
                for byte in 0..source.len() {
                    let (pixel, plane) = (byte / UNIT / planes, byte / UNIT % planes);
                    expected[first + plane * pitch + pixel * UNIT + byte % UNIT] = source[byte];
                }
                let plan = ShufflePlan::deinterleave(planes, UNIT, CACHE_LINE_BYTES);
                let ends =
                    Endpoints { source: source.as_ptr(), target: target[first..].as_mut_ptr() };
                let functions = (&AVX512_VBMI, stores);
                // SAFETY: the memories have room for the pixels and the planes, and the machine has
                // the instructions.
                let done =
                    unsafe { shuffle_to_lines(&plan, pixels, ends, pitch as isize, functions) };
                (stores.fence)();
                assert_eq!(done, written, "{planes} planes, {shift}");
                assert!(target == expected || !written, "{planes} planes, {shift}, {gap}");
            }
        }
    }
}
