use dlbridge::{Element, Tensor};

fn sum<T: Element + std::iter::Sum, D: ndarray::Dimension>(tensor: &Tensor) -> T {
    tensor.as_ndarray::<T, D>().unwrap().iter().copied().sum()
}

fn main() {
    let tensor = Tensor::zeros::<f32>([2, 3]).unwrap();
    tensor.as_ndarray::<f32, ndarray_0_16::Ix2>().unwrap();
}
