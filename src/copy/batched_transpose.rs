//! Many small matrices that follow each other, and are transposed one by one.

use super::plan::{Loop, CopyPlan};
use super::processor::{Processor, Tile};
use super::shuffle_plan::{ShufflePlan, SHUFFLE_MIN_BYTES};
use super::store_buffer::APPEND_MAX_BYTES;

/// Matrices of `rows` and `columns`, as in the target.
pub(super) struct BatchedTranspose {
    unit: usize,
    rows: Loop,
    columns: Loop,
    shuffle_plan: Option<ShufflePlan>,
}

impl BatchedTranspose {
    pub(super) fn new(plan: &CopyPlan, rows: Loop, columns: Loop, processor: &Processor) -> Self {
        let shuffle_plan = (plan.bytes() >= SHUFFLE_MIN_BYTES && processor.shuffle.is_some())
            .then(|| ShufflePlan::transpose(rows.count, columns.count, plan.unit))
            .flatten();
        Self { unit: plan.unit, rows, columns, shuffle_plan }
    }

    /// Bytes of a matrix.
    pub(super) fn bytes(&self) -> usize {
        self.rows.count * self.columns.count * self.unit
    }

    /// Copies so many matrices.
    ///
    /// # Safety
    /// * They are readable and writable, and no byte is both. The processor has the instructions.
    pub(super) unsafe fn copy(&self, from: *const u8, to: *mut u8, count: usize, processor: &Processor) {
        let mut done = 0;
        if let (Some(shuffle), Some(shuffle_plan)) = (processor.shuffle, &self.shuffle_plan) {
            // A shuffle_plan goes through its turns once for each of its vectors: they must stay in the cache.
            let most = (APPEND_MAX_BYTES / self.bytes()).next_multiple_of(shuffle_plan.turn);
            while count - done >= shuffle_plan.turn {
                let turns = most.min(count - done) / shuffle_plan.turn;
                let offset = done * self.bytes();
                // SAFETY: the caller's promise, for the matrices of these turns.
                unsafe { shuffle(shuffle_plan, from.wrapping_add(offset), to.wrapping_add(offset), 0, turns) };
                done += turns * shuffle_plan.turn;
            }
        }
        let fill = processor.fill[self.unit.trailing_zeros() as usize];
        for matrix in done..count {
            let tile = Tile {
                // SAFETY: one of the matrices.
                from: unsafe { from.add(matrix * self.bytes()) },
                // SAFETY: where it goes.
                to: unsafe { to.add(matrix * self.bytes()) },
                columns: self.columns.count,
                rows: self.rows.count,
                from_column: self.columns.from,
                from_row: self.rows.from,
                to_row: self.rows.to,
            };
            // SAFETY: the caller's promise, for this matrix.
            unsafe { fill(&tile) };
        }
    }
}
