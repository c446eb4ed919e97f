use dlbridge::Tensor;

fn main() {
    let tensor = Tensor::from_vec(vec![1.0_f32], [1]).unwrap();
    let view = tensor.as_ndarray::<f32, ndarray::Ix1>().unwrap();
    drop(tensor);
    println!("{view}");
}
