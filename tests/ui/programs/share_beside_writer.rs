use dlbridge::Tensor;

fn main() {
    let mut tensor = Tensor::from_vec(vec![1.0_f32], [1]).unwrap();
    let writer = tensor.as_ndarray_mut::<f32, ndarray::Ix1>().unwrap();
    let reader = tensor.share();
    println!("{writer} {reader:?}");
}
