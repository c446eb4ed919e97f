//! The functions that the copy engine needs of a processor: one table of them for each set of
//! instructions.

#![forbid(unsafe_code)]

use crate::copy::endpoints::Endpoints;
use crate::copy::shuffle_plan::ShufflePlan;
use crate::layout::paired::PairedOffset;

/// A rectangle of units. In the target, columns lie side by side. Strides are in bytes.
#[derive(Clone, Copy)]
pub(in crate::copy) struct Tile {
    pub(in crate::copy) source: *const u8,
    pub(in crate::copy) target: *mut u8,
    pub(in crate::copy) columns: usize,
    pub(in crate::copy) rows: usize,
    pub(in crate::copy) source_column_stride: isize,
    pub(in crate::copy) source_row_stride: isize,
    pub(in crate::copy) target_row_stride: isize,
}

/// How the columns of a matrix lie in the source: in groups of `columns`, and in outer groups of
/// `groups` groups. Strides are in bytes.
#[derive(Clone, Copy)]
pub(in crate::copy) struct ColumnGroups {
    pub(in crate::copy) columns: usize,
    pub(in crate::copy) groups: usize,
    pub(in crate::copy) column_stride: isize,
    pub(in crate::copy) group_stride: isize,
    pub(in crate::copy) outer_group_stride: isize,
}

impl ColumnGroups {
    /// Offset of a column from the first one.
    pub(in crate::copy) fn offset(&self, column: usize) -> isize {
        let (group, in_group) = (column / self.columns, column % self.columns);
        let (outer, in_outer) = (group / self.groups, group % self.groups);
        outer as isize * self.outer_group_stride
            + in_outer as isize * self.group_stride
            + in_group as isize * self.column_stride
    }
}

/// A tile with as many bytes as whole cache lines have, on both sides: in the source, the rows of
/// each column; in the target, the columns of each row. Strides are in bytes.
#[cfg_attr(
    any(miri, not(target_arch = "x86_64")),
    allow(dead_code, reason = "non-temporal stores read it, which only x86-64 has")
)]
pub(in crate::copy) struct LineTile {
    /// Where the first of the rows begins, in column 0 of the matrix.
    pub(in crate::copy) source: *const u8,
    pub(in crate::copy) source_columns: ColumnGroups,
    /// Where the tile begins.
    pub(in crate::copy) target: *mut u8,
    pub(in crate::copy) target_row_stride: isize,
    pub(in crate::copy) first_column: usize,
    pub(in crate::copy) columns: usize,
    pub(in crate::copy) rows: usize,
    /// Memory for as many bytes as the tile has.
    pub(in crate::copy) buffer: *mut u8,
    pub(in crate::copy) coming: Coming,
}

/// Columns that are read later, and prefetched while a tile is transposed. Any address is allowed.
#[derive(Clone, Copy)]
pub(in crate::copy) struct Coming {
    /// Where the first of their rows begins, in column 0 of the matrix.
    pub(in crate::copy) source: *const u8,
    pub(in crate::copy) first_column: usize,
    pub(in crate::copy) columns: usize,
    /// Bytes of each column.
    pub(in crate::copy) column_bytes: usize,
}

/// Transposes a tile of whole cache lines, and prefetches the coming columns.
///
/// # Safety
/// * Every unit of the tile is readable in the source and writable in the target, and no byte is
///   both. Rows are one unit apart in the source.
/// * The bytes of a column, and those of a row, are a multiple of a cache line. Every row of the
///   target begins on a cache line.
/// * `buffer` is writable, and nothing else uses it. The processor has the instructions.
pub(in crate::copy) type TransposeLines = unsafe fn(tile: &LineTile);

/// Transposes `count` matrices that follow each other on both sides, with non-temporal stores. The
/// first of them is `first`.
///
/// # Safety
/// * Every unit of the matrices is readable in the source and writable in the target, and no byte
///   is both. On both sides, a matrix has no gaps, and none between matrices.
/// * The rows of the target are whole cache lines, and begin on them. The bytes of a column of the
///   source are a multiple of 16. The processor has the instructions.
pub(in crate::copy) type TransposeMatrices = unsafe fn(first: &Tile, count: usize);

/// Loads `count` units that are `stride` bytes apart, and writes them side by side.
///
/// # Safety
/// * `count` units are readable from `source` on, `stride` bytes apart, and as many writable from
///   `target` on, side by side; no byte is both. The processor has the instructions.
pub(in crate::copy) type StridedLoad =
    unsafe fn(source: *const u8, stride: isize, target: *mut u8, count: usize);

/// Loads units of `unit` bytes that are not side by side, and writes `lines` cache lines of them
/// with non-temporal stores.
///
/// # Safety
/// * The units of these lines are readable from `ends.source` on, at the distance that the function
///   is for, and writable from `ends.target` on, side by side; no byte is both.
/// * `unit` is 1, 2, 4, 8 or 16. `ends.target` is where a cache line begins. The processor has the
///   instructions.
pub(in crate::copy) type LoadLines = unsafe fn(ends: Endpoints, unit: usize, lines: usize);

/// Runs of equal length at equal distances, each of which is contiguous on both sides. They follow
/// each other in the target if `target_step` is `run`, or else each of them follows another run.
/// Distances are in bytes.
#[cfg_attr(any(miri, not(target_arch = "x86_64")), allow(dead_code, reason = "AVX-512 only"))]
pub(in crate::copy) struct JoinedRuns {
    /// Where the first run is.
    pub(in crate::copy) ends: Endpoints,
    /// Bytes of a run: a cache line or more.
    pub(in crate::copy) run: usize,
    pub(in crate::copy) count: usize,
    pub(in crate::copy) source_step: isize,
    pub(in crate::copy) target_step: isize,
    /// Distance in the source from a run to the one that it follows in the target, if that is not
    /// one of these; `None` if there is none.
    pub(in crate::copy) before: Option<isize>,
    /// Whether no run follows these in the target, or the last of these if they follow each other.
    pub(in crate::copy) are_last: bool,
}

/// Copies runs with non-temporal stores of whole cache lines. A line that begins with the end of
/// the run before is written with the run after it. Only the first bytes of a run that follows
/// none, and the last bytes of one that none follows, are written with ordinary stores.
///
/// # Safety
/// * The runs are readable and writable, and so are those that they follow; no byte is both. All
///   is as the fields say. The processor has the instructions.
pub(in crate::copy) type JoinRuns = unsafe fn(runs: &JoinedRuns);

/// Copies a tile.
///
/// # Safety
/// * Every unit of the tile is readable in the source and writable in the target, and no byte is
///   both. The processor has the instructions.
pub(in crate::copy) type CopyTile = unsafe fn(tile: &Tile);

/// Runs a shuffle plan `turns` times. The rows of the target are `pitch` bytes apart. The vectors
/// of the plan have 16 bytes, or [`Processor::shuffle_bytes`].
///
/// # Safety
/// * All that the plan names is readable from `source` on and writable from `target` on, for each
///   of the turns, and no byte is both. The processor has the instructions.
pub(in crate::copy) type Shuffle =
    unsafe fn(plan: &ShufflePlan, source: *const u8, target: *mut u8, pitch: isize, turns: usize);

/// Runs a shuffle plan `turns` times with non-temporal stores. The vectors of the plan are as long
/// as a cache line. Rows of the target are `pitch` bytes apart. The turns of each row begin after
/// its head, whose bytes on both sides are in `heads`.
///
/// # Safety
/// * All that the plan names is readable from `ends.source` on and writable from `ends.target` on,
///   for each of the turns after the heads, and no byte is both. There is a head for each row of
///   the plan, after which a cache line of the target begins. The processor has the instructions.
pub(in crate::copy) type ShuffleLines = unsafe fn(
    plan: &ShufflePlan,
    ends: Endpoints,
    pitch: isize,
    heads: &[PairedOffset],
    turns: usize,
);

/// Prefetches memory that will be read soon: `count` pieces of `bytes` each, which are `stride`
/// bytes apart. Any address is allowed.
///
/// If a piece begins within a cache line, that line is assumed to be in the cache.
pub(in crate::copy) type Prefetch =
    fn(source: *const u8, stride: isize, count: usize, bytes: usize);

/// Transposes to whole cache lines. The functions for units of 1, 2, 4, 8 and 16 bytes are indexed
/// by the logarithm of that size.
#[cfg_attr(
    any(miri, not(target_arch = "x86_64")),
    allow(dead_code, reason = "non-temporal stores have them, which only x86-64 has")
)]
pub(in crate::copy) struct LineTransposes {
    /// Of tiles of whole cache lines.
    pub(in crate::copy) tiles: [TransposeLines; 5],
    /// Of small matrices.
    pub(in crate::copy) matrices: [TransposeMatrices; 5],
}

/// What needs shuffles of all bytes of a cache line.
#[cfg_attr(any(miri, not(target_arch = "x86_64")), allow(dead_code, reason = "AVX-512 only"))]
pub(in crate::copy) struct LineShuffles {
    /// As [`LineTransposes::tiles`], for tiles whose rows begin anywhere in cache lines of the
    /// target. Such a tile has a line of columns more than what is written of each row: the whole
    /// lines of the target that begin after the first byte of the row and end in it. No other bytes
    /// need to be writable.
    pub(in crate::copy) shifted_tiles: [TransposeLines; 5],
    /// As [`LineTransposes::tiles`], for tiles whose rows follow each other in the target, are
    /// whole cache lines long, and begin anywhere in a line. The bytes before the first line and
    /// those after the last one are written with ordinary stores.
    pub(in crate::copy) following_tiles: [TransposeLines; 5],
    /// Runs shuffle plans.
    pub(in crate::copy) run: ShuffleLines,
    /// Loads every second unit.
    pub(in crate::copy) load_every_second: LoadLines,
    /// Loads units in reversed order, each `unit` bytes before the one before it.
    pub(in crate::copy) load_reversed: LoadLines,
}

/// How contiguous pieces of the target are written.
pub(in crate::copy) struct Stores {
    /// Copies `bytes`. No other thread may rely on them before the `fence`.
    ///
    /// # Safety
    /// * `bytes` are readable from `source` on and writable from `target` on, none of them both.
    ///   The processor has the instructions.
    pub(in crate::copy) copy: unsafe fn(source: *const u8, target: *mut u8, bytes: usize),
    /// `None` if the processor has no non-temporal stores: then rows in a buffer are as fast.
    pub(in crate::copy) transposes: Option<LineTransposes>,
    /// `None` if the processor has no such shuffles.
    pub(in crate::copy) shuffles: Option<LineShuffles>,
    /// Copies runs that follow each other in the target. `None` if the processor has no loads and
    /// stores with a mask of bytes.
    pub(in crate::copy) join_runs: Option<JoinRuns>,
    /// Orders these stores before all later ones of this thread.
    pub(in crate::copy) fence: fn(),
    /// Does nothing where prefetching does not pay.
    pub(in crate::copy) prefetch: Prefetch,
}

/// The functions for one set of instructions. Those for units of 1, 2, 4, 8 and 16 bytes are
/// indexed by the logarithm of that size.
pub(in crate::copy) struct Processor {
    pub(in crate::copy) strided_load: [StridedLoad; 5],
    pub(in crate::copy) copy_tile: [CopyTile; 5],
    /// `None` if no instruction shuffles the bytes of a vector.
    pub(in crate::copy) shuffle: Option<Shuffle>,
    /// Bytes of the longest vectors that `shuffle` takes, 16 or 64. It takes those of 16 in any
    /// case.
    pub(in crate::copy) shuffle_bytes: usize,
    /// Non-temporal stores, which bypass the caches and do not read the target's old content.
    /// `None` if the processor has none.
    pub(in crate::copy) nontemporal: Option<Stores>,
}
