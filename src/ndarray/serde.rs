//! Serialization of arrays that own their elements through a tensor.

#![forbid(unsafe_code)]

use ::serde::de::{Deserialize, Deserializer, Error};
use ::serde::ser::{Serialize, Serializer};

use super::dimension::{ArrayDimension, ArrayOf, ArrayViewOf};
use super::nd_array::NdArray;
use crate::{Element, Tensor};

/// Writes what ndarray writes for an array of these elements.
impl<T, D> Serialize for NdArray<T, D>
where
    T: Element,
    D: ArrayDimension,
    for<'a> ArrayViewOf<'a, T, D>: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_view().serialize(serializer)
    }
}

/// Reads what ndarray writes for an array.
impl<'de, T, D> Deserialize<'de> for NdArray<T, D>
where
    T: Element,
    D: ArrayDimension,
    ArrayOf<T, D>: Deserialize<'de>,
{
    fn deserialize<R: Deserializer<'de>>(deserializer: R) -> Result<Self, R::Error> {
        let tensor: Tensor = ArrayOf::<T, D>::deserialize(deserializer)?.into();
        tensor.into_ndarray().map_err(R::Error::custom)
    }
}
