//! The array types that belong to a dimension type.
//!
//! ndarray 0.16 and 0.17 have dimension types of the same names, which are different types. The
//! dimension type that a program names thus says which version's arrays a method returns. There is
//! one implementation of [`ArrayDimension`] for `Dim<I>` of each version. An implementation for
//! every `D: Dimension` of each version would overlap.

use std::fmt;
use std::ptr::NonNull;

use super::owned::{OwnedArray, Token};
use crate::{Element, Layout, Result, Tensor};

/// A dimension type of a supported version of ndarray: `Ix0` to `Ix6`, or `IxDyn`.
///
/// Methods that return arrays have a dimension type as parameter. They return arrays of the ndarray
/// version that the dimension type belongs to.
///
/// ```
/// use dlbridge::Tensor;
/// use ndarray::{ArrayView2, Ix2};
///
/// let tensor = Tensor::zeros::<f32>([2, 3])?;
/// let view: ArrayView2<f32> = tensor.as_ndarray::<f32, Ix2>()?;
/// # #[cfg(feature = "ndarray-0_16")]
/// let view: ndarray_0_16::ArrayView2<f32> = tensor.as_ndarray::<f32, ndarray_0_16::Ix2>()?;
/// # Ok::<(), dlbridge::Error>(())
/// ```
///
/// In a generic function, add the bound `ArrayDimension<Version = Ndarray0_17>` to ndarray's own
/// `Dimension`. Then the compiler knows that the results are arrays of ndarray 0.17 with that
/// dimension type: `Ndarray0_17` has an example. Other crates cannot implement the trait.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a dimension type of an ndarray version that dlbridge supports",
    label = "not a dimension type of a supported ndarray version",
    note = "dlbridge supports ndarray 0.17 with the feature `ndarray`, and ndarray 0.16 with the \
            feature `ndarray-0_16`",
    note = "if it is the parameter of a generic function, add a bound: `D: ndarray::Dimension + \
            dlbridge::ArrayDimension<Version = dlbridge::Ndarray0_17>`"
)]
pub trait ArrayDimension: Sized + 'static {
    /// The version of ndarray: `Ndarray0_17` or `Ndarray0_16`.
    type Version: ArrayVersion<Self>;
}

/// A version of ndarray: its array types with the dimension type `D`.
///
/// It is implemented for the marker types `Ndarray0_17` and `Ndarray0_16`. Other crates cannot
/// implement it. [`ArrayOf`], [`ArrayViewOf`] and [`ArrayViewMutOf`] are shorter names for its
/// types.
///
/// ```
/// use dlbridge::{ArrayVersion, Ndarray0_17};
/// use ndarray::{Array2, Ix2};
///
/// let array: <Ndarray0_17 as ArrayVersion<Ix2>>::Array<f32> = Array2::zeros((2, 3));
/// ```
pub trait ArrayVersion<D>: Sized {
    /// `ndarray::Array<T, D>`.
    type Array<T: Element>: OwnedArray + Send + Sync;
    /// `ndarray::ArrayView<'a, T, D>`.
    type View<'a, T: Element>: Clone + fmt::Debug + Send + Sync + IntoIterator<Item = &'a T>;
    /// `ndarray::ArrayViewMut<'a, T, D>`.
    type ViewMut<'a, T: Element>: fmt::Debug + Send + Sync + IntoIterator<Item = &'a mut T>;
    /// `ndarray::IxDyn`: any number of dimensions.
    type Dyn: ArrayDimension;

    /// # Safety
    /// * `data` is aligned and leads to the elements of `layout`, all of them valid `T`s that are
    ///   not written during `'a`.
    #[doc(hidden)]
    unsafe fn view<'a, T: Element>(
        data: NonNull<T>,
        layout: &Layout,
        _: Token,
    ) -> Result<Self::View<'a, T>>;

    /// As [`view`](Self::view), or `None` unless the rank is that of `D`, there are elements, and
    /// no stride is negative.
    ///
    /// # Safety
    /// * As for [`view`](Self::view).
    #[doc(hidden)]
    unsafe fn usual_view<'a, T: Element>(
        data: NonNull<T>,
        layout: &Layout,
        _: Token,
    ) -> Option<Self::View<'a, T>>;

    /// # Safety
    /// * `data` is aligned and leads to the elements of `layout`, all of them valid `T`s that no
    ///   other code reads or writes during `'a`; no two indices reach the same element.
    #[doc(hidden)]
    unsafe fn view_mut<'a, T: Element>(
        data: NonNull<T>,
        layout: &Layout,
        _: Token,
    ) -> Result<Self::ViewMut<'a, T>>;

    /// Shortens the lifetime of the elements to that of the borrow.
    #[doc(hidden)]
    fn shorten<'a, T: Element>(view: &'a Self::View<'static, T>, _: Token)
    -> &'a Self::View<'a, T>;

    /// Changes the dimension type.
    #[doc(hidden)]
    fn into_dyn<T: Element>(
        view: Self::View<'static, T>,
        _: Token,
    ) -> ArrayViewOf<'static, T, Self::Dyn>;

    /// Returns true if the shapes and all elements are equal.
    #[doc(hidden)]
    fn is_equal<T: Element>(one: &Self::View<'_, T>, other: &Self::View<'_, T>, _: Token) -> bool;

    /// Returns true if `array` has the elements of `view`, in the same layout.
    #[doc(hidden)]
    fn is_same<T: Element>(array: &Self::Array<T>, view: &Self::View<'_, T>, _: Token) -> bool;

    /// Makes an array of what the function gives for each element.
    #[doc(hidden)]
    fn map<T: Element>(
        view: &Self::View<'_, T>,
        function: impl FnMut(T) -> T,
        _: Token,
    ) -> Self::Array<T>;

    /// Copies the elements into a new array. Aborts if there is no memory.
    #[doc(hidden)]
    fn to_array<T: Element>(view: &Self::View<'_, T>, _: Token) -> Self::Array<T>;

    /// Fails if arrays with this dimension type cannot have this layout.
    #[doc(hidden)]
    fn check_layout(layout: &Layout, _: Token) -> Result<()>;

    /// Makes a row-major array of these elements.
    #[doc(hidden)]
    fn row_major<T: Element>(elements: Vec<T>, layout: &Layout, _: Token)
    -> Result<Self::Array<T>>;

    /// Makes an array of these elements with the strides of `layout`. They are not negative, and
    /// reach each element once.
    #[doc(hidden)]
    fn with_strides<T: Element>(
        elements: Vec<T>,
        layout: &Layout,
        _: Token,
    ) -> Result<Self::Array<T>>;

    /// Gives back the array of this version that the tensor was made from, whatever its dimension
    /// type was. The tensor is the only handle, its layout passed
    /// [`check_layout`](Self::check_layout), and the bytes of bools are 0 or 1.
    #[doc(hidden)]
    fn recover_array<T: Element>(tensor: Tensor, _: Token) -> Result<Self::Array<T>, Tensor>;
}

/// The type `Array<T, D>` of the ndarray version that `D` belongs to.
///
/// ```
/// let array: dlbridge::ArrayOf<f32, ndarray::Ix2> = ndarray::Array2::zeros((2, 3));
/// ```
pub type ArrayOf<T, D> = <<D as ArrayDimension>::Version as ArrayVersion<D>>::Array<T>;

/// The type `ArrayView<'a, T, D>` of the ndarray version that `D` belongs to.
///
/// ```
/// let array = ndarray::array![1, 2, 3];
/// let view: dlbridge::ArrayViewOf<'_, i32, ndarray::Ix1> = array.view();
/// ```
pub type ArrayViewOf<'a, T, D> = <<D as ArrayDimension>::Version as ArrayVersion<D>>::View<'a, T>;

/// The type `ArrayViewMut<'a, T, D>` of the ndarray version that `D` belongs to.
///
/// ```
/// let mut array = ndarray::array![1, 2, 3];
/// let view: dlbridge::ArrayViewMutOf<'_, i32, ndarray::Ix1> = array.view_mut();
/// ```
pub type ArrayViewMutOf<'a, T, D> =
    <<D as ArrayDimension>::Version as ArrayVersion<D>>::ViewMut<'a, T>;
