//! Conversions between tensors and ndarray's arrays, without copies.
//!
//! [`description`] describes the memory of an array, and [`views`] builds array views of described
//! memory. [`owned`] moves arrays into tensors and gives them back. [`nd_array`] has the array that
//! owns its elements through a tensor, and [`array_ext`] the conversions of every kind of array.
//! The methods of `Tensor` that name ndarray's types are in [`tensor`], because the module of
//! `Tensor` is a layer below this one.

mod array_ext;
mod description;
mod nd_array;
mod owned;
mod tensor;
mod views;

pub use array_ext::ArrayExt;
#[cfg(feature = "torch")]
pub(crate) use description::describe;
pub use nd_array::NdArray;
pub use owned::OwnedArray;
#[cfg(feature = "torch")]
pub(crate) use owned::Token;
#[cfg(feature = "torch")]
pub(crate) use views::{row_major, view, view_mut};
