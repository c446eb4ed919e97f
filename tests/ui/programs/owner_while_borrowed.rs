use dlbridge::Tensor;

fn main() {
    let tensor = Tensor::from_owner([1_u8, 2], [2]).unwrap();
    let bytes = tensor.as_slice::<u8>().unwrap();
    let owner = tensor.into_owner::<[u8; 2]>().unwrap();
    println!("{owner:?} {bytes:?}");
}
