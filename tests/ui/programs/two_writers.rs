use dlbridge::Tensor;

fn main() {
    let mut tensor = Tensor::from_vec(vec![1.0_f32], [1]).unwrap();
    let first = tensor.as_slice_mut::<f32>().unwrap();
    let second = tensor.as_slice_mut::<f32>().unwrap();
    first[0] = second[0];
}
