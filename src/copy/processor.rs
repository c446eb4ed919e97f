//! What a processor is good at: the innermost work of a copy, in portable Rust here and with vector
//! instructions in [`x86`].
//!
//! Every function reads and writes whole elements and nothing else, so it may run beside code that
//! writes to the gaps between them. Nothing needs to be aligned.

use std::mem::MaybeUninit;

use super::plan::Loop;
use super::shuffle_plan::ShufflePlan;

#[cfg(target_arch = "x86_64")]
#[path = "x86.rs"]
pub(super) mod x86;

/// A rectangle of units. In the target, columns lie side by side.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) from: *const u8,
    pub(super) to: *mut u8,
    pub(super) columns: usize,
    pub(super) rows: usize,
    /// Bytes between columns and between rows of the source, and between rows of the target.
    pub(super) from_column: isize,
    pub(super) from_row: isize,
    pub(super) to_row: isize,
}

/// Writes so many units side by side that lie so many bytes apart.
///
/// # Safety
/// * `count` units are readable, `step` bytes apart, and as many writable, side by side; no byte is
///   both. The processor has the instructions.
pub(super) type StridedLoad = unsafe fn(from: *const u8, step: isize, to: *mut u8, count: usize);

/// Fills a tile of the target.
///
/// # Safety
/// * Every unit of the tile is readable in the source and writable in the target, and no byte is
///   both. The processor has the instructions.
pub(super) type Fill = unsafe fn(tile: &Tile);

/// Runs a plan so many times. The rows of the target are `pitch` bytes apart.
///
/// # Safety
/// * All that the plan names is readable and writable, and no byte is both. The processor has the
///   instructions.
pub(super) type Shuffle =
    unsafe fn(plan: &ShufflePlan, from: *const u8, to: *mut u8, pitch: isize, turns: usize);

/// How whole pieces of the target are written: past the caches, which spares reading its old content.
pub(super) struct NontemporalStores {
    /// Copies so many bytes. Nobody may look at them before the `fence`.
    ///
    /// # Safety
    /// * `bytes` are readable and writable, none of them both. The processor has the instructions.
    pub(super) copy: unsafe fn(from: *const u8, to: *mut u8, bytes: usize),
    /// Brings what was streamed in order with everything else.
    pub(super) fence: fn(),
    /// Asks for memory that will be read soon; any address will do.
    pub(super) prefetch: fn(*const u8),
}

/// The functions to use, those for units by the logarithm of their size.
pub(super) struct Processor {
    pub(super) strided_load: [StridedLoad; 5],
    pub(super) fill: [Fill; 5],
    /// `None` where vectors cannot be shuffled.
    pub(super) shuffle: Option<Shuffle>,
    /// `None` where writing past the caches is not better.
    pub(super) nontemporal: Option<NontemporalStores>,
}

/// Right on every target.
#[cfg(any(test, not(target_arch = "x86_64")))]
pub(super) static PORTABLE: Processor = Processor {
    strided_load: [strided_load::<u8>, strided_load::<u16>, strided_load::<u32>, strided_load::<u64>, strided_load::<u128>],
    fill: [fill::<u8>, fill::<u16>, fill::<u32>, fill::<u64>, fill::<u128>],
    shuffle: None,
    nontemporal: None,
};

/// The best that this machine can do.
#[inline]
pub(super) fn detect() -> &'static Processor {
    #[cfg(target_arch = "x86_64")]
    return x86::detect();
    #[cfg(not(target_arch = "x86_64"))]
    &PORTABLE
}

/// # Safety
/// * As [`StridedLoad`] says, for units of the size of `T`.
#[inline(always)]
unsafe fn strided_load<T: Copy>(from: *const u8, step: isize, to: *mut u8, count: usize) {
    // The steps that compilers make good code for are told apart.
    let size = size_of::<T>() as isize;
    // SAFETY: the caller's promise, here and below.
    let each = |step: isize| unsafe { strided_load_by::<T>(from, step, to, count) };
    match step {
        0 => each(0),
        step if step == 2 * size => each(2 * size),
        step if step == -size => each(-size),
        step => each(step),
    }
}

/// # Safety
/// * As [`StridedLoad`] says, for units of the size of `T`.
#[inline(always)]
unsafe fn strided_load_by<T: Copy>(from: *const u8, step: isize, to: *mut u8, count: usize) {
    for index in 0..count {
        // SAFETY: the address of a readable unit.
        let from = unsafe { from.offset(index as isize * step) };
        // SAFETY: the address of a writable unit.
        let to = unsafe { to.add(index * size_of::<T>()) };
        // SAFETY: both as the caller promises.
        unsafe { move_unit::<T>(from, to) };
    }
}

/// # Safety
/// * As [`Fill`] says, for units of the size of `T`.
#[inline(always)]
pub(super) unsafe fn fill<T: Copy>(tile: &Tile) {
    for row in 0..tile.rows as isize {
        // SAFETY: the first unit of a row of the tile.
        let from = unsafe { tile.from.offset(row * tile.from_row) };
        // SAFETY: likewise.
        let to = unsafe { tile.to.offset(row * tile.to_row) };
        // SAFETY: the units of that row.
        unsafe { strided_load_by::<T>(from, tile.from_column, to, tile.columns) };
    }
}

/// Copies one unit of the size of `T`, whatever its bytes are.
///
/// # Safety
/// * So many bytes are readable and writable.
#[inline(always)]
pub(super) unsafe fn move_unit<T: Copy>(from: *const u8, to: *mut u8) {
    // SAFETY: the caller's promise; `MaybeUninit` has no invalid values.
    let unit = unsafe { from.cast::<MaybeUninit<T>>().read_unaligned() };
    // SAFETY: the caller's promise.
    unsafe { to.cast::<MaybeUninit<T>>().write_unaligned(unit) };
}

/// Writes runs of `bytes` side by side that lie `step` bytes apart.
///
/// # Safety
/// * `count` runs are readable and writable, none of their bytes both.
pub(super) unsafe fn strided_load_runs(from: *const u8, step: isize, to: *mut u8, bytes: usize, count: usize) {
    for index in 0..count {
        // SAFETY: the address of a readable run.
        let from = unsafe { from.offset(index as isize * step) };
        // SAFETY: the address of a writable run.
        let to = unsafe { to.add(index * bytes) };
        // SAFETY: both as the caller promises.
        unsafe { copy_run(from, to, bytes) };
    }
}

/// Copies bytes that follow each other.
///
/// # Safety
/// * So many bytes are readable and writable, none of them both.
#[inline]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one of them runs")]
pub(super) unsafe fn copy_run(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise, and as many bytes as a unit has.
    unsafe {
        match bytes {
            0..2 | 128.. => from.copy_to_nonoverlapping(to, bytes),
            2..4 => copy_by::<u16>(from, to, bytes),
            4..8 => copy_by::<u32>(from, to, bytes),
            8..16 => copy_by::<u64>(from, to, bytes),
            16..128 => copy_by::<u128>(from, to, bytes),
        }
    }
}

/// Copies whole units from the front on, and one that ends at the end.
///
/// # Safety
/// * As for [`copy_run`]; there are at least as many bytes as a `T` has.
#[inline(always)]
unsafe fn copy_by<T: Copy>(from: *const u8, to: *mut u8, bytes: usize) {
    let last = bytes - size_of::<T>();
    let mut offset = 0;
    loop {
        let (from, to) = (from.wrapping_add(offset), to.wrapping_add(offset));
        // SAFETY: within the run.
        unsafe { move_unit::<T>(from, to) };
        if offset == last {
            return;
        }
        offset = last.min(offset + size_of::<T>());
    }
}

/// Copies units one by one, wherever they are.
///
/// # Safety
/// * As [`Fill`] says, for units of so many bytes, 1, 2, 4, 8 or 16.
pub(super) unsafe fn strided_store(from: *const u8, to: *mut u8, unit: usize, rows: Loop, columns: Loop) {
    let move_unit = match unit {
        1 => move_unit::<u8>,
        2 => move_unit::<u16>,
        4 => move_unit::<u32>,
        8 => move_unit::<u64>,
        _ => move_unit::<u128>,
    };
    // Units that are close together on either side are copied soon after each other.
    const SQUARE_UNITS: usize = 32;
    for first_row in (0..rows.count).step_by(SQUARE_UNITS) {
        for first_column in (0..columns.count).step_by(SQUARE_UNITS) {
            for row in first_row..rows.count.min(first_row + SQUARE_UNITS) {
                for column in first_column..columns.count.min(first_column + SQUARE_UNITS) {
                    let (row, column) = (row as isize, column as isize);
                    // SAFETY: the address of a readable unit.
                    let from = unsafe { from.offset(row * rows.from + column * columns.from) };
                    // SAFETY: the address of a writable unit.
                    let to = unsafe { to.offset(row * rows.to + column * columns.to) };
                    // SAFETY: as the caller promises.
                    unsafe { move_unit(from, to) };
                }
            }
        }
    }
}
