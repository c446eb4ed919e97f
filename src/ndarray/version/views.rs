//! Array views of described memory.
//!
//! Invariant: [`view`], [`usual_view`] and [`view_mut`] build all views, and meet ndarray's own
//! invariants. The address is not NULL and is aligned, all elements are in bounds, the product of
//! the sizes that are not 0 fits an `isize`, and dimensions of size 0 or 1 have the stride 0.

use std::ptr::NonNull;

use super::nd::{Array, ArrayView, ArrayViewMut, Axis, Dimension, ShapeBuilder, StrideShape};

use crate::{Error, Layout, Result};

/// Returns the sizes and the magnitudes of the strides as ndarray keeps them, and the offset of the
/// lowest element from the first one, in elements.
#[inline]
pub(super) fn dimensions<D: Dimension>(layout: &Layout) -> Result<(D, D, i64)> {
    let rank = layout.ndim();
    match D::NDIM {
        Some(expected) if expected != rank => {
            return Err(Error::RankMismatch { expected, found: rank });
        }
        _ => {}
    }
    if layout.is_empty() {
        // ndarray requires that the product of the sizes that are not 0 fits an `isize`.
        let sizes = layout.shape().iter().filter(|&&size| size != 0);
        let product = sizes.copied().try_fold(1_i64, i64::checked_mul);
        if product.is_none_or(|product| isize::try_from(product).is_err()) {
            return Err(layout.overflow(None));
        }
    }
    let (mut dim, mut strides, mut lowest) = (D::zeros(rank), D::zeros(rank), 0_i64);
    for (axis, (&size, &stride)) in layout.shape().iter().zip(layout.strides()).enumerate() {
        dim[axis] = size as usize;
        if size > 1 && !layout.is_empty() {
            strides[axis] = stride.unsigned_abs() as usize;
            if stride < 0 {
                // The distances in a layout fit an `i64`.
                lowest += (size - 1) * stride;
            }
        }
    }
    Ok((dim, strides, lowest))
}

/// Makes a row-major array of these elements.
pub(super) fn row_major<T, D: Dimension>(elements: Vec<T>, layout: &Layout) -> Result<Array<T, D>> {
    let (dim, ..) = dimensions::<D>(layout)?;
    from_vec(dim, elements, layout)
}

/// Makes an array of these elements with the strides of `layout`, which are not negative.
pub(super) fn with_strides<T, D: Dimension>(
    elements: Vec<T>,
    layout: &Layout,
) -> Result<Array<T, D>> {
    if layout.is_contiguous() {
        return row_major(elements, layout);
    }
    let (dim, strides, _) = dimensions::<D>(layout)?;
    from_vec(dim.strides(strides), elements, layout)
}

fn from_vec<T, D: Dimension>(
    shape: impl Into<StrideShape<D>>,
    elements: Vec<T>,
    layout: &Layout,
) -> Result<Array<T, D>> {
    let found = elements.len();
    Array::from_shape_vec(shape, elements).map_err(|_| Error::LengthMismatch {
        shape: layout.shape().into(),
        expected: layout.len(),
        found,
    })
}

/// Returns what ndarray builds a view from: a shape with the magnitudes of the strides, the address
/// of the lowest element, and true if that is not the first element.
#[inline]
fn positive<T, D: Dimension>(
    data: NonNull<T>,
    layout: &Layout,
) -> Result<(StrideShape<D>, *mut T, bool)> {
    let (dim, strides, below) = dimensions::<D>(layout)?;
    // Without elements the strides have no meaning, but ndarray would check them for overlap.
    let shape = if layout.is_empty() { dim.into() } else { dim.strides(strides) };
    // The lowest element lies within the tensor's memory.
    Ok((shape, data.as_ptr().wrapping_offset(below as isize), below != 0))
}

/// Returns the axes with negative strides, which are inverted after the view was built.
fn inverted(layout: &Layout) -> impl Iterator<Item = Axis> {
    let dims = layout.shape().iter().zip(layout.strides()).enumerate();
    let inverted = dims.filter(|&(_, (&size, &stride))| size > 1 && stride < 0);
    inverted.map(|(axis, _)| Axis(axis))
}

/// # Safety
/// * `data` is aligned and leads to the elements of `layout`, all of them valid `T`s that are
///   not written during `'a`.
#[inline]
pub(super) unsafe fn view<'a, T, D: Dimension>(
    data: NonNull<T>,
    layout: &Layout,
) -> Result<ArrayView<'a, T, D>> {
    let (shape, lowest, turned) = positive::<T, D>(data, layout)?;
    // SAFETY: the caller guarantees valid elements at an aligned address; `dimensions` checked what
    // ndarray requires of sizes and strides.
    let mut view = unsafe { ArrayView::from_shape_ptr(shape, lowest) };
    if turned {
        inverted(layout).for_each(|axis| view.invert_axis(axis));
    }
    Ok(view)
}

/// As [`view`], in the usual case: the rank is that of `D`, there are elements, and no stride is
/// negative. `None` means "not the usual case". No error is made and the view is not changed, so
/// that the compiler keeps it in registers.
///
/// # Safety
/// * As for [`view`].
#[inline(always)]
pub(super) unsafe fn usual_view<'a, T, D: Dimension>(
    data: NonNull<T>,
    layout: &Layout,
) -> Option<ArrayView<'a, T, D>> {
    let rank = layout.ndim();
    if D::NDIM.is_some_and(|expected| expected != rank) || layout.is_empty() {
        return None;
    }
    let (mut dim, mut strides) = (D::zeros(rank), D::zeros(rank));
    // The type `D` says how many axes there are, so that the compiler unrolls the loop.
    for axis in 0..dim.ndim() {
        let (size, stride) = layout.dim(axis)?;
        dim[axis] = size as usize;
        if size > 1 {
            strides[axis] = usize::try_from(stride).ok()?;
        }
    }
    // SAFETY: the caller guarantees valid elements at an aligned address. ndarray's invariants
    // hold: an `isize` counts the elements of a layout, and dimensions of size 1 got the stride 0.
    Some(unsafe { ArrayView::from_shape_ptr(dim.strides(strides), data.as_ptr()) })
}

/// # Safety
/// * `data` is aligned and leads to the elements of `layout`, all of them valid `T`s that no
///   other code reads or writes during `'a`; no two indices reach the same element.
pub(super) unsafe fn view_mut<'a, T, D: Dimension>(
    data: NonNull<T>,
    layout: &Layout,
) -> Result<ArrayViewMut<'a, T, D>> {
    let (shape, lowest, turned) = positive::<T, D>(data, layout)?;
    // SAFETY: the caller guarantees valid elements at an aligned address; `dimensions` checked what
    // ndarray requires of sizes and strides.
    let mut view = unsafe { ArrayViewMut::from_shape_ptr(shape, lowest) };
    if turned {
        inverted(layout).for_each(|axis| view.invert_axis(axis));
    }
    Ok(view)
}

/// Returns true if two arrays are the same elements in the same layout.
#[inline]
pub(super) fn is_same<T, D: Dimension>(array: &Array<T, D>, seen: &ArrayView<'_, T, D>) -> bool {
    let same_strides = || {
        let strides = array.strides().iter().zip(seen.strides());
        strides.zip(seen.shape()).all(|((owned, seen), &size)| size == 1 || owned == seen)
    };
    array.shape() == seen.shape()
        && (seen.is_empty() || array.as_ptr() == seen.as_ptr() && same_strides())
}
