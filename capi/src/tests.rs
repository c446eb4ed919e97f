//! The library called as C calls it: through the declarations of its header, with structs that lie.

use std::ffi::{CStr, c_void};
use std::ptr::{NonNull, null_mut};

use dlbridge::ffi::{DLDevice, DLManagedTensorVersioned, DLTensor};

use crate::handle::Handle;
use crate::header::*;
use producer::{HostileProducer, VALUES};

#[path = "../../tests/support/producer.rs"]
mod producer;

const CPU: DLDevice = DLDevice { device_type: 1, device_id: 0 };

/// What a call that has an error to give says: its status and message.
fn told(call: impl FnOnce(*mut *mut dlb_error) -> dlb_status) -> (dlb_status, String) {
    let mut error = null_mut();
    let status = call(&raw mut error);
    // SAFETY: an error of the library's, or NULL.
    let message = unsafe { dlb_error_message(error) };
    // SAFETY: a string that lives as long as the error.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // SAFETY: likewise, and freed once.
    unsafe { dlb_error_free(error) };
    (status, message)
}

/// What a call that makes something makes.
fn made<T>(call: impl FnOnce(*mut *mut T, *mut *mut dlb_error) -> dlb_status) -> *mut T {
    let mut out = null_mut();
    let (status, message) = told(|error| call(&raw mut out, error));
    assert_eq!((status, message.as_str()), (0, ""));
    assert!(!out.is_null());
    out
}

fn take(source: NonNull<DLManagedTensorVersioned>) -> *mut dlb_tensor {
    // SAFETY: a valid struct of the test's own.
    made(|out, error| unsafe { dlb_tensor_from_dlpack(source.as_ptr(), out, error) })
}

/// Frees a handle.
fn free(tensor: *mut dlb_tensor) {
    // SAFETY: a handle that the test owns.
    unsafe { dlb_tensor_free(tensor) };
}

/// Calls the deleter of a struct.
fn release(managed: *mut DLManagedTensorVersioned) {
    // SAFETY: a struct that the test owns.
    let deleter = unsafe { (*managed).deleter }.expect("a deleter");
    // SAFETY: likewise.
    unsafe { deleter(managed) };
}

fn view(tensor: *mut dlb_tensor) -> DLTensor {
    // SAFETY: a handle that lives.
    let view = unsafe { dlb_tensor_view(tensor) };
    // SAFETY: valid as long as the handle.
    unsafe { *view }
}

#[test]
fn structs_are_kept_as_they_are_and_released_once() {
    for hop in [false, true] {
        let (source, deleted) = HostileProducer::shaped(&[2, 3], &[1, 2]).make();
        let mut tensor = take(source);
        if hop {
            // SAFETY: a handle of ours.
            let out = made(|out, error| unsafe { dlb_tensor_into_dlpack(tensor, out, error) });
            tensor = take(NonNull::new(out).expect("made"));
        }
        assert_eq!(view(tensor).data, VALUES.as_ptr().cast_mut().cast());
        // SAFETY: a handle of ours.
        let shared = unsafe { dlb_tensor_share(tensor) };
        free(tensor);
        assert_eq!(deleted.times(), 0);
        free(shared);
        assert_eq!(deleted.times(), 1);
    }
}

/// A handle to every kind of owner goes everywhere that a handle can go.
#[test]
fn every_kind_of_handle_goes_everywhere() {
    let plain = || take(HostileProducer::shaped(&[2, 3], &[1, 2]).make().0);
    let unsaid = || {
        take(
            HostileProducer {
                strides: None,
                shape: Some(vec![2, 3]),
                ..HostileProducer::default()
            }
            .make()
            .0,
        )
    };
    let legacy = || {
        let source = HostileProducer::shaped(&[2, 3], &[1, 2]).make_legacy().0;
        // SAFETY: a valid struct of the test's own.
        made(|out, error| unsafe { dlb_tensor_from_dlpack_legacy(source.as_ptr(), out, error) })
    };
    let cloned = || {
        let source = plain();
        // SAFETY: a handle of ours.
        let clone = made(|out, error| unsafe { dlb_tensor_clone(source, 0, 0, out, error) });
        free(source);
        clone
    };
    for make in [&plain as &dyn Fn() -> *mut dlb_tensor, &unsaid, &legacy, &cloned] {
        let tensor = make();
        // SAFETY: a handle of ours; here and below.
        let read_only = unsafe { dlb_tensor_flags(tensor) } & 1 != 0;
        // SAFETY: likewise.
        assert_eq!(unsafe { dlb_tensor_nbytes(tensor) }, 24);
        // SAFETY: likewise.
        let exported = made(|out, error| unsafe { dlb_tensor_share_dlpack(tensor, out, error) });
        // SAFETY: made just above.
        assert_eq!(unsafe { (*exported).flags } & 1 != 0, read_only);
        release(exported);
        // SAFETY: a handle of ours.
        let copy = made(|out, error| unsafe { dlb_tensor_to_device(tensor, CPU, -1, out, error) });
        // SAFETY: handles of ours, to different memory.
        assert_eq!(told(|error| unsafe { dlb_tensor_copy_into(tensor, copy, 0, error) }).0, 0);
        // SAFETY: likewise; the constant is not written, because the call is refused.
        let back = told(|error| unsafe { dlb_tensor_copy_into(copy, tensor, 7, error) });
        assert_eq!(back.0, 2, "{}", back.1);
        let mut data = null_mut::<c_void>();
        // SAFETY: a handle of ours.
        let (status, message) =
            told(|error| unsafe { dlb_tensor_data_mut(tensor, &raw mut data, error) });
        assert_eq!(status == 0, !read_only, "{message}");
        assert_eq!(data.is_null(), read_only);
        free(copy);
        // SAFETY: a handle of ours, taken.
        free(made(|out, error| unsafe { dlb_tensor_into_device(tensor, CPU, 0, out, error) }));
    }
}

#[test]
fn what_is_refused_stays_with_the_caller() {
    for (producer, status) in [
        (HostileProducer { version: (2, 0), ndim: Some(-1), ..HostileProducer::default() }, 3),
        (HostileProducer { ndim: Some(-1), ..HostileProducer::default() }, 2),
        (HostileProducer::shaped(&[-1], &[1]), 2),
        (HostileProducer::shaped(&[1 << 62, 8], &[8, 1]), 6),
        (HostileProducer::shaped(&[3], &[i64::MIN]), 6),
        (HostileProducer { data: null_mut(), ..HostileProducer::default() }, 2),
        (HostileProducer { dtype: (2, 0, 1), ..HostileProducer::default() }, 2),
    ] {
        let (source, deleted) = producer.make();
        let mut out = null_mut();
        // SAFETY: a struct of the test's own; what it says wrong is what the test is about.
        let said =
            told(|error| unsafe { dlb_tensor_from_dlpack(source.as_ptr(), &raw mut out, error) });
        assert_eq!(said.0, status, "{}", said.1);
        assert!(said.1.starts_with("source: ") && out.is_null(), "{}", said.1);
        assert_eq!(deleted.times(), 0);
        release(source.as_ptr()); // still ours, and with the deleter that it came with
        assert_eq!(deleted.times(), 1);
    }
}

/// A description that changes after it was taken over is looked at again before it is used.
#[test]
fn a_struct_that_changes_its_mind_is_refused_when_it_is_used() {
    let (source, deleted) = HostileProducer::shaped(&[2, 3], &[3, 1]).make();
    let tensor = take(source);
    // SAFETY: the struct lives.
    let shape = unsafe { source.as_ref() }.dl_tensor.shape;
    // SAFETY: the producer's own numbers, which nobody reads at this moment.
    unsafe { shape.write(-5) };
    let mut out = null_mut();
    // SAFETY: a handle of ours.
    let said = told(|error| unsafe { dlb_tensor_clone(tensor, 0, 0, &raw mut out, error) });
    assert_eq!((said.0, said.1.as_str()), (2, "tensor: shape[0] = -5: a size cannot be negative"));
    // SAFETY: likewise.
    assert_eq!(unsafe { dlb_tensor_nbytes(tensor) }, 0);
    free(tensor);
    assert_eq!(deleted.times(), 1);
}

#[test]
fn callbacks_run_on_whichever_thread_is_last() {
    unsafe extern "C" fn release(owner: *mut c_void) {
        // SAFETY: the box that the test gave away.
        drop(unsafe { Box::from_raw(owner.cast::<[f32; 4]>()) });
    }
    struct Sent(*mut dlb_tensor);
    // SAFETY: handles may be used on any thread.
    unsafe impl Send for Sent {}
    let memory = Box::into_raw(Box::new([1.0_f32, 2.0, 3.0, 4.0]));
    let shape = [4_i64];
    let desc = DLTensor {
        data: memory.cast(),
        device: CPU,
        ndim: 1,
        dtype: dlbridge::ffi::DLDataType { code: 2, bits: 32, lanes: 1 },
        shape: shape.as_ptr().cast_mut(),
        strides: null_mut(),
        byte_offset: 0,
    };
    let tensor = made(|out, error| {
        // SAFETY: a right description of memory that goes to the library.
        unsafe {
            dlb_tensor_from_memory(&raw const desc, 0, memory.cast(), Some(release), out, error)
        }
    });
    let threads: Vec<_> = (0..4)
        .map(|_| {
            // SAFETY: a handle of ours.
            let shared = Sent(unsafe { dlb_tensor_share(tensor) });
            std::thread::spawn(move || {
                let Sent(shared) = { shared };
                // SAFETY: the memory lives as long as the handle, and nobody writes it.
                let values =
                    unsafe { std::slice::from_raw_parts(view(shared).data.cast::<f32>(), 4) };
                assert_eq!(values.iter().sum::<f32>(), 10.0);
                free(shared);
            })
        })
        .collect();
    free(tensor);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

/// Memory that Rust code of the same program shares may have Rust views: for C it is read-only.
#[test]
fn what_rust_code_shares_is_read_only_for_c() {
    let kept = dlbridge::Tensor::from_vec(vec![1.0_f32, 2.0, 3.0], [3]).expect("3 elements");
    let view = kept.as_slice::<f32>().expect("trusted");
    let raw = Handle::from_tensor(kept.share()).into_raw().as_ptr().cast::<dlb_tensor>();
    // SAFETY: a handle of ours; here and below.
    assert_eq!(unsafe { dlb_tensor_flags(raw) } & 1, 1);
    let mut data = null_mut();
    // SAFETY: likewise.
    assert_eq!(told(|error| unsafe { dlb_tensor_data_mut(raw, &raw mut data, error) }).0, 7);
    let source = take(HostileProducer::default().make().0);
    // SAFETY: likewise; refused before anything is written.
    assert_eq!(told(|error| unsafe { dlb_tensor_copy_into(source, raw, 0, error) }).0, 7);
    // SAFETY: likewise.
    let exported = made(|out, error| unsafe { dlb_tensor_share_dlpack(raw, out, error) });
    // SAFETY: made just above.
    assert_eq!(unsafe { (*exported).flags } & 1, 1);
    release(exported);
    assert_eq!(view, [1.0, 2.0, 3.0]);
    free(source);
    free(raw);
    assert_eq!(kept.into_vec::<f32>().expect("the only handle again"), [1.0, 2.0, 3.0]);
}
