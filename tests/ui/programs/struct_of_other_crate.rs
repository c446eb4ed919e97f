use std::ptr::NonNull;

use dlbridge::Imported;

fn main() {
    let source: NonNull<dlpark::ffi::DLManagedTensorVersioned> = NonNull::dangling();
    unsafe { Imported::new(source) }.unwrap();
}
