//! Copies of many small matrices that follow each other on both sides, each of which is transposed.

use super::copy_plan::CopyPlan;
use super::endpoints::Endpoints;
use super::processor::{Processor, Tile};
use super::shuffle_plan::{SHUFFLE_MIN_BYTES, ShufflePlan};
use crate::layout::paired::PairedDim;

/// Size (bytes) of a group of matrices. A shuffle plan reads the whole group once for each vector
/// of its output, so a group must stay in the first-level cache.
const SHUFFLE_GROUP_BYTES: usize = 8 << 10;

/// Matrices of `rows` and `columns`, as in the target.
pub(super) struct BatchedTranspose {
    unit: usize,
    rows: PairedDim,
    columns: PairedDim,
    shuffle: Option<ShufflePlan>,
}

impl BatchedTranspose {
    /// The matrices of a plan's kernel, whose inner dimensions are these two.
    pub(super) fn new(
        plan: &CopyPlan,
        rows: PairedDim,
        columns: PairedDim,
        processor: &Processor,
    ) -> Self {
        let shuffle = (plan.bytes() >= SHUFFLE_MIN_BYTES && processor.shuffle.is_some())
            .then(|| ShufflePlan::transpose(rows.count, columns.count, plan.unit))
            .flatten();
        Self { unit: plan.unit, rows, columns, shuffle }
    }

    /// Bytes of a matrix.
    pub(super) fn matrix_bytes(&self) -> usize {
        self.rows.count * self.columns.count * self.unit
    }

    /// Copies `count` matrices.
    ///
    /// # Safety
    /// * They are readable from `ends.source` on and writable from `ends.target` on, and no byte is
    ///   both. The processor has the instructions.
    pub(super) unsafe fn copy(&self, ends: Endpoints, count: usize, processor: &Processor) {
        // SAFETY: the caller guarantees what the called function requires.
        let done = unsafe { self.shuffle_matrices(ends, count, processor) };
        let copy = processor.copy_tile[self.unit.trailing_zeros() as usize];
        for matrix in done..count {
            let offset = (matrix * self.matrix_bytes()) as isize;
            // SAFETY: `matrix` is below `count`: the first unit of a matrix on both sides.
            let ends = unsafe { ends.offset(offset, offset) };
            let tile = Tile {
                source: ends.source,
                target: ends.target,
                columns: self.columns.count,
                rows: self.rows.count,
                source_column_stride: self.columns.source,
                source_row_stride: self.rows.source,
                target_row_stride: self.rows.target,
            };
            // SAFETY: one of the matrices that the caller says are readable and writable.
            unsafe { copy(&tile) };
        }
    }

    /// Copies as many matrices as a shuffle plan can; returns how many.
    ///
    /// # Safety
    /// * As for [`copy`](Self::copy).
    #[inline]
    unsafe fn shuffle_matrices(
        &self,
        ends: Endpoints,
        count: usize,
        processor: &Processor,
    ) -> usize {
        let (Some(shuffle), Some(shuffle_plan)) = (processor.shuffle, &self.shuffle) else {
            return 0;
        };
        let group = (SHUFFLE_GROUP_BYTES / self.matrix_bytes())
            .next_multiple_of(shuffle_plan.items_per_turn);
        let mut done = 0;
        while count - done >= shuffle_plan.items_per_turn {
            let turns = group.min(count - done) / shuffle_plan.items_per_turn;
            let offset = (done * self.matrix_bytes()) as isize;
            // SAFETY: `done` is below `count`: the first unit of a matrix on both sides.
            let ends = unsafe { ends.offset(offset, offset) };
            // SAFETY: the plan reads and writes the whole matrices of these turns, which are among
            // the caller's `count`. It does not use the pitch: all its outputs are in row 0.
            unsafe { shuffle(shuffle_plan, ends.source, ends.target, 0, turns) };
            done += turns * shuffle_plan.items_per_turn;
        }
        done
    }
}
