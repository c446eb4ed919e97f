use dlbridge::Tensor;

fn main() {
    let tensor = Tensor::from_vec(vec![1.0_f32], [1]).unwrap();
    let copy = tensor.clone();
    println!("{copy:?}");
}
