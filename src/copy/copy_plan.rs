//! The plan of a copy between two layouts: a few dimensions to loop over, and the kernel that runs
//! the innermost ones.
//!
//! A plan is made in five steps. Offsets and strides are in bytes.
//!
//! 1. An element is one unit of 1, 2, 4, 8 or 16 bytes, or a dimension of several units.
//! 2. The dimensions are sorted by the target's stride, the largest outermost. A negative target
//!    stride is made positive by counting the dimension from its other end.
//! 3. Neighbouring dimensions are coalesced where the outer one steps exactly over the inner one on
//!    both sides.
//! 4. If the innermost dimension is contiguous on both sides, it becomes the *run*.
//! 5. The innermost dimension, and the one that is closest together in the source, choose the
//!    [`Kernel`] and become its dimensions.
//!
//! For example, the transpose of a contiguous (1000, 2000) array of `f32` into contiguous memory:
//!
//! ```text
//!                     count   source   target
//!   after steps 1-4    2000        4     4000     closest together in the source
//!                      1000     8000        4     contiguous in the target
//!   kernel            TiledTranspose: rows = the first dimension, columns = the second one,
//!                     one group of columns, run = unit = 4
//! ```
//!
//! Invariants of a [`CopyPlan`]:
//! * its dimensions and its runs reach every byte of every element once, and nothing else;
//! * offsets and strides are in bytes; those of elements fit an `isize`;
//! * no two elements have the same target.

#![forbid(unsafe_code)]

#[cfg(any(feature = "parallel", test))]
use std::cmp::Reverse;

use smallvec::SmallVec;

#[cfg(any(feature = "parallel", test))]
use super::Memory;
use super::sizes::{CACHE_LINE_BYTES, TILE_WIDTH_BYTES};
use crate::layout::paired::{PairedDim, PairedDims, PairedOffset};

/// What the innermost loops do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// No dimension: runs of bytes, contiguous on both sides, are copied one by one.
    Runs,
    /// One dimension: the source has the runs apart, the target side by side.
    StridedLoad,
    /// Four dimensions over units, `rows`, `outer_groups`, `groups` and `columns`. Rows are closer
    /// together in the source than columns; the target has columns side by side, groups of columns
    /// side by side, and groups of these groups.
    TiledTranspose,
    /// Three dimensions over units, `matrices`, `rows` and `columns`: small matrices follow each
    /// other on both sides, and each of them is transposed.
    BatchedTranspose,
    /// Two dimensions over units, `rows` and `columns`, which have gaps in the target.
    StridedStore,
}

impl Kernel {
    /// How many dimensions the kernel loops over itself.
    fn depth(self) -> usize {
        match self {
            Self::Runs => 0,
            Self::StridedLoad => 1,
            Self::StridedStore => 2,
            Self::BatchedTranspose => 3,
            Self::TiledTranspose => 4,
        }
    }
}

/// Dimensions to loop over, and the kernel for the inner ones.
#[derive(Clone, Debug)]
pub(super) struct CopyPlan {
    /// Outermost first. The last ones are the kernel's: see [`split_dims`](Self::split_dims). Their
    /// start is the offset of the first byte to read and to write from the first elements.
    paired: PairedDims,
    pub(super) kernel: Kernel,
    /// Bytes that are contiguous on both sides, inside all dimensions.
    pub(super) run: usize,
    /// Bytes that are moved at once: 1, 2, 4, 8 or 16, and a divisor of `run`. Says nothing about
    /// alignment.
    pub(super) unit: usize,
}

/// Minimum size (bytes) of a run that is copied by itself, straight to the target. Shorter ones are
/// loaded with a stride.
const LONG_RUN_BYTES: usize = 2 * CACHE_LINE_BYTES;

/// Size (bytes) of a row of columns below which a second dimension is added: groups of columns.
const SHORT_COLUMNS_BYTES: usize = 16 * TILE_WIDTH_BYTES;

/// Size (bytes) of a row of groups below which a third dimension is added. A row that begins within
/// a cache line of the target has two lines that are not whole. But matrices are best copied band
/// by band where they are close together in the source, so longer rows stay as they are.
const SHORT_GROUPS_BYTES: usize = 16 * CACHE_LINE_BYTES;

/// Maximum size (bytes) of a small matrix. For larger ones, cutting each into tiles takes little
/// time.
const SMALL_MATRIX_MAX_BYTES: usize = 1 << 10;

/// The largest unit: 16 bytes.
const UNIT_MAX_BYTES_LOG2: u32 = 4;

/// The largest power of two that divides `bytes`, up to 16.
fn unit_of(bytes: usize) -> usize {
    1 << bytes.trailing_zeros().min(UNIT_MAX_BYTES_LOG2)
}

impl CopyPlan {
    /// Plans the copy of elements of `itemsize` bytes. The strides are in elements.
    ///
    /// The shape has elements, their offsets in bytes fit an `isize`, and no two of them share a
    /// byte of the target.
    #[inline]
    pub(super) fn new(shape: &[i64], source: &[i64], target: &[i64], itemsize: usize) -> Self {
        let unit = unit_of(itemsize);
        // Filled in place, because moving the list would take a good part of a small copy's time.
        let mut plan =
            Self { paired: PairedDims::default(), kernel: Kernel::Runs, run: unit, unit };
        plan.paired.insert_strides(shape, source, target, itemsize);
        if unit != itemsize {
            let (count, step) = (itemsize / unit, unit as isize);
            plan.paired.insert(PairedDim { count, source: step, target: step });
        }
        plan.paired.coalesce();
        plan.absorb_run();
        plan.choose_kernel();
        plan
    }

    /// The dimensions around the kernel, outermost first, and the kernel's own.
    pub(super) fn split_dims(&self) -> (&[PairedDim], &[PairedDim]) {
        self.paired.dims.split_at(self.outer_count())
    }

    /// Offsets in bytes of what is copied first, from the first elements.
    pub(super) fn start(&self) -> PairedOffset {
        self.paired.start
    }

    /// Bytes that are written.
    pub(super) fn bytes(&self) -> usize {
        self.dims().iter().map(|dim| dim.count).product::<usize>() * self.run
    }

    fn dims(&self) -> &[PairedDim] {
        &self.paired.dims
    }

    fn dims_mut(&mut self) -> &mut SmallVec<[PairedDim; 6]> {
        &mut self.paired.dims
    }

    /// How many dimensions are around the kernel.
    fn outer_count(&self) -> usize {
        self.dims().len() - self.kernel.depth()
    }

    /// Makes units that are contiguous on both sides one run, and chooses a larger unit if it
    /// divides the run.
    fn absorb_run(&mut self) {
        let unit = self.unit as isize;
        if let Some(&inner) = self.dims().last()
            && (inner.source, inner.target) == (unit, unit)
        {
            self.dims_mut().pop();
            self.run *= inner.count;
            self.unit = unit_of(self.run);
        }
    }

    /// Chooses the kernel, and moves its dimensions to the end.
    fn choose_kernel(&mut self) {
        let Some(&inner) = self.dims().last() else { return };
        let side_by_side = inner.target == self.run as isize;
        let units = self.run == self.unit;
        if self.run >= LONG_RUN_BYTES || !(side_by_side || units) {
            return;
        }
        self.dims_mut().pop();
        let rows = if units { self.take_closer_in_source(inner) } else { None };
        self.kernel = match (side_by_side, rows) {
            (true, None) => {
                self.dims_mut().push(inner);
                Kernel::StridedLoad
            }
            (true, Some(rows)) if self.is_small_matrix(rows, inner) => {
                self.dims_mut().extend([rows, inner]);
                Kernel::BatchedTranspose
            }
            (true, Some(rows)) => {
                let columns = inner.count * self.unit;
                let groups = self.take_groups(columns, SHORT_COLUMNS_BYTES);
                let outer_groups = self.take_groups(groups.count * columns, SHORT_GROUPS_BYTES);
                self.dims_mut().extend([rows, outer_groups, groups, inner]);
                Kernel::TiledTranspose
            }
            (false, rows) => {
                self.dims_mut().extend([rows.unwrap_or(PairedDim::ONE), inner]);
                Kernel::StridedStore
            }
        };
    }

    /// Removes and returns the dimension whose elements are closest together in the source, if they
    /// are closer than those of `columns`. Its source stride becomes positive.
    fn take_closer_in_source(&mut self, columns: PairedDim) -> Option<PairedDim> {
        let distance = |dim: &PairedDim| dim.source.unsigned_abs();
        let (index, closest) = (self.dims().iter().enumerate())
            .filter(|(_, dim)| dim.source != 0)
            .min_by_key(|(_, dim)| distance(dim))?;
        if distance(closest) >= distance(&columns) {
            return None;
        }
        let rows = self.dims_mut().remove(index);
        Some(if rows.source < 0 { self.paired.flip(rows) } else { rows })
    }

    /// Whether the matrix is small, contiguous on both sides, and the dimension around it steps
    /// from one such matrix to the next on both sides.
    fn is_small_matrix(&self, rows: PairedDim, columns: PairedDim) -> bool {
        let bytes = rows.count * columns.count * self.unit;
        let step = bytes as isize;
        let contiguous = rows.source == self.unit as isize
            && columns.source == (rows.count * self.unit) as isize
            && rows.target == (columns.count * self.unit) as isize;
        let small = bytes <= SMALL_MATRIX_MAX_BYTES;
        let follow =
            self.dims().last().is_some_and(|next| (next.source, next.target) == (step, step));
        contiguous && small && follow
    }

    /// Removes and returns the dimension that continues a row of `bytes` in the target, if the row
    /// is shorter than `short`.
    fn take_groups(&mut self, bytes: usize, short: usize) -> PairedDim {
        let continues = |next: &PairedDim| next.target == bytes as isize;
        let groups = match self.dims().last() {
            Some(next) if bytes < short && continues(next) => self.dims_mut().pop(),
            _ => None,
        };
        groups.unwrap_or(PairedDim::ONE)
    }

    /// Cuts the plan of a copy into `memory` into two plans that do its work; returns the plan
    /// itself if its dimensions are too short to be cut.
    ///
    /// They are cut after whole lines of the target, counted from the first element. Where it does
    /// not begin on a line, or dimensions outside the cut one do not step by whole lines, the two
    /// write to different bytes of the lines at the cuts.
    #[cfg(any(feature = "parallel", test))]
    pub(super) fn split(mut self, memory: Memory) -> Result<(Self, Self), Self> {
        let mut rest = self.clone();
        if let Some((index, first)) = self.cut(memory) {
            let dim = self.dims()[index];
            self.dims_mut()[index].count = first;
            rest.dims_mut()[index].count -= first;
            let first = first as isize;
            let (source, target) = (first * dim.source, first * dim.target);
            rest.paired.advance(PairedOffset { source, target });
            return Ok((self, rest));
        }
        let first = (self.run / 2).next_multiple_of(CACHE_LINE_BYTES);
        if self.kernel != Kernel::Runs || first == 0 || first >= self.run {
            return Err(self);
        }
        self.run = first;
        rest.run -= first;
        rest.paired.advance(PairedOffset { source: first as isize, target: first as isize });
        Ok((self, rest))
    }

    /// The part with this number of `2^halvings` parts, which is small enough to be found on every
    /// thread anew: the plan is cut in halves `halvings` times, and the bits of the number say
    /// which half to take, the highest bit first. `None` if there is no such part, because a plan
    /// that would be cut is too short.
    #[cfg(any(feature = "parallel", test))]
    pub(super) fn part(&self, number: usize, halvings: u32, memory: Memory) -> Option<Self> {
        let mut plan = self.clone();
        for level in (0..halvings).rev() {
            plan = match plan.split(memory) {
                Ok((first, _)) if number >> level & 1 == 0 => first,
                Ok((_, second)) => second,
                // The first of the numbers that begin like this one is for the whole.
                Err(whole) => return (number & ((2 << level) - 1) == 0).then_some(whole),
            };
        }
        Some(plan)
    }

    /// The dimension that is cut, and how many of its indices come before the cut. It is the
    /// outermost one that can be cut, with one exception, in which the runs of the source stay
    /// long: of a transpose into used memory whose rows are whole lines apart, it is the one whose
    /// elements are farthest apart in the source. In fresh memory, threads should touch different
    /// pages.
    ///
    /// Two threads against one on an AMD EPYC, for 32 MiB of units of 4 bytes: 1.9 times as fast
    /// for a square, (2, 1, 0) and (5, 4, 3, 2, 1, 0); 1.5, 1.6 and 1.1 times if the outermost
    /// dimension is cut.
    #[cfg(any(feature = "parallel", test))]
    fn cut(&self, memory: Memory) -> Option<(usize, usize)> {
        // Groups are whole where there are several, and so are small matrices: these inner
        // dimensions stay.
        let uncut = match (self.kernel, self.dims()) {
            (Kernel::TiledTranspose, [.., outer_groups, _, _]) if outer_groups.count > 1 => 2,
            (Kernel::TiledTranspose, [.., groups, _]) => usize::from(groups.count > 1),
            (Kernel::BatchedTranspose, _) => 2,
            _ => 0,
        };
        let mut indices: SmallVec<[usize; 6]> = (0..self.dims().len() - uncut).collect();
        let in_lines = |rows: &PairedDim| rows.target % CACHE_LINE_BYTES as isize == 0;
        let rows = self.dims().get(self.outer_count());
        let is_transpose = self.kernel == Kernel::TiledTranspose && rows.is_some_and(in_lines);
        if is_transpose && matches!(memory, Memory::Used) {
            indices.sort_by_key(|&index| Reverse(self.dims()[index].source.unsigned_abs()));
        }
        indices.into_iter().find_map(|index| {
            let dim = self.dims()[index];
            let granule = steps_to_whole_lines(dim.target);
            let granule = match (self.kernel, index.checked_sub(self.outer_count())) {
                (_, None) | (Kernel::TiledTranspose, Some(1 | 2)) => granule,
                _ => granule.max(CACHE_LINE_BYTES),
            };
            let first = (dim.count / 2).next_multiple_of(granule);
            (0 < first && first < dim.count).then_some((index, first))
        })
    }
}

/// How many steps of `stride` bytes make whole cache lines.
#[cfg(any(feature = "parallel", test))]
fn steps_to_whole_lines(stride: isize) -> usize {
    CACHE_LINE_BYTES >> stride.trailing_zeros().min(CACHE_LINE_BYTES.trailing_zeros())
}
