use dlbridge::Tensor;

fn main() {
    Tensor::from_owner(vec!["a"], [1]).unwrap();
    Tensor::from_owner_mut(bytes(), [1]).unwrap();
}

fn bytes() -> std::sync::Arc<[u8]> {
    vec![1].into()
}
