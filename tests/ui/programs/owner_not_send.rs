use dlbridge::{Descriptor, Tensor};
use std::rc::Rc;

fn wrap(descriptor: Descriptor, owner: Rc<()>) -> Tensor {
    unsafe { Tensor::from_raw_parts(descriptor, false, owner) }
}

fn main() {
    let _ = wrap;
}
