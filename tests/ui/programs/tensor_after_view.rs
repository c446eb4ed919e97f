use dlbridge::Tensor;

fn main() {
    let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [1, 2]).unwrap();
    let row = tensor.squeeze().unwrap(); // the handle is the view from now on
    println!("{:?} {:?}", row.shape(), tensor.shape());
}
