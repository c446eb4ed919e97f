//! Moves of arrays that own their memory into tensors, and back.

#![forbid(unsafe_code)]

use crate::{Element, Layout, Result, Tensor};
pub(crate) use sealed::{Sealed, Token};

mod sealed {
    use super::*;

    /// Proof that a call comes from this crate: methods of a supertrait can be called through a
    /// bound on the public trait.
    #[derive(Clone, Copy)]
    pub struct Token(pub(crate) ());

    pub trait Sealed: Sized {
        type Item: Element;
        /// Gives back the array of this type that `tensor` was made from. The caller has checked
        /// that there is no other handle, and that the bytes of type `bool` are 0 or 1.
        fn recover(tensor: Tensor, _: Token) -> Self;
        /// Moves the array out, and leaves an array without elements (of rank 0: with one).
        fn take(&mut self, _: Token) -> Self;
        /// Makes a row-major array of these elements.
        fn from_elements(elements: Vec<Self::Item>, layout: &Layout, _: Token) -> Result<Self>;
    }
}

/// An array that owns its memory: `Array` or `ArcArray`.
///
/// The trait is implemented for these two types, with an [`Element`] type. Other crates cannot
/// implement it.
///
/// ```
/// use dlbridge::{OwnedArray, Tensor};
/// use ndarray::array;
///
/// /// Moves every owned array into a tensor.
/// fn collect<A: OwnedArray>(arrays: Vec<A>) -> Vec<Tensor> {
///     arrays.into_iter().map(Into::into).collect()
/// }
/// let tensors = collect(vec![array![1.0, 2.0], array![3.0]]);
/// assert_eq!(tensors[0].shape(), [2]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an `Array` or `ArcArray` of an ndarray version that dlbridge supports",
    label = "not an `Array` or `ArcArray` with an element type of dlbridge",
    note = "if it is a view, copy it: call `to_tensor()` or `to_torch()`, or `to_owned()` first",
    note = "a view does not own its memory, so a tensor that keeps the memory could outlive it; \
            `lend_torch_or_abort()` lends an `ArrayViewMut` to libtorch, and ends the process then",
    note = "dlbridge supports ndarray 0.17 with the feature `ndarray`, and ndarray 0.16 with the \
            feature `ndarray-0_16`",
    note = "if it is an array of another ndarray version, move its `Vec`, provided that it is in \
            row-major order: `Tensor::from_vec(array.into_raw_vec_and_offset().0, shape)`"
)]
pub trait OwnedArray: sealed::Sealed + Into<Tensor> {}
