use dlbridge::Tensor;

fn main() {
    let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2]).unwrap();
    let slice = tensor.as_slice::<f32>().unwrap();
    let part = tensor.slice(0, 1, None, 1).unwrap(); // moves the tensor, which `slice` borrows
    println!("{slice:?} {:?}", part.shape());
}
