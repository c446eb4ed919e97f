//! A view: another layout of elements that a buffer has, and where its first element is.
//!
//! Invariant of a [`View`]: it was made from the layout of a buffer, its *source*. Each element of
//! the view lies between the lowest and the highest element of the source, these two included. If
//! `among_elements` is true, each element of the view is an element of the source.

use super::{Layout, Scratch};
use crate::{Error, Remedy, Result};

/// Another layout of the elements of a source, and where its first element is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    layout: Layout,
    offset: i64,
    among_elements: bool,
}

impl View {
    /// Returns true if each element of the view is an element of the source. Otherwise it may also
    /// lie in a gap between two elements of the source.
    #[inline]
    pub(crate) fn is_among_elements(&self) -> bool {
        self.among_elements
    }

    /// Returns the distance (elements) from the source's first element to that of the view.
    ///
    /// It is 0 if the view has no elements.
    #[inline]
    pub(crate) fn offset(&self) -> i64 {
        self.offset
    }

    #[inline]
    pub(crate) fn into_layout(self) -> Layout {
        self.layout
    }
}

impl Layout {
    /// Returns a view of elements of this layout. `dims` are the sizes and strides, `offset` is the
    /// distance from this layout's first element to that of the view. The caller guarantees that
    /// each element of the view is an element of this layout.
    ///
    /// # Errors
    /// [`Error::Overflow`]; [`Error::InvalidDescriptor`] for a negative size.
    #[inline]
    pub(super) fn view(&self, dims: &[(i64, i64)], offset: i64) -> Result<View> {
        let sizes = dims.iter().map(|&(size, _)| size);
        let strides = dims.iter().map(|&(_, stride)| stride);
        self.checked_view(Self::copied(dims.len(), sizes, strides)?, offset, true)
    }

    /// Returns the view with this layout.
    ///
    /// # Errors
    /// [`Error::InvalidView`] if the view reaches beyond the elements of this layout.
    pub(super) fn checked_view(
        &self,
        layout: Self,
        offset: i64,
        among_elements: bool,
    ) -> Result<View> {
        let Some((low, high)) = layout.extent() else {
            return Ok(View { layout, offset: 0, among_elements: true });
        };
        let reached = |distance: i64| i128::from(offset).saturating_add(i128::from(distance));
        let (low, high) = (reached(low), reached(high));
        match self.extent() {
            None => Err(self.no_view(format!(
                "it reaches from element {low} to {high}, and the tensor has no elements"
            ))),
            Some((first, last)) if low < i128::from(first) || high > i128::from(last) => Err(self
                .no_view(format!(
                    "it reaches from element {low} to {high}, and the tensor from {first} to {last}"
                ))),
            Some(_) => Ok(View { layout, offset, among_elements }),
        }
    }

    /// Returns the sizes and strides, to be changed.
    #[inline]
    pub(super) fn to_dims(&self) -> Scratch<(i64, i64)> {
        self.dims().collect()
    }

    /// Returns the error for a view that this layout does not have.
    #[cold]
    pub(super) fn no_view(&self, reason: String) -> Error {
        let (shape, strides) = (self.shape().into(), self.strides().into());
        Error::InvalidView { shape, strides, reason, remedy: None }
    }

    /// Returns the error for a layout whose elements must be copied to get this shape.
    #[cold]
    pub(super) fn needs_copy(&self, reason: String) -> Error {
        let (shape, strides) = (self.shape().into(), self.strides().into());
        Error::InvalidView { shape, strides, reason, remedy: Some(Remedy::CloneContiguous) }
    }
}
