use dlbridge::{ArrayExt, OwnedArray, Tensor};

fn moved(array: impl OwnedArray) -> Tensor {
    array.into()
}

fn main() {
    moved(ndarray_0_16::array![1.0_f32, 2.0]);
    ArrayExt::to_tensor(&ndarray_0_16::array![1.0_f32, 2.0]).unwrap();
}
