use dlbridge::Tensor;

fn main() {
    let array = Tensor::from_vec(vec![1.0_f32], [1]).unwrap().into_ndarray::<f32, ndarray::Ix1>().unwrap();
    let view = array.view();
    drop(array.into_tensor());
    println!("{view}");
}
