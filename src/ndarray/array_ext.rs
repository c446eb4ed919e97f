//! Conversions of every kind of array.

#![forbid(unsafe_code)]

use super::owned::OwnedArray;
#[cfg(doc)]
use crate::{Access, Error};
use crate::{Element, List, Result, Tensor};

/// Conversions of every kind of ndarray array: owned arrays, shared arrays and views.
///
/// The `to_` methods copy. The `into_` method moves, and exists for arrays that own their memory.
///
/// ```
/// use dlbridge::ArrayExt;
/// use ndarray::{array, s};
///
/// let matrix = array![[1, 2, 3], [4, 5, 6]];
/// let column = matrix.slice(s![.., 1]).to_tensor()?; // a copy of a view
/// assert_eq!(column.to_vec::<i32>()?, [2, 5]);
/// let tensor = matrix.into_tensor(); // moved
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
pub trait ArrayExt {
    /// The type of the elements. The methods need it to be an [`Element`].
    type Elem;

    /// Copies the elements into a new tensor, which keeps the order of the strides.
    ///
    /// ```
    /// use dlbridge::ArrayExt;
    /// use ndarray::array;
    ///
    /// let matrix = array![[1.0, 2.0], [3.0, 4.0]];
    /// let transposed = matrix.t().to_tensor()?;
    /// assert_eq!(transposed.strides(), [1, 2]); // column-major, as the view is
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    fn to_tensor(&self) -> Result<Tensor>
    where
        Self::Elem: Element;

    /// Copies the elements into nested lists, as Python's `tolist` does.
    ///
    /// ```
    /// use dlbridge::ArrayExt;
    /// use ndarray::array;
    ///
    /// assert_eq!(array![[1.5, 2.0]].t().to_list()?.to_string(), "[[1.5], [2.0]]");
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TooManyDimensions`] beyond 64; [`Error::OutOfMemory`].
    fn to_list(&self) -> Result<List>
    where
        Self::Elem: Element;

    /// Moves the array into a tensor. Nothing is copied, and the strides stay as they are.
    ///
    /// The memory of an `Array` is [`Access::Exclusive`]. The memory of an `ArcArray` is
    /// [`Access::ReadOnly`] if another `ArcArray` shares it, and otherwise [`Access::Exclusive`].
    ///
    /// ```
    /// use dlbridge::{Access, ArrayExt};
    /// use ndarray::array;
    ///
    /// let array = array![1.0, 2.0];
    /// let address = array.as_ptr();
    /// let tensor = array.into_tensor();
    /// assert_eq!(tensor.data_ptr().cast_const().cast(), address);
    ///
    /// let shared = array![1.0, 2.0].into_shared();
    /// assert_eq!(shared.clone().into_tensor().access(), Access::ReadOnly);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    fn into_tensor(self) -> Tensor
    where
        Self: OwnedArray,
    {
        self.into()
    }
}
