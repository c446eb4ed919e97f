//! The code that names the types of one version of ndarray. [`super`] says which one: `nd` is its
//! crate, and `Version` its marker type.
//!
//! [`description`] describes the memory of an array, and [`views`] builds array views of described
//! memory. [`owned`] moves arrays into tensors and gives them back. [`array_ext`], [`dimension`]
//! and [`operators`] implement the traits of the modules of the same names.

mod array_ext;
mod description;
mod dimension;
mod operators;
mod owned;
mod views;

use super::{Version, nd};
#[cfg(feature = "torch")]
pub(crate) use description::describe;
