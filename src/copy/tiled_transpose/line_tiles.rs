//! Tiles of whole cache lines, which are transposed without rows in the store buffer.

use super::TiledTranspose;
use crate::copy::endpoints::Endpoints;
use crate::copy::processor::{Coming, LineTile, Stores, TransposeLines};
use crate::copy::sizes::CACHE_LINE_BYTES;
use crate::copy::store_buffer::StoreBuffer;
use crate::copy::tile_grid::{TileBounds, TileGrid};

/// The tiles of a matrix that is written to a certain place.
pub(super) struct Tiling {
    pub(super) grid: TileGrid,
    /// Whether its tiles have whole rows, which follow each other in the target.
    rows_follow: bool,
}

impl TiledTranspose {
    /// The tiles of the matrix at `target`. `None` if its rows are appended to the store buffer
    /// instead.
    pub(super) fn tiling(&self, target: *const u8, stores: &Stores) -> Option<Tiling> {
        if !self.has_lines(target, stores) {
            if let Some(grid) = self.grid_of_following_rows(stores) {
                return Some(Tiling { grid, rows_follow: true });
            }
            if self.appends_rows() {
                return None;
            }
        }
        let grid = self.grid.aligned_to(target, self.rows_are_lines_apart());
        Some(Tiling { grid, rows_follow: false })
    }

    /// Copies a tile if it consists of whole cache lines; returns whether it did.
    ///
    /// # Safety
    /// * The tile is one of `tiling`. The matrix is readable from `ends.source` on and writable
    ///   from `ends.target` on, and no byte is both. The processor has the instructions.
    pub(super) unsafe fn copy_lines(
        &self,
        tiling: &Tiling,
        tile: &TileBounds,
        ends: Endpoints,
        coming: &Coming,
        buffer: &mut StoreBuffer<'_>,
    ) -> bool {
        let stores = buffer.stores();
        let Some(transpose) = self.line_transpose(tiling, tile, ends.target, stores) else {
            return false;
        };
        let address = buffer.scratch(tile.rows * self.width(tile));
        let tile = self.line_tile(tile, ends, address, coming);
        // SAFETY: `line_transpose` found that the rows are one unit apart in the source, that lines
        // and lanes are whole, and where rows begin; the caller says that the tile is readable and
        // writable, and that the processor has the instructions; `scratch` gave room for the tile.
        unsafe { transpose(&tile) };
        true
    }

    /// The function that transposes the tile without rows in the buffer, if the tile consists of
    /// whole cache lines on both sides. The matrix begins at `target`.
    fn line_transpose(
        &self,
        tiling: &Tiling,
        tile: &TileBounds,
        target: *mut u8,
        stores: &Stores,
    ) -> Option<TransposeLines> {
        let grid = &tiling.grid;
        let width = self.width(tile);
        let has_lines = in_lines(width) && in_lines(tile.rows * self.unit);
        let rows_follow = self.rows.source == self.unit as isize;
        if !(self.prefetches && rows_follow && has_lines) {
            return None;
        }
        if tiling.rows_follow {
            return self.of_unit(&stores.shuffles.as_ref()?.following_tiles);
        }
        if grid.shifts_rows(tile) {
            return self.of_unit(&stores.shuffles.as_ref()?.shifted_tiles);
        }
        // All columns of the tile are written, and each row begins on a cache line.
        let row = target.wrapping_offset(self.target_offset(tile.row, tile.column));
        let first = (tile.column - tile.first_column) * self.unit;
        let share = grid.share_of_row(tile, row);
        let is_whole = share == (-(first as isize)..width as isize - first as isize);
        let rows_in_lines = in_lines(row.wrapping_sub(first).addr()) && self.rows_are_lines_apart();
        let tiles = &stores.transposes.as_ref()?.tiles;
        self.of_unit(tiles).filter(|_| is_whole && rows_in_lines)
    }

    /// The one of these functions that is for units of this size.
    fn of_unit(&self, transposes: &[TransposeLines; 5]) -> Option<TransposeLines> {
        transposes.get(self.unit.trailing_zeros() as usize).copied()
    }

    /// Whether the rows of the matrix at `target` are whole cache lines, which can be written
    /// without rows in the buffer. Images have pixels instead.
    fn has_lines(&self, target: *const u8, stores: &Stores) -> bool {
        let rows_in_lines = in_lines(self.row_bytes()) && self.rows_are_lines_apart();
        let transposes = self.prefetches && stores.transposes.is_some();
        let is_matrix = self.shuffle.is_none();
        is_matrix && transposes && rows_in_lines && in_lines(target.addr())
    }

    /// Tiles of whole rows, if rows follow each other in the target, are whole cache lines long,
    /// and there is a function for such tiles.
    fn grid_of_following_rows(&self, stores: &Stores) -> Option<TileGrid> {
        let row = self.row_bytes();
        let follow = self.rows.target == row as isize && in_lines(row);
        let transposes = self.prefetches && stores.shuffles.is_some();
        let applies = follow && transposes && self.shuffle.is_none();
        applies.then(|| self.grid.of_whole_rows()).flatten()
    }

    /// A tile of whole lines, which is copied by way of `buffer`.
    fn line_tile(
        &self,
        tile: &TileBounds,
        ends: Endpoints,
        buffer: *mut u8,
        coming: &Coming,
    ) -> LineTile {
        let row = tile.row as isize * self.rows.source;
        let offset = self.target_offset(tile.row, tile.first_column);
        LineTile {
            source: ends.source.wrapping_offset(row),
            source_columns: self.source_columns(),
            target: ends.target.wrapping_offset(offset),
            target_row_stride: self.rows.target,
            first_column: tile.first_column,
            columns: tile.columns(),
            rows: tile.rows,
            buffer,
            coming: *coming,
        }
    }
}

fn in_lines(bytes: usize) -> bool {
    bytes.is_multiple_of(CACHE_LINE_BYTES)
}
