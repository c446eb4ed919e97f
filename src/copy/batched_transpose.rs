//! Copies of many small matrices that follow each other on both sides, each of which is transposed.

use super::copy_plan::CopyPlan;
use super::endpoints::Endpoints;
use super::line_shuffle::shuffle_to_lines;
use super::processor::{Processor, Stores, Tile};
use super::shuffle_plan::{SHUFFLE_MIN_BYTES, ShufflePlan, vector_bytes};
use super::sizes::{CACHE_LINE_BYTES, VECTOR_BYTES};
use crate::layout::paired::PairedDim;

/// Size (bytes) of a group of matrices. A shuffle plan reads the whole group once for each vector
/// of its output, so a group must stay in the first-level cache.
const SHUFFLE_GROUP_BYTES: usize = 8 << 10;

/// Maximum number of inputs of a vector of 64 bytes. With 8 inputs (8 × 8 units of 8 bytes),
/// squares in registers were as fast, and they need no plan.
const INPUTS_MAX: usize = 4;

/// Maximum size (bytes) of a matrix for a shuffle plan with vectors of 16 bytes. Each of them has
/// units of many inputs if a matrix is larger.
const SHORT_VECTORS_MATRIX_MAX_BYTES: usize = 256;

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
        let unit = plan.unit;
        let shuffle = Self::vector_bytes(plan, rows.count, columns.count, processor)
            .and_then(|vector| ShufflePlan::transpose(rows.count, columns.count, unit, vector));
        Self { unit, rows, columns, shuffle }
    }

    /// Bytes of the vectors of a shuffle plan. `None` if transposing squares in registers is as
    /// fast, or if making a plan takes too long.
    fn vector_bytes(
        plan: &CopyPlan,
        rows: usize,
        columns: usize,
        processor: &Processor,
    ) -> Option<usize> {
        if plan.bytes() < SHUFFLE_MIN_BYTES || processor.shuffle.is_none() {
            return None;
        }
        let matrix = rows * columns * plan.unit;
        let longest = processor.shuffle_bytes;
        // A turn copies as many matrices as fill whole vectors.
        let outputs = matrix >> matrix.trailing_zeros().min(longest.trailing_zeros());
        let vector = vector_bytes(plan.bytes(), outputs, longest);
        let few_units = rows.min(columns) < (VECTOR_BYTES / plan.unit).max(4);
        let is_small = if vector == VECTOR_BYTES {
            few_units && matrix <= SHORT_VECTORS_MATRIX_MAX_BYTES
        } else {
            // Each vector has inputs from at most as many columns as its units, and as there are.
            matrix.div_ceil(vector).min(vector / plan.unit) <= INPUTS_MAX
        };
        is_small.then_some(vector)
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
            // SAFETY: one of the matrices that the caller says are readable and writable.
            unsafe { copy(&self.tile(ends)) };
        }
    }

    /// The matrix at these addresses.
    fn tile(&self, ends: Endpoints) -> Tile {
        Tile {
            source: ends.source,
            target: ends.target,
            columns: self.columns.count,
            rows: self.rows.count,
            source_column_stride: self.columns.source,
            source_row_stride: self.rows.source,
            target_row_stride: self.rows.target,
        }
    }

    /// Whether the rows of matrices at `target` are whole cache lines, and columns fill vectors.
    fn has_whole_lines(&self, target: *const u8) -> bool {
        let (row, column) = (self.columns.count * self.unit, self.rows.count * self.unit);
        (target.addr() | row).is_multiple_of(CACHE_LINE_BYTES)
            && column.is_multiple_of(VECTOR_BYTES)
    }

    /// Copies `count` matrices straight to the target if their rows are whole cache lines, or if a
    /// shuffle plan can; returns whether it did.
    ///
    /// # Safety
    /// * As for [`copy`](Self::copy).
    pub(super) unsafe fn copy_to_lines(
        &self,
        ends: Endpoints,
        count: usize,
        processor: &Processor,
        stores: &Stores,
    ) -> bool {
        if let Some(transposes) = &stores.transposes
            && self.has_whole_lines(ends.target)
        {
            let transpose = transposes.matrices[self.unit.trailing_zeros() as usize];
            // SAFETY: the caller says that the matrices are readable and writable. A plan has this
            // kernel only if they have no gaps, and the conditions were just checked.
            unsafe { transpose(&self.tile(ends), count) };
            return true;
        }
        let Some(shuffle_plan) = &self.shuffle else { return false };
        // SAFETY: the plan reads and writes whole matrices, which the caller says are readable and
        // writable. It does not use the pitch: all its outputs are in row 0.
        unsafe { shuffle_to_lines(shuffle_plan, count, ends, 0, (processor, stores)) }
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
