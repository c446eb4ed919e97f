//! Replacement of strides that take part in no address, when a layout is made.
//!
//! The strides of a layout without elements and of dimensions of size 1 take part in no address.
//! Other libraries read them nevertheless: PyTorch refuses negative strides, OpenCV and JAX sort
//! dimensions by stride, and code that multiplies a stride by a size may overflow. A layout
//! therefore contains only harmless strides, and code that reads strides needs no special case:
//!
//! * A layout without elements has the strides of a row-major layout.
//! * A dimension of size 1 keeps a stride that is positive and not greater than the number of
//!   elements from the lowest to the highest. Such a stride is a hint: only the strides tell a
//!   channels-last image with one channel from a row-major one. Any other stride is replaced by the
//!   size times the stride of the next dimension (by 1 for the last dimension, and at least by 1).
//!   `torch.unsqueeze` gives the same stride, and row-major order has it.
//!
//! The rule of `torch.clone` (see `clone_layout`) gives harmless strides if it gets harmless ones.

use super::Layout;
use super::dims::{Dims, Entries, InlineRank};

impl Layout {
    /// Returns a layout with these dimensions, in which strides that take part in no address are
    /// harmless. `len` is the product of the sizes.
    #[inline(always)]
    pub(super) fn harmless(dims: Dims, len: usize) -> Self {
        match dims {
            Dims::Inline { rank, shape, mut strides } => {
                // All entries are compared, so that the compiler unrolls the loop.
                let is_used = |dimension| dimension < rank as usize;
                let mut sizes = shape.iter().enumerate();
                if sizes.any(|(dimension, &size)| is_used(dimension) && size <= 1) {
                    // Entry by entry, so that the compiler can keep them in registers.
                    let [first, second, third, fourth] =
                        harmless_strides(rank, shape, strides, len);
                    strides = [first, second, third, fourth];
                }
                Self { dims: Dims::Inline { rank, shape, strides }, len }
            }
            Dims::Heap(_) => {
                let mut layout = Self { dims, len };
                if layout.shape().iter().any(|&size| size <= 1) {
                    layout.make_harmless();
                }
                layout
            }
        }
    }

    fn make_harmless(&mut self) {
        let Some((low, high)) = self.extent() else {
            return self.dims.set_dense((0..self.ndim()).rev());
        };
        let span = high.saturating_sub(low).saturating_add(1);
        let (sizes, strides) = self.dims.split_mut();
        let mut unsqueezed = 1_i64;
        for (&size, stride) in sizes.iter().zip(strides).rev() {
            if size == 1 && !(1..=span).contains(stride) {
                *stride = unsqueezed.max(1);
            }
            unsqueezed = size.saturating_mul(stride.saturating_abs());
        }
    }
}

/// The strides that [`Layout::harmless`] gives to a layout.
#[cold]
fn harmless_strides(rank: InlineRank, shape: Entries, strides: Entries, len: usize) -> Entries {
    let mut layout = Layout { dims: Dims::Inline { rank, shape, strides }, len };
    layout.make_harmless();
    match layout.dims {
        Dims::Inline { strides, .. } => strides,
        Dims::Heap(_) => strides,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::tests::layout;
    use crate::{Layout, MemoryFormat};

    #[test]
    fn empty_layouts_are_row_major() {
        for (shape, strides, expected) in [
            (&[0_i64, 3][..], &[-7_i64, i64::MAX][..], &[3_i64, 1][..]),
            (&[3, 0], &[0, 0], &[1, 1]),
            (&[2, 0, 5], &[i64::MIN, -1, 0], &[5, 5, 1]),
            (&[0], &[-1], &[1]),
        ] {
            assert_eq!(layout(shape, strides).strides(), expected, "{shape:?} {strides:?}");
        }
    }

    #[test]
    fn strides_of_size_one_are_replaced_where_they_could_do_harm() {
        for (shape, strides, expected) in [
            (&[1_i64, 10, 20][..], &[-200_i64, 20, 1][..], &[200_i64, 20, 1][..]),
            (&[3, 1, 2], &[2, i64::MAX, 1], &[2, 2, 1]),
            (&[1, 3], &[100, 1], &[3, 1]),
            (&[1, 3], &[0, 1], &[3, 1]),
            (&[3, 1], &[-1, i64::MIN], &[-1, 1]),
            (&[1, 1, 4], &[0, 0, -2], &[8, 8, -2]),
            (&[1], &[3], &[1]),
            (&[1, 3], &[0, 0], &[1, 0]),
        ] {
            assert_eq!(layout(shape, strides).strides(), expected, "{shape:?} {strides:?}");
        }
    }

    #[test]
    fn strides_of_size_one_that_are_hints_are_kept() {
        for (shape, strides) in [
            (&[2_i64, 1, 4, 4][..], &[16_i64, 1, 4, 1][..]), // channels last, one channel
            (&[3, 1], &[1, 3]),
            (&[1, 3], &[3, 1]),
        ] {
            assert_eq!(layout(shape, strides).strides(), strides);
        }
    }

    fn config() -> ProptestConfig {
        ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn layouts_and_their_clones_have_harmless_strides(
            dims in vec((0_i64..4, prop_oneof![-50_i64..50, Just(i64::MIN), Just(i64::MAX)]), 0..7)
        ) {
            let (shape, strides): (Vec<i64>, Vec<i64>) = dims.into_iter().unzip();
            if let Ok(layout) = Layout::new(&shape, &strides) {
                for layout in [layout.cloned(MemoryFormat::Preserve).expect("any rank"), layout] {
                    let again = Layout::new(layout.shape(), layout.strides()).expect("valid");
                    prop_assert_eq!(&again, &layout);
                    let (low, high) = layout.extent().unwrap_or_default();
                    for (&size, &stride) in layout.shape().iter().zip(layout.strides()) {
                        prop_assert!(stride >= 1 || (size > 1 && !layout.is_empty()));
                    }
                    prop_assert!(low <= high);
                }
            }
        }
    }
}
