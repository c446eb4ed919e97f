use dlbridge::Tensor;

fn main() {
    let bytes = Tensor::from_vec(b"text".to_vec(), [4]).unwrap();
    bytes.as_slice::<char>().unwrap();
}
