use dlbridge::Tensor;

fn from_slice(data: &[f32]) -> Tensor {
    Tensor::from_owner(data, [data.len()]).unwrap()
}

fn from_slice_mut(data: &mut [f32]) -> Tensor {
    let len = data.len();
    Tensor::from_owner_mut(data, [len]).unwrap()
}

fn main() {
    let _ = (from_slice, from_slice_mut);
}
