//! Tensors that the tests share.

use ndarray::{Array2, array};

pub(crate) fn matrix() -> Array2<f32> {
    array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
}

pub(crate) fn torch_matrix() -> tch::Tensor {
    tch::Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0]).view([2, 3])
}

pub(crate) fn address(tensor: &tch::Tensor) -> usize {
    tensor.data_ptr().addr()
}
