//! Arrays of any element type and rank, behind one interface.

#![forbid(unsafe_code)]

use dlbridge::ffi::DLManagedTensor;
use dlbridge::{ArrayDimension, ArrayExt, Error, Exported, NdArray, Ndarray0_17, Rejected, Tensor};
use ndarray::{Array, Dimension, Ix2, IxDyn};

use super::library::Library;
use super::model::{Value, bytes_of, with_type};

/// What a handle is.
pub(crate) enum Object<L: Library> {
    Tensor(Tensor),
    NdArray(Box<dyn AnyNdArray>),
    Array(Box<dyn AnyArray>),
    Exported(Exported),
    Legacy(Exported<DLManagedTensor>),
    /// A tensor of another library.
    Other(L::Tensor),
}

/// An `NdArray` of any type.
pub(crate) trait AnyNdArray {
    fn tensor(&self) -> &Tensor;
    /// The bytes of the elements in row-major order.
    fn read(&self) -> Vec<u8>;
    fn share(&self) -> Box<dyn AnyNdArray>;
    /// Writes one element, counted in row-major order.
    fn get_mut(&mut self, index: usize, value: u8) -> Result<(), Error>;
    fn make_mut(&mut self, index: usize, value: u8) -> Result<(), Error>;
    fn into_tensor(self: Box<Self>) -> Tensor;
    fn into_array(self: Box<Self>) -> Result<Box<dyn AnyArray>, Box<dyn AnyNdArray>>;
    fn to_tensor(&self) -> Result<Tensor, Error>;
}

impl<T, D> AnyNdArray for NdArray<T, D>
where
    T: Value,
    D: Dimension + ArrayDimension<Version = Ndarray0_17>,
{
    fn tensor(&self) -> &Tensor {
        self.as_tensor()
    }

    fn read(&self) -> Vec<u8> {
        bytes_of(self.iter().copied())
    }

    fn share(&self) -> Box<dyn AnyNdArray> {
        Box::new(self.share())
    }

    fn get_mut(&mut self, index: usize, value: u8) -> Result<(), Error> {
        let mut view = self.get_mut()?;
        view.iter_mut().nth(index).into_iter().for_each(|element| *element = T::of(value));
        Ok(())
    }

    fn make_mut(&mut self, index: usize, value: u8) -> Result<(), Error> {
        let mut view = self.make_mut()?;
        view.iter_mut().nth(index).into_iter().for_each(|element| *element = T::of(value));
        Ok(())
    }

    fn into_tensor(self: Box<Self>) -> Tensor {
        NdArray::into_tensor(*self)
    }

    fn into_array(self: Box<Self>) -> Result<Box<dyn AnyArray>, Box<dyn AnyNdArray>> {
        match NdArray::into_array(*self) {
            Ok(array) => Ok(Box::new(array)),
            Err(rejected) => {
                assert!(!rejected.to_string().is_empty());
                Err(Box::new(rejected.into_value()))
            }
        }
    }

    fn to_tensor(&self) -> Result<Tensor, Error> {
        ArrayExt::to_tensor(self)
    }
}

/// An `Array` of any type.
pub(crate) trait AnyArray {
    /// The bytes of the elements in row-major order.
    fn read(&self) -> Vec<u8>;
    /// Writes one element, counted in row-major order.
    fn write(&mut self, index: usize, value: u8);
    fn into_tensor(self: Box<Self>) -> Tensor;
}

impl<T: Value, D: Dimension + 'static> AnyArray for Array<T, D> {
    fn read(&self) -> Vec<u8> {
        bytes_of(self.iter().copied())
    }

    fn write(&mut self, index: usize, value: u8) {
        self.iter_mut().nth(index).into_iter().for_each(|element| *element = T::of(value));
    }

    fn into_tensor(self: Box<Self>) -> Tensor {
        ArrayExt::into_tensor(*self)
    }
}

/// Moves a tensor into an `NdArray`, of a static rank if `fixed`.
pub(crate) fn into_ndarray(
    tensor: Tensor,
    fixed: bool,
) -> Result<Box<dyn AnyNdArray>, Rejected<Tensor>> {
    with_type!(tensor.dtype(), T => {
        if fixed {
            let array = tensor.into_ndarray::<T, Ix2>()?;
            Ok(Box::new(array))
        } else {
            let array = tensor.into_ndarray::<T, IxDyn>()?;
            Ok(Box::new(array))
        }
    })
}
