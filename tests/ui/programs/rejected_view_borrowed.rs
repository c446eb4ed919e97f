use dlbridge::Tensor;

fn main() {
    let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2]).unwrap();
    let slice = tensor.as_slice::<f32>().unwrap();
    let refused = tensor.reshape([3]).unwrap_err(); // moves the tensor, even if there is no view
    println!("{slice:?} {}", refused.error());
}
