use dlbridge::Tensor;

fn main() {
    Tensor::from_vec(vec!["one".to_owned(), "two".to_owned()], [2]).unwrap();
}
