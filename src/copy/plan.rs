//! What a copy between two layouts comes down to: few loops, and a kernel for the inner ones.
//!
//! Invariants of a [`CopyPlan`]:
//! * its loops reach every byte of every element once, and nothing else;
//! * offsets and steps are in bytes; those of elements fit an `isize`;
//! * no two elements have the same target.

use smallvec::SmallVec;

#[cfg(any(feature = "parallel", test))]
use super::CACHE_LINE_BYTES;
use super::shuffle_plan::VECTOR_BYTES;

/// Loops over both sides at once: how often, and how many bytes each side steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loop {
    pub(super) count: usize,
    pub(super) from: isize,
    pub(super) to: isize,
}

impl Loop {
    /// A loop that runs once.
    const ONCE: Self = Self { count: 1, from: 0, to: 0 };

    /// How many steps of the target make whole lines.
    #[cfg(any(feature = "parallel", test))]
    fn line(&self) -> usize {
        CACHE_LINE_BYTES >> self.to.trailing_zeros().min(CACHE_LINE_BYTES.trailing_zeros())
    }
}

/// What happens in the innermost loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// No loop: runs are copied one by one.
    Runs,
    /// One loop: the source has the runs apart, the target side by side.
    StridedLoad,
    /// Three loops over units. `rows` are closer together in the source than `columns`; the target
    /// has columns side by side, and blocks of columns side by side.
    TiledTranspose,
    /// Three loops over units: many small matrices follow each other on both sides, and `rows` and
    /// `columns` change places in each of them.
    BatchedTranspose,
    /// Two loops over units, `rows` and `columns`, which have gaps in the target.
    StridedStore,
}

impl Kernel {
    /// How many loops the kernel runs itself.
    fn depth(self) -> usize {
        match self {
            Self::Runs => 0,
            Self::StridedLoad => 1,
            Self::StridedStore => 2,
            Self::TiledTranspose | Self::BatchedTranspose => 3,
        }
    }
}

/// Loops and their kernel.
#[derive(Clone, Debug)]
pub(super) struct CopyPlan {
    /// Outermost first. The last ones are the kernel's: see [`loops`](Self::loops).
    loops: SmallVec<[Loop; 6]>,
    pub(super) kernel: Kernel,
    /// Bytes that follow each other on both sides, inside all loops.
    pub(super) run: usize,
    /// Size of what is moved at once: 1, 2, 4, 8 or 16 bytes. Says nothing about alignment.
    pub(super) unit: usize,
    /// Offset of the first byte to read, from the first element of the source.
    pub(super) from: isize,
    /// Offset of the first byte to write, from the first element of the target.
    pub(super) to: isize,
}

/// Runs from here on are copied one by one, shorter ones are loaded with a stride.
const LONG_RUN_BYTES: usize = 512;

/// Bytes of the target that a tile has side by side, if it can.
pub(super) const TILE_WIDTH_BYTES: usize = 256;

/// Columns of fewer bytes come from two loops.
const SHORT_COLUMNS_BYTES: usize = 16 * TILE_WIDTH_BYTES;

impl CopyPlan {
    /// Plans the copy of elements of `itemsize` bytes. The strides are in elements.
    ///
    /// The shape has elements, their offsets in bytes fit an `isize`, and no two of them share a
    /// byte of the target.
    #[inline]
    pub(super) fn new(shape: &[i64], from: &[i64], to: &[i64], itemsize: usize) -> Self {
        let item = itemsize as isize;
        // The largest power of two that divides the size, up to 16.
        let unit = 1 << itemsize.trailing_zeros().min(4);
        let mut plan = Self { loops: SmallVec::new(), kernel: Kernel::Runs, run: unit, unit, from: 0, to: 0 };
        for ((&size, &from), &to) in shape.iter().zip(from).zip(to) {
            if size != 1 {
                plan.push(Loop { count: size as usize, from: from as isize * item, to: to as isize * item });
            }
        }
        if unit != itemsize {
            plan.push(Loop { count: itemsize / unit, from: unit as isize, to: unit as isize });
        }
        plan.fuse();
        plan.choose();
        plan
    }

    /// The loops around the kernel, outermost first, and the kernel's own.
    pub(super) fn loops(&self) -> (&[Loop], &[Loop]) {
        self.loops.split_at(self.loops.len() - self.kernel.depth())
    }

    /// Bytes that are written.
    pub(super) fn bytes(&self) -> usize {
        self.loops.iter().map(|dim| dim.count).product::<usize>() * self.run
    }

    /// Adds a loop in its place: by the steps of the target, the longest outside. They become
    /// positive.
    fn push(&mut self, mut dim: Loop) {
        if dim.to < 0 {
            dim = self.flipped(dim);
        }
        let place = self.loops.iter().rposition(|other| other.to >= dim.to).map_or(0, |place| place + 1);
        self.loops.insert(place, dim);
    }

    /// The same loop from its other end.
    fn flipped(&mut self, dim: Loop) -> Loop {
        let last = dim.count as isize - 1;
        self.from += last * dim.from;
        self.to += last * dim.to;
        Loop { count: dim.count, from: -dim.from, to: -dim.to }
    }

    /// Makes one loop of those that step on both sides as if they were one, and takes what follows
    /// each other on both sides as one run.
    fn fuse(&mut self) {
        self.loops.dedup_by(|inner, outer| {
            let steps = |step: isize| step.checked_mul(inner.count as isize);
            let one = steps(inner.from) == Some(outer.from) && steps(inner.to) == Some(outer.to);
            if one {
                *outer = Loop { count: outer.count * inner.count, ..*inner };
            }
            one
        });
        let unit = self.unit as isize;
        if let Some(&run) = self.loops.last()
            && (run.from, run.to) == (unit, unit)
        {
            self.loops.pop();
            self.run *= run.count;
            self.unit = 1 << self.run.trailing_zeros().min(4);
        }
    }

    /// Chooses the kernel, and moves its loops to the end.
    fn choose(&mut self) {
        let Some(&inner) = self.loops.last() else { return };
        let side_by_side = inner.to == self.run as isize;
        let units = self.run == self.unit;
        if self.run >= LONG_RUN_BYTES || !(side_by_side || units) {
            return;
        }
        self.loops.pop();
        let rows = if units { self.take_closer(inner) } else { None };
        self.kernel = match (side_by_side, rows) {
            (true, None) => {
                self.loops.push(inner);
                Kernel::StridedLoad
            }
            (true, Some(rows)) if self.is_small_matrix(rows, inner) => {
                self.loops.extend([rows, inner]);
                Kernel::BatchedTranspose
            }
            (true, Some(rows)) => {
                let blocks = self.take_next(inner).unwrap_or(Loop::ONCE);
                self.loops.extend([rows, blocks, inner]);
                Kernel::TiledTranspose
            }
            (false, rows) => {
                self.loops.extend([rows.unwrap_or(Loop::ONCE), inner]);
                Kernel::StridedStore
            }
        };
    }

    /// Takes out the loop whose elements are closest together in the source, if they are closer than
    /// those of `columns`.
    fn take_closer(&mut self, columns: Loop) -> Option<Loop> {
        let distance = |dim: &Loop| dim.from.unsigned_abs();
        let places = 0..self.loops.len();
        let closest = places
            .filter(|&place| self.loops[place].from != 0)
            .min_by_key(|&place| distance(&self.loops[place]))?;
        if distance(&self.loops[closest]) >= distance(&columns) {
            return None;
        }
        let rows = self.loops.remove(closest);
        Some(if rows.from < 0 { self.flipped(rows) } else { rows })
    }

    /// Whether the loop outside steps from one small matrix to the next on both sides.
    fn is_small_matrix(&self, rows: Loop, columns: Loop) -> bool {
        let bytes = rows.count * columns.count * self.unit;
        let step = bytes as isize;
        let whole = rows.from == self.unit as isize
            && columns.from == (rows.count * self.unit) as isize
            && rows.to == (columns.count * self.unit) as isize;
        // Where vectors of rows and columns fit, tiles are as good.
        let small = rows.count.min(columns.count) < (VECTOR_BYTES / self.unit).max(4) && bytes <= 256;
        let next = self.loops.last().is_some_and(|next| (next.from, next.to) == (step, step));
        whole && small && next
    }

    /// Takes out the loop that continues `columns` in the target, where these are short.
    fn take_next(&mut self, columns: Loop) -> Option<Loop> {
        let bytes = columns.count * self.run;
        let next = *self.loops.last()?;
        (bytes < SHORT_COLUMNS_BYTES && next.to == bytes as isize).then(|| self.loops.pop())?
    }

    /// Two plans that do the work of one; or the plan itself where its loops are too short to be cut.
    ///
    /// They are cut after whole lines of the target, counted from the first element. Where it does not
    /// begin on a line, or loops outside the cut one do not step by whole lines, the two write to
    /// different bytes of the lines at the cuts.
    #[cfg(any(feature = "parallel", test))]
    pub(super) fn split(mut self) -> Result<(Self, Self), Self> {
        let kernels = self.loops.len() - self.kernel.depth();
        // Blocks are of whole columns, and matrices are whole.
        let whole = match (self.kernel, &self.loops[..]) {
            (Kernel::TiledTranspose, [.., blocks, _]) => usize::from(blocks.count > 1),
            (Kernel::BatchedTranspose, _) => 2,
            _ => 0,
        };
        let loops = &self.loops[..self.loops.len() - whole];
        let cut = loops.iter().enumerate().find_map(|(place, dim)| {
            let granule = if place < kernels { dim.line() } else { dim.line().max(CACHE_LINE_BYTES) };
            let first = (dim.count / 2).next_multiple_of(granule);
            (0 < first && first < dim.count).then_some((place, first))
        });
        let mut rest = self.clone();
        if let Some((place, first)) = cut {
            let dim = self.loops[place];
            self.loops[place].count = first;
            rest.loops[place].count -= first;
            rest.from += first as isize * dim.from;
            rest.to += first as isize * dim.to;
            return Ok((self, rest));
        }
        let first = (self.run / 2).next_multiple_of(CACHE_LINE_BYTES);
        if self.kernel != Kernel::Runs || first == 0 || first >= self.run {
            return Err(self);
        }
        self.run = first;
        rest.run -= first;
        rest.from += first as isize;
        rest.to += first as isize;
        Ok((self, rest))
    }
}
