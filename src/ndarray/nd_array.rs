//! An array that owns its elements through a tensor.
//!
//! Invariant: the view covers the tensor's elements, and nothing writes them while the array is
//! borrowed, except through [`NdArray::get_mut`], which proves that nothing else can.

use super::array_ext::ArrayExt;
use super::dimension::{ArrayDimension, ArrayOf, ArrayVersion, ArrayViewMutOf, ArrayViewOf};
use super::owned::{Sealed, Token};
use crate::{Access, Element, Error, List, Rejected, Result, Tensor};

/// An array that owns its elements through a [`Tensor`]: the result of `into_ndarray`.
///
/// `D` is a dimension type of ndarray 0.17 or 0.16. With ndarray 0.17, the array dereferences to
/// `ArrayRef`, so all methods that read an ndarray work on it. ndarray 0.16 has no such type:
/// [`view`](Self::view) gives a view, which has these methods. Operators and comparisons work on
/// `&NdArray` as on ndarray's references, and their results are ndarray's arrays.
///
/// To write, call [`get_mut`](Self::get_mut) or [`make_mut`](Self::make_mut), which are named after
/// those of `Arc`. The type is not `Clone`: [`share`](Self::share) makes another handle to the same
/// elements, and [`to_tensor`](ArrayExt::to_tensor) and ndarray's `to_owned` copy them.
///
/// ```
/// use dlbridge::{NdArray, Tensor};
/// use ndarray::{Axis, Ix2, array};
///
/// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0, 3.0, 4.0], [2, 2])?;
/// let mut matrix: NdArray<f32, Ix2> = tensor.into_ndarray()?; // the same memory
/// assert_eq!(matrix.sum_axis(Axis(0)), array![4.0, 6.0]);
/// matrix.get_mut()?[[0, 0]] = 10.0;
/// assert_eq!(matrix[[0, 0]], 10.0);
/// # Ok::<(), dlbridge::Error>(())
/// ```
pub struct NdArray<T: Element, D: ArrayDimension> {
    /// A view of the elements of `tensor`. It is given out only as long as `self` is borrowed.
    view: ArrayViewOf<'static, T, D>,
    tensor: Tensor,
}

impl<T: Element, D: ArrayDimension> NdArray<T, D> {
    /// # Safety
    /// * `view` covers the elements of `tensor`, and `tensor` allows a view of them.
    #[inline]
    pub(crate) unsafe fn new(view: ArrayViewOf<'static, T, D>, tensor: Tensor) -> Self {
        Self { view, tensor }
    }

    /// Borrows the elements as an array view. Nothing is copied.
    ///
    /// ```
    /// use dlbridge::Tensor;
    /// use ndarray::Ix2;
    ///
    /// let array = Tensor::from_vec(vec![1, 2, 3, 4], [2, 2])?.into_ndarray::<i32, Ix2>()?;
    /// assert_eq!(array.view().reversed_axes()[[0, 1]], 3);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn view(&self) -> ArrayViewOf<'_, T, D> {
        self.as_view().clone()
    }

    /// Borrows the elements for writing, if this is the only handle. Nothing is copied.
    ///
    /// ```
    /// use dlbridge::Tensor;
    /// use ndarray::Ix1;
    ///
    /// let mut array = Tensor::from_vec(vec![1, 2, 3], [3])?.into_ndarray::<i32, Ix1>()?;
    /// array.get_mut()?.mapv_inplace(|value| 2 * value);
    /// let other = array.share();
    /// assert!(array.get_mut().is_err()); // `other` may be reading
    /// assert_eq!(other.to_vec(), [2, 4, 6]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Aliased`], [`Error::ReadOnly`] or [`Error::NotUnique`] unless this is the only
    /// handle to [`Access::Exclusive`] memory; [`Error::SelfOverlap`] if two indices may reach the
    /// same element; [`Error::InvalidBool`].
    pub fn get_mut(&mut self) -> Result<ArrayViewMutOf<'_, T, D>> {
        self.tensor.as_ndarray_mut::<T, D>()
    }

    /// Borrows the elements for writing. They are copied first if [`get_mut`](Self::get_mut) fails.
    ///
    /// ```
    /// use dlbridge::Tensor;
    /// use ndarray::Ix1;
    ///
    /// let mut array = Tensor::from_vec(vec![1, 2, 3], [3])?.into_ndarray::<i32, Ix1>()?;
    /// let other = array.share();
    /// array.make_mut()?[0] = 10; // copies, because there are two handles
    /// assert_eq!((array[0], other[0]), (10, 1));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if there is no memory for the copy; [`Error::InvalidBool`].
    pub fn make_mut(&mut self) -> Result<ArrayViewMutOf<'_, T, D>> {
        if self.tensor.writable::<T>("ndarray").is_err() {
            *self = self.tensor.deep_clone()?.into_ndarray()?;
        }
        self.get_mut()
    }

    /// Makes another handle to the same elements. Nothing is copied.
    ///
    /// ```
    /// use dlbridge::Tensor;
    /// use ndarray::Ix1;
    ///
    /// let array = Tensor::from_vec(vec![1, 2, 3], [3])?.into_ndarray::<i32, Ix1>()?;
    /// let other = array.share();
    /// assert_eq!(other.as_ptr(), array.as_ptr());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[must_use]
    pub fn share(&self) -> Self {
        Self { view: self.view.clone(), tensor: self.tensor.share() }
    }

    /// Borrows the tensor that owns the elements.
    ///
    /// ```
    /// use dlbridge::{DType, Tensor};
    /// use ndarray::Ix2;
    ///
    /// let array = Tensor::zeros::<f32>([2, 3])?.into_ndarray::<f32, Ix2>()?;
    /// assert_eq!(array.as_tensor().dtype(), DType::F32);
    /// let for_consumer = array.as_tensor().share_dlpack();
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn as_tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Moves the elements back into a tensor. Nothing is copied.
    ///
    /// ```
    /// use dlbridge::Tensor;
    /// use ndarray::Ix1;
    ///
    /// let array = Tensor::from_vec(vec![1, 2, 3], [3])?.into_ndarray::<i32, Ix1>()?;
    /// assert_eq!(array.into_tensor().into_vec::<i32>()?, [1, 2, 3]); // the Vec from above
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn into_tensor(self) -> Tensor {
        self.tensor
    }

    /// Gives back the `Array` or the `Vec` that the tensor was made from, as an `Array`.
    ///
    /// Nothing is copied.
    ///
    /// ```
    /// use dlbridge::{ArrayExt, Error, Tensor};
    /// use ndarray::{Ix1, Ix2, array};
    ///
    /// let matrix = array![[1, 2], [3, 4]].into_tensor().into_ndarray::<i32, Ix2>()?;
    /// assert_eq!(matrix.into_array()?, array![[1, 2], [3, 4]]);
    ///
    /// let zeros = Tensor::zeros::<i32>([2])?.into_ndarray::<i32, Ix1>()?; // not made from either
    /// let rejected = zeros.into_array().unwrap_err();
    /// assert!(matches!(rejected.error(), Error::NotOriginal { .. }));
    /// assert_eq!(rejected.into_value().to_owned(), array![0, 0]); // a copy
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotOriginal`] unless the tensor was made from an `Array<T, _>` or a `Vec<T>` and
    /// has all of its elements; [`Error::NotUnique`] if there is another handle; [`Error::Aliased`]
    /// or [`Error::ReadOnly`] by [`Access`]; [`Error::InvalidBool`]. The array comes back inside
    /// the error.
    #[inline(always)] // as `Tensor::into_ndarray`
    pub fn into_array(mut self) -> Result<ArrayOf<T, D>, Rejected<Self>> {
        let Self { view, tensor } = &mut self;
        // `owner_mut` gives the owner only if there is no other handle.
        if tensor.access() == Access::Exclusive
            && tensor
                .owner_mut::<ArrayOf<T, D>>()
                .is_some_and(|array| D::Version::is_same(array, view, Token(())))
            && tensor.require_bools_in_span::<T>().is_ok()
        {
            return Ok(Sealed::recover(self.tensor, Token(())));
        }
        self.into_other_array().map_err(|(array, error)| Rejected::new(array, error))
    }

    /// [`into_array`](Self::into_array), unless the tensor was made from an array of this type.
    #[cold]
    fn into_other_array(self) -> Result<ArrayOf<T, D>, (Self, Error)> {
        // SAFETY: if `into_other_original` fails, it gives back a tensor of the same elements at
        // the same addresses; at most the owner changed from an array to the `Vec` of that array.
        let replaced = unsafe { self.replace_tensor(Tensor::into_other_original::<T, D>) };
        replaced.map_err(Rejected::into_parts)
    }

    /// Gives the elements as an `Array`. They are copied, in row-major order, only if
    /// [`into_array`](Self::into_array) fails.
    ///
    /// Like every copy of ndarray, this aborts the process if there is no memory for the copy.
    ///
    /// ```
    /// use dlbridge::{ArrayExt, Tensor};
    /// use ndarray::{Array2, Ix2, array};
    ///
    /// let matrix = array![[1, 2], [3, 4]];
    /// let address = matrix.as_ptr();
    /// let matrix = matrix.into_tensor().into_ndarray::<i32, Ix2>()?.into_owned(); // moved
    /// assert_eq!(matrix.as_ptr(), address);
    ///
    /// let zeros = Tensor::zeros::<i32>([2, 2])?.into_ndarray::<i32, Ix2>()?;
    /// let zeros: Array2<i32> = zeros.into(); // copied: it was neither an `Array` nor a `Vec`
    /// assert_eq!(matrix + zeros, array![[1, 2], [3, 4]]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn into_owned(self) -> ArrayOf<T, D> {
        self.into_array().unwrap_or_else(|rejected| {
            let Self { view, tensor } = rejected.into_value();
            tensor.to_ndarray::<T, D>().unwrap_or_else(|_| D::Version::to_array(&view, Token(())))
        })
    }

    /// Changes the dimension type to `IxDyn`, for any number of dimensions. Nothing is copied.
    ///
    /// ```
    /// use dlbridge::{NdArray, Tensor};
    /// use ndarray::{Ix2, IxDyn};
    ///
    /// let matrix = Tensor::zeros::<f32>([2, 3])?.into_ndarray::<f32, Ix2>()?;
    /// let any_rank: NdArray<f32, IxDyn> = matrix.into_dyn();
    /// assert_eq!(any_rank.ndim(), 2);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn into_dyn(self) -> NdArray<T, <D::Version as ArrayVersion<D>>::Dyn> {
        let Self { view, tensor } = self;
        NdArray { view: D::Version::into_dyn(view, Token(())), tensor }
    }

    /// Changes the dimension type. Nothing is copied.
    ///
    /// The new type may also belong to another version of ndarray.
    ///
    /// ```
    /// use dlbridge::{Error, Tensor};
    /// use ndarray::{Ix1, Ix2, IxDyn};
    ///
    /// let array = Tensor::zeros::<f32>([2, 3])?.into_ndarray::<f32, IxDyn>()?;
    /// let matrix = array.into_dimensionality::<Ix2>()?;
    /// assert_eq!(matrix.dim(), (2, 3));
    /// let rejected = matrix.into_dimensionality::<Ix1>().unwrap_err();
    /// assert_eq!(*rejected.error(), Error::RankMismatch { expected: 1, found: 2 });
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::RankMismatch`]. The array comes back inside the error.
    pub fn into_dimensionality<E: ArrayDimension>(self) -> Result<NdArray<T, E>, Rejected<Self>> {
        // SAFETY: the view moves into the new array, with the tensor that it covers.
        match unsafe { self.view_as::<E>() } {
            Ok(view) => Ok(NdArray { view, tensor: self.tensor }),
            Err(error) => Err(Rejected::new(self, error)),
        }
    }

    /// Makes a view of another dimension type.
    ///
    /// # Safety
    /// * The view is not used after `self.tensor` was dropped or borrowed for writing.
    unsafe fn view_as<E: ArrayDimension>(&self) -> Result<ArrayViewOf<'static, T, E>> {
        let data = self.tensor.descriptor().host_ptr::<T>("ndarray")?;
        // SAFETY: `data` is aligned. `self.view` covers the same elements, which are valid and not
        // written as long as the tensor is neither dropped nor borrowed for writing, which the
        // caller guarantees.
        unsafe { E::Version::view(data, self.tensor.layout(), Token(())) }
    }

    /// Borrows the view. Its copies live as long as this borrow.
    #[inline]
    pub(super) fn as_view(&self) -> &ArrayViewOf<'_, T, D> {
        D::Version::shorten(&self.view, Token(()))
    }

    /// Converts the tensor. If that fails, the array comes back inside the error.
    ///
    /// # Safety
    /// * If `replace` fails, it gives back a tensor of the same elements at the same addresses.
    pub(crate) unsafe fn replace_tensor<R>(
        self,
        replace: impl FnOnce(Tensor) -> Result<R, Rejected<Tensor>>,
    ) -> Result<R, Rejected<Self>> {
        let Self { view, tensor } = self;
        replace(tensor).map_err(|rejected| rejected.map(|tensor| Self { view, tensor }))
    }
}

impl<T: Element, D: ArrayDimension> ArrayExt for NdArray<T, D> {
    type Elem = T;

    fn to_tensor(&self) -> Result<Tensor> {
        self.tensor.deep_clone()
    }

    fn to_list(&self) -> Result<List> {
        self.tensor.to_list()
    }
}

/// Moves the elements back into a tensor. Nothing is copied.
impl<T: Element, D: ArrayDimension> From<NdArray<T, D>> for Tensor {
    fn from(array: NdArray<T, D>) -> Self {
        array.tensor
    }
}
