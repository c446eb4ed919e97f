//! Matrices whose rows and columns change places: copied in tiles.

use super::LINE;
use super::plan::{Loop, Plan};
use super::processor::{Processor, Tile};
use super::shuffle::{Program, VECTOR};
use super::stage::{ROOM, SIZE, Stage};

/// The target has `columns` of units side by side, and `blocks` of them side by side; the source has
/// `rows` closer together.
pub(super) struct Matrix {
    unit: usize,
    rows: Loop,
    blocks: Loop,
    columns: Loop,
    pixels: Option<Pixels>,
}

/// A small dimension of units without gaps.
enum Pixels {
    /// In the source: all rows.
    Split(Program),
    /// In the target: all columns.
    Merge(Program),
}

/// Writing a program takes about as long as copying so many bytes without one.
const WORTH: usize = 4 << 10;

/// Bytes from row to row in the buffer: an odd number of lines, or neighbours would compete for the same
/// places in the cache.
fn pitch(width: usize) -> usize {
    width.next_multiple_of(LINE) | LINE
}

/// Bytes of the target that a part has side by side.
const WIDE: usize = 256;

/// Rows of at most so many bytes, if the target has them side by side, are put together.
const SHORT: usize = 1 << 10;

/// A part of a matrix: first row, block and column, and how many of each.
#[derive(Clone, Copy)]
struct Part {
    first: [usize; 3],
    count: [usize; 3],
}

impl Matrix {
    pub(super) fn new(plan: &Plan, rows: Loop, blocks: Loop, columns: Loop, processor: &Processor) -> Self {
        let unit = plan.unit;
        let shuffles = processor.shuffle.is_some() && blocks.count == 1 && plan.bytes() >= WORTH;
        // Few rows that are pixels in the source, or few columns that are pixels in the target. Where
        // there are as many as a vector has units, they are transposed as well as shuffled.
        let few = |count: usize| shuffles && count * unit < VECTOR;
        let whole = rows.from == unit as isize;
        let pixels = if few(rows.count) && whole && columns.from == (rows.count * unit) as isize {
            Some(Pixels::Split(Program::split(rows.count, unit)))
        } else if few(columns.count) && whole && rows.to == (columns.count * unit) as isize {
            Some(Pixels::Merge(Program::merge(columns.count, columns.from, unit)))
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
        self.for_each_part(self.part(), |part| {
            let [row, block, column] = part.first;
            let offset = row as isize * self.rows.to + self.column_offset(block, column);
            // SAFETY: a unit of the matrix.
            let to = unsafe { to.offset(offset) };
            // SAFETY: the caller's promise, for a part of the matrix.
            unsafe { self.fill(part, from, to, self.rows.to, processor) };
        });
    }

    /// Copies it past the caches.
    ///
    /// # Safety
    /// * As for [`copy`](Self::copy).
    pub(super) unsafe fn stream(
        &self,
        from: *const u8,
        to: *mut u8,
        processor: &Processor,
        stage: &mut Stage<'_>,
    ) {
        let row = self.blocks.count * self.columns.count * self.unit;
        if self.rows.to == row as isize && row <= SHORT {
            let most = ROOM / row;
            for first in (0..self.rows.count).step_by(most) {
                let rows = most.min(self.rows.count - first);
                let part =
                    Part { first: [first, 0, 0], count: [rows, self.blocks.count, self.columns.count] };
                // SAFETY: these rows follow each other from there on.
                let room = unsafe { stage.room(to.wrapping_add(first * row), rows * row) };
                // SAFETY: the caller's promise, for these rows; there is room.
                unsafe { self.fill(part, from, room, row as isize, processor) };
            }
            return;
        }
        // Parts of rows begin on lines of the target: each row has its part shifted to the left by what it
        // is beyond a line, and the buffer holds the columns of all of them.
        let beyond = |to: *mut u8| if self.blocks.count == 1 { to.addr() % LINE / self.unit } else { 0 };
        let (least, most) = match self.rows.to as usize % LINE {
            0 => (beyond(to), beyond(to)),
            _ if self.blocks.count == 1 => (0, LINE / self.unit),
            _ => (0, 0),
        };
        let source = from;
        let [high, blocks, wide] = self.part();
        let wide = wide.max(LINE / self.unit);
        let (buffer, streaming) = (stage.scratch(), stage.streaming);
        for block in (0..self.blocks.count).step_by(blocks) {
            let blocks = blocks.min(self.blocks.count - block);
            for column in (0..self.columns.count + least).step_by(wide) {
                let first = column.saturating_sub(most);
                let next = column + wide;
                let last = self.columns.count + least <= next;
                let end = if last { self.columns.count } else { next - least };
                let pitch = pitch(blocks * (end - first) * self.unit);
                for row in (0..self.rows.count).step_by(high) {
                    let rows = high.min(self.rows.count - row);
                    let part = Part { first: [row, block, first], count: [rows, blocks, end - first] };
                    debug_assert!(rows * pitch <= SIZE);
                    // SAFETY: the caller's promise, for a part that fits the buffer.
                    unsafe { self.fill(part, from, buffer, pitch as isize, processor) };
                    let below = rows.min(self.rows.count - row - rows);
                    let below = Part { first: [row + rows, block, first], count: [below, 1, end - first] };
                    for index in 0..rows {
                        // While rows leave, columns of the next part arrive.
                        let columns = index * below.count[2] / rows..(index + 1) * below.count[2] / rows;
                        self.prefetch(below, source, streaming.prefetch, columns);
                        // SAFETY: the first unit of a row.
                        let to = unsafe { to.offset((row + index) as isize * self.rows.to) };
                        let shift = beyond(to);
                        let begin = if column == 0 { 0 } else { column - shift };
                        let end = if last { self.columns.count } else { next - shift };
                        // SAFETY: a unit of a row of the buffer.
                        let from = unsafe { buffer.add(index * pitch + (begin - first) * self.unit) };
                        // SAFETY: where it goes.
                        let to = unsafe { to.offset(self.column_offset(block, begin)) };
                        // SAFETY: what follows it in the row, on both sides.
                        unsafe { (streaming.copy)(from, to, blocks * (end - begin) * self.unit) };
                    }
                }
                if last {
                    break;
                }
            }
        }
    }

    /// Offset of a column in a row of the target.
    fn column_offset(&self, block: usize, column: usize) -> isize {
        ((block * self.columns.count + column) * self.unit) as isize
    }

    /// Rows, blocks and columns of a part that fits the buffer of a stage: [`WIDE`] if it can be a few
    /// lines of the source high, wider where there are few rows, higher where there are few columns.
    fn part(&self) -> [usize; 3] {
        let line = LINE / self.unit;
        let fit = |width: usize| (SIZE / pitch(width + LINE)).min(self.rows.count);
        let width = if self.rows.count < 8 { 4096 } else { WIDE };
        let columns = self.columns.count.min(width / self.unit);
        let blocks = if columns == self.columns.count { width / (columns * self.unit) } else { 1 };
        let blocks = self.blocks.count.min(blocks);
        let rows = fit(blocks * columns * self.unit);
        // Whole lines of the source, unless these are all rows.
        let rows = if rows < self.rows.count { rows.min(4 * line) / line * line } else { rows };
        [rows, blocks, columns]
    }

    /// Asks for what another part will read.
    fn prefetch(
        &self,
        part: Part,
        from: *const u8,
        prefetch: fn(*const u8),
        columns: std::ops::Range<usize>,
    ) {
        let [row, block, first] = part.first;
        let length = part.count[0] as isize * self.rows.from;
        if self.rows.from != self.unit as isize {
            return;
        }
        for column in columns {
            let offset = row as isize * self.rows.from
                + block as isize * self.blocks.from
                + (first + column) as isize * self.columns.from;
            for line in (0..length).step_by(LINE) {
                prefetch(from.wrapping_offset(offset + line));
            }
        }
    }

    /// Calls `body` with all parts, down the rows first.
    fn for_each_part(&self, size: [usize; 3], mut body: impl FnMut(Part)) {
        let mut block = 0;
        while block < self.blocks.count {
            let blocks = size[1].min(self.blocks.count - block);
            let mut column = 0;
            while column < self.columns.count {
                let columns = size[2].min(self.columns.count - column);
                let mut row = 0;
                while row < self.rows.count {
                    let rows = size[0].min(self.rows.count - row);
                    body(Part { first: [row, block, column], count: [rows, blocks, columns] });
                    row += rows;
                }
                column += columns;
            }
            block += blocks;
        }
    }

    /// Puts a part to `to`, its rows so many bytes apart.
    ///
    /// # Safety
    /// * The part is one of the matrix that is readable from `from` on, and writable at `to`; no
    ///   byte is both. The processor has the instructions.
    unsafe fn fill(&self, part: Part, from: *const u8, to: *mut u8, pitch: isize, processor: &Processor) {
        let [row, block, column] = part.first;
        let [rows, blocks, columns] = part.count;
        let fill = processor.fill[self.unit.trailing_zeros() as usize];
        let (mut done_rows, mut done_columns) = (0, 0);
        if let (Some(shuffle), Some(pixels)) = (processor.shuffle, &self.pixels) {
            let offset = row as isize * self.rows.from + column as isize * self.columns.from;
            // SAFETY: the first unit of the part.
            let from = unsafe { from.offset(offset) };
            let (program, turns) = match pixels {
                Pixels::Split(program) => (program, columns / program.turn),
                Pixels::Merge(program) => (program, rows / program.turn),
            };
            match pixels {
                Pixels::Split(_) => done_columns = turns * program.turn,
                Pixels::Merge(_) => done_rows = turns * program.turn,
            }
            // SAFETY: the caller's promise, for whole pixels: a part has all few rows, or columns.
            unsafe { shuffle(program, from, to, pitch, turns) };
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
