//! Memory of another copy of this crate in libtorch.

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::bindings::{dlb_torch_context, dlb_torch_from_blob};
use super::shim::make;
use super::tensor_info::tensor_info;
use crate::ffi::{DLDataType, DLDevice};
use crate::storage::this_copy;
use crate::{Error, TorchExt};

static RELEASED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn count_release(_: *mut c_void) {
    RELEASED.fetch_add(1, Ordering::SeqCst);
}

/// A context as another copy of this crate makes it: released by the same function, because a
/// linker may fold the two, but laid out in another way after the first two fields.
fn tensor_of_another_copy(values: &mut [f32; 4]) -> tch::Tensor {
    static OTHER_COPY: u8 = 0;
    let context =
        dlb_torch_context { release: Some(count_release), copy: (&raw const OTHER_COPY).cast() };
    let context = Box::leak(Box::new(context));
    let (shape, strides) = ([4_i64], [1_i64]);
    let dtype = DLDataType { code: 2, bits: 32, lanes: 1 };
    let device = DLDevice { device_type: 1, device_id: 0 };
    let (data, context) = (values.as_mut_ptr().cast(), (&raw mut *context).cast());
    // SAFETY: the shape is that of `values`, which outlives the tensor in the tests; the context
    // begins as `dlb_torch_from_blob` wants it and lives on.
    let made = make(|out| unsafe {
        dlb_torch_from_blob(data, shape.as_ptr(), strides.as_ptr(), 1, dtype, device, context, out)
    });
    made.expect("a tensor")
}

#[test]
fn memory_of_another_copy_of_this_crate_is_not_taken_for_ours() {
    let mut values = [1.0, 2.0, 3.0, 4.0];
    let tensor = tensor_of_another_copy(&mut values);
    assert_ne!(this_copy(), std::ptr::null());
    assert!(tensor_info(&tensor).expect("plain").context.is_none());
    let (tensor, error) = tensor.into_tensor().expect_err("memory of others").into_parts();
    assert!(matches!(error, Error::TorchNotExclusive { .. }), "{error}");
    assert_eq!(RELEASED.load(Ordering::SeqCst), 0);
    drop(tensor);
    assert_eq!(RELEASED.load(Ordering::SeqCst), 1);
}
