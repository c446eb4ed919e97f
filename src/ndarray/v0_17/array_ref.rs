//! References to arrays, which ndarray 0.16 does not have.

#![forbid(unsafe_code)]

use std::ops::Deref;

use super::Version;
use super::nd::{ArrayRef, Dimension};
use crate::Element;
use crate::ndarray::{ArrayDimension, NdArray};

impl<T, D> Deref for NdArray<T, D>
where
    T: Element,
    D: Dimension + ArrayDimension<Version = Version>,
{
    type Target = ArrayRef<T, D>;

    #[inline]
    fn deref(&self) -> &ArrayRef<T, D> {
        self.as_view()
    }
}

impl<T, D, U> PartialEq<ArrayRef<U, D>> for NdArray<T, D>
where
    T: Element + PartialEq<U>,
    D: Dimension + ArrayDimension<Version = Version>,
{
    fn eq(&self, other: &ArrayRef<U, D>) -> bool {
        **self == *other
    }
}

impl<T, D, U> PartialEq<NdArray<T, D>> for ArrayRef<U, D>
where
    T: Element,
    D: Dimension + ArrayDimension<Version = Version>,
    U: PartialEq<T>,
{
    fn eq(&self, other: &NdArray<T, D>) -> bool {
        *self == **other
    }
}
