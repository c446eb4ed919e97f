//! The columns of a transpose in the source: where they begin, and the cache lines of those that
//! are prefetched.

#![forbid(unsafe_code)]

use super::interface::{ColumnGroups, Coming, LineTile};
use super::prefetches::prefetch_later;
use crate::copy::sizes::CACHE_LINE_BYTES;

/// Where the columns of a matrix begin in the source, one after the other.
pub(super) struct Columns {
    groups: ColumnGroups,
    /// Where column 0 is.
    source: *const u8,
    /// The next column, and where it is.
    next: usize,
    address: *const u8,
    /// How many columns of its group there are from it on.
    pub(super) left: usize,
}

impl Columns {
    /// From the column `next` on. Column 0 is at `source`, which may be any address.
    #[inline(always)]
    pub(super) fn new(source: *const u8, groups: ColumnGroups, next: usize) -> Self {
        let address = source.wrapping_offset(groups.offset(next));
        Self { groups, source, next, address, left: groups.columns - next % groups.columns }
    }

    /// The next column, and how many columns of its group are taken with it: at most `max`.
    #[inline(always)]
    pub(super) fn take(&mut self, max: usize) -> (*const u8, usize) {
        let (address, count) = (self.address, max.min(self.left));
        if count < self.left {
            self.next += count;
            self.left -= count;
            self.address = address.wrapping_offset(count as isize * self.groups.column_stride);
        } else {
            *self = Self::new(self.source, self.groups, self.next + count);
        }
        (address, count)
    }
}

/// The cache lines that are prefetched while a tile is transposed, column by column.
pub(super) struct ComingLines {
    columns: Columns,
    lines_per_column: usize,
    /// Where the current column begins, and how many of its lines are prefetched.
    column: *const u8,
    done: usize,
    /// How many lines are left, in all columns.
    pub(super) left: usize,
    /// How many lines are due, times the number of steps that share them.
    due: usize,
}

impl ComingLines {
    #[inline(always)]
    pub(super) fn of(tile: &LineTile) -> Self {
        let Coming { source, first_column, columns: count, column_bytes } = tile.coming;
        let mut columns = Columns::new(source, tile.source_columns, first_column);
        let lines_per_column = column_bytes.div_ceil(CACHE_LINE_BYTES);
        let (column, _) = columns.take(1);
        let left = count * lines_per_column;
        Self { columns, lines_per_column, column, done: 0, left, due: 0 }
    }

    /// Prefetches the share of a step: `lines` are shared by `steps` of them.
    #[inline(always)]
    pub(super) fn prefetch_share(&mut self, lines: usize, steps: usize) {
        self.due += lines;
        while self.due >= steps {
            self.due -= steps;
            self.prefetch_line();
        }
    }

    #[inline(always)]
    fn prefetch_line(&mut self) {
        self.done += 1;
        self.left -= 1;
        let end = self.done * CACHE_LINE_BYTES;
        // If a column begins within a line, that line is in the cache most often: it holds the
        // bytes above.
        prefetch_later(self.column.wrapping_add(end - 1));
        if self.done == self.lines_per_column {
            (self.column, _) = self.columns.take(1);
            self.done = 0;
        }
    }
}
