//! Copies of a matrix whose rows and columns are swapped, tile by tile. [`tile_grid`] describes how
//! a matrix is cut into tiles.
//!
//! Within a tile, small squares are transposed in registers ([`Processor::copy_tile`]). A matrix
//! with few rows or few columns is an image: its pixels become planes, or planes become pixels.
//! Most of such a matrix is copied with byte shuffles ([`PixelShuffle`]).
//!
//! A large matrix goes through the store buffer:
//!
//! ```text
//!   source                    store buffer (L1 cache)              target
//!   +-----------+  transpose  +----------------------+  all rows   +---------------------------+
//!   | tile k    | ----------> | rows of tile k       | ----------> | shares of rows,           |
//!   +-----------+             +----------------------+             | in whole cache lines      |
//!   +-----------+                                                  +---------------------------+
//!   | later     | <--- prefetch: a share of the next block, so that memory is read while registers
//!   +-----------+      are shuffled
//! ```
//!
//! The rows of a tile leave together, after all of it is in the buffer. Writing them between parts
//! of it was slower when it was measured. Tiles of whole cache lines have functions of their own,
//! whose buffer holds squares instead of rows ([`line_tiles`]); other tiles are copied strip by
//! strip ([`buffered_tiles`]).
//!
//! Short rows that are contiguous in the target need no grid: many of them are transposed into the
//! buffer at once.
//!
//! [`tile_grid`]: super::tile_grid

mod buffered_tiles;
mod line_tiles;

use std::ops::Range;

use smallvec::SmallVec;

use super::copy_plan::CopyPlan;
use super::endpoints::Endpoints;
use super::line_shuffle::shuffle_to_lines;
use super::pixel_shuffle::PixelShuffle;
use super::processor::{ColumnGroups, Coming, Processor, Stores, Tile};
use super::sizes::CACHE_LINE_BYTES;
use super::store_buffer::StoreBuffer;
use super::tile_grid::{ComingColumns, MatrixSize, TileBounds, TileGrid};
use crate::layout::paired::PairedDim;

/// A transpose. In the target, `columns` of units are side by side, and so are `groups` of columns,
/// and groups of these groups. In the source, rows are closer together than columns; groups of rows
/// follow each other, and so do groups of these groups.
pub(super) struct TiledTranspose {
    unit: usize,
    rows: PairedDim,
    /// The innermost first.
    row_groups: SmallVec<[PairedDim; 2]>,
    outer_groups: PairedDim,
    groups: PairedDim,
    columns: PairedDim,
    /// Tiles whose boundaries are not shifted.
    grid: TileGrid,
    shuffle: Option<PixelShuffle>,
    /// Whether tiles are prefetched.
    prefetches: bool,
}

impl TiledTranspose {
    /// The matrix of a plan's kernel, written with non-temporal stores or not. The dimensions of a
    /// row are the outer groups, the groups, and the columns.
    pub(super) fn new(
        plan: &CopyPlan,
        rows: PairedDim,
        [outer_groups, groups, columns]: [PairedDim; 3],
        processor: &Processor,
        nontemporal: bool,
    ) -> Self {
        let unit = plan.unit;
        let all_columns = outer_groups.count * groups.count * columns.count;
        let shuffle = (all_columns == columns.count)
            .then(|| PixelShuffle::new(plan, rows, columns, processor, nontemporal))
            .flatten();
        let rows_follow = rows.source == unit as isize;
        let size = MatrixSize { unit, row_groups: 1, rows: rows.count, columns: all_columns };
        let grid = TileGrid::new(size, nontemporal);
        let share_lines = columns.source.unsigned_abs() < CACHE_LINE_BYTES;
        let prefetches = nontemporal && rows_follow && !share_lines;
        let row_groups = SmallVec::new();
        Self { unit, rows, row_groups, outer_groups, groups, columns, grid, shuffle, prefetches }
    }

    /// Takes those of the dimensions around the matrix, the innermost of which is the last one,
    /// that continue its rows in the source. Then each column is one long run.
    pub(super) fn take_row_groups(&mut self, dims: &mut SmallVec<[PairedDim; 6]>) {
        if !self.prefetches || self.is_copied_whole() {
            return;
        }
        let mut bytes = self.rows.count * self.unit;
        while let Some(&dim) = dims.last()
            && dim.source == bytes as isize
        {
            dims.pop();
            bytes *= dim.count;
            self.row_groups.push(dim);
        }
        let count = self.row_groups.iter().map(|dim| dim.count).product();
        self.grid = self.grid.with_row_groups(count);
        if self.groups.count > 1 && self.groups.source == bytes as isize {
            self.grid = self.grid.with_chain(self.groups.count, self.columns.count);
        }
    }

    /// Bytes of a row of the target.
    fn row_bytes(&self) -> usize {
        self.outer_groups.count * self.groups.count * self.columns.count * self.unit
    }

    /// Copies the matrix straight to the target.
    ///
    /// # Safety
    /// * Its units are readable from `ends.source` on and writable from `ends.target` on, and no
    ///   byte is both. The processor has the instructions.
    pub(super) unsafe fn copy(&self, ends: Endpoints, processor: &Processor) {
        let mut next = Some(self.grid.first());
        while let Some(tile) = next {
            let offset = self.target_offset(tile.row, tile.first_column);
            // SAFETY: the first unit of the tile, which the caller says is writable; in the source
            // nothing is moved.
            let ends = unsafe { ends.offset(0, offset) };
            // SAFETY: the caller says that the whole matrix is readable and writable, with rows
            // `rows.target` bytes apart.
            unsafe { self.copy_tile(&tile, ends, self.rows.target, processor) };
            next = self.grid.after(&tile);
        }
    }

    /// How far apart (bytes) columns or groups of columns are in the source, whichever are closer,
    /// and how many bands of tiles the matrix has at most. `None` if it is always copied whole.
    pub(super) fn bands(&self) -> Option<(usize, usize)> {
        let bands = self.grid.bands();
        let several = [self.outer_groups, self.groups].into_iter().filter(|dim| dim.count > 1);
        let distances = several.chain([self.columns]).map(|dim| dim.source.unsigned_abs());
        let distance = distances.min()?;
        (bands > 1 && !self.is_copied_whole()).then_some((distance, bands))
    }

    /// Whether it has no tiles, for example because it is an image.
    fn is_copied_whole(&self) -> bool {
        self.shuffle.is_some() || self.appends_rows()
    }

    /// Copies the matrix, or a band of it, through the store buffer. After it may come another
    /// matrix, or the same band of it, `next_source` bytes on in the source, whose first block is
    /// prefetched.
    ///
    /// # Safety
    /// * As for [`copy`](Self::copy).
    pub(super) unsafe fn copy_through(
        &self,
        ends: Endpoints,
        band: Option<usize>,
        next_source: isize,
        processor: &Processor,
        buffer: &mut StoreBuffer<'_>,
    ) {
        // SAFETY: the caller guarantees what the called function requires.
        if unsafe { self.shuffle_to_lines(ends, processor, buffer.stores()) } {
            return;
        }
        let Some(tiling) = self.tiling(ends.target, buffer.stores()) else {
            // SAFETY: the caller says that the matrix is readable and writable; its rows are
            // contiguous in the target, or there would be tiles.
            return unsafe { self.append_rows(ends, next_source, processor, buffer) };
        };
        let grid = &tiling.grid;
        let mut next = band.map_or_else(|| Some(grid.first()), |band| grid.first_of_band(band));
        while let Some(tile) = next {
            next = grid.after(&tile).filter(|tile| band.is_none() || tile.row > 0);
            let coming = grid.coming(&tile, band.is_some());
            let coming = self.coming(coming, ends.source, next_source);
            // SAFETY: the tile is one of the grid; the caller says that the matrix is readable and
            // writable, and that the processor has the instructions.
            if !unsafe { self.copy_lines(&tiling, &tile, ends, &coming, buffer) } {
                // SAFETY: the same.
                unsafe { self.copy_rows(grid, &tile, ends, &coming, (processor, &mut *buffer)) };
            }
        }
    }

    /// Bytes of a row of a tile.
    fn width(&self, tile: &TileBounds) -> usize {
        tile.columns() * self.unit
    }

    /// What is prefetched while a tile of the matrix at `source` is copied. The next matrix is
    /// `next_source` bytes on.
    fn coming(&self, coming: ComingColumns, source: *const u8, next_source: isize) -> Coming {
        let matrix = if coming.in_next_matrix { next_source } else { 0 };
        let row = coming.row as isize * self.rows.source;
        Coming {
            source: source.wrapping_offset(matrix + row),
            first_column: coming.columns.start,
            columns: coming.columns.len(),
            column_bytes: coming.rows * self.unit,
        }
    }

    /// Offset of a unit in the target.
    fn target_offset(&self, row: usize, column: usize) -> isize {
        let mut offset = (row % self.rows.count) as isize * self.rows.target;
        let mut group = row / self.rows.count;
        for dim in &self.row_groups {
            offset += (group % dim.count) as isize * dim.target;
            group /= dim.count;
        }
        offset + (column * self.unit) as isize
    }

    /// Whether all rows of the target are whole cache lines apart.
    fn rows_are_lines_apart(&self) -> bool {
        let mut dims = self.row_groups.iter().chain([&self.rows]);
        dims.all(|dim| dim.target % CACHE_LINE_BYTES as isize == 0)
    }

    /// Offset of a unit in the source.
    fn source_offset(&self, row: usize, column: usize) -> isize {
        row as isize * self.rows.source + self.source_columns().offset(column)
    }

    /// How the columns lie in the source.
    fn source_columns(&self) -> ColumnGroups {
        ColumnGroups {
            columns: self.columns.count,
            groups: self.groups.count,
            column_stride: self.columns.source,
            group_stride: self.groups.source,
            outer_group_stride: self.outer_groups.source,
        }
    }

    /// The columns of a range group by group: those of one group each.
    fn in_groups(&self, columns: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let count = self.columns.count;
        let mut next = columns.start;
        std::iter::from_fn(move || {
            let first = next;
            next = columns.end.min((first / count + 1) * count);
            (first < next).then_some(first..next)
        })
    }

    /// Copies the whole matrix straight to the target if a shuffle plan can; returns whether it
    /// did.
    ///
    /// # Safety
    /// * As for [`copy`](Self::copy).
    unsafe fn shuffle_to_lines(
        &self,
        ends: Endpoints,
        processor: &Processor,
        stores: &Stores,
    ) -> bool {
        let Some(shuffle) = &self.shuffle else { return false };
        let (shuffle_plan, count) = match shuffle {
            PixelShuffle::Deinterleave(shuffle_plan) => (shuffle_plan, self.columns.count),
            PixelShuffle::Interleave(shuffle_plan) => (shuffle_plan, self.rows.count),
        };
        let functions = (processor, stores);
        // SAFETY: the plan reads and writes whole pixels: when deinterleaving all units of a
        // column, else all units of a row. The caller says that they are readable and writable.
        unsafe { shuffle_to_lines(shuffle_plan, count, ends, self.rows.target, functions) }
    }

    /// Copies a tile. `ends.source` is the first unit of the matrix in the source, `ends.target`
    /// where the first unit of the tile goes, with rows `pitch` bytes apart.
    ///
    /// # Safety
    /// * The tile is one of the matrix, which is readable from `ends.source` on; it is writable
    ///   from `ends.target` on, and no byte is both. The processor has the instructions.
    unsafe fn copy_tile(
        &self,
        tile: &TileBounds,
        ends: Endpoints,
        pitch: isize,
        processor: &Processor,
    ) {
        // SAFETY: the caller guarantees what the called function requires.
        let (rows_done, columns_done) = unsafe { self.shuffle_tile(tile, ends, pitch, processor) };
        let rows = tile.rows - rows_done;
        if rows == 0 {
            return;
        }
        let copy = processor.copy_tile[self.unit.trailing_zeros() as usize];
        for columns in self.in_groups(tile.first_column + columns_done..tile.end_column) {
            let source = self.source_offset(tile.row + rows_done, columns.start);
            let in_row = ((columns.start - tile.first_column) * self.unit) as isize;
            let target = rows_done as isize * pitch + in_row;
            // SAFETY: the first unit that is left of this group of the tile, on both sides.
            let ends = unsafe { ends.offset(source, target) };
            let part = Tile {
                source: ends.source,
                target: ends.target,
                columns: columns.len(),
                rows,
                source_column_stride: self.columns.source,
                source_row_stride: self.rows.source,
                target_row_stride: pitch,
            };
            // SAFETY: what is left of this group of the tile, which the caller says is readable and
            // writable.
            unsafe { copy(&part) };
        }
    }

    /// Copies as much of a tile as a shuffle plan can; returns how many rows and how many columns
    /// that was. One of the two is 0.
    ///
    /// # Safety
    /// * As for [`copy_tile`](Self::copy_tile).
    #[inline]
    unsafe fn shuffle_tile(
        &self,
        tile: &TileBounds,
        ends: Endpoints,
        pitch: isize,
        processor: &Processor,
    ) -> (usize, usize) {
        let (Some(shuffle), Some(pixel_shuffle)) = (processor.shuffle, &self.shuffle) else {
            return (0, 0);
        };
        let columns = tile.columns();
        let (shuffle_plan, count, is_deinterleaving) = match pixel_shuffle {
            PixelShuffle::Deinterleave(shuffle_plan) => {
                assert_eq!(tile.rows, self.rows.count, "a tile of parts of pixels");
                (shuffle_plan, columns, true)
            }
            PixelShuffle::Interleave(shuffle_plan) => {
                let whole = (self.columns.count, (columns * self.unit) as isize);
                assert_eq!((columns, pitch), whole, "a tile of parts of pixels");
                (shuffle_plan, tile.rows, false)
            }
        };
        let per_turn = shuffle_plan.items_per_turn;
        let turns = count / per_turn;
        if turns == 0 {
            return (0, 0);
        }
        let offset = self.source_offset(tile.row, tile.first_column);
        // SAFETY: the first unit of the tile; in the target, that is where `ends` is.
        let ends = unsafe { ends.offset(offset, 0) };
        // SAFETY: the plan reads and writes whole pixels of the tile, as was just asserted: when
        // deinterleaving all units of a column of the tile, else all units of a row. The caller
        // says that they are readable and writable.
        unsafe { shuffle(shuffle_plan, ends.source, ends.target, pitch, turns) };
        if turns * per_turn < count {
            // The last pixels, some of which are written a second time, with the same bytes.
            let first = (count - per_turn) as isize;
            let bytes = |step: isize| first * (step / per_turn as isize);
            let (source, target) =
                (bytes(shuffle_plan.source_step), bytes(shuffle_plan.target_step));
            // SAFETY: a pixel of the tile, as many before its end as one turn copies.
            let ends = unsafe { ends.offset(source, target) };
            // SAFETY: as for the other turns.
            unsafe { shuffle(shuffle_plan, ends.source, ends.target, pitch, 1) };
        }
        if is_deinterleaving { (0, count) } else { (count, 0) }
    }
}
