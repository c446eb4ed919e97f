//! The functions that copy, while jobs that must not run inside them wait in rayon's pools.

use std::ptr::null_mut;

use dlbridge::ffi::{DLDataType, DLDevice, DLTensor};

use crate::header::*;
use hostile_jobs::{Call, SHAPE, are_transposed, attack, attacked, elements};

#[expect(dead_code, reason = "the tests of the core crate use more of it")]
#[path = "../../tests/support/hostile_jobs.rs"]
mod hostile_jobs;

const CPU: DLDevice = DLDevice { device_type: 1, device_id: 0 };
const ROW_MAJOR: i32 = DLB_MEMORY_FORMAT_CONTIGUOUS as i32;
const NO_SYNC: i64 = DLB_STREAM_NO_SYNC as i64;

/// A handle to `values`, as the transpose of a matrix or as a row-major one of the same shape.
/// The values outlive it.
fn wrap(values: &mut [f32], transposed: bool) -> *mut dlb_tensor {
    let [rows, columns] = SHAPE.map(|size| size as i64);
    let mut shape = [columns, rows];
    let mut strides = if transposed { [1, columns] } else { [rows, 1] };
    let description = DLTensor {
        data: values.as_mut_ptr().cast(),
        device: CPU,
        ndim: 2,
        dtype: DLDataType { code: 2, bits: 32, lanes: 1 },
        shape: shape.as_mut_ptr(),
        strides: strides.as_mut_ptr(),
        byte_offset: 0,
    };
    let mut out = null_mut();
    // SAFETY: the description is that of `values`, which outlive the handle: each test frees it.
    let status = unsafe {
        dlb_tensor_from_memory(&description, 0, null_mut(), None, &raw mut out, null_mut())
    };
    assert_eq!(status, 0);
    out
}

/// Calls `copy` with a transposed matrix, and checks the elements of the handle that it makes.
fn check_new(copy: fn(*const dlb_tensor, *mut *mut dlb_tensor) -> dlb_status) {
    let mut values = elements();
    let (source, mut made) = (wrap(&mut values, true), null_mut());
    assert_eq!(attacked(|| copy(source, &raw mut made)), 0);
    let mut row_major = null_mut();
    // SAFETY: a live handle and a place for the new one.
    let status =
        unsafe { dlb_tensor_clone(made, ROW_MAJOR, NO_SYNC, &raw mut row_major, null_mut()) };
    assert_eq!(status, 0);
    // SAFETY: a live handle.
    let view = unsafe { dlb_tensor_view(row_major) };
    // SAFETY: the view is valid until the handle is freed, below.
    let data = unsafe { (*view).data }.cast::<f32>();
    // SAFETY: a row-major clone has as many elements, one after the other.
    assert!(are_transposed(unsafe { std::slice::from_raw_parts(data, values.len()) }));
    // SAFETY: each handle is freed once.
    [source, made, row_major].into_iter().for_each(|tensor| unsafe { dlb_tensor_free(tensor) });
}

const CALLS: &[Call] = &[
    ("dlb_tensor_clone", || {
        // SAFETY: a live handle and a place for the new one.
        check_new(|source, out| unsafe {
            dlb_tensor_clone(source, ROW_MAJOR, NO_SYNC, out, null_mut())
        });
    }),
    ("dlb_tensor_to_device", || {
        // SAFETY: a live handle and a place for the new one.
        check_new(|source, out| unsafe {
            dlb_tensor_to_device(source, CPU, NO_SYNC, out, null_mut())
        });
    }),
    ("dlb_tensor_copy_into", || {
        let (mut values, mut copied) = (elements(), vec![0.0; SHAPE[0] * SHAPE[1]]);
        let (source, target) = (wrap(&mut values, true), wrap(&mut copied, false));
        // SAFETY: two live handles to different memory.
        let copy = || unsafe { dlb_tensor_copy_into(source, target, NO_SYNC, null_mut()) };
        assert_eq!(attacked(copy), 0);
        // SAFETY: each handle is freed once.
        [source, target].into_iter().for_each(|tensor| unsafe { dlb_tensor_free(tensor) });
        assert!(are_transposed(&copied));
    }),
];

#[test]
fn no_other_job_runs_in_the_middle_of_a_copy() {
    attack(CALLS);
}
