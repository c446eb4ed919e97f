//! Calls the library through the declarations of its header, with valid and with invalid structs.

use std::ffi::{CStr, c_void};
use std::ptr::{NonNull, null_mut};

use dlbridge::ffi::{DLDataType, DLDevice, DLManagedTensorVersioned, DLTensor};

use crate::handle::Handle;
use crate::header::*;
use producer::{HostileProducer, VALUES};

#[path = "../../tests/support/producer.rs"]
mod producer;

const CPU: DLDevice = DLDevice { device_type: 1, device_id: 0 };

/// The status of a call and the message of its error, which is empty on success.
fn outcome(call: impl FnOnce(*mut *mut dlb_error) -> dlb_status) -> (dlb_status, String) {
    let mut error = null_mut();
    let status = call(&raw mut error);
    // SAFETY: `error` is an error of the library, or NULL.
    let message = unsafe { dlb_error_message(error) };
    // SAFETY: the message is valid until the error is freed below.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // SAFETY: the error is freed once, here.
    unsafe { dlb_error_free(error) };
    (status, message)
}

/// The out-parameter of a call that succeeds.
fn output<T>(call: impl FnOnce(*mut *mut T, *mut *mut dlb_error) -> dlb_status) -> *mut T {
    let mut out = null_mut();
    let (status, message) = outcome(|error| call(&raw mut out, error));
    assert_eq!((status, message.as_str()), (0, ""));
    assert!(!out.is_null());
    out
}

fn import(source: NonNull<DLManagedTensorVersioned>) -> *mut dlb_tensor {
    // SAFETY: the test made the struct, which is valid.
    output(|out, error| unsafe { dlb_tensor_from_dlpack(source.as_ptr(), out, error) })
}

fn free(tensor: *mut dlb_tensor) {
    // SAFETY: each test frees each of its handles once.
    unsafe { dlb_tensor_free(tensor) };
}

fn call_deleter(managed: *mut DLManagedTensorVersioned) {
    // SAFETY: the test owns the struct.
    let deleter = unsafe { (*managed).deleter }.expect("a deleter");
    // SAFETY: each test calls each deleter once.
    unsafe { deleter(managed) };
}

fn view(tensor: *mut dlb_tensor) -> DLTensor {
    // SAFETY: the test has not freed the handle.
    let view = unsafe { dlb_tensor_view(tensor) };
    // SAFETY: the view is valid as long as the handle.
    unsafe { *view }
}

#[test]
fn structs_are_not_copied_and_are_released_once() {
    for round_trip in [false, true] {
        let (source, deleted) = HostileProducer::shaped(&[2, 3], &[1, 2]).make();
        let mut tensor = import(source);
        if round_trip {
            // SAFETY: the test has not freed the handle, which is consumed here.
            let out = output(|out, error| unsafe { dlb_tensor_into_dlpack(tensor, out, error) });
            tensor = import(NonNull::new(out).expect("not NULL"));
        }
        assert_eq!(view(tensor).data, VALUES.as_ptr().cast_mut().cast());
        // SAFETY: the test has not freed the handle.
        let shared = unsafe { dlb_tensor_share(tensor) };
        free(tensor);
        assert_eq!(deleted.times(), 0);
        free(shared);
        assert_eq!(deleted.times(), 1);
    }
}

fn import_struct() -> *mut dlb_tensor {
    import(HostileProducer::shaped(&[2, 3], &[1, 2]).make().0)
}

fn import_struct_without_strides() -> *mut dlb_tensor {
    let shape = Some(vec![2, 3]);
    import(HostileProducer { strides: None, shape, ..HostileProducer::default() }.make().0)
}

fn import_legacy_struct() -> *mut dlb_tensor {
    let source = HostileProducer::shaped(&[2, 3], &[1, 2]).make_legacy().0;
    // SAFETY: the test made the struct, which is valid.
    output(|out, error| unsafe { dlb_tensor_from_dlpack_legacy(source.as_ptr(), out, error) })
}

fn clone_struct() -> *mut dlb_tensor {
    let source = import_struct();
    // SAFETY: the handle is freed below.
    let clone = output(|out, error| unsafe { dlb_tensor_clone(source, 0, 0, out, error) });
    free(source);
    clone
}

/// A view of a handle from every source is the view, not the handle that it was made from.
#[test]
fn handles_of_every_source_have_views() {
    for make in [import_struct, import_struct_without_strides, import_legacy_struct, clone_struct] {
        let tensor = make();
        // SAFETY: the test has not freed the handle.
        let turned = output(|out, error| unsafe { dlb_tensor_transpose(tensor, 0, 1, out, error) });
        // SAFETY: the test has not freed the handle.
        let back = output(|out, error| unsafe { dlb_tensor_transpose(turned, 0, 1, out, error) });
        // SAFETY: the test has not freed the handle.
        let last = output(|out, error| unsafe { dlb_tensor_select(turned, 0, -1, out, error) });
        // SAFETY: the test has not freed the handles.
        let [a, b] = [tensor, last].map(|handle| unsafe { dlb_tensor_flags(handle) });
        assert_eq!(a, b);
        // SAFETY: the strides of a view with two dimensions are two numbers.
        let strides = |handle| unsafe { view(handle).strides.cast::<[i64; 2]>().read() };
        let [outer, inner] = strides(tensor);
        assert_eq!((strides(turned), strides(back)), ([inner, outer], [outer, inner]));
        let data = view(tensor).data;
        free(tensor);
        free(turned);
        assert_eq!(view(back).data, data);
        assert_eq!(
            (view(last).ndim, view(last).data),
            (1, data.wrapping_byte_offset(inner as isize * 8))
        );
        free(back);
        free(last);
    }
}

/// Every function works with a handle from every source.
#[test]
fn handles_of_every_source_export_copy_and_move() {
    for make in [import_struct, import_struct_without_strides, import_legacy_struct, clone_struct] {
        let tensor = make();
        // SAFETY: the test has not freed the handle.
        let read_only = unsafe { dlb_tensor_flags(tensor) } & 1 != 0;
        // SAFETY: the test has not freed the handle.
        assert_eq!(unsafe { dlb_tensor_nbytes(tensor) }, 24);
        // SAFETY: the test has not freed the handle.
        let exported = output(|out, error| unsafe { dlb_tensor_share_dlpack(tensor, out, error) });
        // SAFETY: the call above made the struct, and its deleter is called below.
        assert_eq!(unsafe { (*exported).flags } & 1 != 0, read_only);
        call_deleter(exported);
        // SAFETY: the test has not freed the handle.
        let copy =
            output(|out, error| unsafe { dlb_tensor_to_device(tensor, CPU, -1, out, error) });
        // SAFETY: the test has freed neither handle, and their memory does not overlap.
        assert_eq!(outcome(|error| unsafe { dlb_tensor_copy_into(tensor, copy, 0, error) }).0, 0);
        // SAFETY: the test has freed neither handle; the call fails, so that it does not write the
        // constant `VALUES`.
        let failed = outcome(|error| unsafe { dlb_tensor_copy_into(copy, tensor, 7, error) });
        assert_eq!(failed.0, 2, "{}", failed.1);
        let mut data = null_mut::<c_void>();
        let (status, message) =
            // SAFETY: the test has not freed the handle.
            outcome(|error| unsafe { dlb_tensor_data_mut(tensor, &raw mut data, error) });
        assert_eq!(status == 0, !read_only, "{message}");
        assert_eq!(data.is_null(), read_only);
        free(copy);
        // SAFETY: the test has not freed the handle, which is consumed here.
        free(output(|out, error| unsafe { dlb_tensor_into_device(tensor, CPU, 0, out, error) }));
    }
}

#[test]
fn refused_structs_are_not_consumed() {
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
        let refused = outcome(|error| {
            // SAFETY: the test made the struct; the library checks its numbers.
            unsafe { dlb_tensor_from_dlpack(source.as_ptr(), &raw mut out, error) }
        });
        assert_eq!(refused.0, status, "{}", refused.1);
        assert!(refused.1.starts_with("source: ") && out.is_null(), "{}", refused.1);
        assert_eq!(deleted.times(), 0);
        // The test still owns the struct, with its original deleter.
        call_deleter(source.as_ptr());
        assert_eq!(deleted.times(), 1);
    }
}

#[test]
fn a_struct_that_changes_after_the_import_changes_nothing() {
    let (source, deleted) = HostileProducer::shaped(&[2, 3], &[3, 1]).make();
    let tensor = import(source);
    // SAFETY: the struct lives until its deleter is called, when the handle is freed below.
    let shape = unsafe { source.as_ref() }.dl_tensor.shape;
    // SAFETY: the producer allocated the sizes, and no other thread reads them.
    unsafe { shape.write(1 << 40) };
    // SAFETY: the test has not freed the handle.
    let clone = output(|out, error| unsafe { dlb_tensor_clone(tensor, 0, 0, out, error) });
    for handle in [tensor, clone] {
        // SAFETY: the test has not freed the handles.
        assert_eq!(unsafe { dlb_tensor_nbytes(handle) }, 24);
        // SAFETY: the view of a handle has two sizes.
        assert_eq!(unsafe { view(handle).shape.read() }, 2);
        free(handle);
    }
    assert_eq!(deleted.times(), 1);
}

#[test]
fn the_thread_that_frees_the_last_handle_calls_the_release_callback() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static RELEASED: AtomicUsize = AtomicUsize::new(0);

    unsafe extern "C" fn release(owner: *mut c_void) {
        // SAFETY: `owner` is the box that the test passed to `dlb_tensor_from_memory`.
        drop(unsafe { Box::from_raw(owner.cast::<[f32; 4]>()) });
        RELEASED.fetch_add(1, Ordering::SeqCst);
    }
    struct SendHandle(*mut dlb_tensor);
    // SAFETY: any thread may use and free a handle.
    unsafe impl Send for SendHandle {}
    let memory = Box::into_raw(Box::new([1.0_f32, 2.0, 3.0, 4.0]));
    let shape = [4_i64];
    let desc = DLTensor {
        data: memory.cast(),
        device: CPU,
        ndim: 1,
        dtype: DLDataType { code: 2, bits: 32, lanes: 1 },
        shape: shape.as_ptr().cast_mut(),
        strides: null_mut(),
        byte_offset: 0,
    };
    let owner = memory.cast();
    let tensor = output(|out, error| {
        // SAFETY: `desc` describes the box, which the library owns from here on.
        unsafe { dlb_tensor_from_memory(&raw const desc, 0, owner, Some(release), out, error) }
    });
    let threads: Vec<_> = (0..4)
        .map(|_| {
            // SAFETY: the test has not freed the handle.
            let shared = SendHandle(unsafe { dlb_tensor_share(tensor) });
            std::thread::spawn(move || {
                let SendHandle(shared) = { shared };
                let data = view(shared).data.cast::<f32>();
                // SAFETY: the memory lives as long as the handle, and no thread writes it.
                let values = unsafe { std::slice::from_raw_parts(data, 4) };
                assert_eq!(values.iter().sum::<f32>(), 10.0);
                free(shared);
            })
        })
        .collect();
    free(tensor);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert_eq!(RELEASED.load(Ordering::SeqCst), 1);
}

/// Rust code of the same program may have views of memory that it shares: C code must not write it.
#[test]
fn memory_shared_by_rust_code_is_read_only() {
    let original = dlbridge::Tensor::from_vec(vec![1.0_f32, 2.0, 3.0], [3]).expect("3 elements");
    let view = original.as_slice::<f32>().expect("trusted");
    let raw = Handle::from_tensor(original.share()).into_raw().as_ptr().cast::<dlb_tensor>();
    // SAFETY: the handle is freed at the end of the test.
    assert_eq!(unsafe { dlb_tensor_flags(raw) } & 1, 1);
    let mut data = null_mut();
    // SAFETY: the handle is freed at the end of the test.
    assert_eq!(outcome(|error| unsafe { dlb_tensor_data_mut(raw, &raw mut data, error) }).0, 7);
    let source = import(HostileProducer::default().make().0);
    // SAFETY: both handles are freed at the end of the test; the call fails before it writes.
    assert_eq!(outcome(|error| unsafe { dlb_tensor_copy_into(source, raw, 0, error) }).0, 7);
    // SAFETY: the handle is freed at the end of the test.
    let exported = output(|out, error| unsafe { dlb_tensor_share_dlpack(raw, out, error) });
    // SAFETY: the call above made the struct, and its deleter is called below.
    assert_eq!(unsafe { (*exported).flags } & 1, 1);
    call_deleter(exported);
    // A view of the handle is as read-only as the handle.
    // SAFETY: the handle is freed at the end of the test.
    let first = output(|out, error| unsafe { dlb_tensor_slice(raw, 0, 0, 1, 1, out, error) });
    // SAFETY: the handle is freed below.
    assert_eq!(unsafe { dlb_tensor_flags(first) } & 1, 1);
    // SAFETY: the handle is freed below.
    assert_eq!(outcome(|error| unsafe { dlb_tensor_data_mut(first, &raw mut data, error) }).0, 7);
    free(first);
    assert_eq!(view, [1.0, 2.0, 3.0]);
    free(source);
    free(raw);
    assert_eq!(original.into_vec::<f32>().expect("the only handle again"), [1.0, 2.0, 3.0]);
}
