//! When deleters run, and structs that are consumed twice.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use dlbridge::{DType, Descriptor, Device, Layout, Tensor};

use crate::producer::{HostileProducer, VALUES};
use crate::support::{consumed, field_of, tensor, without_deleter};

#[test]
fn deleter_runs_once_after_the_last_handle_is_dropped() {
    let (tensor, deleted) = consumed(HostileProducer::default());
    let shared = tensor.share();
    let exported = shared.share_dlpack();
    drop(tensor);
    thread::spawn(move || drop(shared)).join().expect("no panic");
    assert_eq!(deleted.times(), 0);
    thread::spawn(move || drop(exported)).join().expect("no panic");
    assert_eq!(deleted.times(), 1);
    let (source, deleter, deleted) = without_deleter();
    // SAFETY: the struct is ours and valid.
    drop(unsafe { Tensor::from_dlpack(source) }.expect("a valid struct"));
    assert_eq!(deleted.times(), 0, "a NULL deleter is not called");
    // SAFETY: `without_deleter` took this deleter out of the struct, and nothing else frees it.
    unsafe { deleter(source.as_ptr()) };
}

static DROPS: AtomicUsize = AtomicUsize::new(0);

struct Explosive;

impl Drop for Explosive {
    fn drop(&mut self) {
        DROPS.fetch_add(1, Ordering::SeqCst);
        panic!("an owner that panics");
    }
}

#[test]
fn owner_panics_do_not_unwind_into_the_deleters_caller() {
    let layout = Layout::contiguous([3]).expect("small");
    let data = VALUES.as_ptr().cast_mut().cast();
    let descriptor = Descriptor::new(data, layout, DType::F32, Device::CPU).expect("valid");
    // SAFETY: the values are constant and static.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, false, Explosive) };
    let raw = tensor.into_dlpack().into_raw();
    // SAFETY: ours, and valid; the deleter is called once.
    let deleter = unsafe { raw.as_ref() }.deleter.expect("ours has one");
    // SAFETY: the struct was not released yet, and is not used afterwards.
    unsafe { deleter(raw.as_ptr()) };
    assert_eq!(DROPS.load(Ordering::SeqCst), 1);
}

#[test]
fn deleters_ignore_null() {
    let exported = tensor().into_dlpack();
    // SAFETY: ours, and valid.
    let deleter = unsafe { exported.as_ptr().as_ref() }.deleter.expect("ours has one");
    // SAFETY: our deleter takes NULL for nothing.
    unsafe { deleter(null_mut()) };
}

#[test]
fn consumed_structs_can_be_neither_imported_nor_deleted_again() {
    let (source, deleted) = HostileProducer::default().make();
    // SAFETY: the struct is ours and valid.
    let deleter = unsafe { source.as_ref() }.deleter;
    // SAFETY: the struct is ours and valid.
    let tensor = unsafe { Tensor::from_dlpack(source) }.expect("a valid struct");
    // SAFETY: not ours any more: the mistake that is to be noticed. The struct still lives.
    let rejected = unsafe { Tensor::from_dlpack(source) }.expect_err("consumed twice");
    assert_eq!(field_of(rejected.error()), "deleter");
    drop(rejected);
    // SAFETY: the struct still lives.
    let replaced = unsafe { source.as_ref() }.deleter.expect("the deleter that dlbridge put there");
    // SAFETY: the mistake that is to be noticed: released after it was given away.
    unsafe { replaced(source.as_ptr()) };
    assert_eq!(deleted.times(), 0);
    assert_eq!(tensor.to_vec::<f32>().expect("alive"), [0.0, 1.0, 2.0]);
    drop(tensor);
    assert_eq!(deleted.times(), 1, "by its own deleter");
    assert!(deleter.is_some());

    let (source, deleted) = HostileProducer::default().make_legacy();
    // SAFETY: the struct is ours and valid.
    let tensor = unsafe { Tensor::from_dlpack_legacy(source) }.expect("a valid struct");
    // SAFETY: the mistake that is to be noticed.
    drop(unsafe { Tensor::from_dlpack_legacy(source) }.expect_err("consumed twice"));
    assert_eq!(deleted.times(), 0);
    drop(tensor);
    assert_eq!(deleted.times(), 1);
}

#[test]
fn structs_without_a_deleter_can_be_imported_repeatedly() {
    let (source, deleter, _) = without_deleter();
    // SAFETY: the struct is ours, valid, and owns nothing.
    let [first, second] = [(); 2].map(|()| unsafe { Tensor::from_dlpack(source) }.expect("valid"));
    assert_eq!(first.data_ptr(), second.data_ptr());
    drop((first, second));
    // SAFETY: `without_deleter` took this deleter out of the struct, and nothing else frees it.
    unsafe { deleter(source.as_ptr()) };
}
