//! Transposes of squares of units in vector registers, for every kind of register that has the
//! methods of [`Register`].

use super::interface::Tile;
use super::portable::copy_tile;

/// A register of one or more lanes of 16 bytes.
///
/// # Safety
/// * Its methods are called only where the processor has the instructions.
pub(super) unsafe trait Register: Copy {
    /// A register of one lane.
    type Lane: Register;
    const LANES: usize;
    /// # Safety
    /// * As many bytes as the register has are readable.
    unsafe fn load(source: *const u8) -> Self;
    /// # Safety
    /// * 16 bytes are writable.
    unsafe fn store_lane(self, lane: usize, target: *mut u8);
    /// Units of `size` bytes from the lower halves of the lanes: those of `self` and of `other`
    /// alternate.
    fn zip_low(self, other: Self, size: usize) -> Self;
    /// The same from the upper half.
    fn zip_high(self, other: Self, size: usize) -> Self;
}

/// Copies a tile whose rows are contiguous in the source: squares of `N` columns and `N` rows, `N`
/// units to a lane, are transposed in registers.
///
/// # Safety
/// * As [`CopyTile`](super::interface::CopyTile) says, for units of the size of `T`; `N` of them
///   take 16 bytes.
#[inline(always)]
pub(super) unsafe fn transpose<T: Copy, R: Register, const N: usize>(tile: &Tile) {
    if tile.source_row_stride != size_of::<T>() as isize || tile.columns < N || tile.rows < N {
        // SAFETY: the caller guarantees what the called function requires.
        return unsafe { copy_tile::<T>(tile) };
    }
    let wide = N * R::LANES;
    let mut column = 0;
    loop {
        let mut row = 0;
        while row + wide <= tile.rows {
            // SAFETY: the loop conditions leave `wide` rows from `row` and `N` columns from
            // `column`.
            unsafe { squares::<T, R, N>(tile, column, row) };
            row += wide;
        }
        while row < tile.rows {
            // SAFETY: the tile has at least `N` rows, so the last `N` begin at `rows - N`. Some of
            // them may be written a second time, with the same bytes.
            unsafe { squares::<T, R::Lane, N>(tile, column, row.min(tile.rows - N)) };
            row += N;
        }
        if column + N >= tile.columns {
            return;
        }
        column = (column + N).min(tile.columns - N);
    }
}

/// # Safety
/// * As for [`transpose`]; from `column` on there are `N` columns, from `row` on `N` rows for each
///   lane of the register.
#[inline(always)]
unsafe fn squares<T: Copy, R: Register, const N: usize>(tile: &Tile, column: usize, row: usize) {
    let size = size_of::<T>();
    // SAFETY: the first unit of a column of the tile; the caller says that `column` exists.
    let source = unsafe { tile.source.offset(column as isize * tile.source_column_stride) };
    // SAFETY: a unit of that column, in which rows are contiguous; the caller says that `row`
    // exists.
    let source = unsafe { source.add(row * size) };
    // SAFETY: the first unit of a row of the target.
    let target = unsafe { tile.target.offset(row as isize * tile.target_row_stride) };
    // SAFETY: the same unit in the target, where columns are contiguous.
    let target = unsafe { target.add(column * size) };
    // Plain loops: closures would not be compiled for the instructions of the register.
    // SAFETY: the first of `N` columns; its rows are contiguous, and the caller says that there are
    // enough for the register.
    let mut units = [unsafe { R::load(source) }; N];
    for (column, unit) in units.iter_mut().enumerate() {
        // SAFETY: the address of another of these `N` columns.
        let source = unsafe { source.offset(column as isize * tile.source_column_stride) };
        // SAFETY: as for the first of them.
        *unit = unsafe { R::load(source) };
    }
    let units = exchange(units, size);
    for (index, unit) in units.into_iter().enumerate() {
        for lane in 0..R::LANES {
            let row = (lane * N + index) as isize;
            // SAFETY: the address of one of the rows that the caller says exist.
            let target = unsafe { target.offset(row * tile.target_row_stride) };
            // SAFETY: the `N` columns of that row are contiguous, and take 16 bytes.
            unsafe { unit.store_lane(lane, target) };
        }
    }
}

/// Exchanges rows and columns of `N` units of `size` bytes in each lane of `N` registers.
#[inline(always)]
pub(super) fn exchange<R: Register, const N: usize>(mut units: [R; N], size: usize) -> [R; N] {
    // Each round zips register `index` with register `index + N / 2`: their units alternate in the
    // results. After log2(N) rounds rows and columns are exchanged. For N = 4, with the columns
    // a, b, c and d of the source:
    //
    //     a0 a1 a2 a3    zip a, c    a0 c0 a1 c1    zip registers    a0 b0 c0 d0
    //     b0 b1 b2 b3    zip b, d    a2 c2 a3 c3    0, 2 and 1, 3    a1 b1 c1 d1
    //     c0 c1 c2 c3                b0 d0 b1 d1                     a2 b2 c2 d2
    //     d0 d1 d2 d3                b2 d2 b3 d3                     a3 b3 c3 d3
    for _ in 0..N.trailing_zeros() {
        let before = units;
        for index in 0..N / 2 {
            units[2 * index] = before[index].zip_low(before[index + N / 2], size);
            units[2 * index + 1] = before[index].zip_high(before[index + N / 2], size);
        }
    }
    units
}
