//! Conversions that any array has.

use ::ndarray::{ArrayBase, Data, Dimension};

#[cfg(doc)]
use crate::{Access, Error};
use crate::{Descriptor, Element, Layout, List, MemoryFormat, Result, Tensor, host_copy};

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
    /// An `Array` becomes [`Access::Exclusive`]; an `ArcArray` too if no other handle shares it,
    /// else [`Access::ReadOnly`].
    fn into_tensor(self) -> Tensor
    where
        Self: Sized + Into<Tensor>,
    {
        self.into()
    }
}

impl<T: Element, S: Data<Elem = T>, D: Dimension> ArrayExt for ArrayBase<S, D> {
    fn to_tensor(&self) -> Result<Tensor> {
        // SAFETY: the array keeps its elements readable.
        let copied = unsafe { host_copy::deep_copy(&describe(self), MemoryFormat::Preserve) };
        copied.map(Tensor::from_buffer)
    }

    fn to_list(&self) -> Result<List> {
        List::nest(describe(self).layout(), self.iter().copied())
    }
}

/// Describes the elements of an array. For reading, unless the array owns them.
#[inline]
pub(crate) fn describe<T: Element, S: Data<Elem = T>, D: Dimension>(
    array: &ArrayBase<S, D>,
) -> Descriptor {
    // ndarray's own invariants keep sizes and strides within an isize.
    let shape = array.shape().iter().map(|&size| size as i64);
    let strides = array.strides().iter().map(|&stride| stride as i64);
    Descriptor::from_checked(
        array.as_ptr().cast_mut(),
        Layout::from_checked(shape, strides, array.ndim(), array.len()),
    )
}
