use dlbridge::{OwnedArray, Tensor};

fn forge<A: OwnedArray>(tensor: Tensor) -> A {
    A::recover(tensor)
}

fn main() {
    let _: ndarray::Array1<bool> = forge(Tensor::from_vec(vec![7_u8], [1]).unwrap());
}
