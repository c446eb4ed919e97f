//! The innermost loops of a copy in portable Rust. They work on every target, and other files
//! compile some of them for certain instructions.

use std::mem::MaybeUninit;

use super::interface::{Stores, Tile};
use crate::copy::endpoints::Endpoints;
use crate::layout::paired::PairedDim;

/// The functions that work on every target.
#[cfg(any(test, miri, not(any(target_arch = "aarch64", target_arch = "x86_64"))))]
pub(in crate::copy) static PORTABLE: super::interface::Processor = super::interface::Processor {
    strided_load: [
        strided_load::<u8>,
        strided_load::<u16>,
        strided_load::<u32>,
        strided_load::<u64>,
        strided_load::<u128>,
    ],
    copy_tile: [
        copy_tile::<u8>,
        copy_tile::<u16>,
        copy_tile::<u32>,
        copy_tile::<u64>,
        copy_tile::<u128>,
    ],
    shuffle: None,
    shuffle_bytes: crate::copy::sizes::VECTOR_BYTES,
    nontemporal: None,
};

/// Ordinary stores, which go through the caches.
pub(in crate::copy) static CACHED_STORES: Stores = Stores {
    copy: copy_run,
    transposes: None,
    shuffles: None,
    join_runs: None,
    fence: || {},
    prefetch: |_, _, _, _| {},
};

/// # Safety
/// * As [`StridedLoad`](super::interface::StridedLoad) says, for units of the size of `T`.
#[inline(always)]
pub(super) unsafe fn strided_load<T: Copy>(
    source: *const u8,
    stride: isize,
    target: *mut u8,
    count: usize,
) {
    // Compilers make better code for a constant stride, so the frequent ones have calls of their
    // own.
    let size = size_of::<T>() as isize;
    // SAFETY: the caller guarantees what the called function requires; `stride` is the
    // caller's in each of the four calls.
    let load = |stride: isize| unsafe { strided_load_by::<T>(source, stride, target, count) };
    match stride {
        0 => load(0),
        stride if stride == 2 * size => load(2 * size),
        stride if stride == -size => load(-size),
        stride => load(stride),
    }
}

/// # Safety
/// * As [`StridedLoad`](super::interface::StridedLoad) says, for units of the size of `T`.
#[inline(always)]
unsafe fn strided_load_by<T: Copy>(
    source: *const u8,
    stride: isize,
    target: *mut u8,
    count: usize,
) {
    for index in 0..count {
        // SAFETY: `index` is below `count`: the address of a unit that the caller says is readable.
        let source = unsafe { source.offset(index as isize * stride) };
        // SAFETY: `index` is below `count`: the address of a unit that the caller says is writable.
        let target = unsafe { target.add(index * size_of::<T>()) };
        // SAFETY: the caller says that this unit is readable and writable.
        unsafe { move_unit::<T>(source, target) };
    }
}

/// # Safety
/// * As [`CopyTile`](super::interface::CopyTile) says, for units of the size of `T`.
#[inline(always)]
pub(super) unsafe fn copy_tile<T: Copy>(tile: &Tile) {
    for row in 0..tile.rows as isize {
        // SAFETY: `row` is below `rows`: the first unit of a row of the source.
        let source = unsafe { tile.source.offset(row * tile.source_row_stride) };
        // SAFETY: `row` is below `rows`: the first unit of a row of the target.
        let target = unsafe { tile.target.offset(row * tile.target_row_stride) };
        // SAFETY: the units of that row, which the caller says are readable and writable.
        unsafe { strided_load_by::<T>(source, tile.source_column_stride, target, tile.columns) };
    }
}

/// Copies one unit of the size of `T`, whatever its bytes are.
///
/// # Safety
/// * As many bytes as a `T` has are readable at `source` and writable at `target`.
#[inline(always)]
unsafe fn move_unit<T: Copy>(source: *const u8, target: *mut u8) {
    // SAFETY: the caller says that the bytes are readable; `MaybeUninit` has no invalid values.
    let unit = unsafe { source.cast::<MaybeUninit<T>>().read_unaligned() };
    // SAFETY: the caller says that the bytes are writable.
    unsafe { target.cast::<MaybeUninit<T>>().write_unaligned(unit) };
}

/// Copies `count` runs of `bytes` each, which lie `stride` bytes apart in the source and side by
/// side in the target.
///
/// # Safety
/// * `count` runs are readable and writable there, none of their bytes both.
pub(in crate::copy) unsafe fn strided_load_runs(
    source: *const u8,
    stride: isize,
    target: *mut u8,
    bytes: usize,
    count: usize,
) {
    for index in 0..count {
        // SAFETY: `index` is below `count`: the address of a run that the caller says is readable.
        let source = unsafe { source.offset(index as isize * stride) };
        // SAFETY: `index` is below `count`: the address of a run that the caller says is writable.
        let target = unsafe { target.add(index * bytes) };
        // SAFETY: the caller says that this run is readable and writable.
        unsafe { copy_run(source, target, bytes) };
    }
}

/// Copies `bytes` that are contiguous on both sides.
///
/// # Safety
/// * `bytes` are readable from `source` on and writable from `target` on, none of them both.
#[inline]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one of them runs")]
pub(in crate::copy) unsafe fn copy_run(source: *const u8, target: *mut u8, bytes: usize) {
    // SAFETY: the caller guarantees what the called functions require; each range begins with the
    // size of its unit.
    unsafe {
        match bytes {
            0..2 | 128.. => source.copy_to_nonoverlapping(target, bytes),
            2..4 => copy_run_by::<u16>(source, target, bytes),
            4..8 => copy_run_by::<u32>(source, target, bytes),
            8..16 => copy_run_by::<u64>(source, target, bytes),
            16..128 => copy_run_by::<u128>(source, target, bytes),
        }
    }
}

/// Copies whole units from the front on, and one that ends at the end and may overlap the one
/// before.
///
/// # Safety
/// * As for [`copy_run`]; there are at least as many bytes as a `T` has.
#[inline(always)]
unsafe fn copy_run_by<T: Copy>(source: *const u8, target: *mut u8, bytes: usize) {
    let last = bytes - size_of::<T>();
    let mut offset = 0;
    loop {
        let (source, target) = (source.wrapping_add(offset), target.wrapping_add(offset));
        // SAFETY: `offset` is at most `last`, so the unit ends within the caller's `bytes`.
        unsafe { move_unit::<T>(source, target) };
        if offset == last {
            return;
        }
        offset = last.min(offset + size_of::<T>());
    }
}

/// Copies units of `unit` bytes one by one, at any strides on both sides.
///
/// # Safety
/// * Every unit that `rows` and `columns` reach is readable from `ends.source` on and writable from
///   `ends.target` on, and no byte is both. `unit` is 1, 2, 4, 8 or 16.
pub(in crate::copy) unsafe fn strided_store(
    ends: Endpoints,
    unit: usize,
    rows: PairedDim,
    columns: PairedDim,
) {
    let copy_square = match unit {
        1 => strided_store_square::<u8>,
        2 => strided_store_square::<u16>,
        4 => strided_store_square::<u32>,
        8 => strided_store_square::<u64>,
        _ => strided_store_square::<u128>,
    };
    /// Rows and columns of a square: units that are close together on either side are copied soon
    /// after each other.
    const SQUARE_UNITS: usize = 32;
    for row in (0..rows.count).step_by(SQUARE_UNITS) {
        for column in (0..columns.count).step_by(SQUARE_UNITS) {
            let part = |dim: PairedDim, first: usize| PairedDim {
                count: SQUARE_UNITS.min(dim.count - first),
                ..dim
            };
            let (first_row, first_column) = (row as isize, column as isize);
            let source = first_row * rows.source + first_column * columns.source;
            let target = first_row * rows.target + first_column * columns.target;
            // SAFETY: `row` and `column` are below the counts: the address of a unit on both sides.
            let ends = unsafe { ends.offset(source, target) };
            // SAFETY: these are some of the caller's units, which have the size of the chosen type.
            unsafe { copy_square(ends, part(rows, row), part(columns, column)) };
        }
    }
}

/// # Safety
/// * As for [`strided_store`], for units of the size of `T`.
unsafe fn strided_store_square<T: Copy>(ends: Endpoints, rows: PairedDim, columns: PairedDim) {
    for row in 0..rows.count as isize {
        for column in 0..columns.count as isize {
            let source = row * rows.source + column * columns.source;
            let target = row * rows.target + column * columns.target;
            // SAFETY: `row` and `column` are below the counts: the address of a unit on both sides.
            let Endpoints { source, target } = unsafe { ends.offset(source, target) };
            // SAFETY: a unit that the caller says is readable and writable.
            unsafe { move_unit::<T>(source, target) };
        }
    }
}
