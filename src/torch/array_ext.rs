//! Conversions of arrays to libtorch tensors.

use super::blob::copy_of;
use super::scoped;
use super::tensor::{into_blob, require_movable};
#[cfg(doc)]
use crate::Error;
use crate::ndarray::{ArrayDimension, NdArray, OwnedArray, Token};
use crate::{Descriptor, Element, Rejected, Result, Tensor};

/// Conversions of ndarray arrays to libtorch: of owned and shared arrays, and of views.
///
/// `to_torch` copies, and every array has it. `into_torch` and `lend_torch` move the memory, and
/// exist for arrays that own it. `lend_torch_or_abort` exists for views that may be written.
///
/// ```
/// use dlbridge::ArrayTorchExt;
/// use ndarray::array;
///
/// let mut array = array![[1.0_f32, 2.0], [3.0, 4.0]];
/// let copy = array.to_torch()?; // other memory
/// let sum = array.lend_torch(|tensor| tensor.sum(None).double_value(&[]))?; // its memory, lent
/// let moved = array.into_torch()?; // its memory, moved
/// assert_eq!((sum, moved == copy), (10.0, true));
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an array of an ndarray version that dlbridge supports",
    label = "not an array of a supported ndarray version",
    note = "dlbridge supports ndarray 0.17 with the feature `ndarray`, and ndarray 0.16 with the \
            feature `ndarray-0_16`",
    note = "if it is an array of another ndarray version, move its `Vec`, provided that it is in \
            row-major order: `Tensor::from_vec(array.into_raw_vec_and_offset().0, shape)`"
)]
pub trait ArrayTorchExt {
    /// The type of the elements. The methods need it to be an [`Element`].
    type Elem;

    /// Copies the elements into a new libtorch tensor: Python's `torch.tensor(a)`.
    ///
    /// The copy's dimensions have the order of the array's strides. libtorch allocates its memory.
    ///
    /// ```
    /// use dlbridge::ArrayTorchExt;
    /// use ndarray::{array, s};
    ///
    /// let array = array![[1.0_f32, 2.0], [3.0, 4.0]];
    /// let reversed = array.slice(s![..;-1, 0]); // a negative stride, which libtorch does not have
    /// assert_eq!(reversed.to_torch()?, tch::Tensor::from_slice(&[3.0_f32, 1.0]));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TooManyDimensions`] beyond 64; [`Error::Libtorch`] if libtorch cannot allocate the
    /// memory.
    fn to_torch(&self) -> Result<tch::Tensor>
    where
        Self::Elem: Element;

    /// Moves the array into a libtorch tensor: Python's `torch.from_numpy(a)`. Nothing is copied.
    ///
    /// The array's memory is released when libtorch drops its last tensor of it. `resize_` beyond
    /// the memory, `set_source_tensor_` and `set_data` move the tensor to other memory: then the
    /// array's memory is released, and `into_array` gives [`Error::NotOriginal`].
    ///
    /// ```
    /// use dlbridge::{ArrayTorchExt, TorchExt};
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
    /// [`Error::NegativeStride`], [`Error::TooManyDimensions`] beyond 64, [`Error::ReadOnly`] for
    /// an `ArcArray` that another handle shares, [`Error::Libtorch`]; [`to_torch`](Self::to_torch)
    /// copies instead. The array comes back inside the error.
    fn into_torch(self) -> Result<tch::Tensor, Rejected<Self>>
    where
        Self: OwnedArray,
    {
        from_array(self)
    }

    /// Lends the array's memory to libtorch for the duration of a closure. Nothing is copied.
    ///
    /// Afterwards the array has its memory, shape and strides back, whatever the closure does to
    /// the tensor, and also if it panics. There is one exception: if a tensor that shares the
    /// memory outlives the closure (a `shallow_clone`, a view, a swapped tensor, the handle that an
    /// in-place operation returns), that tensor keeps the memory, and the array gets a row-major
    /// copy. The array keeps a handle of its own during the closure, so `as_ndarray_mut` on the
    /// tensor is an error.
    ///
    /// ```
    /// use dlbridge::ArrayTorchExt;
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
    /// As for [`into_torch`](Self::into_torch), before the closure runs; the array is then
    /// unchanged. If such a tensor keeps the memory and the row-major copy fails, the array has no
    /// elements afterwards.
    fn lend_torch<R>(&mut self, run: impl FnOnce(&mut tch::Tensor) -> R) -> Result<R>
    where
        Self: OwnedArray,
    {
        scoped::lend(self, run)
    }

    /// Lends the memory of a view to libtorch for the duration of a closure. Nothing is copied.
    ///
    /// **Ends the process** if a tensor that shares the memory outlives the closure: a
    /// `shallow_clone`, a view, the handle that an in-place operation returns, or a graph of
    /// autograd. A view does not own its memory, so such a tensor could use the memory after the
    /// view's lifetime. An array that owns its memory has [`lend_torch`](Self::lend_torch), which
    /// copies instead.
    ///
    /// ```
    /// use dlbridge::ArrayTorchExt;
    /// use ndarray::{array, s};
    ///
    /// let mut array = array![[-1.0_f32, 2.0], [-3.0, 4.0], [-5.0, 6.0]];
    /// let mut rows = array.slice_mut(s![1.., ..]); // whole rows: no other elements between them
    /// let sum = rows.lend_torch_or_abort(|tensor| {
    ///     let _ = tensor.relu_(); // drop what it returns: a handle to the same memory
    ///     tensor.sum(None).double_value(&[])
    /// })?;
    /// assert_eq!((sum, array), (10.0, array![[-1.0, 2.0], [0.0, 4.0], [0.0, 6.0]]));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] if there is memory between the elements, because libtorch's
    /// `as_strided` reaches it; [`Error::NegativeStride`], [`Error::TooManyDimensions`] beyond 64,
    /// [`Error::Libtorch`]. The closure then does not run.
    fn lend_torch_or_abort<R>(&mut self, run: impl FnOnce(&mut tch::Tensor) -> R) -> Result<R>
    where
        Self: WritableView,
    {
        let descriptor = self.describe_mut(Token(()));
        // SAFETY: `WritableView` is implemented for `ArrayViewMut` only, which has the only access
        // to its elements, and is borrowed during the call.
        unsafe { scoped::lend_view(descriptor, run) }
    }
}

mod sealed {
    use crate::Descriptor;
    use crate::ndarray::Token;

    pub trait DescribeMut {
        /// Describes the elements, with an address that may be written through.
        fn describe_mut(&mut self, _: Token) -> Descriptor;
    }
}

/// An array view that may be written: `ArrayViewMut`, with an [`Element`] type.
///
/// Other crates cannot implement the trait.
///
/// ```
/// use dlbridge::{ArrayTorchExt, Error, WritableView};
/// use ndarray::array;
///
/// /// Replaces each element by its absolute value.
/// fn absolute(mut view: impl WritableView + ArrayTorchExt) -> Result<(), Error> {
///     view.lend_torch_or_abort(|tensor| drop(tensor.abs_()))
/// }
/// let mut array = array![-1.0_f32, 2.0];
/// absolute(array.view_mut())?;
/// assert_eq!(array, array![1.0, 2.0]);
/// # Ok::<(), Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an `ArrayViewMut` of an ndarray version that dlbridge supports",
    label = "not an `ArrayViewMut` with an element type of dlbridge",
    note = "if the array owns its memory, call `lend_torch()`, which never ends the process",
    note = "dlbridge supports ndarray 0.17 with the feature `ndarray`, and ndarray 0.16 with the \
            feature `ndarray-0_16`"
)]
pub trait WritableView: sealed::DescribeMut {}

macro_rules! impl_for_arrays {
    ($nd:ident, $version:ident) => {
        use $nd::{ArrayBase, ArrayViewMut, Data, Dimension};

        use super::*;
        use crate::ndarray::$version::describe;

        impl<T, S: Data<Elem = T>, D: Dimension> ArrayTorchExt for ArrayBase<S, D> {
            type Elem = T;

            fn to_torch(&self) -> Result<tch::Tensor>
            where
                T: Element,
            {
                // SAFETY: the array keeps its elements readable.
                unsafe { copy_of(&describe(self)) }
            }
        }

        impl<T: Element, D: Dimension> WritableView for ArrayViewMut<'_, T, D> {}

        impl<T: Element, D: Dimension> sealed::DescribeMut for ArrayViewMut<'_, T, D> {
            fn describe_mut(&mut self, _: Token) -> Descriptor {
                let data = self.as_mut_ptr();
                describe(self).with_ptr(data)
            }
        }
    };
}
mod arrays_0_17 {
    impl_for_arrays!(ndarray, v0_17);
}
#[cfg(feature = "ndarray-0_16")]
mod arrays_0_16 {
    impl_for_arrays!(ndarray_0_16, v0_16);
}

impl<T: Element, D: ArrayDimension> ArrayTorchExt for NdArray<T, D> {
    type Elem = T;

    fn to_torch(&self) -> Result<tch::Tensor> {
        self.as_tensor().to_torch()
    }
}

impl<T: Element, D: ArrayDimension> NdArray<T, D> {
    /// Moves the elements into a libtorch tensor. Nothing is copied.
    ///
    /// ```
    /// use dlbridge::TorchExt;
    /// use ndarray::Ix1;
    ///
    /// let tensor = tch::Tensor::from_slice(&[1.0_f32, 2.0, 3.0]);
    /// let address = tensor.data_ptr();
    /// let array = tensor.into_ndarray::<f32, Ix1>()?; // ... read it as an ndarray ...
    /// let tensor = array.into_torch()?;               // the libtorch tensor that it was
    /// assert_eq!(tensor.data_ptr(), address);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Tensor::into_torch`]. The array comes back inside the error.
    pub fn into_torch(self) -> Result<tch::Tensor, Rejected<Self>> {
        // SAFETY: a refused tensor comes back as it was.
        unsafe { self.replace_tensor(Tensor::into_torch) }
    }
}

/// Moves an array into libtorch.
#[inline]
fn from_array<A: OwnedArray>(array: A) -> Result<tch::Tensor, Rejected<A>> {
    let mut tensor: Tensor = array.into();
    if let Err(error) = require_movable(&mut tensor) {
        return Err(Rejected::new(A::recover(tensor, Token(())), error));
    }
    // SAFETY: `require_movable` passed above.
    let moved = unsafe { into_blob(tensor) };
    moved.map_err(|rejected| rejected.map(|tensor| A::recover(tensor, Token(()))))
}
