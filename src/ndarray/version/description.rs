//! Descriptions of ndarray's arrays: address, element type and layout.

#![forbid(unsafe_code)]

use super::nd::{ArrayBase, Data, Dimension};

use crate::{Descriptor, Element, Layout};

/// Describes the elements of an array. The address may be written through only if the array owns
/// the elements.
#[inline]
pub(crate) fn describe<T: Element, S: Data<Elem = T>, D: Dimension>(
    array: &ArrayBase<S, D>,
) -> Descriptor {
    Descriptor::from_checked(array.as_ptr().cast_mut(), layout_of(array))
}

/// Returns shape and strides of an array.
#[inline(always)]
pub(super) fn layout_of<T, S: Data<Elem = T>, D: Dimension>(array: &ArrayBase<S, D>) -> Layout {
    // By ndarray's invariants, sizes and strides fit an `isize`.
    let shape = array.shape().iter().map(|&size| size as i64);
    let strides = array.strides().iter().map(|&stride| stride as i64);
    Layout::from_checked(shape, strides, array.ndim(), array.len())
}
