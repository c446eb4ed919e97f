//! ndarray: arrays in and out, without copies.
//!
//! [`views`] builds array views of described memory, [`owned`] moves arrays in and gives them back,
//! [`nd_array`] is an array that owns its elements through a tensor, and [`array_ext`] is what any
//! array can do. The methods of `Tensor` that name ndarray's types are in [`tensor`]: the tensor
//! itself does not know its adapters.

mod array_ext;
mod nd_array;
mod owned;
mod tensor;
mod views;

pub use array_ext::ArrayExt;
#[cfg(feature = "torch")]
pub(crate) use array_ext::describe;
pub use nd_array::NdArray;
pub use owned::OwnedArray;
#[cfg(feature = "torch")]
pub(crate) use owned::Token;
#[cfg(feature = "torch")]
pub(crate) use views::{row_major, view, view_mut};
