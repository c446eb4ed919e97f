//! Copies and transposes with non-temporal stores, which bypass the caches, for every kind of
//! register of x86-64.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "addresses of one register, and its instructions"
)]

use std::arch::x86_64::*;

use super::columns::{Columns, ComingLines};
use super::interface::{LineTile, Tile};
use super::prefetches::prefetch_next;
use super::squares::{Register, exchange};
use crate::copy::sizes::{CACHE_LINE_BYTES, PREFETCH_AHEAD_BYTES, VECTOR_BYTES};

/// A register that can be stored past the caches.
///
/// # Safety
/// * Its methods are called only where the processor has the instructions.
pub(super) unsafe trait Streamed: Register {
    /// # Safety
    /// * As many bytes as the register has are writable, and aligned to that number.
    unsafe fn stream(self, target: *mut u8);
    /// # Safety
    /// * As many bytes as the register has are writable.
    unsafe fn store(self, target: *mut u8);
    /// Loads each lane from another place, `distance` bytes after the one before.
    ///
    /// # Safety
    /// * 16 bytes are readable for each lane.
    unsafe fn load_lanes(source: *const u8, distance: usize) -> Self;
}

/// A register of the size of a cache line, which can be joined with another one.
///
/// # Safety
/// * Its method is called only where the processor has the instructions.
pub(super) unsafe trait Joined: Streamed {
    /// As many bytes as a register has, from byte `begin` of the two registers on.
    fn join(self, next: Self, begin: usize) -> Self;
}

/// # Safety
/// * As [`Stores::copy`](super::interface::Stores::copy) says; the processor has the instructions
///   of the register.
#[inline(always)]
pub(super) unsafe fn copy_nontemporal<R: Streamed>(
    source: *const u8,
    target: *mut u8,
    bytes: usize,
) {
    let head = target.align_offset(CACHE_LINE_BYTES).min(bytes);
    let lines = (bytes - head) / CACHE_LINE_BYTES;
    // Most calls have whole lines only, and a call of memcpy for no bytes takes time, too.
    if head > 0 {
        // SAFETY: `head` is at most `bytes`, which the caller says are readable and writable.
        unsafe { source.copy_to_nonoverlapping(target, head) };
    }
    let ahead = lines.saturating_sub(PREFETCH_AHEAD_BYTES / CACHE_LINE_BYTES);
    for line in 0..lines {
        let offset = head + line * CACHE_LINE_BYTES;
        if line < ahead {
            prefetch_next(source.wrapping_add(offset + PREFETCH_AHEAD_BYTES));
        }
        // SAFETY: one of the whole lines among the caller's `bytes`; `head` aligns it in the
        // target.
        unsafe { store_line::<R>(source.add(offset), target.add(offset)) };
    }
    let done = head + lines * CACHE_LINE_BYTES;
    if done < bytes {
        // SAFETY: the rest of the caller's `bytes`, after the last whole line.
        unsafe { source.add(done).copy_to_nonoverlapping(target.add(done), bytes - done) };
    }
}

/// # Safety
/// * A cache line is readable at `source` and writable at `target`, which is aligned to a line. The
///   processor has the instructions of the register.
#[inline(always)]
unsafe fn store_line<R: Streamed>(source: *const u8, target: *mut u8) {
    for offset in (0..CACHE_LINE_BYTES).step_by(size_of::<R>()) {
        // SAFETY: a register's bytes of the line that the caller says is readable.
        let bytes = unsafe { R::load(source.add(offset)) };
        // SAFETY: as many bytes of the line that the caller says is writable, aligned to them.
        unsafe { bytes.stream(target.add(offset)) };
    }
}

pub(super) fn fence() {
    // SAFETY: SSE is part of x86-64.
    unsafe { _mm_sfence() };
}

/// The first pass prefetches one of this number of shares of the coming lines, the second pass the
/// others.
const PREFETCH_SHARES: usize = 3;

/// Transposes a tile of whole cache lines in two passes. `N` units take a lane of 16 bytes.
///
/// The first pass reads squares of `N` columns and as many rows as a register has units, exchanges
/// rows and columns in each lane, and writes the `N` registers to the buffer, one after the other.
/// The second pass puts registers of the target together from lanes of squares that are side by
/// side. Both passes prefetch coming lines: some after each `N` columns of this tile, and some
/// before each of its rows.
///
/// ```text
///   buffer, N = 4, two lanes: a4 is a unit of row 4 of square a
///
///     square a: register 0   a0 a0 a0 a0 | a4 a4 a4 a4     the lanes are parts of rows 0 and 4
///               register 1   a1 a1 a1 a1 | a5 a5 a5 a5
///               ...
///     square b: register 0   b0 b0 b0 b0 | b4 b4 b4 b4
///               ...
///   target:
///     row 0                  a0 a0 a0 a0   b0 b0 b0 b0
/// ```
///
/// # Safety
/// * As [`TransposeLines`](super::interface::TransposeLines) says, for units of the size of `T`.
#[inline(always)]
pub(super) unsafe fn transpose_lines<T: Copy, R: Streamed, const N: usize>(tile: &LineTile) {
    let mut coming = ComingLines::of(tile);
    // SAFETY: the caller guarantees what the called function requires.
    unsafe { fill_squares::<T, R, N>(tile, &mut coming) };
    let width = tile.columns * size_of::<T>();
    let lines = coming.left;
    for row in 0..tile.rows {
        coming.prefetch_share(lines, tile.rows);
        for column in (0..width).step_by(size_of::<R>()) {
            // SAFETY: lanes of squares that were just written; the caller says that the row is
            // writable, and that it begins on a cache line.
            unsafe {
                let target = tile.target.offset(row as isize * tile.target_row_stride).add(column);
                load_line::<R, N>(tile, width, row, column).stream(target);
            }
        }
    }
}

/// The same for a tile whose rows begin within cache lines of the target, each at a distance of
/// its own. Of the first cache line of columns in the buffer, only the end is written, from the
/// first whole line of the target on; and of the last cache line only the beginning:
///
/// ```text
///   columns in the buffer    |---------|---------|---------|
///   lines of the target      ...|xxxxxxxxx|xxxxxxxxx|......      written: the bytes x
/// ```
///
/// # Safety
/// * As [`TransposeLines`](super::interface::TransposeLines) says, for units of the size of `T`,
///   but rows begin anywhere, and of a row only the whole lines of the target are writable that
///   begin after the first byte of the row and end in it.
#[inline(always)]
pub(super) unsafe fn transpose_shifted_lines<T: Copy, R: Joined, const N: usize>(tile: &LineTile) {
    let mut coming = ComingLines::of(tile);
    // SAFETY: the caller guarantees what the called function requires.
    unsafe { fill_squares::<T, R, N>(tile, &mut coming) };
    let width = tile.columns * size_of::<T>();
    let lines = coming.left;
    for row in 0..tile.rows {
        coming.prefetch_share(lines, tile.rows);
        let target = tile.target.wrapping_offset(row as isize * tile.target_row_stride);
        let shift = target.addr() % CACHE_LINE_BYTES;
        // SAFETY: lanes of squares that were just written.
        let mut line = unsafe { load_line::<R, N>(tile, width, row, 0) };
        for column in (CACHE_LINE_BYTES..width).step_by(CACHE_LINE_BYTES) {
            // SAFETY: as for the first line. Two lines have the bytes of a line of the target,
            // which begins `shift` bytes before `column`, and which the caller says is writable.
            unsafe {
                let next = load_line::<R, N>(tile, width, row, column);
                let target = target.wrapping_add(column).wrapping_sub(shift);
                line.join(next, CACHE_LINE_BYTES - shift).stream(target);
                line = next;
            }
        }
    }
}

/// The same for a tile whose rows follow each other in the target: the last bytes of a row and the
/// first ones of the next row make a line.
///
/// ```text
///   rows in the buffer      |aaaaaaaaa|aaaaaaaaa|bbbbbbbbb|bbbbbbbbb|
///   lines of the target        |         |         |         |
///                           head                             rest
/// ```
///
/// # Safety
/// * As [`TransposeLines`](super::interface::TransposeLines) says, for units of the size of `T`,
///   but the first row begins anywhere, and each row begins where the one before it ends.
#[inline(always)]
pub(super) unsafe fn transpose_following_lines<T: Copy, R: Joined, const N: usize>(
    tile: &LineTile,
) {
    let mut coming = ComingLines::of(tile);
    // SAFETY: the caller guarantees what the called function requires.
    unsafe { fill_squares::<T, R, N>(tile, &mut coming) };
    let width = tile.columns * size_of::<T>();
    let lines = coming.left;
    let rest = tile.target.addr() % CACHE_LINE_BYTES;
    let head = CACHE_LINE_BYTES - rest;
    let mut last = [0; CACHE_LINE_BYTES];
    // SAFETY: lanes of a square that was just written; the array has the bytes of a line, which is
    // a register.
    let mut line = unsafe {
        let line = load_line::<R, N>(tile, width, 0, 0);
        line.store(last.as_mut_ptr());
        line
    };
    // SAFETY: the first row begins with these bytes, at most a line.
    unsafe { last.as_ptr().copy_to_nonoverlapping(tile.target, head) };
    for row in 0..tile.rows {
        coming.prefetch_share(lines, tile.rows);
        let first = if row == 0 { CACHE_LINE_BYTES } else { 0 };
        for column in (first..width).step_by(CACHE_LINE_BYTES) {
            // SAFETY: lanes of squares that were just written. The bytes of the line before these
            // that are not written yet, and the first ones of these, make a line of the target,
            // `rest` bytes before them, which the caller says is writable.
            unsafe {
                let next = load_line::<R, N>(tile, width, row, column);
                let target = tile.target.add(row * width + column).sub(rest);
                line.join(next, head).stream(target);
                line = next;
            }
        }
    }
    // SAFETY: the array has the bytes of a register.
    unsafe { line.store(last.as_mut_ptr()) };
    let end = tile.target.wrapping_add(tile.rows * width);
    // SAFETY: the last `rest` bytes of the last line, which are the last ones of the last row.
    unsafe { last[head..].as_ptr().copy_to_nonoverlapping(end.wrapping_sub(rest), rest) };
}

/// Loads a register of a row from the squares in the buffer.
///
/// # Safety
/// * The buffer has the squares of rows of `width` bytes, `row` among them, which has a register's
///   bytes from `column` (bytes) on. The processor has the instructions.
#[inline(always)]
unsafe fn load_line<R: Streamed, const N: usize>(
    tile: &LineTile,
    width: usize,
    row: usize,
    column: usize,
) -> R {
    let square_rows = N * R::LANES;
    let square_bytes = N * size_of::<R>();
    let square = row / square_rows * (width / VECTOR_BYTES) + column / VECTOR_BYTES;
    let in_square = row % N * size_of::<R>() + row % square_rows / N * VECTOR_BYTES;
    // SAFETY: the caller says that the squares are in the buffer.
    unsafe { R::load_lanes(tile.buffer.add(square * square_bytes + in_square), square_bytes) }
}

/// Transposes the squares of a tile into the buffer, and prefetches a share of the coming lines.
///
/// # Safety
/// * The tile is readable, and has whole squares; the buffer is writable. The processor has the
///   instructions.
#[inline(always)]
unsafe fn fill_squares<T: Copy, R: Streamed, const N: usize>(
    tile: &LineTile,
    coming: &mut ComingLines,
) {
    let square_bytes = N * size_of::<R>();
    let square_rows = N * R::LANES;
    let bands = tile.rows / square_rows;
    let squares_per_band = tile.columns / N;
    let stride = tile.source_columns.column_stride;
    let lines = coming.left / PREFETCH_SHARES;
    let mut columns = Columns::new(tile.source, tile.source_columns, tile.first_column);
    for square in 0..squares_per_band {
        let at = |band: usize| {
            let buffer =
                tile.buffer.wrapping_add((band * squares_per_band + square) * square_bytes);
            (band * square_rows * size_of::<T>(), buffer)
        };
        if columns.left >= N {
            let (first, _) = columns.take(N);
            for band in 0..bands {
                let (row, buffer) = at(band);
                let column = |index| first.wrapping_offset(index as isize * stride + row as isize);
                // SAFETY: the caller says that these columns and rows are readable, and that the
                // buffer has room for as many squares as the tile has.
                unsafe { load_square::<T, R, N>(column, buffer) };
            }
        } else {
            let firsts: [_; N] = std::array::from_fn(|_| columns.take(1).0);
            for band in 0..bands {
                let (row, buffer) = at(band);
                // SAFETY: as for columns of one group.
                unsafe { load_square::<T, R, N>(|index| firsts[index].wrapping_add(row), buffer) };
            }
        }
        coming.prefetch_share(lines, squares_per_band);
    }
}

/// Exchanges rows and columns of a square in each lane. `column` says where the first row of a
/// column is.
///
/// # Safety
/// * A register is readable at each of `N` columns, and as many registers are writable at `target`.
///   The processor has the instructions.
#[inline(always)]
unsafe fn load_square<T, R: Streamed, const N: usize>(
    column: impl Fn(usize) -> *const u8,
    target: *mut u8,
) {
    // SAFETY: the caller's columns.
    let units: [R; N] = std::array::from_fn(|index| unsafe { R::load(column(index)) });
    for (index, unit) in exchange(units, size_of::<T>()).into_iter().enumerate() {
        // SAFETY: the caller says that `N` registers are writable.
        unsafe { unit.store(target.add(index * size_of::<R>())) };
    }
}

/// Transposes matrices that follow each other on both sides. `N` units take a lane of 16 bytes.
///
/// `N` registers of the target are made at once. Each lane of a register is loaded from another
/// column, `N` columns after the one before it, and then rows and columns are exchanged in each
/// lane:
///
/// ```text
///   N = 2, four lanes: a0 is a unit of row 0 of column a
///
///     loaded   register 0   a0 a1 | c0 c1 | e0 e1 | g0 g1
///              register 1   b0 b1 | d0 d1 | f0 f1 | h0 h1
///     target   row 0        a0 b0   c0 d0   e0 f0   g0 h0
///              row 1        a1 b1   c1 d1   e1 f1   g1 h1
/// ```
///
/// # Safety
/// * As [`TransposeMatrices`](super::interface::TransposeMatrices) says, for units of the size of
///   `T`.
#[inline(always)]
pub(super) unsafe fn transpose_matrices<T: Copy, R: Streamed, const N: usize>(
    first: &Tile,
    count: usize,
) {
    let row_bytes = first.columns * size_of::<T>();
    let column_bytes = first.rows * size_of::<T>();
    let matrix_bytes = first.columns * column_bytes;
    for matrix in 0..count {
        // SAFETY: `matrix` is below `count`: the caller says that the matrices are readable and
        // writable, and that they follow each other.
        let (source, target) = unsafe {
            (first.source.add(matrix * matrix_bytes), first.target.add(matrix * matrix_bytes))
        };
        for row in (0..first.rows).step_by(N) {
            for byte in (0..row_bytes).step_by(size_of::<R>()) {
                let column = byte / size_of::<T>();
                // As much as is copied here, so that loads and stores share the memory evenly.
                let ahead = row * row_bytes + byte * N + PREFETCH_AHEAD_BYTES;
                for line in (0..N * size_of::<R>()).step_by(CACHE_LINE_BYTES) {
                    prefetch_next(source.wrapping_add(ahead + line));
                }
                // SAFETY: the caller says that the units of a column fill whole lanes, and that
                // those of a row are whole cache lines, and begin on them. So there are `N` rows
                // and a register's columns from here on.
                unsafe {
                    let source = source.add(column * column_bytes + row * size_of::<T>());
                    let target = target.add(row * row_bytes + byte);
                    transpose_lanes::<T, R, N>(source, column_bytes, target, row_bytes);
                }
            }
        }
    }
}

/// Transposes `N` rows of the target, and as many columns as a register has units.
///
/// # Safety
/// * For each of the columns, which are `column_bytes` apart, 16 bytes are readable. For each of
///   the rows, which are `row_bytes` apart, a register is writable, and aligned to its size. The
///   processor has the instructions.
#[inline(always)]
unsafe fn transpose_lanes<T, R: Streamed, const N: usize>(
    source: *const u8,
    column_bytes: usize,
    target: *mut u8,
    row_bytes: usize,
) {
    // SAFETY: each `N`th of the caller's columns.
    let mut units = [unsafe { R::load_lanes(source, N * column_bytes) }; N];
    for (column, unit) in units.iter_mut().enumerate() {
        // SAFETY: the same of the columns after them.
        *unit = unsafe { R::load_lanes(source.add(column * column_bytes), N * column_bytes) };
    }
    for (row, unit) in exchange(units, size_of::<T>()).into_iter().enumerate() {
        // SAFETY: one of the caller's rows.
        unsafe { unit.stream(target.add(row * row_bytes)) };
    }
}
