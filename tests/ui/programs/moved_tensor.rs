use dlbridge::Tensor;

fn main() {
    let tensor = Tensor::from_vec(vec![1.0_f32], [1]).unwrap();
    let exported = tensor.into_dlpack();
    println!("{exported:?} {tensor:?}");
}
