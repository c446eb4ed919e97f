//! Whether bytes are what Rust calls a `bool`.

use smallvec::SmallVec;

use crate::Layout;

/// A byte that is neither 0 nor 1, if there is one.
///
/// # Safety
/// * Every element of `layout`, one byte each, is readable from `data` on.
pub(crate) unsafe fn find_invalid_bool(data: *const u8, layout: &Layout) -> Option<u8> {
    if layout.is_empty() {
        return None;
    }
    // Elements that are reached again and again along a dimension are looked at once.
    let dims = layout.shape().iter().copied().zip(layout.strides().iter().copied());
    let mut dims: SmallVec<[(i64, i64); 6]> =
        dims.filter(|&(size, stride)| size != 1 && stride != 0).collect();
    dims.sort_by_key(|&(_, stride)| std::cmp::Reverse(stride.unsigned_abs()));
    dims.dedup_by(|inner, outer| {
        let one = inner.1.checked_mul(inner.0) == Some(outer.1);
        if one {
            *outer = (outer.0 * inner.0, inner.1);
        }
        one
    });
    // SAFETY: these loops reach elements only.
    unsafe { find_in(data, &dims) }
}

/// # Safety
/// * The loops, each a count and a step, reach readable bytes from `data` on.
unsafe fn find_in(data: *const u8, dims: &[(i64, i64)]) -> Option<u8> {
    // SAFETY: within the loops, as everywhere below.
    let read = |index: i64, step: i64| unsafe { data.wrapping_offset((index * step) as isize).read() };
    match dims {
        [] => Some(read(0, 0)).filter(|&byte| byte > 1),
        &[(count, step)] => {
            // Together they are neither 0 nor 1 exactly if one of them is not. This loop has no exit,
            // so that it can look at many bytes at once.
            let all = match step {
                1 => (0..count).fold(0, |all, index| all | read(index, 1)),
                step => (0..count).fold(0, |all, index| all | read(index, step)),
            };
            (all > 1).then(|| (0..count).map(|index| read(index, step)).find(|&byte| byte > 1).unwrap_or(all))
        }
        [(count, step), inner @ ..] => (0..*count).find_map(|index| {
            // SAFETY: an element.
            let data = unsafe { data.offset((index * step) as isize) };
            // SAFETY: the inner loops.
            unsafe { find_in(data, inner) }
        }),
    }
}
