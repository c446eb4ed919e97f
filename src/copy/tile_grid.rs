//! How a matrix that is transposed is cut into tiles: arithmetic only.
//!
//! The matrix is seen as it lies in the target: each row is contiguous. In the source, the units of
//! a column are close together instead. A tile is a rectangle that is small enough for the near
//! caches, so that the cache lines that are read for one row of it are still there for the next
//! rows. Columns may be in groups, and a tile may begin and end within a group. Rows may be in
//! groups, too, and a tile has rows of one group: see [`TileRows`].
//!
//! Tiles follow each other down the rows, then along the columns. So each tile continues the cache
//! lines that the one before it read. Tiles below each other are a *band*.
//!
//! ```text
//!            columns  0        w        2w      end
//!                     +--------+--------+--------+
//!             row  0  |        |        |        |        w  columns_per_tile
//!                     | tile 0 | tile 2 | tile 4 |        h  rows.per_tile
//!             row  h  +--------+--------+--------+
//!                     | tile 1 | tile 3 | tile 5 |
//!                end  +--------+--------+--------+
//! ```
//!
//! A tile is copied in strips of some columns and all of its rows. Meanwhile, a share of what the
//! next tiles read is prefetched: see [`coming`].
//!
//! Tiles that go through the store buffer are written with non-temporal stores, which are only fast
//! for whole cache lines. But a row of the target need not begin on a line, and where the row
//! stride is not a multiple of a line, every row begins at another distance from one. So each row
//! has its own boundaries between tiles: they are shifted to the left by `s` columns, the distance
//! of the beginning of the row from the line that it is in. Then every share of a row but the first
//! begins on a line, and every share but the last ends on one. With tiles of 12 columns, `a` to
//! `d`:
//!
//! ```text
//!      column         0           12          24          36
//!      row 0, s = 0   aaaaaaaaaaaabbbbbbbbbbbbcccccccccccc
//!      row 1, s = 3   aaaaaaaaabbbbbbbbbbbbccccccccccccddd
//!      row 2, s = 1   aaaaaaaaaaabbbbbbbbbbbbccccccccccccd
//!      b in the buffer         ^first         ^end
//! ```
//!
//! The buffer holds the columns from `first` to `end`: all that any row of the tile needs, from the
//! leftmost beginning (the largest shift) to the rightmost end (the smallest shift). A few columns
//! at the edges of a tile are therefore read twice.

#![forbid(unsafe_code)]

mod coming;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::sizes::{CACHE_LINE_BYTES, TILE_WIDTH_BYTES};
use super::store_buffer::STORE_BUFFER_BYTES;
use super::tile_rows::TileRows;
pub(super) use coming::ComingColumns;
use coming::{Chain, block_column_bytes};

/// Size (bytes) of a tile that has all rows: it fits the first-level cache together with the cache
/// lines that it is read from. With non-temporal stores, it is the maximum.
const TILE_BYTES: usize = 16 << 10;

/// Height (cache lines of the source) of a tile that does not have all rows; the maximum with
/// ordinary stores. The processor's own prefetches follow runs of four lines better than of two.
const TILE_HEIGHT_LINES: usize = 4;

/// Sizes of a tile that is written with non-temporal stores: the minimum in bytes of the target, in
/// columns, and in bytes of the tile, and the height in cache lines of the source. On an AMD EPYC
/// (Zen 5), most other sizes were slower.
const NONTEMPORAL_WIDTH_BYTES: usize = 2 * CACHE_LINE_BYTES;
const NONTEMPORAL_COLUMNS: usize = 32;
const NONTEMPORAL_TILE_BYTES: usize = 4 << 10;
const NONTEMPORAL_HEIGHT_LINES: usize = 2;

/// Minimum width of a tile whose rows are shifted by different distances, in bytes of the target
/// unless that is more columns. Wide tiles have fewer edges, at which columns are read twice, but
/// lines of many columns compete for the same sets of the caches.
const SHIFTED_WIDTH_BYTES: usize = 512;
const SHIFTED_COLUMNS: usize = 256;

/// Size (bytes) of a strip of a tile, rounded up to whole [`STRIP_COLUMNS`].
const STRIP_BYTES: usize = 2 << 10;

/// Strips have a multiple of this number of columns, which fill whole vectors.
const STRIP_COLUMNS: usize = 16;

/// The size of a matrix: units of `unit` bytes in `row_groups` of `rows`, each with `columns`,
/// those of all groups.
#[derive(Clone, Copy, Debug)]
pub(super) struct MatrixSize {
    pub(super) unit: usize,
    pub(super) row_groups: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// How a matrix is cut into tiles.
#[derive(Clone, Debug)]
pub(super) struct TileGrid {
    size: MatrixSize,
    rows: TileRows,
    columns_per_tile: usize,
    /// What continues the columns of a band, if it is the next bands.
    chain: Option<Chain>,
    /// By how many columns the boundaries of a row are shifted to the left, at least and at most.
    min_shift: usize,
    max_shift: usize,
}

/// A tile. The last ones of a grid are smaller than the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TileBounds {
    pub(super) row: usize,
    pub(super) rows: usize,
    /// Where it would begin without shifts. The last tile may begin behind the last column then.
    pub(super) column: usize,
    /// Columns that some row of it needs.
    pub(super) first_column: usize,
    pub(super) end_column: usize,
    /// Whether it goes to the end of the columns.
    is_last: bool,
}

impl TileBounds {
    pub(super) fn columns(&self) -> usize {
        self.end_column - self.first_column
    }

    /// The tile in strips of some columns, one after the other.
    pub(super) fn strips(&self, unit: usize) -> impl ExactSizeIterator<Item = Self> + use<> {
        let tile = *self;
        let columns =
            (STRIP_BYTES / (self.rows * unit)).next_multiple_of(STRIP_COLUMNS).max(STRIP_COLUMNS);
        // The last strip is the widest, so that none is too narrow for vectors.
        let count = (self.columns() / columns).max(1);
        (0..count).map(move |index| {
            let first_column = tile.first_column + index * columns;
            let is_last = index + 1 == count;
            let end_column = if is_last { tile.end_column } else { first_column + columns };
            Self { first_column, end_column, ..tile }
        })
    }
}

/// Bytes from row to row in the store buffer for rows of `width` bytes: an odd number of cache
/// lines, or neighbouring rows would compete for the same sets of the cache.
pub(super) fn row_pitch(width: usize) -> usize {
    width.next_multiple_of(CACHE_LINE_BYTES) | CACHE_LINE_BYTES
}

impl TileGrid {
    /// Tiles that fit the store buffer. They have all rows if these are few, or else are at most
    /// [`TILE_HEIGHT_LINES`] high. With non-temporal stores they are narrower.
    pub(super) fn new(size: MatrixSize, nontemporal: bool) -> Self {
        let MatrixSize { unit, row_groups, rows, .. } = size;
        let line = CACHE_LINE_BYTES / unit;
        // Columns of a tile of `bytes` that has all rows.
        let columns_of = |bytes: usize| bytes / unit / rows / line * line;
        let all_rows = columns_of(TILE_BYTES);
        let few_rows = all_rows * unit >= NONTEMPORAL_WIDTH_BYTES;
        let columns = if nontemporal {
            let width = NONTEMPORAL_COLUMNS.max(NONTEMPORAL_WIDTH_BYTES / unit);
            let columns = width.max(columns_of(NONTEMPORAL_TILE_BYTES));
            if few_rows { columns.min(all_rows) } else { columns }
        } else {
            all_rows.max(TILE_WIDTH_BYTES / unit)
        };
        let columns_per_tile = columns.min(size.columns);
        // A shift makes a tile wider by less than a line.
        let fit = STORE_BUFFER_BYTES / row_pitch(columns_per_tile * unit + CACHE_LINE_BYTES);
        let height = if nontemporal { NONTEMPORAL_HEIGHT_LINES } else { TILE_HEIGHT_LINES } * line;
        let most = match nontemporal {
            true if few_rows => rows,
            // More rows if there are fewer columns than a tile could have.
            true => fit.min(height * columns.div_ceil(columns_per_tile)),
            false if rows <= fit => rows,
            false => fit.min(height).min(TILE_BYTES / unit / columns_per_tile),
        };
        let rows_per_tile = if most < rows { most / line * line } else { rows };
        // Only tiles with non-temporal stores are prefetched.
        let block = if nontemporal { block_column_bytes(columns_per_tile) / unit } else { 0 };
        let rows = TileRows::new(row_groups, rows, rows_per_tile, block);
        Self { size, rows, columns_per_tile, chain: None, min_shift: 0, max_shift: 0 }
    }

    /// The same for `groups` of as many rows, which follow each other in the source.
    pub(super) fn with_row_groups(&self, groups: usize) -> Self {
        let size = MatrixSize { row_groups: groups, ..self.size };
        Self { size, rows: self.rows.with_groups(groups), ..*self }
    }

    /// The same with boundaries that are shifted so that shares of rows begin on cache lines of the
    /// target. The first unit is at `target`; `in_lines` says whether all rows are whole cache
    /// lines apart.
    pub(super) fn aligned_to(&self, target: *const u8, in_lines: bool) -> Self {
        let mut grid = self.clone();
        let MatrixSize { unit, columns, .. } = self.size;
        let shift = target.addr() % CACHE_LINE_BYTES;
        (grid.min_shift, grid.max_shift) = (shift / unit, shift.div_ceil(unit));
        if !in_lines {
            (grid.min_shift, grid.max_shift) = (0, CACHE_LINE_BYTES / unit);
            let wide = columns.min(SHIFTED_COLUMNS.min(SHIFTED_WIDTH_BYTES / unit));
            let pitch = row_pitch(wide * unit + CACHE_LINE_BYTES);
            if self.rows.per_tile * pitch <= STORE_BUFFER_BYTES {
                grid.columns_per_tile = self.columns_per_tile.max(wide);
                let block = block_column_bytes(grid.columns_per_tile + grid.max_shift) / unit;
                grid.rows = self.rows.with_block(block.min(self.rows.block_max));
                grid.chain = None;
            }
        }
        grid
    }

    /// Tiles that have all columns. `None` if they do not fit the store buffer.
    pub(super) fn of_whole_rows(&self) -> Option<Self> {
        let MatrixSize { unit, row_groups, rows, columns } = self.size;
        let height = (NONTEMPORAL_HEIGHT_LINES * CACHE_LINE_BYTES / unit).min(rows);
        // Tiles of less than whole lines of the source need rows in the buffer.
        let fits = height * row_pitch(columns * unit) <= STORE_BUFFER_BYTES;
        let rows = TileRows::new(row_groups, rows, height, self.rows.block_max);
        let grid = Self { rows, columns_per_tile: columns, chain: None, ..self.clone() };
        fits.then_some(grid)
    }

    /// All columns of some rows, as one tile.
    pub(super) fn tile_of_rows(&self, rows: Range<usize>) -> TileBounds {
        TileBounds {
            row: rows.start,
            rows: rows.len(),
            column: 0,
            first_column: 0,
            end_column: self.size.columns,
            is_last: true,
        }
    }

    /// The first tile.
    pub(super) fn first(&self) -> TileBounds {
        self.tile(0, 0)
    }

    /// The number of bands at most: shifts may make one more than there are without them.
    pub(super) fn bands(&self) -> usize {
        let line = CACHE_LINE_BYTES / self.size.unit;
        match self.columns_per_tile >= self.size.columns {
            true => 1,
            false => (self.size.columns + line).div_ceil(self.columns_per_tile),
        }
    }

    /// The first tile of a band. `None` if there are fewer bands.
    pub(super) fn first_of_band(&self, band: usize) -> Option<TileBounds> {
        let column = band * self.columns_per_tile;
        (column < self.size.columns + self.min_shift).then(|| self.tile(0, column))
    }

    /// The tile after another.
    pub(super) fn after(&self, tile: &TileBounds) -> Option<TileBounds> {
        let next_row = tile.row + tile.rows;
        if next_row < self.rows.count() {
            Some(self.tile(next_row, tile.column))
        } else if !tile.is_last {
            Some(self.tile(0, tile.column + self.columns_per_tile))
        } else {
            None
        }
    }

    fn tile(&self, row: usize, column: usize) -> TileBounds {
        let end = column + self.columns_per_tile;
        let whole = self.columns_per_tile >= self.size.columns;
        let is_last = whole || self.size.columns + self.min_shift <= end;
        TileBounds {
            row,
            rows: self.rows.of_tile(row),
            column,
            first_column: column.saturating_sub(self.max_shift),
            end_column: if is_last { self.size.columns } else { end - self.min_shift },
            is_last,
        }
    }

    /// Whether both boundaries of the tile are shifted in each row by a distance of its own, so
    /// that the tile has a cache line of columns more than each of its shares.
    pub(super) fn shifts_rows(&self, tile: &TileBounds) -> bool {
        let line = CACHE_LINE_BYTES / self.size.unit;
        self.max_shift - self.min_shift == line && tile.column > 0 && !tile.is_last
    }

    /// The share of a row that is written with a tile, in bytes from the unshifted first column of
    /// the tile, which is at `target` in that row. It begins and ends at the beginning of the cache
    /// lines that hold the unshifted boundaries, or at the ends of the row.
    pub(super) fn share_of_row(&self, tile: &TileBounds, target: *const u8) -> Range<isize> {
        let shift = (target.addr() % CACHE_LINE_BYTES) as isize;
        let unit = self.size.unit as isize;
        let begin = if tile.column == 0 { 0 } else { -shift };
        let end = if tile.is_last {
            (self.size.columns as isize - tile.column as isize) * unit
        } else {
            self.columns_per_tile as isize * unit - shift
        };
        begin..end
    }
}
