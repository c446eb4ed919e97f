//! Managed tensors with lies in them, with odd deleters, and owners that panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{null_mut, without_provenance_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dlbridge::{DlparkExt, Error, Tensor};
use dlpark::ffi::{DLDataType, DLDevice, DLManagedTensorVersioned};
use dlpark::metadata::Dynamic;
use dlpark::{DlpackFlags, Managed, versioned};

use crate::producer::HostileProducer;
use crate::support::{hostile, hostile_legacy, imported, vector, wrap};

/// Imports a managed tensor, which is refused and comes back.
fn refused(producer: HostileProducer) -> Error {
    let (managed, deleted) = hostile(producer);
    let source = managed.as_ptr();
    // SAFETY: the struct is the test's own; what it says wrong is what the test is about.
    let rejected = unsafe { managed.into_tensor_unchecked() }.expect_err("to be refused");
    assert_eq!(deleted.times(), 0);
    let (managed, error) = rejected.into_parts();
    assert_eq!(managed.as_ptr(), source, "the same struct");
    assert_eq!(managed.description().map(|_| ()), Err(error.clone()), "the same reason");
    drop(managed);
    assert_eq!(deleted.times(), 1);
    error
}

#[test]
fn lies_that_can_be_seen_are_refused() {
    let hostile = HostileProducer::default;
    for (producer, named) in [
        (HostileProducer { ndim: Some(-1), ..hostile() }, "ndim"),
        (HostileProducer { shape: Some(vec![-3]), ..hostile() }, "shape[0]"),
        (HostileProducer { shape: None, ndim: Some(1), ..hostile() }, "shape"),
        (HostileProducer { dtype: (2, 0, 1), ..hostile() }, "dtype.bits"),
        (HostileProducer { dtype: (2, 32, 0), ..hostile() }, "dtype.lanes"),
        (HostileProducer { data: null_mut(), ..hostile() }, "data"),
        (HostileProducer { byte_offset: u64::MAX, ..hostile() }, "byte_offset"),
    ] {
        match refused(producer) {
            Error::InvalidDescriptor { field, .. } => assert_eq!(field, named),
            other => panic!("{named}: {other}"),
        }
    }
    let far = HostileProducer::shaped(&[1 << 62, 8], &[8, 1]);
    assert!(matches!(refused(far), Error::Overflow { .. }));
}

#[test]
fn safe_functions_read_no_element() {
    // No code can read this address, and no allocation has that many elements.
    let lies = |shape: &[i64]| HostileProducer {
        data: without_provenance_mut(1 << 20),
        flags: 2, // IS_COPIED
        ..HostileProducer::shaped(shape, &[1])
    };
    for shape in [[0], [3], [1 << 50]] {
        let (managed, deleted) = hostile(lies(&shape));
        assert_eq!(managed.description().expect("readable").layout().shape(), shape);
        let managed = managed.into_tensor().expect_err("another library's").into_value();
        drop(managed);
        assert_eq!(deleted.times(), 1);
        let (managed, deleted) = hostile_legacy(lies(&shape));
        drop(managed.into_tensor().expect_err("another library's"));
        assert_eq!(deleted.times(), 1);
    }
}

#[test]
fn null_strides_mean_row_major() {
    let producer = HostileProducer { strides: None, shape: Some(vec![2, 4]), ..Default::default() };
    let (managed, deleted) = hostile(producer);
    assert!(managed.validate().is_err(), "dlpark refuses what DLPack 1.2 forbids");
    let tensor = imported(managed);
    assert_eq!(tensor.strides(), [4, 1]);
    drop(tensor);
    assert_eq!(deleted.times(), 1);
}

#[test]
fn a_struct_without_a_deleter_is_never_released() {
    let (mut source, deleted) = HostileProducer::default().make();
    // SAFETY: `make` allocated the struct, and nothing else uses it.
    let deleter = unsafe { source.as_mut() }.deleter.take().expect("the producer's deleter");
    let managed: versioned::Dlpack = wrap(source);
    let tensor = imported(managed);
    assert_eq!(tensor.as_slice::<f32>().expect("viewable"), [0.0, 1.0, 2.0]);
    drop(tensor);
    assert_eq!(deleted.times(), 0);
    // SAFETY: the producer kept the struct, and releases it here, once.
    unsafe { deleter(source.as_ptr()) };
}

#[test]
fn a_second_import_of_the_same_struct_is_an_error() {
    let (source, deleted) = HostileProducer::default().make();
    let tensor = imported(wrap::<_, DLManagedTensorVersioned>(source));
    let again: versioned::Dlpack = wrap(source); // a broken program
    // SAFETY: the struct is alive, and says that it was consumed.
    let rejected = unsafe { again.into_tensor_unchecked() }.expect_err("consumed already");
    assert!(rejected.to_string().contains("consumed"), "{rejected}");
    let again = rejected.into_value().into_tensor().expect_err("consumed already");
    drop(again); // calls a deleter that does nothing
    assert_eq!((deleted.times(), tensor.len()), (0, 3));
    drop(tensor);
    assert_eq!(deleted.times(), 1);
}

#[test]
fn an_older_struct_of_another_version_never_becomes_a_managed_tensor() {
    let (source, deleted) = HostileProducer { version: (2, 0), ..Default::default() }.make();
    // SAFETY: the struct is valid up to its deleter.
    let refused = unsafe { Managed::<DLManagedTensorVersioned>::from_raw(source.as_ptr().cast()) };
    assert!(refused.is_err());
    assert_eq!(deleted.times(), 1);
    // A struct whose version was changed later comes back as it is.
    let managed = vector().into_dlpark();
    // SAFETY: only this test uses the struct now.
    unsafe { (*managed.as_ptr()).version.major = 2 };
    // SAFETY: the struct is valid, apart from its version.
    let rejected = unsafe { managed.into_tensor_unchecked() }.expect_err("another version");
    assert_eq!(rejected.error(), &Error::UnsupportedVersion { major: 2, minor: 3 });
}

/// An owner that panics when it is dropped.
struct Panics {
    _values: Vec<f32>,
    drops: Arc<AtomicUsize>,
}

impl Drop for Panics {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
        panic!("an owner panics");
    }
}

#[test]
fn a_panicking_owner_of_ours_does_not_unwind_through_dlpark() {
    let mut values = vec![1.0_f32, 2.0];
    let drops = Arc::new(AtomicUsize::new(0));
    let data = values.as_mut_ptr();
    let owner = Panics { _values: values, drops: drops.clone() };
    let described = vector().descriptor().clone();
    let layout = dlbridge::Layout::contiguous([2]).expect("small");
    let described =
        dlbridge::Descriptor::new(data.cast(), layout, described.dtype(), described.device());
    // SAFETY: the owner keeps two numbers at `data`.
    let tensor = unsafe { Tensor::from_raw_parts(described.expect("valid"), true, owner) };
    let managed = tensor.into_dlpark();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(managed))).is_ok(), "the deleter contains it");
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn what_safe_code_wrote_into_an_unfinished_struct_is_only_described() {
    // `Initialized` can be given any address by safe code, which is why no safe function takes it.
    let mut initialized = Dynamic::compact([4]).prepare().expect("small").initialize(Box::new(()));
    initialized.set_data(without_provenance_mut(8)).set_dtype(DLDataType::F64);
    initialized.set_device(DLDevice::CPU).set_flags(DlpackFlags::READ_ONLY).expect("allowed");
    // SAFETY: no code reads the elements.
    let managed: versioned::Dlpack = unsafe { initialized.finish() };
    assert_eq!(managed.description().expect("readable").nbytes(), 32);
    assert!(managed.into_tensor().is_err());
}
