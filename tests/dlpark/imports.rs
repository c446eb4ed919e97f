//! Managed tensors that dlpark made.

use std::sync::atomic::Ordering;

use dlbridge::{Access, DlparkExt, Error};
use dlpark::DlpackFlags;

use crate::producer::{HostileProducer, VALUES};
use crate::support::{NONE, hostile_legacy, imported, made_by_dlpark};

#[test]
fn flags_decide_the_access() {
    let read_only = DlpackFlags::READ_ONLY;
    let copied = DlpackFlags::IS_COPIED;
    for (flags, access) in [
        (NONE, Access::Aliased { writable: true, trusted: true }),
        (read_only, Access::Aliased { writable: false, trusted: true }),
        (copied, Access::Exclusive),
        (copied | read_only, Access::ReadOnly),
    ] {
        let (managed, drops) = made_by_dlpark(flags);
        let address = managed.validate().expect("valid").data_ptr();
        let tensor = imported(managed);
        assert_eq!((tensor.access(), tensor.data_ptr().cast_const()), (access, address));
        assert_eq!(tensor.as_slice::<f32>().expect("viewable"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(drops.load(Ordering::SeqCst), 0);
        drop(tensor);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn copied_memory_may_be_written() {
    let (managed, _) = made_by_dlpark(DlpackFlags::IS_COPIED);
    let mut tensor = imported(managed);
    tensor.as_slice_mut::<f32>().expect("exclusive")[5] = 8.0;
    assert_eq!(tensor.as_slice::<f32>().expect("viewable")[5], 8.0);
}

#[test]
fn the_older_type_counts_as_read_only() {
    let (managed, deleted) = hostile_legacy(HostileProducer::default());
    let tensor = imported(managed);
    assert_eq!(tensor.access(), Access::Aliased { writable: false, trusted: true });
    assert_eq!(tensor.as_slice::<f32>().expect("viewable").as_ptr(), VALUES.as_ptr());
    drop(tensor);
    assert_eq!(deleted.times(), 1);
}

#[test]
fn the_safe_conversion_refuses_what_it_cannot_check() {
    let (managed, drops) = made_by_dlpark(DlpackFlags::IS_COPIED);
    let rejected = managed.into_tensor().expect_err("made by dlpark");
    assert_eq!(
        rejected.to_string(),
        "deleter = another library's: its elements cannot be checked, so only \
         into_tensor_unchecked() takes it"
    );
    assert!(matches!(rejected.error(), Error::InvalidDescriptor { .. }));
    let managed = rejected.into_value();
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    assert_eq!(managed.description().expect("readable").layout().strides(), [3, 1]);
    drop(managed);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn what_dlpark_made_goes_out_again_in_a_struct_of_ours() {
    let (managed, drops) = made_by_dlpark(DlpackFlags::IS_COPIED);
    let theirs = managed.as_ptr();
    let managed = imported(managed).into_dlpark();
    assert_ne!(managed.as_ptr(), theirs);
    let tensor = managed.into_tensor().expect("our own by now");
    assert_eq!(tensor.access(), Access::Exclusive);
    drop(tensor.into_dlpark());
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}
