//! ndarray: arrays in and out, without copies.
//!
//! Invariant: views are built by [`view`] and [`view_mut`], which meet ndarray's own invariants: aligned,
//! in bounds, the product of the non-zero sizes within an `isize`, strides of dimensions of size 0 or 1
//! zeroed.

mod nd_array;

use ::ndarray::{
    ArcArray, Array, ArrayBase, ArrayView, ArrayViewMut, Axis, Data, Dimension, Ix0, Ix1, Ix2, Ix3, Ix4, Ix5,
    Ix6, IxDyn, ShapeBuilder, StrideShape,
};

pub use nd_array::NdArray;
pub(crate) use sealed::Token;

use crate::storage::Storage;
use crate::{Access, Descriptor, Element, Error, Layout, List, MemoryFormat, Rejected, Result, Tensor};

/// Conversions that any ndarray array has: owned, shared, or a view.
///
/// `to_` methods copy; `into_` methods move and exist for arrays that own their memory.
pub trait ArrayExt {
    /// Copies the elements into a new tensor, in the order of their strides.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    fn to_tensor(&self) -> Result<Tensor>;

    /// Copies the elements into nested lists, as Python's `tolist` does.
    ///
    /// # Errors
    /// More than 64 dimensions; [`Error::OutOfMemory`].
    fn to_list(&self) -> Result<List>;

    /// Moves the array into a tensor. Nothing is copied; layout, strides and all stay as they are.
    ///
    /// An `Array` becomes [`Access::Exclusive`]; an `ArcArray` too if nobody shares it, else
    /// [`Access::ReadOnly`].
    fn into_tensor(self) -> Tensor
    where
        Self: Sized + Into<Tensor>,
    {
        self.into()
    }

    /// Copies the elements into a new libtorch tensor, in the order of their strides: Python's
    /// `torch.tensor(a)`.
    ///
    /// # Errors
    /// [`Error::TooManyDimensions`] beyond 64; [`Error::Libtorch`] when libtorch has no memory left.
    #[cfg(feature = "torch")]
    fn to_torch(&self) -> Result<tch::Tensor>;

    /// Moves the array into a libtorch tensor: Python's `torch.from_numpy(a)`. Nothing is copied;
    /// the array's memory is released when libtorch is done with it.
    ///
    /// ```
    /// use dlbridge::{ArrayExt, TorchExt};
    /// use ndarray::{Ix1, array};
    ///
    /// let tensor = array![1.0_f32, 2.0, 3.0].into_torch()?;
    /// let sum = tensor.sum(tch::Kind::Float);
    /// assert_eq!(sum.into_ndarray::<f32, ndarray::Ix0>()?[()], 6.0);
    /// assert_eq!(tensor.into_ndarray::<f32, Ix1>()?.into_array()?, array![1.0, 2.0, 3.0]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NegativeStride`], [`Error::TooManyDimensions`] beyond 64, [`Error::ReadOnly`] for an
    /// `ArcArray` that somebody shares, [`Error::Libtorch`]; [`to_torch`](Self::to_torch) copies instead. The array comes back
    /// inside the error.
    #[cfg(feature = "torch")]
    fn into_torch(self) -> Result<tch::Tensor, Rejected<Self>>
    where
        Self: OwnedArray,
    {
        crate::torch::from_array(self)
    }

    /// Lends the array's memory to libtorch for the duration of a closure. Nothing is copied.
    ///
    /// Whatever the closure does to the tensor, the array has its memory, shape and strides back
    /// afterwards, also when the closure panics. If something that shares the memory escapes from
    /// the closure (a `shallow_clone`, a view, a swapped tensor, the handle that an in-place operation
    /// returns), the memory stays with it and the array gets a row-major copy. The array keeps a
    /// handle of its own meanwhile, so `as_ndarray_mut` on the tensor is refused.
    ///
    /// ```
    /// use dlbridge::ArrayExt;
    /// use ndarray::array;
    ///
    /// let mut array = array![1.0_f32, -2.0, 3.0];
    /// array.lend_torch(|tensor| {
    ///     let _ = tensor.relu_(); // drop what it returns: a handle to the same memory
    /// })?;
    /// assert_eq!(array, array![1.0, 0.0, 3.0]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`into_torch`](Self::into_torch), before the closure runs; the array is untouched.
    /// When the copy of an escaped array fails, the array is left without elements.
    #[cfg(feature = "torch")]
    fn lend_torch<R>(&mut self, run: impl FnOnce(&mut tch::Tensor) -> R) -> Result<R>
    where
        Self: OwnedArray,
    {
        crate::torch::lend(self, run)
    }
}

impl<T: Element, S: Data<Elem = T>, D: Dimension> ArrayExt for ArrayBase<S, D> {
    fn to_tensor(&self) -> Result<Tensor> {
        // SAFETY: the array keeps its elements readable.
        unsafe { Tensor::copy_of(&describe(self), MemoryFormat::Preserve) }
    }

    fn to_list(&self) -> Result<List> {
        List::nest(describe(self).layout(), self.iter().copied())
    }

    #[cfg(feature = "torch")]
    fn to_torch(&self) -> Result<tch::Tensor> {
        // SAFETY: the array keeps its elements readable.
        unsafe { crate::torch::copy_of(&describe(self)) }
    }
}

/// Describes the elements of an array. For reading, unless the array owns them.
#[inline]
fn describe<T: Element, S: Data<Elem = T>, D: Dimension>(array: &ArrayBase<S, D>) -> Descriptor {
    // ndarray's own invariants keep sizes and strides within an isize.
    let shape = array.shape().iter().map(|&size| size as i64);
    let strides = array.strides().iter().map(|&stride| stride as i64);
    Descriptor::from_checked(
        array.as_ptr().cast_mut(),
        Layout::from_checked(shape, strides, array.ndim(), array.len()),
    )
}

mod sealed {
    use super::*;

    /// Proof that a call comes from this crate: methods of a supertrait can be called through a
    /// bound on the public trait.
    #[derive(Clone, Copy)]
    pub struct Token(pub(crate) ());

    pub trait Sealed: Sized {
        type Item: Element;
        /// The array of this very type that a tensor owns, which is not shared and whose bytes were
        /// looked at.
        fn recover(tensor: Tensor, _: Token) -> Self;
        /// Moves the array out; one without elements (of rank 0: with one) stays behind.
        fn take(&mut self, _: Token) -> Self;
        /// The row-major array of these elements.
        fn from_elements(elements: Vec<Self::Item>, layout: &Layout, _: Token) -> Result<Self>;
    }
}

/// An array that owns its memory: `Array` or `ArcArray`. Closed to others.
pub trait OwnedArray: sealed::Sealed + Into<Tensor> {}

impl<T: Element, D: Dimension + 'static> OwnedArray for Array<T, D> {}
impl<T: Element, D: Dimension + 'static> OwnedArray for ArcArray<T, D> {}

impl<T: Element, D: Dimension + 'static> sealed::Sealed for Array<T, D> {
    type Item = T;

    #[inline]
    fn recover(tensor: Tensor, _: Token) -> Self {
        match tensor.storage.into_owner() {
            Ok(array) => array,
            Err(_) => unreachable!("made from an array of this type and not shared"),
        }
    }

    fn take(&mut self, _: Token) -> Self {
        let empty = Self::from_elem(D::zeros(self.ndim()), T::default());
        std::mem::replace(self, empty)
    }

    fn from_elements(elements: Vec<T>, layout: &Layout, _: Token) -> Result<Self> {
        row_major(elements, layout)
    }
}

impl<T: Element, D: Dimension + 'static> sealed::Sealed for ArcArray<T, D> {
    type Item = T;

    fn recover(tensor: Tensor, token: Token) -> Self {
        match tensor.storage.into_owner() {
            Ok(array) => array,
            Err(storage) => Array::recover(Tensor { storage, ..tensor }, token).into_shared(),
        }
    }

    fn take(&mut self, _: Token) -> Self {
        let empty = Self::from_elem(D::zeros(self.ndim()), T::default());
        std::mem::replace(self, empty)
    }

    fn from_elements(elements: Vec<T>, layout: &Layout, _: Token) -> Result<Self> {
        row_major(elements, layout).map(Array::into_shared)
    }
}

/// Moves the array in. Nothing is copied.
impl<T: Element, D: Dimension + 'static> From<Array<T, D>> for Tensor {
    #[inline]
    fn from(mut array: Array<T, D>) -> Self {
        // The address that may be written through, which `describe` would not give.
        let data = array.as_mut_ptr();
        let descriptor = describe(&array).at(data);
        Self::new(Storage::new(array, Access::Exclusive, false), descriptor)
    }
}

/// Moves the array in. Nothing is copied; the tensor is read-only if somebody shares the array.
impl<T: Element, D: Dimension + 'static> From<ArcArray<T, D>> for Tensor {
    fn from(array: ArcArray<T, D>) -> Self {
        match array.try_into_owned_nocopy() {
            Ok(array) => array.into(),
            Err(array) => {
                let descriptor = describe(&array);
                // Other handles copy before they write, because this one is counted.
                Self::new(Storage::new(array, Access::ReadOnly, false), descriptor)
            }
        }
    }
}

/// Sizes and strides as ndarray keeps them, strides by magnitude.
#[inline]
fn dimensions<D: Dimension>(layout: &Layout) -> Result<(D, D)> {
    let rank = layout.ndim();
    match D::NDIM {
        Some(expected) if expected != rank => return Err(Error::RankMismatch { expected, found: rank }),
        _ => {}
    }
    if layout.is_empty() {
        // ndarray counts the elements of the dimensions that are not empty.
        let sizes = layout.shape().iter().filter(|&&size| size != 0);
        let product = sizes.copied().try_fold(1_i64, i64::checked_mul);
        if product.is_none_or(|product| isize::try_from(product).is_err()) {
            return Err(layout.overflow(0));
        }
    }
    let (mut dim, mut strides) = (D::zeros(rank), D::zeros(rank));
    for (axis, (&size, &stride)) in layout.shape().iter().zip(layout.strides()).enumerate() {
        dim[axis] = size as usize;
        if size > 1 && !layout.is_empty() {
            strides[axis] = stride.unsigned_abs() as usize;
        }
    }
    Ok((dim, strides))
}

/// The row-major array of these elements.
pub(crate) fn row_major<T, D: Dimension>(elements: Vec<T>, layout: &Layout) -> Result<Array<T, D>> {
    let (found, (dim, _)) = (elements.len(), dimensions::<D>(layout)?);
    Array::from_shape_vec(dim, elements).map_err(|_| Error::LengthMismatch {
        shape: layout.shape().into(),
        expected: layout.len(),
        found,
    })
}

/// What ndarray builds a view of: a shape with strides by magnitude, the lowest element, and whether
/// that is another than the first.
#[inline]
fn positive<T, D: Dimension>(data: *mut T, layout: &Layout) -> Result<(StrideShape<D>, *mut T, bool)> {
    let (dim, strides) = dimensions::<D>(layout)?;
    let below = layout.extent().map_or(0, |(low, _)| low);
    // Strides of empty shapes do not matter, but ndarray checks them for overlap.
    let shape = if layout.is_empty() { dim.into() } else { dim.strides(strides) };
    // The distance to the lowest element is within the tensor's memory.
    Ok((shape, data.wrapping_offset(below as isize), below != 0))
}

/// The axes to turn round after a view of positive strides was built.
fn inverted(layout: &Layout) -> impl Iterator<Item = Axis> {
    let dims = layout.shape().iter().zip(layout.strides()).enumerate();
    let inverted = dims.filter(|&(_, (&size, &stride))| size > 1 && stride < 0);
    inverted.map(|(axis, _)| Axis(axis))
}

/// # Safety
/// * `data` is aligned and leads to the elements of `layout`, all of them valid `T`s that nobody
///   writes during `'a`.
#[inline]
pub(crate) unsafe fn view<'a, T, D: Dimension>(data: *mut T, layout: &Layout) -> Result<ArrayView<'a, T, D>> {
    let (shape, lowest, turned) = positive::<T, D>(data, layout)?;
    // SAFETY: the caller's promises, and the checks of `dimensions`.
    let mut view = unsafe { ArrayView::from_shape_ptr(shape, lowest) };
    if turned {
        inverted(layout).for_each(|axis| view.invert_axis(axis));
    }
    Ok(view)
}

/// # Safety
/// * `data` is aligned and leads to the elements of `layout`, all of them valid `T`s that nobody else
///   reads or writes during `'a`; no two indices reach the same element.
pub(crate) unsafe fn view_mut<'a, T, D: Dimension>(
    data: *mut T,
    layout: &Layout,
) -> Result<ArrayViewMut<'a, T, D>> {
    let (shape, lowest, turned) = positive::<T, D>(data, layout)?;
    // SAFETY: the caller's promises, and the checks of `dimensions`.
    let mut view = unsafe { ArrayViewMut::from_shape_ptr(shape, lowest) };
    if turned {
        inverted(layout).for_each(|axis| view.invert_axis(axis));
    }
    Ok(view)
}

/// Repeats an expression with a name standing for each of ndarray's rank types.
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
    /// When the memory is not on the host, of another element type or rank, misaligned, foreign
    /// with nobody to vouch for it, or holds an invalid bool.
    pub fn as_ndarray<T: Element, D: Dimension>(&self) -> Result<ArrayView<'_, T, D>> {
        let data = self.readable::<T>("ndarray")?;
        // SAFETY: `readable` gave an aligned address of valid elements that nobody writes while
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
        // view goes where it is lent out only as long as its tensor is borrowed.
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
        self.descriptor.require_host("ndarray")?;
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
            let array: Array<T, Rank> = sealed::Sealed::recover(self, Token(()));
            return match array.into_dyn().into_dimensionality() {
                Ok(array) => Ok(array),
                Err(_) => unreachable!("the rank was compared"),
            };
        });
        let layout = self.layout().clone();
        let not_original = Error::NotOriginal { target: "Array", remedy: "to_ndarray()" };
        match self.into_vec() {
            Ok(vec) => match row_major(vec, &layout) {
                Ok(array) => Ok(array),
                Err(_) => unreachable!("rank and number of elements were compared"),
            },
            Err(rejected) => Err(Rejected::new(rejected.into_value(), not_original)),
        }
    }

    /// The `Vec` of the array that the memory began as.
    pub(crate) fn into_vec_of_array<T: Element>(mut self) -> Result<Vec<T>, Rejected<Self>> {
        let not_original = Error::NotOriginal { target: "Vec", remedy: "to_vec()" };
        if let Err(error) = self.check_container::<T>() {
            return Err(Rejected::new(self, error));
        }
        let Self { storage, descriptor, trusted, .. } = self;
        let (mut storage, mut owner) = (Some(storage), None);
        for_each_rank_type!(Rank => match storage.take().map(Storage::into_owner::<Array<T, Rank>>) {
            Some(Ok(array)) => owner = Some(array.into_raw_vec_and_offset()),
            Some(Err(other)) => storage = Some(other),
            None => {}
        });
        let (mut vec, offset) = match (owner, storage) {
            (Some(owner), _) => owner,
            (None, Some(storage)) => {
                return Err(Rejected::new(Self { trusted, ..Self::new(storage, descriptor) }, not_original));
            }
            (None, None) => unreachable!("the storage was given back"),
        };
        let layout = descriptor.layout();
        let whole = layout.is_empty() || offset == Some(0) && vec.as_ptr() == descriptor.data_ptr().cast();
        if whole && vec.len() == layout.len() && layout.is_contiguous() {
            return Ok(vec);
        }
        // The same memory as before, with the bare `Vec` for an owner.
        let first = descriptor.data_ptr().addr().wrapping_sub(vec.as_ptr().addr());
        let data = vec.as_mut_ptr().wrapping_byte_add(first);
        let descriptor = Descriptor::from_checked(data, layout.clone());
        let storage = Storage::new(vec, Access::Exclusive, false);
        Err(Rejected::new(Self { trusted, ..Self::new(storage, descriptor) }, not_original))
    }

    /// Refuses to give a container of `T`s back while others reach it, or where a `bool` is none.
    #[inline]
    fn check_container<T: Element>(&mut self) -> Result<()> {
        self.descriptor.typed::<T>("ndarray")?;
        self.require_exclusive()?;
        self.require_bools_in_span::<T>()
    }

    /// Whether the owner is an array of just these elements in this layout.
    fn is_whole_array<T: Element, D: Dimension + 'static>(&mut self) -> bool {
        let Some(array) = self.storage.owner_mut::<Array<T, D>>() else { return false };
        // SAFETY: the elements are valid (`check_container`) and only compared by address.
        let seen = unsafe { view::<T, D>(self.descriptor.data_ptr().cast(), self.descriptor.layout()) };
        seen.is_ok_and(|seen| is_same(array, &seen))
    }
}

/// Whether two arrays are the same elements in the same layout.
#[inline]
fn is_same<T, D: Dimension>(array: &Array<T, D>, seen: &ArrayView<'_, T, D>) -> bool {
    let same_strides = || {
        let strides = array.strides().iter().zip(seen.strides());
        strides.zip(seen.shape()).all(|((owned, seen), &size)| size == 1 || owned == seen)
    };
    array.shape() == seen.shape() && (seen.is_empty() || array.as_ptr() == seen.as_ptr() && same_strides())
}
