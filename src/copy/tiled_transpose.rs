//! Matrices whose rows and columns change places: copied in tiles.

use std::ops::Range;

use super::CACHE_LINE_BYTES;
use super::plan::{Loop, CopyPlan, TILE_WIDTH_BYTES};
use super::processor::{Processor, Tile};
use super::shuffle_plan::{ShufflePlan, VECTOR_BYTES, SHUFFLE_MIN_BYTES};
use super::store_buffer::{APPEND_MAX_BYTES, STORE_BUFFER_BYTES, StoreBuffer};

/// The target has `columns` of units side by side, and `blocks` of them side by side; the source has
/// `rows` closer together.
pub(super) struct TiledTranspose {
    unit: usize,
    rows: Loop,
    blocks: Loop,
    columns: Loop,
    pixels: Option<Pixels>,
}

/// A small dimension of units without gaps.
enum Pixels {
    /// In the source: all rows.
    Deinterleave(ShufflePlan),
    /// In the target: all columns.
    Interleave(ShufflePlan),
}

/// Bytes from row to row in the buffer: an odd number of lines, or neighbours would compete for the same
/// places in the cache.
fn pitch(width: usize) -> usize {
    width.next_multiple_of(CACHE_LINE_BYTES) | CACHE_LINE_BYTES
}

/// Rows of at most so many bytes, if the target has them side by side, are put together.
const APPEND_ROW_MAX_BYTES: usize = 1 << 10;

/// How a matrix is divided into parts.
struct Grid {
    /// The most rows, blocks and columns of a part.
    high: usize,
    blocks: usize,
    wide: usize,
    /// By how many columns rows are shifted to the left at least and at most.
    least: usize,
    most: usize,
}

/// A part of a matrix.
#[derive(Clone, Copy)]
struct Part {
    row: usize,
    rows: usize,
    block: usize,
    blocks: usize,
    /// Where it would begin without shifts.
    column: usize,
    /// Columns that it needs, shifts included.
    first: usize,
    end: usize,
    /// Whether it goes to the end of the columns.
    last: bool,
}

impl TiledTranspose {
    pub(super) fn new(plan: &CopyPlan, rows: Loop, blocks: Loop, columns: Loop, processor: &Processor) -> Self {
        let unit = plan.unit;
        let shuffles = processor.shuffle.is_some() && blocks.count == 1 && plan.bytes() >= SHUFFLE_MIN_BYTES;
        // Few rows that are pixels in the source, or few columns that are pixels in the target. Where
        // there are as many as a vector has units, they are transposed as well as shuffled.
        let few = |count: usize| shuffles && count * unit < VECTOR_BYTES;
        let whole = rows.from == unit as isize;
        let pixels = if few(rows.count) && whole && columns.from == (rows.count * unit) as isize {
            Some(Pixels::Deinterleave(ShufflePlan::deinterleave(rows.count, unit)))
        } else if few(columns.count) && whole && rows.to == (columns.count * unit) as isize {
            Some(Pixels::Interleave(ShufflePlan::interleave(columns.count, columns.from, unit)))
        } else {
            None
        };
        Self { unit, rows, blocks, columns, pixels }
    }

    /// Copies it.
    ///
    /// # Safety
    /// * Its units are readable from `from` on and writable from `to` on, and no byte is both. The
    ///   processor has the instructions.
    pub(super) unsafe fn copy(&self, from: *const u8, to: *mut u8, processor: &Processor) {
        let grid = self.grid();
        let mut next = Some(self.part(&grid, 0, 0, 0));
        while let Some(part) = next {
            // SAFETY: a unit of the matrix.
            let to = unsafe { to.offset(self.place(&part, part.row, part.first)) };
            // SAFETY: the caller's promise, for a part of the matrix.
            unsafe { self.fill(&part, from, to, self.rows.to, processor) };
            next = self.after(&grid, &part);
        }
    }

    /// Copies it piece by piece through the buffer of a buffer. After it may come another matrix, `step`
    /// bytes on in the source.
    ///
    /// # Safety
    /// * As for [`copy`](Self::copy).
    pub(super) unsafe fn copy_through(
        &self,
        from: *const u8,
        to: *mut u8,
        step: isize,
        processor: &Processor,
        buffer: &mut StoreBuffer<'_>,
    ) {
        let row = self.blocks.count * self.columns.count * self.unit;
        // Pixels are split to all rows at once, so there must be room for all.
        let whole = self.rows.count * row <= APPEND_MAX_BYTES || !matches!(self.pixels, Some(Pixels::Deinterleave(_)));
        if self.rows.to == row as isize && row <= APPEND_ROW_MAX_BYTES && whole {
            // SAFETY: the caller's promise; the target is one run of bytes.
            return unsafe { self.append(from, to, processor, buffer) };
        }
        // A row's share of a part begins on a line of the target: it is shifted to the left by what the row
        // begins beyond a line, and the buffer holds the columns of all shares.
        let beyond = |to: *mut u8| if self.blocks.count == 1 { to.addr() % CACHE_LINE_BYTES / self.unit } else { 0 };
        let mut grid = self.grid();
        if self.blocks.count == 1 {
            let alike = self.rows.to % CACHE_LINE_BYTES as isize == 0;
            (grid.least, grid.most) = if alike { (beyond(to), beyond(to)) } else { (0, CACHE_LINE_BYTES / self.unit) };
            grid.wide = grid.wide.max(CACHE_LINE_BYTES / self.unit);
        }
        let (buffer, stores) = (buffer.scratch(), buffer.stores);
        let mut next = Some(self.part(&grid, 0, 0, 0));
        while let Some(part) = next {
            let pitch = pitch(part.blocks * (part.end - part.first) * self.unit);
            debug_assert!(part.rows * pitch <= STORE_BUFFER_BYTES);
            // SAFETY: the caller's promise, for a part that fits the buffer.
            unsafe { self.fill(&part, from, buffer, pitch as isize, processor) };
            next = self.after(&grid, &part);
            let (coming, source) = match next {
                Some(coming) => (coming, from),
                None => (self.part(&grid, 0, 0, 0), from.wrapping_offset(step)),
            };
            for index in 0..part.rows {
                // While rows leave, columns of the next part arrive.
                let columns = coming.blocks * (coming.end - coming.first);
                let columns = index * columns / part.rows..(index + 1) * columns / part.rows;
                self.prefetch(&coming, source, columns, stores.prefetch);
                let row = part.row + index;
                let shift = beyond(to.wrapping_offset(row as isize * self.rows.to));
                let begin = if part.column == 0 { 0 } else { part.column - shift };
                let end = if part.last { self.columns.count } else { part.column + grid.wide - shift };
                let staged = index * pitch + (begin - part.first) * self.unit;
                let bytes = part.blocks * (end - begin) * self.unit;
                // SAFETY: a unit of the matrix.
                let to = unsafe { to.offset(self.place(&part, row, begin)) };
                // SAFETY: `bytes` of a row, in the buffer and where they go.
                unsafe { (stores.copy)(buffer.wrapping_add(staged), to, bytes) };
            }
        }
    }

    /// Puts short rows together that follow each other in the target.
    ///
    /// # Safety
    /// * As for [`copy`](Self::copy).
    unsafe fn append(&self, from: *const u8, to: *mut u8, processor: &Processor, buffer: &mut StoreBuffer<'_>) {
        let bytes = self.blocks.count * self.columns.count * self.unit;
        let most = APPEND_MAX_BYTES / bytes;
        for row in (0..self.rows.count).step_by(most) {
            let rows = most.min(self.rows.count - row);
            let (blocks, end) = (self.blocks.count, self.columns.count);
            let part = Part { row, rows, block: 0, blocks, column: 0, first: 0, end, last: true };
            // SAFETY: these rows follow each other from there on, and are put into the room at once.
            let room = unsafe { buffer.room(to.wrapping_add(row * bytes), rows * bytes) };
            // SAFETY: the caller's promise, for these rows; there is room.
            unsafe { self.fill(&part, from, room, bytes as isize, processor) };
        }
    }

    /// Offset of a unit in the target.
    fn place(&self, part: &Part, row: usize, column: usize) -> isize {
        row as isize * self.rows.to + part.block as isize * self.blocks.to + (column * self.unit) as isize
    }

    /// Parts that fit the buffer of a buffer: [`TILE_WIDTH_BYTES`] if they can be a few lines of the source high,
    /// wider where there are few rows, higher where there are few columns.
    fn grid(&self) -> Grid {
        let line = CACHE_LINE_BYTES / self.unit;
        let width = if self.rows.count < 8 { 4096 } else { TILE_WIDTH_BYTES };
        let wide = self.columns.count.min(width / self.unit);
        let whole = wide == self.columns.count;
        let blocks = if whole { (width / (wide * self.unit)).clamp(1, self.blocks.count) } else { 1 };
        let fit = STORE_BUFFER_BYTES / pitch(blocks * wide * self.unit + CACHE_LINE_BYTES);
        // Whole lines of the source, unless these are all rows.
        let high = if fit < self.rows.count { fit.min(4 * line) / line * line } else { self.rows.count };
        Grid { high, blocks, wide, least: 0, most: 0 }
    }

    /// The part that begins there.
    fn part(&self, grid: &Grid, row: usize, block: usize, column: usize) -> Part {
        let last = self.columns.count + grid.least <= column + grid.wide;
        Part {
            row,
            rows: grid.high.min(self.rows.count - row),
            block,
            blocks: grid.blocks.min(self.blocks.count - block),
            column,
            first: column.saturating_sub(grid.most),
            end: if last { self.columns.count } else { column + grid.wide - grid.least },
            last,
        }
    }

    /// The part after another: down the rows, then along the columns, then to other blocks.
    fn after(&self, grid: &Grid, part: &Part) -> Option<Part> {
        if part.row + part.rows < self.rows.count {
            Some(self.part(grid, part.row + part.rows, part.block, part.column))
        } else if !part.last {
            Some(self.part(grid, 0, part.block, part.column + grid.wide))
        } else if part.block + part.blocks < self.blocks.count {
            Some(self.part(grid, 0, part.block + part.blocks, 0))
        } else {
            None
        }
    }

    /// Asks for some columns of what a part will read.
    fn prefetch(&self, part: &Part, from: *const u8, columns: Range<usize>, prefetch: fn(*const u8)) {
        // Columns that are close to each other the processor fetches by itself.
        let close = self.columns.from.unsigned_abs() <= 4 * CACHE_LINE_BYTES;
        if close || self.rows.from != self.unit as isize {
            return;
        }
        let wide = part.end - part.first;
        for column in columns {
            let offset = part.row as isize * self.rows.from
                + (part.block + column / wide) as isize * self.blocks.from
                + (part.first + column % wide) as isize * self.columns.from;
            for line in (0..part.rows * self.unit).step_by(CACHE_LINE_BYTES) {
                prefetch(from.wrapping_offset(offset).wrapping_add(line));
            }
        }
    }

    /// Puts a part to `to`, its rows so many bytes apart.
    ///
    /// # Safety
    /// * The part is one of the matrix that is readable from `from` on, and writable at `to`; no
    ///   byte is both. The processor has the instructions.
    unsafe fn fill(&self, part: &Part, from: *const u8, to: *mut u8, pitch: isize, processor: &Processor) {
        let Part { row, rows, block, blocks, first: column, end, .. } = *part;
        let columns = end - column;
        let fill = processor.fill[self.unit.trailing_zeros() as usize];
        let (mut done_rows, mut done_columns) = (0, 0);
        if let (Some(shuffle), Some(pixels)) = (processor.shuffle, &self.pixels) {
            let offset = row as isize * self.rows.from + column as isize * self.columns.from;
            // SAFETY: the first unit of the part.
            let from = unsafe { from.offset(offset) };
            let (shuffle_plan, turns) = match pixels {
                Pixels::Deinterleave(shuffle_plan) => {
                    assert_eq!(rows, self.rows.count, "a part of pixels");
                    let turns = columns / shuffle_plan.turn;
                    done_columns = turns * shuffle_plan.turn;
                    (shuffle_plan, turns)
                }
                Pixels::Interleave(shuffle_plan) => {
                    let whole = (self.columns.count, (columns * self.unit) as isize);
                    assert_eq!((columns, pitch), whole, "a part of pixels");
                    let turns = rows / shuffle_plan.turn;
                    done_rows = turns * shuffle_plan.turn;
                    (shuffle_plan, turns)
                }
            };
            // SAFETY: the caller's promise, for whole pixels, as was just asserted: a shuffle_plan reaches all
            // few rows, or all few columns side by side.
            unsafe { shuffle(shuffle_plan, from, to, pitch, turns) };
            if done_rows == rows || done_columns == columns {
                return;
            }
        }
        for index in 0..blocks {
            let offset = (row + done_rows) as isize * self.rows.from
                + (block + index) as isize * self.blocks.from
                + (column + done_columns) as isize * self.columns.from;
            let place = done_rows as isize * pitch + ((index * columns + done_columns) * self.unit) as isize;
            let tile = Tile {
                // SAFETY: a unit of the matrix, or the end of a row or column.
                from: unsafe { from.offset(offset) },
                // SAFETY: where it goes.
                to: unsafe { to.offset(place) },
                columns: columns - done_columns,
                rows: rows - done_rows,
                from_column: self.columns.from,
                from_row: self.rows.from,
                to_row: pitch,
            };
            // SAFETY: the caller's promise, for one block of the part.
            unsafe { fill(&tile) };
        }
    }
}
