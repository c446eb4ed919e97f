//! What is prefetched while a tile is copied.
//!
//! Memory is read faster in runs of 1 KiB and more, but tiles are lower, because they must fit the
//! first-level cache. So some tiles that continue each other's columns are a *block*, and each tile
//! of a block prefetches whole columns of the next block:
//!
//! ```text
//!   block 0   tile 0   prefetches the columns a of block 1
//!             tile 1   prefetches the columns b of block 1
//!   block 1   tile 2   aaaabbbb
//!             tile 3   aaaabbbb
//! ```
//!
//! The tiles of a block are below each other, or side by side where the next group of columns
//! continues the columns of the one before it (a [`Chain`]).

#![forbid(unsafe_code)]

use std::ops::Range;

use super::{TileBounds, TileGrid};
use crate::copy::caches::caches;

/// Maximum size (bytes) of a column of a block.
const BLOCK_COLUMN_BYTES: usize = 2 << 10;

/// The part of the L2 cache that a block takes up at most. The block before it is in the cache,
/// too.
pub(super) const BLOCK_L2_DIVISOR: usize = 4;

/// Bytes of a column of a block of `columns`, a power of two: on an AMD EPYC (Zen 5), two threads
/// read columns in pieces of 896 bytes at four fifths of the rate of pieces of 512 bytes or 1 KiB.
/// 0 if no power of two is small enough.
pub(super) fn block_column_bytes(columns: usize) -> usize {
    let most = BLOCK_COLUMN_BYTES.min(caches().l2 / BLOCK_L2_DIVISOR / columns);
    most.checked_ilog2().map_or(0, |exponent| 1 << exponent)
}

/// What is prefetched while a tile is copied: some columns of the block after that of the tile.
pub(in crate::copy) struct ComingColumns {
    pub(in crate::copy) row: usize,
    pub(in crate::copy) rows: usize,
    pub(in crate::copy) columns: Range<usize>,
    /// Whether they belong to the matrix that is copied after this one.
    pub(in crate::copy) in_next_matrix: bool,
}

/// Bands that continue each other in the source: groups of columns whose distance is the length of
/// a column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// Columns of a group.
    columns: usize,
    groups_per_band: usize,
    bands: usize,
    bands_per_block: usize,
}

impl TileGrid {
    /// The same for `groups` of `columns`, each of which continues the columns of the one before it
    /// in the source.
    pub(in crate::copy) fn with_chain(&self, groups: usize, columns: usize) -> Self {
        let groups_per_band = (self.columns_per_tile / columns).max(1);
        let bands = groups / groups_per_band;
        let run = self.rows.count() * self.size.unit * groups_per_band;
        let bands_per_block = block_column_bytes(columns) / run;
        let are_whole =
            self.columns_per_tile == groups_per_band * columns && groups == bands * groups_per_band;
        let chain = Chain { columns, groups_per_band, bands, bands_per_block };
        let chain = (are_whole && bands_per_block > 1).then_some(chain);
        Self { chain, ..self.clone() }
    }

    /// What is prefetched while `tile` is copied. After its band comes the next one, or the next
    /// matrix if only this band is copied.
    pub(in crate::copy) fn coming(&self, tile: &TileBounds, is_only_band: bool) -> ComingColumns {
        if let Some(chain) = self.chain.filter(|_| !is_only_band) {
            return self.coming_in_chain(tile, &chain);
        }
        let block = self.rows.block(tile.row);
        let tiles = self.rows.tiles(block.clone());
        let index = self.rows.tiles(block.start..tile.row);
        let is_last_block = block.end == self.rows.count();
        let in_next_matrix = is_last_block && (tile.is_last || is_only_band);
        let first = if !is_last_block {
            self.tile(block.end, tile.column)
        } else if is_only_band {
            self.tile(0, tile.column)
        } else if tile.is_last {
            self.tile(0, 0)
        } else {
            self.tile(0, tile.column + self.columns_per_tile)
        };
        let column = |index: usize| first.first_column + index * first.columns() / tiles;
        ComingColumns {
            row: first.row,
            rows: self.rows.block(first.row).len(),
            columns: column(index)..column(index + 1),
            in_next_matrix,
        }
    }

    /// The same where bands continue each other: a block has some of them.
    fn coming_in_chain(&self, tile: &TileBounds, chain: &Chain) -> ComingColumns {
        let block = |band: usize| {
            let first = band / chain.bands * chain.bands;
            let begin = first + (band - first) / chain.bands_per_block * chain.bands_per_block;
            begin..(begin + chain.bands_per_block).min(first + chain.bands)
        };
        let band = tile.column / self.columns_per_tile;
        let current = block(band);
        let tiles = |bands: usize| bands * self.rows.tiles(0..self.rows.count());
        let index = tiles(band - current.start) + self.rows.tiles(0..tile.row);
        let in_next_matrix = current.end * self.columns_per_tile >= self.size.columns;
        let next = block(if in_next_matrix { 0 } else { current.end });
        let first = next.start * self.columns_per_tile;
        let column = |index: usize| first + index * chain.columns / tiles(current.len());
        ComingColumns {
            row: 0,
            rows: next.len() * chain.groups_per_band * self.rows.count(),
            columns: column(index)..column(index + 1),
            in_next_matrix,
        }
    }
}
