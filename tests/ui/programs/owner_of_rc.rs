use dlbridge::Tensor;
use std::rc::Rc;

fn main() {
    let shared: Rc<[u8]> = vec![1, 2, 3].into();
    let other = Rc::clone(&shared); // stays on this thread, and so does its count
    Tensor::from_owner(shared, [3]).unwrap();
    Tensor::from_bytes_owner(other, dlbridge::DType::U8, [3], 0).unwrap();
}
