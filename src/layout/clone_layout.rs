//! The layout of a deep copy: row-major, channels-last, or in the order of the source's strides, as
//! PyTorch keeps it.

use super::contiguity::is_dense;
use super::{Dims, Layout, Scratch, TORCH_RANK};
use crate::{Error, Result};

/// The order of the elements in a deep copy. The names are PyTorch's.
///
/// ```
/// use dlbridge::{Layout, MemoryFormat, Tensor};
///
/// let nchw = Tensor::zeros::<u8>([1, 3, 2, 2])?;
/// let nhwc = nchw.deep_clone_with(MemoryFormat::ChannelsLast)?;
/// assert_eq!((nchw.strides(), nhwc.strides()), (&[12, 4, 2, 1][..], &[12, 1, 6, 3][..]));
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryFormat {
    /// The order of the source's strides, without gaps, as `torch.clone` gives it.
    #[default]
    Preserve,
    /// Row-major order.
    Contiguous,
    /// NHWC: for shape (N, C, H, W), channels have stride 1.
    ChannelsLast,
    /// NDHWC: for shape (N, C, D, H, W), channels have stride 1.
    ChannelsLast3d,
}

impl Layout {
    /// Returns the layout that a deep copy of a buffer with this layout has.
    ///
    /// `Preserve` follows the rule of `torch.clone`: a layout that is empty, or dense and without
    /// overlap, keeps its strides. For any other layout, the dimensions are sorted by stride, and
    /// the copy is dense in that order. Negative strides, which torch does not have, are sorted by
    /// magnitude, and the copy's strides are positive.
    ///
    /// ```
    /// use dlbridge::{Layout, MemoryFormat};
    ///
    /// let columns = Layout::new(&[2, 3], &[1, 4])?; // column-major, with gaps
    /// assert_eq!(columns.cloned(MemoryFormat::Preserve)?.strides(), [1, 2]);
    /// assert_eq!(columns.cloned(MemoryFormat::Contiguous)?.strides(), [3, 1]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::RankMismatch`] for the channels-last formats when the rank is not 4 or 5.
    pub fn cloned(&self, format: MemoryFormat) -> Result<Self> {
        let rank = self.ndim();
        let order: Scratch<usize> = match format {
            MemoryFormat::Preserve => return Ok(self.preserved()),
            MemoryFormat::Contiguous => (0..rank).rev().collect(),
            MemoryFormat::ChannelsLast => channels_last(4, rank)?,
            MemoryFormat::ChannelsLast3d => channels_last(5, rank)?,
        };
        Ok(Self { dims: Dims::dense(self.shape(), order.into_iter()), len: self.len })
    }

    fn preserved(&self) -> Self {
        let rank = self.ndim();
        let strides: Scratch<i64> =
            self.strides().iter().map(|stride| stride.saturating_abs()).collect();
        if self.is_empty() || is_dense(self.shape(), &strides) {
            return Self::from_checked(
                self.shape().iter().copied(),
                strides.into_iter(),
                rank,
                self.len,
            );
        }
        let dims = if rank > TORCH_RANK {
            // libtorch has no rule for such ranks, and the insertion sort takes quadratic time.
            Dims::dense(self.shape(), (0..rank).rev())
        } else {
            Dims::dense(self.shape(), order_by_stride(self.shape(), &strides).into_iter())
        };
        Self { dims, len: self.len }
    }
}

/// Returns the dimensions by ascending stride: channels, the spatial dimensions, the batch.
fn channels_last(expected: usize, rank: usize) -> Result<Scratch<usize>> {
    if rank != expected {
        return Err(Error::RankMismatch { expected, found: rank });
    }
    Ok(std::iter::once(1).chain((2..rank).rev()).chain([0]).collect())
}

/// Returns the dimensions by ascending stride, in the order that libtorch gives them.
///
/// This is libtorch's algorithm on purpose, step by step, so that `deep_clone` and `torch.clone`
/// give the same strides: an insertion sort that starts from the last dimension, compares by stride
/// and then by size, and takes a stride of 0 (a broadcast dimension) as equal to every other. With
/// that rule "equal" is not transitive, so the result depends on the algorithm: another sort by the
/// same comparison would give other strides. libtorch has it in `infer_dense_strides`, which
/// `at::empty_like` and thereby `clone` use:
/// <https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/ExpandUtils.cpp>
/// and, the same, in `TensorIteratorBase::reorder_dimensions`:
/// <https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/TensorIterator.cpp>
fn order_by_stride(shape: &[i64], strides: &[i64]) -> Scratch<usize> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let mut order: Scratch<usize> = (0..shape.len()).rev().collect();
    for start in 1..order.len() {
        let mut moving = start;
        for earlier in (0..start).rev() {
            let (Some(&before), Some(&after)) = (order.get(earlier), order.get(moving)) else {
                break;
            };
            match compare_as_torch(shape, strides, before, after) {
                Greater => {
                    order.swap(earlier, moving);
                    moving = earlier;
                }
                Equal => {}
                Less => break,
            }
        }
    }
    order
}

/// Compares two dimensions as libtorch does: by stride, where a stride of 0 is equal to every
/// other. Among equal strides, `before` is greater if its size is larger, and otherwise equal.
fn compare_as_torch(
    shape: &[i64],
    strides: &[i64],
    before: usize,
    after: usize,
) -> std::cmp::Ordering {
    use std::cmp::Ordering::{Equal, Greater};
    let key = |dimension: usize| (strides.get(dimension), shape.get(dimension));
    let ((stride, size), (other_stride, other_size)) = (key(before), key(after));
    if stride == Some(&0) || other_stride == Some(&0) {
        return Equal;
    }
    match stride.cmp(&other_stride) {
        Equal if size > other_size => Greater,
        decided => decided,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::layout;
    use super::*;

    #[test]
    fn preserve_gives_the_strides_of_torch_clone() {
        let preserved = |shape: &[i64], strides: &[i64]| {
            let cloned = layout(shape, strides).cloned(MemoryFormat::Preserve);
            cloned.expect("any rank").strides().to_vec()
        };
        assert_eq!(preserved(&[2, 3, 2], &[12, 4, 2]), [6, 2, 1]);
        assert_eq!(preserved(&[2, 3, 2, 5], &[60, 1, 30, 3]), [30, 1, 15, 3]);
        assert_eq!(preserved(&[2, 3], &[1, 0]), [3, 1]);
        assert_eq!(preserved(&[3, 5, 4], &[1, 0, 3]), [1, 3, 15]);
        assert_eq!(preserved(&[3, 3], &[1, 1]), [3, 1]);
        assert_eq!(preserved(&[5, 3, 4], &[0, 4, 1]), [12, 4, 1]);
        assert_eq!(preserved(&[3, 1], &[1, 3]), [1, 3], "dense: kept as it is");
        assert_eq!(preserved(&[2, 3, 4], &[-12, 4, -1]), [12, 4, 1]);
    }

    #[test]
    fn channels_last_requires_its_rank() {
        let nchw = Layout::contiguous([2, 3, 4, 5]).expect("valid");
        assert_eq!(
            nchw.cloned(MemoryFormat::ChannelsLast).expect("rank 4").strides(),
            [60, 1, 15, 3]
        );
        assert_eq!(
            nchw.cloned(MemoryFormat::ChannelsLast3d),
            Err(Error::RankMismatch { expected: 5, found: 4 })
        );
    }
}
