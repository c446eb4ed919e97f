//! Producers that go on writing the numbers of a struct after they gave it away.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use dlbridge::ffi::DLManagedTensorVersioned;
use dlbridge::{Imported, Tensor};

use crate::producer::HostileProducer;
use crate::support::flags;

/// A size and a stride that no 4-byte elements can have.
const IMPOSSIBLE: i64 = 1 << 61;

/// Writes another shape, other strides, another address, other flags and no deleter into a consumed
/// struct.
fn change(source: NonNull<DLManagedTensorVersioned>) {
    // SAFETY: the struct lives until its deleter runs, and nothing reads it at the moment.
    let managed = unsafe { &mut *source.as_ptr() };
    let tensor = &mut managed.dl_tensor;
    // SAFETY: the struct has one size, which only its producer uses.
    unsafe { tensor.shape.write(IMPOSSIBLE) };
    // SAFETY: the struct has one stride, which only its producer uses.
    unsafe { tensor.strides.write(IMPOSSIBLE) };
    tensor.ndim = i32::MAX;
    tensor.data = std::ptr::null_mut();
    tensor.byte_offset = u64::MAX;
    tensor.dtype.bits = 0;
    managed.flags = u64::MAX;
    managed.deleter = None;
}

#[test]
fn later_changes_of_a_consumed_struct_change_nothing() {
    let (source, deleted) = HostileProducer::default().make();
    // SAFETY: the struct is ours and valid.
    let Ok(Imported::Managed(managed)) = (unsafe { Imported::new(source) }) else {
        panic!("a struct of another library on the host needs no tensor");
    };
    change(source);
    let described = managed.as_dl_tensor();
    assert_eq!((described.ndim, described.byte_offset, managed.flags()), (1, 0, 0));
    assert_eq!(managed.descriptor().layout().shape(), [3]);
    assert_eq!(managed.descriptor().layout().strides(), [1]);
    assert!(!managed.descriptor().data_ptr().is_null());
    drop(managed);
    assert_eq!(deleted.times(), 1, "by its own deleter");

    let (source, deleted) = HostileProducer::default().make();
    // SAFETY: the struct is ours and valid.
    let tensor = unsafe { Tensor::from_dlpack(source) }.expect("a valid struct");
    change(source);
    assert_eq!(tensor.to_vec::<f32>().expect("as it was"), [0.0, 1.0, 2.0]);
    assert_eq!(flags(&tensor.share_dlpack()), 0);
    drop(tensor);
    assert_eq!(deleted.times(), 1);
}

#[test]
fn changes_during_an_import_do_not_pass_its_checks() {
    // With many dimensions the checks take long enough for the other thread to write in between.
    let mut shape = vec![1; 4096];
    shape.push(3);
    let (mut source, _) = HostileProducer::shaped(&shape, &vec![1; shape.len()]).make();
    // Without a deleter the same struct can be consumed again and again.
    // SAFETY: the struct is ours.
    let deleter = unsafe { source.as_mut() }.deleter.take().expect("the producer's deleter");
    // SAFETY: the struct is ours.
    let first = unsafe { source.as_ref() }.dl_tensor.shape;
    // SAFETY: one number, which lives until the deleter runs, at the end of this test.
    let first = unsafe { AtomicI64::from_ptr(first) };
    let done = AtomicBool::new(false);
    let agree = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                first.store(2, Ordering::Relaxed);
                std::hint::spin_loop();
                first.store(1, Ordering::Relaxed);
                std::hint::spin_loop();
            }
        });
        let agree = (0..1500).all(|_| {
            // SAFETY: the memory has the elements of either shape.
            let tensor = unsafe { Tensor::from_dlpack(source) }.expect("both shapes are valid");
            tensor.len() as i64 == tensor.shape().iter().product::<i64>()
        });
        done.store(true, Ordering::Relaxed);
        agree
    });
    assert!(agree, "the shape is not the one that was counted");
    // SAFETY: the producer's own deleter, called once.
    unsafe { deleter(source.as_ptr()) };
}
