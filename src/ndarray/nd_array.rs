//! An array that owns its elements through a tensor.
//!
//! Invariant: the view covers the tensor's elements, and nothing writes them while the array is
//! borrowed, except through [`NdArray::get_mut`], which proves that nothing else can.

use std::fmt;
use std::ops::Deref;

use ::ndarray::{Array, ArrayRef, ArrayView, ArrayViewMut, Dimension};

use super::array_ext::ArrayExt;
use super::owned::{Sealed, Token};
use super::views::is_same;
#[cfg(doc)]
use crate::Error;
use crate::{Access, Element, List, Rejected, Result, Tensor};

/// An array that owns its elements through a [`Tensor`]: what `into_ndarray` gives.
///
/// Dereferences to [`ArrayRef`], so everything that reads an ndarray works on it. Writing goes
/// through [`get_mut`](Self::get_mut) and [`make_mut`](Self::make_mut), named after those of `Arc`.
/// It is not `Clone`; [`share`](Self::share) makes another handle,
/// [`to_tensor`](ArrayExt::to_tensor) and `to_owned` copy.
pub struct NdArray<T: Element, D: Dimension> {
    /// Borrows from `tensor`; given out only as long as `self` is borrowed.
    view: ArrayView<'static, T, D>,
    tensor: Tensor,
}

impl<T: Element, D: Dimension> NdArray<T, D> {
    /// # Safety
    /// * `view` covers the elements of `tensor`, and `tensor` allows a view of them.
    #[inline]
    pub(crate) unsafe fn new(view: ArrayView<'static, T, D>, tensor: Tensor) -> Self {
        Self { view, tensor }
    }

    /// The elements to write to, if this is the only handle. Nothing is copied.
    ///
    /// # Errors
    /// When the memory is not [`Access::Exclusive`], there is another handle, or some element is
    /// reached twice.
    pub fn get_mut(&mut self) -> Result<ArrayViewMut<'_, T, D>> {
        self.tensor.as_ndarray_mut()
    }

    /// The elements to write to; copied first if [`get_mut`](Self::get_mut) would refuse.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when there is no room for the copy; [`Error::InvalidBool`].
    pub fn make_mut(&mut self) -> Result<ArrayViewMut<'_, T, D>> {
        if self.tensor.writable::<T>("ndarray").is_err() {
            *self = self.tensor.deep_clone()?.into_ndarray()?;
        }
        self.get_mut()
    }

    /// Another handle to the same elements. Nothing is copied.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { view: self.view.clone(), tensor: self.tensor.share() }
    }

    /// The tensor that owns the elements.
    pub fn as_tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Moves the elements back into a tensor. Nothing is copied.
    pub fn into_tensor(self) -> Tensor {
        self.tensor
    }

    /// The `Array` that the memory began as, its `Vec` and all. Nothing is copied.
    ///
    /// # Errors
    /// [`Error::NotOriginal`] when the memory did not begin as an `Array<T, _>` or a `Vec<T>`,
    /// [`Error::NotUnique`] when there is another handle, [`Error::Aliased`] or [`Error::ReadOnly`]
    /// by [`Access`], [`Error::InvalidBool`]. The array comes back inside the error;
    /// `to_owned()` copies instead.
    #[inline]
    pub fn into_array(mut self) -> Result<Array<T, D>, Rejected<Self>>
    where
        D: 'static,
    {
        let Self { view, tensor } = &mut self;
        // The owner is only given out when there is no other handle.
        if tensor.access() == Access::Exclusive
            && tensor.owner_mut::<Array<T, D>>().is_some_and(|array| is_same(array, view))
            && tensor.require_bools_in_span::<T>().is_ok()
        {
            return Ok(Sealed::recover(self.tensor, Token(())));
        }
        // SAFETY: a refused tensor keeps its elements where they are; at most its owner changed from
        // an array to that array's `Vec`.
        unsafe { self.replace_tensor(Tensor::into_other_original) }
    }

    /// Turns the tensor into something else. If that fails, the array comes back inside the error.
    ///
    /// # Safety
    /// * On failure `replace` gives back a tensor of the same elements at the same addresses.
    pub(crate) unsafe fn replace_tensor<R>(
        self,
        replace: impl FnOnce(Tensor) -> Result<R, Rejected<Tensor>>,
    ) -> Result<R, Rejected<Self>> {
        let Self { view, tensor } = self;
        replace(tensor).map_err(|rejected| rejected.map(|tensor| Self { view, tensor }))
    }
}

impl<T: Element, D: Dimension> Deref for NdArray<T, D> {
    type Target = ArrayRef<T, D>;

    fn deref(&self) -> &ArrayRef<T, D> {
        &self.view
    }
}

impl<T: Element, D: Dimension> fmt::Debug for NdArray<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.view, f)
    }
}

impl<T: Element + fmt::Display, D: Dimension> fmt::Display for NdArray<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.view, f)
    }
}

impl<T: Element, D: Dimension> ArrayExt for NdArray<T, D> {
    fn to_tensor(&self) -> Result<Tensor> {
        self.tensor.deep_clone()
    }

    fn to_list(&self) -> Result<List> {
        self.tensor.to_list()
    }
}

/// Moves the elements back. Nothing is copied.
impl<T: Element, D: Dimension> From<NdArray<T, D>> for Tensor {
    fn from(array: NdArray<T, D>) -> Self {
        array.tensor
    }
}
