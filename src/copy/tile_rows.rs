//! The rows of a matrix, and how tiles and blocks cut them.
//!
//! Rows follow each other in the source. In the target they are in groups: rows of one group are at
//! equal distances, and a tile has rows of one group only. A block is what is prefetched together:
//! several groups, or a part of one.
//!
//! ```text
//!   groups   | 0 0 0 0 0 | 1 1 1 1 1 | 2 2 2 2 2 |
//!   tiles    |  0  |  1  |  2  |  3  |  4  |  5  |
//!   blocks   |           0           |     1     |
//! ```

#![forbid(unsafe_code)]

use std::ops::Range;

/// How rows are cut. None of the numbers is 0; a block has whole groups if it is longer than one.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileRows {
    groups: usize,
    per_group: usize,
    pub(super) per_tile: usize,
    per_block: usize,
    /// The most rows of a block that has several tiles.
    pub(super) block_max: usize,
}

impl TileRows {
    /// Cuts `groups` of `per_group` rows. A block has at most `block_max` rows, or one tile.
    pub(super) fn new(groups: usize, per_group: usize, per_tile: usize, block_max: usize) -> Self {
        let per_tile = per_tile.min(per_group);
        let whole = if block_max >= per_group { per_group } else { per_tile };
        let per_block = (block_max / whole).max(1) * whole;
        Self { groups, per_group, per_tile, per_block, block_max }
    }

    /// The same for another number of groups.
    pub(super) fn with_groups(&self, groups: usize) -> Self {
        Self::new(groups, self.per_group, self.per_tile, self.block_max)
    }

    /// The same with at most this number of rows in a block.
    pub(super) fn with_block(&self, block_max: usize) -> Self {
        Self::new(self.groups, self.per_group, self.per_tile, block_max)
    }

    /// The rows of all groups.
    pub(super) fn count(&self) -> usize {
        self.groups * self.per_group
    }

    /// How many rows a tile has that begins at `row`.
    pub(super) fn of_tile(&self, row: usize) -> usize {
        self.per_tile.min(self.per_group - row % self.per_group)
    }

    /// The rows of the block that `row` is in.
    pub(super) fn block(&self, row: usize) -> Range<usize> {
        let (first, end) = match self.per_block > self.per_group {
            true => (0, self.count()),
            false => (row - row % self.per_group, row - row % self.per_group + self.per_group),
        };
        let begin = first + (row - first) / self.per_block * self.per_block;
        begin..end.min(begin + self.per_block)
    }

    /// How many tiles there are in `rows`, the first rows of a block.
    pub(super) fn tiles(&self, rows: Range<usize>) -> usize {
        let (groups, rest) = (rows.len() / self.per_group, rows.len() % self.per_group);
        groups * self.per_group.div_ceil(self.per_tile) + rest.div_ceil(self.per_tile)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_consist_of_tiles_and_cover_every_row_once(
            groups in 1..5_usize,
            per_group in 1..50_usize,
            per_tile in 1..60_usize,
            block in 0..120_usize,
        ) {
            let rows = TileRows::new(groups, per_group, per_tile, block);
            let mut row = 0;
            while row < rows.count() {
                let block = rows.block(row);
                prop_assert_eq!(block.start, row);
                let mut tiles = 0;
                while row < block.end {
                    prop_assert_eq!(rows.block(row), block.clone());
                    prop_assert_eq!(rows.tiles(block.start..row), tiles);
                    let end = row + rows.of_tile(row);
                    prop_assert!(row < end && end <= block.end);
                    prop_assert_eq!(row / per_group, (end - 1) / per_group);
                    (row, tiles) = (end, tiles + 1);
                }
                prop_assert_eq!(rows.tiles(block), tiles);
            }
        }
    }
}
