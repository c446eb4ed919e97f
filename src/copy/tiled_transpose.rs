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
//!   | tile k    | ----------> | rows of tile k,      | ----------> | shares of rows,           |
//!   +-----------+  strip by   | `pitch` bytes apart  |  `stores`   | in whole cache lines      |
//!   +-----------+  strip      +----------------------+             +---------------------------+
//!   | tile k+1  | <--- prefetch: after each strip of tile k, as many columns of tile k+1, so that
//!   +-----------+      memory is read while registers are shuffled
//! ```
//!
//! The rows of a tile leave together, after its last strip. Writing them between the strips was
//! slower when it was measured. A tile of whole cache lines has a function of its own
//! ([`TransposeLines`]), whose buffer holds squares instead of rows. It prefetches one half of tile
//! k+1 while registers are shuffled, and the other half while rows are written.
//!
//! Short rows that are contiguous in the target need no grid: many of them are transposed into the
//! buffer at once ([`TiledTranspose::append_rows`]).
//!
//! [`tile_grid`]: super::tile_grid

use std::ops::Range;

use super::copy_plan::CopyPlan;
use super::endpoints::Endpoints;
use super::line_shuffle::shuffle_to_lines;
use super::pixel_shuffle::{PIXEL_MAX_BYTES, PixelShuffle};
use super::processor::{ColumnGroups, LineTile, Processor, Stores, Tile, TransposeLines};
use super::sizes::CACHE_LINE_BYTES;
use super::store_buffer::{APPEND_MAX_BYTES, Items, StoreBuffer};
use super::tile_grid::{MatrixSize, TileBounds, TileGrid, row_pitch};
use crate::layout::paired::PairedDim;

/// Minimum height (cache lines of the source) of a part of a matrix for appending its rows to the
/// store buffer.
const APPENDED_LINES: usize = 4;

/// Maximum size (bytes) of rows that are no whole cache lines, for which one line of the source is
/// high enough: tiles of such rows share most of their lines with other tiles.
const APPENDED_ROW_MAX_BYTES: usize = 512;

/// A transpose. In the target, `columns` of units are side by side, and so are `groups` of columns,
/// and groups of these groups; in the source, rows are closer together than columns.
pub(super) struct TiledTranspose {
    unit: usize,
    rows: PairedDim,
    outer_groups: PairedDim,
    groups: PairedDim,
    columns: PairedDim,
    /// Tiles whose boundaries are not shifted.
    grid: TileGrid,
    shuffle: Option<PixelShuffle>,
    /// Whether the next tile is prefetched.
    prefetches: bool,
}

/// A tile in the store buffer.
struct BufferedTile {
    bounds: TileBounds,
    /// Where its first unit is.
    address: *const u8,
    /// Bytes from row to row.
    pitch: usize,
}

/// A tile that will be copied next.
struct ComingTile {
    bounds: TileBounds,
    /// The first unit of its matrix in the source.
    source: *const u8,
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
        let size = MatrixSize { unit, rows: rows.count, columns: all_columns };
        let grid = TileGrid::new(size, nontemporal);
        let share_lines = columns.source.unsigned_abs() < CACHE_LINE_BYTES;
        let prefetches = nontemporal && rows_follow && !share_lines;
        Self { unit, rows, outer_groups, groups, columns, grid, shuffle, prefetches }
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
        // Images are shuffled whole.
        let is_whole = self.shuffle.is_some() || self.appends_rows();
        (bands > 1 && !is_whole).then_some((distance, bands))
    }

    /// Copies the matrix, or a band of it, through the store buffer. After it may come another
    /// matrix, or the same band of it, `next_source` bytes on in the source. The first tile of that
    /// one is prefetched.
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
        if self.appends_rows() {
            // SAFETY: the caller says that the matrix is readable and writable; its rows are
            // contiguous in the target.
            return unsafe { self.append_rows(ends, next_source, processor, buffer) };
        }
        let grid = self.grid.aligned_to(ends.target, self.rows.target);
        let stores = buffer.stores();
        let first = band.map_or_else(|| Some(grid.first()), |band| grid.first_of_band(band));
        let mut next = first;
        while let (Some(bounds), Some(first)) = (next, first) {
            next = grid.after(&bounds).filter(|tile| band.is_none() || tile.row > 0);
            let coming = match next {
                Some(bounds) => ComingTile { bounds, source: ends.source },
                None => {
                    let source = ends.source.wrapping_offset(next_source);
                    ComingTile { bounds: first, source }
                }
            };
            if let Some(transpose) = self.line_transpose(&grid, &bounds, ends.target, stores) {
                let address = buffer.scratch(bounds.rows * self.width(&bounds));
                let tile = self.line_tile(&bounds, ends, address, &coming);
                // SAFETY: `line_transpose` found that the rows are one unit apart in the source,
                // that lines and lanes are whole, and where rows begin; the caller says that the
                // tile is readable and writable, and that the processor has the instructions;
                // `scratch` gave room for the tile.
                unsafe { transpose(&tile) };
                continue;
            }
            self.prefetch_target(&grid, &bounds, ends.target, stores);
            let pitch = row_pitch(self.width(&bounds));
            let address = buffer.scratch(bounds.rows * pitch);
            let into_buffer = Endpoints { source: ends.source, target: address };
            // SAFETY: the caller says that the matrix is readable; `scratch` gave room for the rows
            // of the tile, `pitch` bytes apart, which is at least the width of the tile.
            unsafe { self.copy_strips(&bounds, into_buffer, pitch, &coming, (processor, stores)) };
            let tile = BufferedTile { bounds, address, pitch };
            // SAFETY: the tile was just copied to the buffer; the caller says that its units are
            // writable.
            unsafe { self.write_rows(&grid, &tile, ends.target, stores) };
        }
    }

    /// Bytes of a row of a tile.
    fn width(&self, tile: &TileBounds) -> usize {
        tile.columns() * self.unit
    }

    /// The function that transposes the tile without rows in the buffer, if the tile consists of
    /// whole cache lines on both sides. The matrix begins at `target`.
    fn line_transpose(
        &self,
        grid: &TileGrid,
        tile: &TileBounds,
        target: *mut u8,
        stores: &Stores,
    ) -> Option<TransposeLines> {
        let width = self.width(tile);
        let in_lines = |bytes: usize| bytes.is_multiple_of(CACHE_LINE_BYTES);
        let has_lines = in_lines(width) && in_lines(tile.rows * self.unit);
        let rows_follow = self.rows.source == self.unit as isize;
        if !(self.prefetches && rows_follow && has_lines) {
            return None;
        }
        let transposes = if grid.shifts_rows(tile) {
            stores.transpose_shifted_lines
        } else {
            // All columns of the tile are written, and each row begins on a cache line.
            let row = target.wrapping_offset(self.target_offset(tile.row, tile.column));
            let first = (tile.column - tile.first_column) * self.unit;
            let share = grid.share_of_row(tile, row);
            let is_whole = share == (-(first as isize)..width as isize - first as isize);
            let rows_in_lines = in_lines(row.wrapping_sub(first).addr())
                && in_lines(self.rows.target.unsigned_abs());
            stores.transpose_lines.filter(|_| is_whole && rows_in_lines)
        };
        transposes?.get(self.unit.trailing_zeros() as usize).copied()
    }

    /// A tile of whole lines, which is copied by way of `buffer`.
    fn line_tile(
        &self,
        tile: &TileBounds,
        ends: Endpoints,
        buffer: *mut u8,
        coming: &ComingTile,
    ) -> LineTile {
        let row = |tile: &TileBounds| tile.row as isize * self.rows.source;
        let offset = self.target_offset(tile.row, tile.first_column);
        LineTile {
            source: ends.source.wrapping_offset(row(tile)),
            source_columns: self.source_columns(),
            target: ends.target.wrapping_offset(offset),
            target_row_stride: self.rows.target,
            first_column: tile.first_column,
            columns: tile.columns(),
            rows: tile.rows,
            buffer,
            next_source: coming.source.wrapping_offset(row(&coming.bounds)),
            next_first_column: coming.bounds.first_column,
            next_rows: coming.bounds.rows,
        }
    }

    /// Whether rows are short and contiguous in the target, so that many of them are put into the
    /// store buffer at once.
    fn appends_rows(&self) -> bool {
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
    unsafe fn append_rows(
        &self,
        ends: Endpoints,
        next_source: isize,
        processor: &Processor,
        buffer: &mut StoreBuffer<'_>,
    ) {
        let row = self.row_bytes();
        let stores = buffer.stores();
        let write = |rows: Range<usize>, target: *mut u8| {
            let tile = self.grid.tile_of_rows(rows.clone());
            let (first, source) = match rows.end == self.rows.count {
                true => (0, ends.source.wrapping_offset(next_source)),
                false => (rows.end, ends.source),
            };
            let end = self.rows.count.min(first + rows.len());
            let coming = ComingTile { bounds: self.grid.tile_of_rows(first..end), source };
            let ends = Endpoints { source: ends.source, target };
            // SAFETY: the caller says that the matrix is readable; the buffer has room for these
            // rows at `target`, one after the other.
            unsafe { self.copy_strips(&tile, ends, row, &coming, (processor, stores)) };
        };
        let rows = Items { count: self.rows.count, bytes: row };
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

    /// Offset of a unit in the target.
    fn target_offset(&self, row: usize, column: usize) -> isize {
        row as isize * self.rows.target + (column * self.unit) as isize
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

    /// Prefetches what a strip of the coming tile, whose matrix begins at `source`, will read.
    #[inline]
    fn prefetch_strip(&self, strip: &TileBounds, source: *const u8, stores: &Stores) {
        for columns in self.in_groups(strip.first_column..strip.end_column) {
            let offset = self.source_offset(strip.row, columns.start);
            let source = source.wrapping_offset(offset);
            let bytes = strip.rows * self.unit;
            (stores.prefetch)(source, self.columns.source, columns.len(), bytes);
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
        coming: &ComingTile,
        (processor, stores): (&Processor, &Stores),
    ) {
        if !self.prefetches {
            // SAFETY: the caller guarantees what the called function requires.
            return unsafe { self.copy_tile(tile, ends, pitch as isize, processor) };
        }
        let mut coming_strips = coming.bounds.strips(self.unit);
        let prefetch = |strip| self.prefetch_strip(&strip, coming.source, stores);
        for strip in tile.strips(self.unit) {
            let columns = strip.first_column - tile.first_column;
            // SAFETY: the first unit of a strip of the tile, which the caller says is writable; in
            // the source nothing is moved.
            let ends = unsafe { ends.offset(0, (columns * self.unit) as isize) };
            // SAFETY: the caller guarantees for the whole tile what the called function requires.
            unsafe { self.copy_tile(&strip, ends, pitch as isize, processor) };
            coming_strips.next().into_iter().for_each(prefetch);
        }
        // The coming tile may have more strips than this one.
        coming_strips.for_each(prefetch);
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
