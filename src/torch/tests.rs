//! Memory of another copy of this crate in libtorch, and copies that libtorch makes on the host.

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::bindings::{dlb_torch_context, dlb_torch_from_blob};
use super::owner::TorchOwner;
use super::shim::make;
use super::tensor_info::tensor_info;
use crate::ffi::{DLDataType, DLDevice};
use crate::layout::View;
use crate::shared_buffer::SharedBuffer;
use crate::storage::{OwnerHooks, this_copy};
use crate::{Descriptor, Error, Layout, Result, Tensor, TorchExt};

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

type MakeView = fn(&Layout) -> Result<View>;

/// Copies a view of a libtorch tensor to the host, as for memory of a device that only libtorch can
/// read. The tensor is on the host here, which libtorch copies in the same way.
fn copied_by_libtorch(views: &[MakeView]) -> (Tensor, usize) {
    let numbers: Vec<i32> = (0..24).collect();
    let tensor = tch::Tensor::from_slice(&numbers).view([4, 6]).slice(1, 1, 5, 1);
    let first = tensor.data_ptr().addr();
    let owner = TorchOwner::new(tensor);
    let mut view: Descriptor = owner.descriptor().expect("plain");
    for make in views {
        view.set_view(make).expect("a view");
    }
    let (storage, descriptor) = owner.copy_to_host(&view).expect("a hook").expect("copied");
    // SAFETY: `copy_to_host` gives a storage that keeps these elements.
    (Tensor::from_buffer(unsafe { SharedBuffer::new(storage, descriptor) }), first)
}

#[test]
fn libtorch_copies_the_view_and_not_the_whole_tensor() {
    let cases: [(&[MakeView], &[i64], &[i32]); 6] = [
        (&[], &[4, 4], &[1, 2, 3, 4, 7, 8, 9, 10, 13, 14, 15, 16, 19, 20, 21, 22]),
        (&[|layout| layout.selected(1, 2)], &[4], &[3, 9, 15, 21]),
        (&[|layout| layout.flipped(&[0]), |layout| layout.selected(1, -1)], &[4], &[22, 16, 10, 4]),
        (
            &[|layout| layout.sliced(0, Some(1), Some(3), 1), |layout| layout.flipped(&[0, 1])],
            &[2, 4],
            &[16, 15, 14, 13, 10, 9, 8, 7],
        ),
        (
            &[|layout| layout.sliced(1, Some(0), Some(1), 1), |layout| layout.expanded(&[4, 2])],
            &[4, 2],
            &[1, 1, 7, 7, 13, 13, 19, 19],
        ),
        (&[|layout| layout.sliced(0, Some(4), None, 1)], &[0, 4], &[]),
    ];
    for (views, shape, expected) in cases {
        let (mut copy, first) = copied_by_libtorch(views);
        assert_eq!(
            (copy.shape(), &copy.to_vec::<i32>().expect("on the host")[..]),
            (shape, expected)
        );
        assert_ne!(copy.data_ptr().addr(), first);
        assert!(
            copy.require_exclusive().is_ok()
                && copy.buffer().layout().extent().is_none_or(|(low, _)| low == 0)
        );
    }
}
