//! Checks that bytes are 0 or 1, the only values of a Rust `bool`.

use crate::Layout;
use crate::layout::paired::{PairedDim, PairedDims};

/// A byte that is neither 0 nor 1, if there is one.
///
/// # Safety
/// * Every element of `layout`, one byte each, is readable from `data` on.
pub(crate) unsafe fn find_invalid_bool(data: *const u8, layout: &Layout) -> Option<u8> {
    if layout.is_empty() {
        return None;
    }
    // There is one memory here: its strides are on both sides.
    let mut paired = PairedDims::default();
    paired.insert_strides(layout.shape(), layout.strides(), layout.strides(), 1);
    // All indices of a broadcast dimension reach the same elements, which are read once.
    paired.dims.retain(|dim| dim.source != 0);
    paired.coalesce();
    // SAFETY: the start is the offset of an element, which the caller says is in readable memory.
    let first = unsafe { data.offset(paired.start.source) };
    // SAFETY: from the start on, the dimensions reach elements only (`PairedDims`), which the
    // caller says are readable.
    unsafe { find_in(first, &paired.dims) }
}

/// A byte that is neither 0 nor 1 among those that the source strides of `dims` reach.
///
/// # Safety
/// * Every byte that `dims` reach from `data` on is readable.
unsafe fn find_in(data: *const u8, dims: &[PairedDim]) -> Option<u8> {
    match dims {
        // SAFETY: the caller says that this byte is readable.
        [] => Some(unsafe { data.read() }).filter(|&byte| byte > 1),
        // SAFETY: the caller says that these bytes are readable.
        [dim] => unsafe { find_in_run(data, dim.count, dim.source) },
        [dim, inner @ ..] => (0..dim.count as isize).find_map(|index| {
            // SAFETY: the offset of an element from another, in readable memory.
            let data = unsafe { data.offset(index * dim.source) };
            // SAFETY: the caller says that what `dims` reach is readable, and so for each index.
            unsafe { find_in(data, inner) }
        }),
    }
}

/// A byte that is neither 0 nor 1 among `count` bytes that are `stride` bytes apart.
///
/// # Safety
/// * These bytes are readable.
unsafe fn find_in_run(data: *const u8, count: usize, stride: isize) -> Option<u8> {
    // SAFETY: one of the bytes that the caller says are readable.
    let read = |index: usize, stride: isize| unsafe {
        data.wrapping_offset(index as isize * stride).read()
    };
    // The OR of all bytes exceeds 1 exactly if one of them does. These loops have no early exit, so
    // that the compiler can check many bytes at once.
    let all = match stride {
        1 => (0..count).fold(0, |all, index| all | read(index, 1)),
        stride => (0..count).fold(0, |all, index| all | read(index, stride)),
    };
    // Other code may have changed the bytes since: then the result is the OR of what was read.
    let found = || (0..count).map(|index| read(index, stride)).find(|&byte| byte > 1);
    (all > 1).then(|| found().unwrap_or(all))
}
