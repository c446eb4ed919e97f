use dlbridge::Tensor;
use ndarray::Ix1;

fn main() {
    let tensor = Tensor::from_vec(vec![1.0_f32, 2.0, 3.0], [3]).unwrap();
    let part = tensor.slice(0, 0, 2, 1).unwrap();
    let array = part.as_ndarray::<f32, Ix1>().unwrap();
    let reversed = part.flip([0]).unwrap(); // moves the view, which `array` borrows
    println!("{array} {:?}", reversed.shape());
}
