//! Another library that tensors can move into, so that a test with libtorch can run the same
//! sequences.

#![forbid(unsafe_code)]

use dlbridge::Tensor;

/// A library with tensors of its own, which share memory when they are cloned.
pub(crate) trait Library {
    type Tensor;

    /// Moves a tensor in.
    fn take(tensor: Tensor) -> Result<Self::Tensor, Tensor>;
    /// Moves a tensor back.
    fn give(tensor: Self::Tensor) -> Result<Tensor, Self::Tensor>;
    /// One more tensor with the same memory.
    fn share(tensor: &Self::Tensor) -> Self::Tensor;
    /// The bytes of the elements in row-major order.
    fn read(tensor: &Self::Tensor) -> Vec<u8>;
    /// Writes one element, counted in row-major order, as the interpreter's element types do.
    fn write(tensor: &mut Self::Tensor, index: usize, value: u8);
}

/// No library: sequences for sanitizers.
pub(crate) enum Nothing {}

impl Library for Nothing {
    type Tensor = Self;

    fn take(tensor: Tensor) -> Result<Self, Tensor> {
        Err(tensor)
    }

    fn give(tensor: Self) -> Result<Tensor, Self> {
        match tensor {}
    }

    fn share(tensor: &Self) -> Self {
        match *tensor {}
    }

    fn read(tensor: &Self) -> Vec<u8> {
        match *tensor {}
    }

    fn write(tensor: &mut Self, _index: usize, _value: u8) {
        match *tensor {}
    }
}
