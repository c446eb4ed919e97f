//! The methods of a tensor that name ndarray's types.

use ::ndarray::{
    Array, ArrayView, ArrayViewMut, Dimension, Ix0, Ix1, Ix2, Ix3, Ix4, Ix5, Ix6, IxDyn,
};

use super::array_ext::describe;
use super::nd_array::NdArray;
use super::owned::{Sealed, Token};
use super::views::{dimensions, row_major, view, view_mut};
#[cfg(doc)]
use crate::Access;
use crate::{Element, Error, Layout, Rejected, Remedy, Result, Tensor};

/// Repeats an expression with a name for each of ndarray's rank types in turn.
macro_rules! for_each_rank_type {
    ($rank:ident => $repeated:expr) => {
        for_each_rank_type!($rank => $repeated; Ix0 Ix1 Ix2 Ix3 Ix4 Ix5 Ix6 IxDyn)
    };
    ($rank:ident => $repeated:expr; $($type:ident)*) => {$({
        type $rank = $type;
        $repeated
    })*};
}

impl Tensor {
    /// The elements as an array view, borrowed from this handle. Nothing is copied.
    ///
    /// # Errors
    /// When the memory is not on the host, of another element type or rank, misaligned,
    /// [`Access::Aliased`] and not trusted, or holds an invalid bool.
    pub fn as_ndarray<T: Element, D: Dimension>(&self) -> Result<ArrayView<'_, T, D>> {
        let data = self.readable::<T>("ndarray")?;
        // SAFETY: `readable` gave an aligned address of valid elements that nothing writes while
        // `self` is borrowed.
        unsafe { view(data, self.layout()) }
    }

    /// The elements as an array view to write to, borrowed from this handle. Nothing is copied.
    ///
    /// # Errors
    /// As for [`as_ndarray`](Self::as_ndarray), and when the memory is not [`Access::Exclusive`],
    /// there is another handle, or some element is reached twice.
    pub fn as_ndarray_mut<T: Element, D: Dimension>(&mut self) -> Result<ArrayViewMut<'_, T, D>> {
        let data = self.writable::<T>("ndarray")?;
        // SAFETY: `writable` gave an aligned address of valid elements that only `self` reaches,
        // each of them once.
        unsafe { view_mut(data, self.layout()) }
    }

    /// Moves the tensor into an array that owns it. Nothing is copied.
    ///
    /// # Errors
    /// As for [`as_ndarray`](Self::as_ndarray). The tensor comes back inside the error.
    #[inline]
    pub fn into_ndarray<T: Element, D: Dimension>(self) -> Result<NdArray<T, D>, Rejected<Self>> {
        let data = match self.readable::<T>("ndarray") {
            Ok(data) => data,
            Err(error) => return Err(Rejected::new(self, error)),
        };
        // SAFETY: `readable` gave an aligned address of valid elements, which the tensor keeps; the
        // returned view lives only as long as its tensor is borrowed.
        match unsafe { view(data, self.layout()) } {
            // SAFETY: the view covers the elements of this tensor.
            Ok(view) => Ok(unsafe { NdArray::new(view, self) }),
            Err(error) => Err(Rejected::new(self, error)),
        }
    }

    /// Copies the elements into a new row-major `Array`.
    ///
    /// # Errors
    /// When the memory is not on the host, of another element type or rank, or holds an invalid
    /// bool; [`Error::OutOfMemory`].
    pub fn to_ndarray<T: Element, D: Dimension>(&self) -> Result<Array<T, D>> {
        self.descriptor().require_host("ndarray")?;
        dimensions::<D>(self.layout())?;
        row_major(self.to_vec()?, self.layout())
    }

    /// The array that the memory began as, where that was not of rank type `D` or is seen through
    /// another layout now.
    #[cold]
    pub(crate) fn into_other_original<T: Element, D: Dimension>(
        mut self,
    ) -> Result<Array<T, D>, Rejected<Self>> {
        let checked = self.check_container::<T>().and_then(|()| dimensions::<D>(self.layout()));
        if let Err(error) = checked {
            return Err(Rejected::new(self, error));
        }
        for_each_rank_type!(Rank => if self.is_whole_array::<T, Rank>() {
            let array: Array<T, Rank> = Sealed::recover(self, Token(()));
            return match array.into_dyn().into_dimensionality() {
                Ok(array) => Ok(array),
                Err(_) => unreachable!("the rank was compared"),
            };
        });
        let layout = self.layout().clone();
        let not_original = Error::NotOriginal { target: "an Array", remedy: Remedy::CopyToNdarray };
        match self.into_vec() {
            Ok(vec) => match row_major(vec, &layout) {
                Ok(array) => Ok(array),
                Err(_) => unreachable!("rank and number of elements were compared"),
            },
            Err(rejected) => Err(Rejected::new(rejected.into_value(), not_original)),
        }
    }

    /// Refuses to give a container of `T`s back while others reach it, or where a `bool` is none.
    #[inline]
    fn check_container<T: Element>(&mut self) -> Result<()> {
        self.descriptor().host_ptr::<T>("ndarray")?;
        self.require_exclusive()?;
        self.require_bools_in_span::<T>()
    }

    /// Whether the owner is an array of exactly these elements in this layout.
    fn is_whole_array<T: Element, D: Dimension + 'static>(&mut self) -> bool {
        let (data, layout) = (self.data_ptr().cast::<T>(), self.layout().clone());
        let Some(array) = self.owner_mut::<Array<T, D>>() else { return false };
        let seen = describe(array);
        let same_address = layout.is_empty() || seen.data_ptr().cast() == data;
        same_address && is_same_layout(seen.layout(), &layout)
    }
}

/// Whether two layouts reach the same elements from the same first one.
fn is_same_layout(one: &Layout, other: &Layout) -> bool {
    let mut dims = one.shape().iter().zip(one.strides().iter().zip(other.strides()));
    one.shape() == other.shape()
        && (one.is_empty() || dims.all(|(&size, (one, other))| size == 1 || one == other))
}
