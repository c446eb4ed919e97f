//! Elements in memory: the address of the first one, and the layout of all.

#![forbid(unsafe_code)]

use crate::Layout;

/// Elements on the host or on one device. The type does not say who may read or write them.
#[derive(Clone, Copy)]
pub(super) struct Elements<'a> {
    /// The first element.
    pub(super) data: *mut u8,
    pub(super) layout: &'a Layout,
}

/// Whether the elements of two layouts of one shape are at the same offsets.
pub(super) fn have_equal_offsets(one: &Layout, other: &Layout) -> bool {
    let strides = one.strides().iter().zip(other.strides());
    // The stride of a dimension of size 1 reaches no element.
    one.shape().iter().zip(strides).all(|(&size, (one, other))| size <= 1 || one == other)
}
