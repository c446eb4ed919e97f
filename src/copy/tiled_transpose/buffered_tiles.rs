//! Tiles that are transposed into the store buffer row by row, and short rows that are appended to
//! it.

use std::ops::Range;

use super::TiledTranspose;
use crate::copy::endpoints::Endpoints;
use crate::copy::pixel_shuffle::{PIXEL_MAX_BYTES, PixelShuffle};
use crate::copy::processor::{Coming, Processor, Stores};
use crate::copy::sizes::CACHE_LINE_BYTES;
use crate::copy::store_buffer::{APPEND_MAX_BYTES, Items, StoreBuffer};
use crate::copy::tile_grid::{ComingColumns, TileBounds, TileGrid, row_pitch};

/// Minimum height (cache lines of the source) of a part of a matrix for appending its rows to the
/// store buffer.
const APPENDED_LINES: usize = 4;

/// Maximum size (bytes) of rows that are no whole cache lines, for which one line of the source is
/// high enough: tiles of such rows share most of their lines with other tiles.
const APPENDED_ROW_MAX_BYTES: usize = 512;

/// A tile in the store buffer.
struct BufferedTile {
    bounds: TileBounds,
    /// Where its first unit is.
    address: *const u8,
    /// Bytes from row to row.
    pitch: usize,
}

impl TiledTranspose {
    /// Copies a tile: all of it to the buffer, and then its rows to the target.
    ///
    /// # Safety
    /// * The tile is one of `grid`. The matrix is readable from `ends.source` on and writable from
    ///   `ends.target` on, and no byte is both. The processor has the instructions.
    pub(super) unsafe fn copy_rows(
        &self,
        grid: &TileGrid,
        bounds: &TileBounds,
        ends: Endpoints,
        coming: &Coming,
        (processor, buffer): (&Processor, &mut StoreBuffer<'_>),
    ) {
        let stores = buffer.stores();
        self.prefetch_target(grid, bounds, ends.target, stores);
        let pitch = row_pitch(self.width(bounds));
        let address = buffer.scratch(bounds.rows * pitch);
        let into_buffer = Endpoints { source: ends.source, target: address };
        // SAFETY: the caller says that the matrix is readable; `scratch` gave room for the rows of
        // the tile, `pitch` bytes apart, which is at least the width of the tile.
        unsafe { self.copy_strips(bounds, into_buffer, pitch, coming, (processor, stores)) };
        let tile = BufferedTile { bounds: *bounds, address, pitch };
        // SAFETY: the tile was just copied to the buffer; the caller says that its units are
        // writable.
        unsafe { self.write_rows(grid, &tile, ends.target, stores) };
    }

    /// Whether rows are short and contiguous in the target, so that many of them are put into the
    /// store buffer at once.
    pub(super) fn appends_rows(&self) -> bool {
        let row = self.row_bytes();
        // A deinterleaving plan writes to all rows at once, so all of them must fit one part.
        // Otherwise a part has some lines of the source at least.
        let in_lines = row.is_multiple_of(CACHE_LINE_BYTES);
        let lines = if in_lines || row > APPENDED_ROW_MAX_BYTES { APPENDED_LINES } else { 1 };
        let rows = match self.shuffle {
            Some(PixelShuffle::Deinterleave(_)) => self.rows.count,
            _ => self.rows.count.min(lines * CACHE_LINE_BYTES / self.unit),
        };
        // The rows of an interleaving plan always pass.
        const { assert!(PIXEL_MAX_BYTES * APPENDED_LINES * CACHE_LINE_BYTES <= APPEND_MAX_BYTES) };
        self.rows.target == row as isize && row * rows <= APPEND_MAX_BYTES
    }

    /// Appends the rows of the matrix, which follow each other in the target, to the store buffer.
    ///
    /// # Safety
    /// * As for [`copy`](Self::copy), and rows are contiguous in the target.
    pub(super) unsafe fn append_rows(
        &self,
        ends: Endpoints,
        next_source: isize,
        processor: &Processor,
        buffer: &mut StoreBuffer<'_>,
    ) {
        let row_bytes = self.row_bytes();
        let stores = buffer.stores();
        let write = |rows: Range<usize>, target: *mut u8| {
            let tile = self.grid.tile_of_rows(rows.clone());
            let in_next_matrix = rows.end == self.rows.count;
            let first = if in_next_matrix { 0 } else { rows.end };
            let coming = ComingColumns {
                row: first,
                rows: rows.len().min(self.rows.count - first),
                columns: 0..tile.columns(),
                in_next_matrix,
            };
            let coming = self.coming(coming, ends.source, next_source);
            let ends = Endpoints { source: ends.source, target };
            // SAFETY: the caller says that the matrix is readable; the buffer has room for these
            // rows at `target`, one after the other.
            unsafe { self.copy_strips(&tile, ends, row_bytes, &coming, (processor, stores)) };
        };
        let rows = Items { count: self.rows.count, bytes: row_bytes };
        // SAFETY: `write` initializes whole rows; the caller says that the rows are writable in the
        // target, where they are contiguous.
        unsafe { buffer.append(ends.target, rows, APPEND_MAX_BYTES, write) };
    }

    /// Prefetches the cache lines of the target at the ends of the rows of a tile of which only a
    /// part is written: an ordinary store reads them.
    fn prefetch_target(
        &self,
        grid: &TileGrid,
        tile: &TileBounds,
        target: *mut u8,
        stores: &Stores,
    ) {
        let target = target.wrapping_offset(self.target_offset(tile.row, tile.column));
        for index in 0..tile.rows as isize {
            let target = target.wrapping_offset(index * self.rows.target);
            let share = grid.share_of_row(tile, target);
            for end in [share.start, share.end] {
                let end = target.wrapping_offset(end);
                if !end.addr().is_multiple_of(CACHE_LINE_BYTES) {
                    let line = end.wrapping_sub(end.addr() % CACHE_LINE_BYTES);
                    (stores.prefetch)(line, 0, 1, CACHE_LINE_BYTES);
                }
            }
        }
    }

    /// Writes the rows of a tile in the store buffer to where they belong; `target` is the address
    /// of the first unit of the matrix.
    ///
    /// # Safety
    /// * The tile is one of `grid`, and it is in the buffer.
    /// * The matrix is writable from `target` on.
    unsafe fn write_rows(
        &self,
        grid: &TileGrid,
        tile: &BufferedTile,
        target: *mut u8,
        stores: &Stores,
    ) {
        let bounds = &tile.bounds;
        let offset = self.target_offset(bounds.row, bounds.column);
        let in_buffer = (bounds.column - bounds.first_column) * self.unit;
        for index in 0..bounds.rows {
            let target = target.wrapping_offset(offset + index as isize * self.rows.target);
            let source = tile.address.wrapping_add(index * tile.pitch + in_buffer);
            let share = grid.share_of_row(bounds, target);
            // The unshifted first column may be behind the end of the row.
            let (source, target) =
                (source.wrapping_offset(share.start), target.wrapping_offset(share.start));
            // SAFETY: the bytes of the share, which is within the columns of the tile. They are in
            // the buffer, and the caller says that the matrix is writable; columns and groups are
            // contiguous on both sides.
            unsafe { (stores.copy)(source, target, (share.end - share.start) as usize) };
        }
    }

    /// Prefetches some of the coming columns.
    #[inline]
    fn prefetch(&self, coming: &Coming, columns: Range<usize>, stores: &Stores) {
        let first = coming.first_column;
        for columns in self.in_groups(first + columns.start..first + columns.end) {
            let offset = self.source_columns().offset(columns.start);
            let source = coming.source.wrapping_offset(offset);
            (stores.prefetch)(source, self.columns.source, columns.len(), coming.column_bytes);
        }
    }

    /// Copies a tile; strip by strip if the coming tile is prefetched, a part after each strip.
    ///
    /// # Safety
    /// * As for [`copy_tile`](Self::copy_tile).
    unsafe fn copy_strips(
        &self,
        tile: &TileBounds,
        ends: Endpoints,
        pitch: usize,
        coming: &Coming,
        (processor, stores): (&Processor, &Stores),
    ) {
        if !self.prefetches {
            // SAFETY: the caller guarantees what the called function requires.
            return unsafe { self.copy_tile(tile, ends, pitch as isize, processor) };
        }
        let strips = tile.strips(self.unit);
        let count = strips.len();
        let share = |index: usize| index * coming.columns / count;
        for (index, strip) in strips.enumerate() {
            let columns = strip.first_column - tile.first_column;
            // SAFETY: the first unit of a strip of the tile, which the caller says is writable; in
            // the source nothing is moved.
            let ends = unsafe { ends.offset(0, (columns * self.unit) as isize) };
            // SAFETY: the caller guarantees for the whole tile what the called function requires.
            unsafe { self.copy_tile(&strip, ends, pitch as isize, processor) };
            self.prefetch(coming, share(index)..share(index + 1), stores);
        }
    }
}
