//! Imports of a producer's structs that the tests share.

use std::ptr::NonNull;

use dlbridge::ffi::DLManagedTensorVersioned;
use dlbridge::{Error, Exported, Tensor};

use crate::producer::{Deleted, HostileProducer};

pub(crate) type Deleter = unsafe extern "C" fn(*mut DLManagedTensorVersioned);

pub(crate) const READ_ONLY: u64 = 1;
pub(crate) const IS_COPIED: u64 = 2;
pub(crate) const PADDED: u64 = 4;

pub(crate) fn tensor() -> Tensor {
    Tensor::from_vec(vec![1.0_f32, 2.0, 3.0], [3]).expect("3 elements")
}

/// Imports a struct, which is refused. The deleter runs when the refused struct is dropped.
pub(crate) fn refused(producer: HostileProducer) -> Error {
    let (source, deleted) = producer.make();
    // SAFETY: the struct is ours; what it says wrong is what the test is about.
    let rejected = unsafe { Tensor::from_dlpack(source) }.expect_err("to be refused");
    assert_eq!(deleted.times(), 0, "the source belongs to the refusal");
    let (value, error) = rejected.into_parts();
    assert_eq!(value.as_ptr(), source);
    drop(value);
    assert_eq!(deleted.times(), 1, "and is released with it");
    error
}

/// A struct whose deleter is NULL, and the deleter that it had.
pub(crate) fn without_deleter() -> (NonNull<DLManagedTensorVersioned>, Deleter, Deleted) {
    let (mut source, deleted) = HostileProducer::default().make();
    // SAFETY: `make` allocated the struct, and nothing else uses it.
    let deleter = unsafe { source.as_mut() }.deleter.take().expect("the producer's deleter");
    (source, deleter, deleted)
}

/// Imports a struct, which is accepted.
pub(crate) fn consumed(producer: HostileProducer) -> (Tensor, Deleted) {
    let (source, deleted) = producer.make();
    // SAFETY: the struct is ours and valid.
    let tensor = unsafe { Tensor::from_dlpack(source) }.expect("a valid struct");
    assert_eq!(deleted.times(), 0);
    (tensor, deleted)
}

pub(crate) fn field_of(error: &Error) -> &str {
    match error {
        Error::InvalidDescriptor { field, .. } => field,
        other => panic!("{other}"),
    }
}

pub(crate) fn flags(exported: &Exported) -> u64 {
    // SAFETY: valid as long as `exported` lives.
    unsafe { exported.as_ptr().as_ref() }.flags
}
