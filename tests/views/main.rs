//! Views of tensors: the rules for arguments, the memory that a view reaches, and the owners that a
//! view does not give back.

// `Rejected` contains the tensor.
#![allow(clippy::result_large_err)]

mod arguments;
mod chains;
mod memory;
mod owners;
#[allow(dead_code)]
#[path = "../support/producer.rs"]
mod producer;

use dlbridge::{Error, Rejected, Tensor};

/// A row-major tensor of the numbers from 0 on.
fn numbers(shape: &[i64]) -> Tensor {
    let len = shape.iter().product::<i64>();
    Tensor::from_vec((0..i32::try_from(len).expect("few")).collect(), shape).expect("it fits")
}

/// The error of a refused view, after a check that the tensor came back as it was.
fn refused(tensor: Tensor, view: impl FnOnce(Tensor) -> Result<Tensor, Rejected<Tensor>>) -> Error {
    let before = (tensor.data_ptr(), tensor.layout().clone(), tensor.access());
    let (tensor, error) = view(tensor).expect_err("to be refused").into_parts();
    assert_eq!((tensor.data_ptr(), tensor.layout().clone(), tensor.access()), before);
    error
}
