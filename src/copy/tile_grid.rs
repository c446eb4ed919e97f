//! How a matrix that is transposed is cut into tiles: arithmetic only.
//!
//! The matrix is seen as it lies in the target: each row is contiguous and has `groups` times
//! `columns` units. (A row has groups where it is made of two dimensions; most matrices have one
//! group.) In the source, the units of a column are close together instead. A tile is a rectangle
//! that is small enough for the near caches, so that the cache lines that are read for one row of
//! it are still there for the next rows.
//!
//! Tiles follow each other down the rows, then along the columns, then along the groups. A tile is
//! in one group and as wide as the grid says, or it has all columns of several groups.
//!
//! ```text
//!            columns  0        w        2w      end
//!                     +--------+--------+--------+
//!             row  0  |        |        |        |        w  columns_per_tile
//!                     | tile 0 | tile 2 | tile 4 |        h  rows_per_tile
//!             row  h  +--------+--------+--------+
//!                     | tile 1 | tile 3 | tile 5 |
//!                end  +--------+--------+--------+
//! ```
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

use std::ops::Range;

use super::sizes::{CACHE_LINE_BYTES, TILE_WIDTH_BYTES};
use super::store_buffer::STORE_BUFFER_BYTES;

/// Number of rows below which a matrix has wider tiles.
const FEW_ROWS: usize = 8;

/// Width (bytes of the target) of a tile of a matrix with few rows.
const FEW_ROWS_TILE_WIDTH_BYTES: usize = 4 << 10;

/// How many cache lines of the source a tile takes up along its columns, unless it has all rows.
const TILE_HEIGHT_LINES: usize = 4;

/// The size of a matrix: units of `unit` bytes in `rows`, each with `groups` of `columns`.
#[derive(Clone, Copy, Debug)]
pub(super) struct MatrixSize {
    pub(super) unit: usize,
    pub(super) rows: usize,
    pub(super) groups: usize,
    pub(super) columns: usize,
}

/// How a matrix is cut into tiles.
#[derive(Clone, Debug)]
pub(super) struct TileGrid {
    size: MatrixSize,
    rows_per_tile: usize,
    groups_per_tile: usize,
    columns_per_tile: usize,
    /// By how many columns the boundaries of a row are shifted to the left, at least and at most.
    min_shift: usize,
    max_shift: usize,
}

/// A tile. The last ones of a grid are smaller than the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TileBounds {
    pub(super) row: usize,
    pub(super) rows: usize,
    pub(super) group: usize,
    pub(super) groups: usize,
    /// Where it would begin without shifts.
    column: usize,
    /// Columns that some row of it needs.
    pub(super) first_column: usize,
    pub(super) end_column: usize,
    /// Whether it goes to the end of the columns.
    is_last: bool,
}

impl TileBounds {
    /// Columns of each group.
    pub(super) fn columns(&self) -> usize {
        self.end_column - self.first_column
    }
}

/// Bytes from row to row in the store buffer for rows of `width` bytes: an odd number of cache
/// lines, or neighbouring rows would compete for the same sets of the cache.
pub(super) fn row_pitch(width: usize) -> usize {
    width.next_multiple_of(CACHE_LINE_BYTES) | CACHE_LINE_BYTES
}

impl TileGrid {
    /// Tiles that fit the store buffer: [`TILE_WIDTH_BYTES`] wide if they can then be a few cache
    /// lines of the source high, wider where there are few rows, higher where there are few
    /// columns.
    pub(super) fn new(size: MatrixSize) -> Self {
        let few_rows = size.rows < FEW_ROWS;
        let width = if few_rows { FEW_ROWS_TILE_WIDTH_BYTES } else { TILE_WIDTH_BYTES };
        let columns_per_tile = size.columns.min(width / size.unit);
        let groups_per_tile = if columns_per_tile == size.columns {
            (width / (columns_per_tile * size.unit)).clamp(1, size.groups)
        } else {
            1
        };
        // A shift makes a tile wider by less than a line.
        let pitch = row_pitch(groups_per_tile * columns_per_tile * size.unit + CACHE_LINE_BYTES);
        let fit = STORE_BUFFER_BYTES / pitch;
        let rows_per_tile = if fit < size.rows {
            // Whole lines of the source.
            let line = CACHE_LINE_BYTES / size.unit;
            fit.min(TILE_HEIGHT_LINES * line) / line * line
        } else {
            size.rows
        };
        let (min_shift, max_shift) = (0, 0);
        Self { size, rows_per_tile, groups_per_tile, columns_per_tile, min_shift, max_shift }
    }

    /// The same with boundaries that are shifted so that shares of rows begin on cache lines of the
    /// target. The first row is at `target`, and rows are `stride` bytes apart.
    ///
    /// Where there are several groups, nothing is shifted: they are short.
    pub(super) fn aligned_to(&self, target: *const u8, stride: isize) -> Self {
        let mut grid = self.clone();
        if self.size.groups == 1 {
            let line = CACHE_LINE_BYTES / self.size.unit;
            let same_for_all = stride % CACHE_LINE_BYTES as isize == 0;
            let first = self.shift_of_row(target);
            (grid.min_shift, grid.max_shift) =
                if same_for_all { (first, first) } else { (0, line) };
            grid.columns_per_tile = self.columns_per_tile.max(line);
        }
        grid
    }

    /// By how many columns the boundaries of the row at `target` are shifted to the left.
    fn shift_of_row(&self, target: *const u8) -> usize {
        if self.size.groups == 1 { target.addr() % CACHE_LINE_BYTES / self.size.unit } else { 0 }
    }

    /// All columns of some rows, as one tile.
    pub(super) fn tile_of_rows(&self, rows: Range<usize>) -> TileBounds {
        TileBounds {
            row: rows.start,
            rows: rows.len(),
            group: 0,
            groups: self.size.groups,
            column: 0,
            first_column: 0,
            end_column: self.size.columns,
            is_last: true,
        }
    }

    /// The first tile.
    pub(super) fn first(&self) -> TileBounds {
        self.tile(0, 0, 0)
    }

    /// The tile after another.
    pub(super) fn after(&self, tile: &TileBounds) -> Option<TileBounds> {
        let (next_row, next_group) = (tile.row + tile.rows, tile.group + tile.groups);
        if next_row < self.size.rows {
            Some(self.tile(next_row, tile.group, tile.column))
        } else if !tile.is_last {
            Some(self.tile(0, tile.group, tile.column + self.columns_per_tile))
        } else if next_group < self.size.groups {
            Some(self.tile(0, next_group, 0))
        } else {
            None
        }
    }

    fn tile(&self, row: usize, group: usize, column: usize) -> TileBounds {
        let end = column + self.columns_per_tile;
        let is_last = self.size.columns + self.min_shift <= end;
        TileBounds {
            row,
            rows: self.rows_per_tile.min(self.size.rows - row),
            group,
            groups: self.groups_per_tile.min(self.size.groups - group),
            column,
            first_column: column.saturating_sub(self.max_shift),
            end_column: if is_last { self.size.columns } else { end - self.min_shift },
            is_last,
        }
    }

    /// The columns of a tile that belong to the row whose first unit is at `target`.
    pub(super) fn share_of_row(&self, tile: &TileBounds, target: *const u8) -> Range<usize> {
        let shift = self.shift_of_row(target);
        let begin = if tile.column == 0 { 0 } else { tile.column - shift };
        let end = if tile.is_last {
            self.size.columns
        } else {
            tile.column + self.columns_per_tile - shift
        };
        begin..end
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sizes() -> impl Strategy<Value = MatrixSize> {
        let dim = || prop_oneof![1..10_usize, 10..700_usize];
        let groups = prop_oneof![4 => Just(1_usize), 1 => 2..20_usize];
        (0..5_u32, dim(), groups, dim()).prop_map(|(unit, rows, groups, columns)| MatrixSize {
            unit: 1 << unit,
            rows,
            groups,
            columns,
        })
    }

    /// Checks that the tiles fit the store buffer, and that the shares of their rows cover every
    /// unit once. `row_address` is where a row of the target begins.
    fn check(size: MatrixSize, grid: &TileGrid, row_address: impl Fn(usize) -> *const u8) {
        let mut covered = vec![0_u8; size.rows * size.groups * size.columns];
        let mut next = Some(grid.first());
        while let Some(tile) = next {
            let pitch = row_pitch(tile.groups * tile.columns() * size.unit);
            assert!(tile.rows * pitch <= STORE_BUFFER_BYTES, "{tile:?} of {size:?}");
            for row in tile.row..tile.row + tile.rows {
                let share = grid.share_of_row(&tile, row_address(row));
                assert!(tile.first_column <= share.start && share.end <= tile.end_column);
                for group in tile.group..tile.group + tile.groups {
                    for column in share.clone() {
                        covered[(row * size.groups + group) * size.columns + column] += 1;
                    }
                }
            }
            next = grid.after(&tile);
        }
        assert!(covered.iter().all(|&count| count == 1), "{size:?} {grid:?}");
    }

    fn config() -> ProptestConfig {
        ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn tiles_fit_the_store_buffer_and_cover_every_unit_once(
            size in sizes(),
            first in 0..128_usize,
            gap in 0..128_usize,
            pad_to_lines in any::<bool>(),
        ) {
            let row = size.groups * size.columns * size.unit + gap * size.unit;
            let stride = if pad_to_lines { row.next_multiple_of(CACHE_LINE_BYTES) } else { row };
            let address = |row: usize| std::ptr::without_provenance(4096 + first + row * stride);
            check(size, &TileGrid::new(size), |_| std::ptr::without_provenance(4096));
            let aligned = TileGrid::new(size).aligned_to(address(0), stride as isize);
            check(size, &aligned, address);
        }
    }
}
