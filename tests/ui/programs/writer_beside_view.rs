use dlbridge::Tensor;

fn main() {
    let mut tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2]).unwrap();
    let writer = tensor.as_slice_mut::<f32>().unwrap();
    let reversed = tensor.flip([0]).unwrap(); // moves the tensor, which `writer` borrows
    writer[0] = 5.0;
    println!("{:?}", reversed.as_slice::<f32>());
}
