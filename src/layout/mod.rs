//! Shape and strides: what a buffer looks like, with checked arithmetic throughout.
//!
//! Invariants of a [`Layout`], established by its constructors:
//! * shape and strides are of one length, which fits an `i32`; no size is negative;
//! * the number of elements fits an `isize` (it is 0 when any size is 0, whatever the others);
//! * the distance of every element from the first fits an `i64`.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

use smallvec::SmallVec;

use crate::{Error, Result};

/// How a deep copy lays out its elements; the names are PyTorch's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryFormat {
    /// Keeps the order of the source's strides and closes its gaps, as `torch.clone` does.
    #[default]
    Preserve,
    /// Row-major.
    Contiguous,
    /// Of N, C, H, W: C varies fastest.
    ChannelsLast,
    /// Of N, C, D, H, W: C varies fastest.
    ChannelsLast3d,
}

/// Up to this rank a layout needs no allocation of its own.
const INLINE_RANK: usize = 4;

/// The highest rank that libtorch's operations support.
pub(crate) const TORCH_RANK: usize = 64;

/// Scratch space for that many dimensions and a few more.
type Scratch<T> = SmallVec<[T; 6]>;

/// Shape and strides of a buffer, both in elements.
#[derive(Clone)]
pub struct Layout {
    dims: Dims,
    len: usize,
}

#[derive(Clone)]
enum Dims {
    Inline {
        rank: usize,
        shape: [i64; INLINE_RANK],
        strides: [i64; INLINE_RANK],
    },
    /// The shape, then the strides.
    Heap(Box<[i64]>),
}

impl Dims {
    /// Room for so many dimensions, all zeros.
    #[inline]
    fn zeroed(rank: usize) -> Self {
        if rank <= INLINE_RANK {
            Self::Inline { rank, shape: [0; INLINE_RANK], strides: [0; INLINE_RANK] }
        } else {
            Self::Heap(vec![0; rank.saturating_mul(2)].into())
        }
    }

    #[inline]
    fn split(&self) -> (&[i64], &[i64]) {
        match self {
            Self::Inline { rank, shape, strides } => (shape.split_at(*rank).0, strides.split_at(*rank).0),
            Self::Heap(dims) => dims.split_at(dims.len() >> 1),
        }
    }

    #[inline]
    fn split_mut(&mut self) -> (&mut [i64], &mut [i64]) {
        match self {
            Self::Inline { rank, shape, strides } => {
                (shape.split_at_mut(*rank).0, strides.split_at_mut(*rank).0)
            }
            Self::Heap(dims) => dims.split_at_mut(dims.len() >> 1),
        }
    }
}

impl PartialEq for Layout {
    fn eq(&self, other: &Self) -> bool {
        self.dims.split() == other.dims.split()
    }
}

impl Eq for Layout {}

impl std::fmt::Debug for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layout").field("shape", &self.shape()).field("strides", &self.strides()).finish()
    }
}

impl Layout {
    /// A layout of any strides: positive, negative, zero.
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] when a size is negative or the lengths differ, and
    /// [`Error::Overflow`] when the elements cannot be counted or reached on this machine.
    #[inline]
    pub fn new(shape: &[i64], strides: &[i64]) -> Result<Self> {
        if strides.len() != shape.len() {
            return Err(Error::InvalidDescriptor {
                field: "strides".into(),
                value: format!("{strides:?}"),
                reason: "there must be as many strides as dimensions",
            });
        }
        let measured = measure(shape, strides);
        let len = match &measured {
            Some(measured) => measured.len,
            None => element_count(shape)?,
        };
        let layout = Self::from_checked(shape.iter().copied(), strides.iter().copied(), shape.len(), len);
        if measured.is_none() && layout.extent_i128().is_none() {
            return Err(layout.overflow(0));
        }
        Ok(layout)
    }

    /// The row-major layout without gaps.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn contiguous(shape: &[i64]) -> Result<Self> {
        let len = element_count(shape)?;
        let order = (0..shape.len()).rev();
        Ok(Self { dims: dense(shape, order), len })
    }

    /// For shapes and strides whose owner guarantees the invariants already.
    #[inline]
    pub(crate) fn from_checked(
        shape: impl Iterator<Item = i64>,
        strides: impl Iterator<Item = i64>,
        rank: usize,
        len: usize,
    ) -> Self {
        let mut dims = Dims::zeroed(rank);
        let (sizes, steps) = dims.split_mut();
        sizes.iter_mut().zip(shape).for_each(|(size, given)| *size = given);
        steps.iter_mut().zip(strides).for_each(|(step, given)| *step = given);
        Self { dims, len }
    }

    /// Sizes of the dimensions.
    #[inline]
    pub fn shape(&self) -> &[i64] {
        self.dims.split().0
    }

    /// Steps between neighbours in each dimension, in elements.
    #[inline]
    pub fn strides(&self) -> &[i64] {
        self.dims.split().1
    }

    /// Addresses of the sizes and of the strides, for somebody else to read and write.
    #[inline]
    pub(crate) fn as_mut_ptrs(&mut self) -> (*mut i64, *mut i64) {
        let (shape, strides) = self.dims.split_mut();
        (shape.as_mut_ptr(), strides.as_mut_ptr())
    }

    /// Number of dimensions.
    #[inline]
    pub fn ndim(&self) -> usize {
        self.shape().len()
    }

    /// Number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn dims(&self) -> impl DoubleEndedIterator<Item = (i64, i64)> + ExactSizeIterator {
        self.shape().iter().copied().zip(self.strides().iter().copied())
    }

    /// Distances of the lowest and the highest element from the first, in elements;
    /// `None` when there are no elements.
    #[inline]
    pub fn extent(&self) -> Option<(i64, i64)> {
        if self.is_empty() {
            return None;
        }
        let (mut low, mut high) = (0_i64, 0_i64);
        for (size, stride) in self.dims() {
            // A layout's distances fit: nothing wraps.
            let reach = size.saturating_sub(1).wrapping_mul(stride);
            low = low.wrapping_add(reach.min(0));
            high = high.wrapping_add(reach.max(0));
        }
        Some((low, high))
    }

    /// The same before the distances are known to fit an `i64`; `None` if they do not.
    fn extent_i128(&self) -> Option<(i128, i128)> {
        let (mut low, mut high) = (0_i128, 0_i128);
        if self.is_empty() {
            return Some((low, high));
        }
        for (size, stride) in self.dims() {
            let reach = i128::from(size.saturating_sub(1)).saturating_mul(i128::from(stride));
            low = low.saturating_add(reach.min(0));
            high = high.saturating_add(reach.max(0));
        }
        let fits = |distance: i128| i64::try_from(distance).is_ok();
        (fits(low) && fits(high)).then_some((low, high))
    }

    /// Whether the elements lie one after the other in row-major order. Strides of dimensions
    /// of size 1 do not matter, nor do any strides when there are no elements.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1_i64;
        self.is_empty()
            || self.dims().rev().filter(|&(size, _)| size != 1).all(|(size, stride)| {
                let fits = stride == expected;
                expected = expected.saturating_mul(size);
                fits
            })
    }

    /// Whether two indices may reach the same element. Layouts whose dimensions interleave count as
    /// overlapping even where no element is reached twice; `ndarray` draws the line in the same place.
    pub fn overlaps(&self) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut dims: Scratch<(u64, i64)> = self
            .dims()
            .filter(|&(size, _)| size > 1)
            .map(|(size, stride)| (stride.unsigned_abs(), size))
            .collect();
        dims.sort_unstable();
        let mut reach = 0_i128;
        let nested = dims.iter().all(|&(stride, size)| {
            let clear = i128::from(stride) > reach;
            let steps = i128::from(size.saturating_sub(1));
            reach = reach.saturating_add(steps.saturating_mul(i128::from(stride)));
            clear
        });
        !nested
    }

    /// The layout of a deep copy.
    ///
    /// `Preserve` is the rule of `torch.clone`: a layout that is dense and does not overlap is kept
    /// as it is; any other has its dimensions ordered by stride and is then laid out densely.
    /// Negative strides, which torch does not have, count by magnitude and come out positive.
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
        Ok(Self { dims: dense(self.shape(), order.into_iter()), len: self.len })
    }

    fn preserved(&self) -> Self {
        let steps: Scratch<i64> = self.strides().iter().map(|stride| stride.saturating_abs()).collect();
        if self.is_empty() || is_dense(self.shape(), &steps) {
            return Self::from_checked(
                self.shape().iter().copied(),
                steps.into_iter(),
                self.ndim(),
                self.len,
            );
        }
        if self.ndim() > TORCH_RANK {
            // libtorch has no rule for such ranks, and the sort takes time that grows with the square.
            return Self { dims: dense(self.shape(), (0..self.ndim()).rev()), len: self.len };
        }
        let order = order_by_stride(self.shape(), &steps);
        Self { dims: dense(self.shape(), order.into_iter()), len: self.len }
    }

    /// The error for a layout whose bytes exceed the address space.
    pub(crate) fn overflow(&self, itemsize: usize) -> Error {
        Error::Overflow { shape: self.shape().into(), strides: self.strides().into(), itemsize }
    }

    pub(crate) fn not_contiguous(&self) -> Error {
        Error::NotContiguous { shape: self.shape().into(), strides: self.strides().into() }
    }

    pub(crate) fn self_overlap(&self) -> Error {
        Error::SelfOverlap { shape: self.shape().into(), strides: self.strides().into() }
    }
}

/// Elements of a layout, and the distances of the lowest and the highest from the first.
pub(crate) struct Measured {
    pub(crate) len: usize,
    pub(crate) extent: (i64, i64),
}

/// Measures a layout in which all is well: there are elements, and neither their number nor any distance
/// exceeds 63 bits. `None` says nothing.
#[inline]
pub(crate) fn measure(shape: &[i64], strides: &[i64]) -> Option<Measured> {
    let (mut count, mut low, mut high) = (1_i64, 0_i64, 0_i64);
    for (&size, &stride) in shape.iter().zip(strides) {
        if size <= 0 {
            return None;
        }
        count = count.checked_mul(size)?;
        let reach = size.wrapping_sub(1).checked_mul(stride)?;
        if reach < 0 {
            low = low.checked_add(reach)?;
        } else {
            high = high.checked_add(reach)?;
        }
    }
    i32::try_from(shape.len()).ok()?;
    let len = isize::try_from(count).ok().and_then(|count| usize::try_from(count).ok())?;
    Some(Measured { len, extent: (low, high) })
}

/// Checks the sizes and multiplies them.
fn element_count(shape: &[i64]) -> Result<usize> {
    if i32::try_from(shape.len()).is_err() {
        return Err(Error::TooManyDimensions {
            found: shape.len(),
            limit: i32::MAX.unsigned_abs() as usize,
            target: "DLPack",
        });
    }
    for (dimension, &size) in shape.iter().enumerate() {
        if size < 0 {
            return Err(Error::InvalidDescriptor {
                field: format!("shape[{dimension}]"),
                value: size.to_string(),
                reason: "a size cannot be negative",
            });
        }
    }
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(1_isize, |count, &size| count.checked_mul(isize::try_from(size).ok()?))
        .and_then(|count| usize::try_from(count).ok())
        .ok_or_else(|| Error::Overflow { shape: shape.into(), strides: Vec::new(), itemsize: 0 })
}

/// Strides that grow in the given order of dimensions and leave no gaps.
fn dense(shape: &[i64], order: impl Iterator<Item = usize>) -> Dims {
    let mut dims = Dims::zeroed(shape.len());
    let (sizes, strides) = dims.split_mut();
    sizes.copy_from_slice(shape);
    let mut step = 1_i64;
    for dimension in order {
        if let (Some(size), Some(stride)) = (sizes.get(dimension), strides.get_mut(dimension)) {
            *stride = step;
            // Only a shape without elements can saturate, and there strides mean nothing.
            step = step.saturating_mul((*size).max(1));
        }
    }
    dims
}

/// Dimensions from the fastest to the slowest: channels, then the spatial ones, then the batch.
fn channels_last(expected: usize, rank: usize) -> Result<Scratch<usize>> {
    if rank != expected {
        return Err(Error::RankMismatch { expected, found: rank });
    }
    Ok(std::iter::once(1).chain((2..rank).rev()).chain([0]).collect())
}

/// Whether some order of the dimensions has neither gaps nor overlaps. Strides are not negative.
fn is_dense(shape: &[i64], strides: &[i64]) -> bool {
    let mut dims: Scratch<(i64, i64)> =
        strides.iter().copied().zip(shape.iter().copied()).filter(|&(_, size)| size > 1).collect();
    dims.sort_unstable();
    let mut expected = 1_i64;
    dims.into_iter().all(|(stride, size)| {
        let fits = stride == expected;
        expected = expected.saturating_mul(size);
        fits
    })
}

/// Dimensions from the fastest to the slowest, by torch's rule: starting from the last dimension,
/// an insertion sort by stride, then size, in which a stride of 0 compares equal to everything.
fn order_by_stride(shape: &[i64], strides: &[i64]) -> Scratch<usize> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let key = |dimension: usize| (strides.get(dimension), shape.get(dimension));
    let compare = |before: usize, after: usize| {
        let ((stride, size), (other_stride, other_size)) = (key(before), key(after));
        if stride == Some(&0) || other_stride == Some(&0) {
            return Equal;
        }
        match stride.cmp(&other_stride) {
            Equal if size > other_size => Greater,
            Equal => Equal,
            decided => decided,
        }
    };
    let mut order: Scratch<usize> = (0..shape.len()).rev().collect();
    for start in 1..order.len() {
        let mut moving = start;
        for earlier in (0..start).rev() {
            let (Some(&before), Some(&after)) = (order.get(earlier), order.get(moving)) else { break };
            match compare(before, after) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(shape: &[i64], strides: &[i64]) -> Layout {
        Layout::new(shape, strides).expect("a valid layout")
    }

    #[test]
    fn sizes_are_checked() {
        assert!(
            matches!(Layout::contiguous(&[2, -1]), Err(Error::InvalidDescriptor { field, .. }) if field == "shape[1]")
        );
        assert!(matches!(Layout::contiguous(&[1 << 62, 8]), Err(Error::Overflow { .. })));
        assert!(matches!(Layout::new(&[2], &[]), Err(Error::InvalidDescriptor { .. })));
        assert!(matches!(Layout::new(&[3], &[i64::MAX]), Err(Error::Overflow { .. })));
        assert!(matches!(Layout::new(&[3], &[i64::MIN]), Err(Error::Overflow { .. })));
        assert_eq!(layout(&[1 << 62, 1 << 62, 0], &[i64::MIN, 5, i64::MAX]).len(), 0);
        assert_eq!(layout(&[1], &[i64::MIN]).len(), 1);
    }

    #[test]
    fn extent_covers_negative_strides() {
        assert_eq!(layout(&[3, 2], &[-2, 1]).extent(), Some((-4, 1)));
        assert_eq!(layout(&[], &[]).extent(), Some((0, 0)));
        assert_eq!(layout(&[0, 5], &[7, 7]).extent(), None);
    }

    #[test]
    fn contiguity_ignores_strides_that_do_not_matter() {
        assert!(layout(&[1, 3], &[100, 1]).is_contiguous());
        assert!(layout(&[3, 1], &[1, -7]).is_contiguous());
        assert!(layout(&[0, 3], &[9, 9]).is_contiguous());
        assert!(layout(&[], &[]).is_contiguous());
        assert!(!layout(&[3, 2], &[1, 3]).is_contiguous());
        assert!(!layout(&[3], &[-1]).is_contiguous());
    }

    #[test]
    fn dimensions_must_nest_not_to_overlap() {
        assert!(layout(&[3, 3], &[1, 1]).overlaps());
        assert!(layout(&[4], &[0]).overlaps());
        assert!(!layout(&[4, 5], &[-5, 1]).overlaps());
        assert!(layout(&[3, 2], &[2, 3]).overlaps(), "0 2 4 3 5 7: interleaved");
        assert!(layout(&[4, 2], &[2, 6]).overlaps(), "6 twice");
        assert!(!layout(&[1, 0], &[0, 0]).overlaps());
    }

    #[test]
    fn clones_follow_the_rule_of_torch() {
        let preserved = |shape: &[i64], strides: &[i64]| {
            layout(shape, strides).cloned(MemoryFormat::Preserve).expect("any rank").strides().to_vec()
        };
        assert_eq!(preserved(&[2, 3, 2], &[12, 4, 2]), [6, 2, 1]);
        assert_eq!(preserved(&[2, 3, 2, 5], &[60, 1, 30, 3]), [30, 1, 15, 3]);
        assert_eq!(preserved(&[2, 3], &[1, 0]), [3, 1]);
        assert_eq!(preserved(&[3, 5, 4], &[1, 0, 3]), [1, 3, 15]);
        assert_eq!(preserved(&[3, 3], &[1, 1]), [3, 1]);
        assert_eq!(preserved(&[5, 3, 4], &[0, 4, 1]), [12, 4, 1]);
        assert_eq!(preserved(&[1], &[3]), [3], "dense: kept as it is");
        assert_eq!(preserved(&[2, 3, 4], &[-12, 4, -1]), [12, 4, 1]);
        assert_eq!(preserved(&[0, 3], &[7, 9]), [7, 9]);
    }

    #[test]
    fn channels_last_wants_its_rank() {
        let nchw = Layout::contiguous(&[2, 3, 4, 5]).expect("valid");
        assert_eq!(nchw.cloned(MemoryFormat::ChannelsLast).expect("rank 4").strides(), [60, 1, 15, 3]);
        assert_eq!(
            nchw.cloned(MemoryFormat::ChannelsLast3d),
            Err(Error::RankMismatch { expected: 5, found: 4 })
        );
    }
}
