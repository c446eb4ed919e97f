//! Conversions between tensors and ndarray's arrays, without copies.
//!
//! Two versions of ndarray are supported, 0.17 and 0.16. Their types are different types with the
//! same names. `version/` has the code that names these types. It is compiled once for each
//! version: as a module of [`v0_17`] and as a module of [`v0_16`]. The other modules are generic
//! over the version: [`dimension`] says which array types belong to a dimension type. [`owned`] and
//! [`array_ext`] are the traits of arrays, and [`nd_array`] has the array that owns its elements
//! through a tensor. [`operators`] has its operators, and `serde` its serialization. The methods of
//! `Tensor` that name ndarray's types are in [`tensor`], because the module of `Tensor` is a layer
//! below this one.

mod array_ext;
mod dimension;
mod nd_array;
mod operators;
mod owned;
#[cfg(feature = "serde")]
mod serde;
mod tensor;
#[cfg(feature = "ndarray-0_16")]
pub(crate) mod v0_16;
#[cfg(feature = "ndarray")]
pub(crate) mod v0_17;

pub use array_ext::ArrayExt;
pub use dimension::{ArrayDimension, ArrayOf, ArrayVersion, ArrayViewMutOf, ArrayViewOf};
pub use nd_array::NdArray;
pub use owned::OwnedArray;
#[cfg(feature = "torch")]
pub(crate) use owned::Token;
#[cfg(feature = "ndarray-0_16")]
pub use v0_16::Ndarray0_16;
#[cfg(feature = "ndarray")]
pub use v0_17::Ndarray0_17;
