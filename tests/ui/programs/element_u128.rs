use dlbridge::{ArrayExt, OwnedArray, Tensor};

fn moved(array: impl OwnedArray) -> Tensor {
    array.into()
}

fn main() {
    Tensor::from_vec(vec![1_u128, 2], [2]).unwrap();
    moved(ndarray::array![1_u128, 2]);
    ndarray::array![1_u128, 2].to_tensor().unwrap();
    ndarray::array![1_u128, 2].into_tensor();
}
