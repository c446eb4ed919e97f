//! Managed tensors that the tests share.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dlbridge::{DlparkExt, DlparkStruct, Tensor};
use dlpark::ffi::{DLDataType, DLDevice};
use dlpark::metadata::Dynamic;
use dlpark::{DlpackFlags, Managed, legacy, versioned};

use crate::producer::{Deleted, HostileProducer};

pub(crate) const NONE: DlpackFlags = DlpackFlags::empty();

pub(crate) fn vector() -> Tensor {
    Tensor::from_vec(vec![1.0_f32, 2.0, 3.0], [3]).expect("3 elements")
}

/// Wraps a raw struct as dlpark does with structs of other libraries.
pub(crate) fn wrap<Ours, Theirs: DlparkStruct>(source: NonNull<Ours>) -> Managed<Theirs> {
    // SAFETY: the callers give structs with valid shapes, strides and deleters away.
    unsafe { Managed::from_raw(source.as_ptr().cast()) }.expect("a version that dlpark knows")
}

pub(crate) fn hostile(producer: HostileProducer) -> (versioned::Dlpack, Deleted) {
    let (source, deleted) = producer.make();
    (wrap(source), deleted)
}

pub(crate) fn hostile_legacy(producer: HostileProducer) -> (legacy::Dlpack, Deleted) {
    let (source, deleted) = producer.make_legacy();
    (wrap(source), deleted)
}

/// An owner that counts how often it is dropped.
pub(crate) struct Counted {
    pub(crate) values: Vec<f32>,
    pub(crate) drops: Arc<AtomicUsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
    }
}

/// A managed tensor that dlpark made of 2 × 3 numbers, and the number of its owner's drops.
pub(crate) fn made_by_dlpark(flags: DlpackFlags) -> (versioned::Dlpack, Arc<AtomicUsize>) {
    let drops = Arc::new(AtomicUsize::new(0));
    let values = vec![0.0_f32, 1.0, 2.0, 3.0, 4.0, 5.0];
    let mut owner = Counted { values, drops: drops.clone() };
    let data = owner.values.as_mut_ptr().cast();
    let mut initialized =
        Dynamic::new([2, 3], [3, 1]).initialize(Box::new(owner)).expect("a small shape");
    initialized.set_data(data).set_dtype(DLDataType::F32).set_device(DLDevice::CPU);
    // SAFETY: nothing but the owner reaches the numbers, which may be written.
    unsafe { initialized.set_flags_unchecked(flags) };
    // SAFETY: the owner keeps six numbers at `data`.
    (unsafe { initialized.finish() }, drops)
}

/// Imports a managed tensor whose elements and flags are true.
pub(crate) fn imported<M: DlparkStruct>(managed: Managed<M>) -> Tensor {
    // SAFETY: the callers give managed tensors of elements that live as long, and that nothing
    // else writes.
    unsafe { managed.into_tensor_unchecked() }.expect("valid")
}
