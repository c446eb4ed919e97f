use dlbridge::Tensor;

fn main() {
    Tensor::zeros::<f32>([2.0, 3.0]).unwrap();
    Tensor::from_vec(vec![1_u8, 2], 2).unwrap();
    Tensor::from_slice(&[1_u8, 2], "2").unwrap();
    Tensor::zeros::<f32>((1, 2, 3, 4, 5, 6, 7)).unwrap();
}
