//! Copies and transposes with non-temporal stores, which bypass the caches, for every kind of
//! register of x86-64.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "addresses of one register, and its instructions"
)]

use std::arch::x86_64::*;

use super::interface::LineTile;
use super::squares::{Register, exchange};
use crate::copy::sizes::{CACHE_LINE_BYTES, VECTOR_BYTES};

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

/// How far ahead (bytes) of a non-temporal copy its source is prefetched. The processor's own
/// prefetches end at each page of 4 KiB.
const PREFETCH_AHEAD_BYTES: usize = 2 << 10;

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

/// Prefetches a line into the first-level cache.
#[inline(always)]
fn prefetch_next(address: *const u8) {
    // SAFETY: a hint that never faults, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
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

/// As [`Prefetch`](super::interface::Prefetch) says.
pub(super) fn prefetch(source: *const u8, stride: isize, count: usize, bytes: usize) {
    for index in 0..count as isize {
        let piece = source.wrapping_offset(index * stride);
        for end in
            (CACHE_LINE_BYTES..=bytes.next_multiple_of(CACHE_LINE_BYTES)).step_by(CACHE_LINE_BYTES)
        {
            // SAFETY: a hint that never faults, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(piece.wrapping_add(end - 1).cast()) };
        }
    }
}

/// Transposes a tile of whole cache lines in two passes. `N` units take a lane of 16 bytes.
///
/// The first pass reads squares of `N` columns and as many rows as a register has units, exchanges
/// rows and columns in each lane, and writes the `N` registers to the buffer, one after the other.
/// The second pass puts registers of the target together from lanes of squares that are side by
/// side. Both passes prefetch the next tile: after each `N` columns the first half of the same
/// columns, and before each row a share of the others.
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
    // SAFETY: the caller guarantees what the called function requires.
    unsafe { fill_squares::<T, R, N>(tile) };
    let width = tile.groups * tile.columns * size_of::<T>();
    let mut coming = ComingColumns::<N>::of::<T>(tile);
    for row in 0..tile.rows {
        coming.prefetch_share();
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
    // SAFETY: the caller guarantees what the called function requires.
    unsafe { fill_squares::<T, R, N>(tile) };
    let width = tile.groups * tile.columns * size_of::<T>();
    let mut coming = ComingColumns::<N>::of::<T>(tile);
    for row in 0..tile.rows {
        coming.prefetch_share();
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

/// Transposes the squares of a tile into the buffer, and prefetches half of the next tile.
///
/// # Safety
/// * The tile is readable, and has whole squares; the buffer is writable. The processor has the
///   instructions.
#[inline(always)]
unsafe fn fill_squares<T: Copy, R: Streamed, const N: usize>(tile: &LineTile) {
    let square_bytes = N * size_of::<R>();
    let square_rows = N * R::LANES;
    let bands = tile.rows / square_rows;
    let squares_per_band = tile.groups * tile.columns / N;
    let mut square = 0;
    for group in 0..tile.groups as isize {
        for column in (0..tile.columns as isize).step_by(N) {
            let offset = group * tile.source_group_stride + column * tile.source_column_stride;
            for band in 0..bands {
                let index = band * squares_per_band + square;
                // SAFETY: the caller says that these columns and rows are readable, and that the
                // buffer has room for as many squares as the tile has.
                unsafe {
                    let source =
                        tile.source.offset(offset).add(band * square_rows * size_of::<T>());
                    let target = tile.buffer.add(index * square_bytes);
                    load_square::<T, R, N>(source, tile.source_column_stride, target);
                }
            }
            let next = tile.next_source.wrapping_offset(offset);
            let bytes = tile.next_rows * size_of::<T>();
            prefetch(next, tile.source_column_stride, N / 2, bytes);
            square += 1;
        }
    }
}

/// The columns of the next tile that are prefetched while the rows of a tile are written: the
/// second half of each `N` columns.
struct ComingColumns<'a, const N: usize> {
    tile: &'a LineTile,
    /// Bytes of a column.
    bytes: usize,
    group: usize,
    column: usize,
    /// How many columns are due, in parts of which twice the tile's rows make a column.
    due: usize,
}

impl<'a, const N: usize> ComingColumns<'a, N> {
    /// Those after `tile`, which has units of the size of `T`.
    #[inline(always)]
    fn of<T>(tile: &'a LineTile) -> Self {
        let bytes = tile.next_rows * size_of::<T>();
        Self { tile, bytes, group: 0, column: N / 2, due: 0 }
    }

    /// Prefetches the columns that belong to the next row of the tile.
    #[inline(always)]
    fn prefetch_share(&mut self) {
        let tile = self.tile;
        self.due += tile.groups * tile.columns;
        while self.due >= 2 * tile.rows {
            self.due -= 2 * tile.rows;
            let group = self.group as isize * tile.source_group_stride;
            let offset = group + self.column as isize * tile.source_column_stride;
            prefetch(tile.next_source.wrapping_offset(offset), 0, 1, self.bytes);
            self.column += 1;
            if self.column.is_multiple_of(N) {
                self.column += N / 2;
            }
            if self.column > tile.columns {
                (self.group, self.column) = (self.group + 1, N / 2);
            }
        }
    }
}

/// Exchanges rows and columns of a square in each lane.
///
/// # Safety
/// * `N` columns, `stride` bytes apart, are readable for a register, and as many registers are
///   writable. The processor has the instructions.
#[inline(always)]
unsafe fn load_square<T, R: Streamed, const N: usize>(
    source: *const u8,
    stride: isize,
    target: *mut u8,
) {
    // SAFETY: the first of the caller's columns.
    let mut units = [unsafe { R::load(source) }; N];
    for (column, unit) in units.iter_mut().enumerate() {
        // SAFETY: another of the caller's columns.
        *unit = unsafe { R::load(source.offset(column as isize * stride)) };
    }
    for (index, unit) in exchange(units, size_of::<T>()).into_iter().enumerate() {
        // SAFETY: the caller says that `N` registers are writable.
        unsafe { unit.store(target.add(index * size_of::<R>())) };
    }
}
