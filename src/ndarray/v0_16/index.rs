//! Indices, which arrays of ndarray 0.17 have through their references.

#![forbid(unsafe_code)]

use std::ops::Index;

use super::Version;
use super::nd::{Dimension, NdIndex};
use crate::Element;
use crate::ndarray::{ArrayDimension, NdArray};

impl<T, D, I> Index<I> for NdArray<T, D>
where
    T: Element,
    D: Dimension + ArrayDimension<Version = Version>,
    I: NdIndex<D>,
{
    type Output = T;

    #[track_caller]
    fn index(&self, index: I) -> &T {
        &self.as_view()[index]
    }
}
