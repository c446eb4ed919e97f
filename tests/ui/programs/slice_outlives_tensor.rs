use dlbridge::Tensor;

fn main() {
    let slice = {
        let tensor = Tensor::from_vec(vec![1.0_f32], [1]).unwrap();
        tensor.as_slice::<f32>().unwrap()
    };
    println!("{slice:?}");
}
