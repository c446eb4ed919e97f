//! Tensors of this crate that come back from dlpark.

use dlbridge::{Access, DlparkExt, Error, Tensor};
use dlpark::ffi::DLManagedTensorVersioned;
use dlpark::{DlpackFlags, Managed, versioned};

use crate::support::{imported, vector};

fn is_refused(managed: versioned::Dlpack) -> versioned::Dlpack {
    let rejected = managed.into_tensor().expect_err("not as this crate made it");
    assert!(
        matches!(rejected.error(), Error::InvalidDescriptor { field, .. } if field == "deleter")
    );
    rejected.into_value()
}

#[test]
fn the_vec_comes_back() {
    let vec = vec![1.0_f32, 2.0, 3.0];
    let address = vec.as_ptr();
    let tensor = Tensor::from_vec(vec, [3]).expect("3 elements");
    let tensor = tensor.into_dlpark().into_tensor().expect("our own");
    let tensor = tensor.into_dlpark_legacy().expect("writable").into_tensor().expect("our own");
    let tensor = imported(tensor.into_dlpark());
    let vec = tensor.into_vec::<f32>().expect("the original");
    assert_eq!((vec.as_ptr(), &vec[..]), (address, &[1.0, 2.0, 3.0][..]));
}

#[test]
fn safe_code_gets_no_views_of_aliased_memory() {
    let aliased = vector().into_aliased().expect("alone");
    let back = aliased.into_dlpark().into_tensor().expect("our own");
    assert_eq!(back.access(), Access::Aliased { writable: true, trusted: false });
    assert!(matches!(back.as_slice::<f32>(), Err(Error::Aliased)));
    assert_eq!(back.to_vec::<f32>().expect("a copy is allowed"), [1.0, 2.0, 3.0]);
}

#[test]
fn trust_is_not_kept_without_the_callers_guarantee() {
    let aliased = vector().into_aliased().expect("alone");
    let trusted = imported(aliased.into_dlpark());
    assert_eq!(trusted.access(), Access::Aliased { writable: true, trusted: true });
    let back = trusted.into_dlpark().into_tensor().expect("our own");
    assert_eq!(back.access(), Access::Aliased { writable: true, trusted: false });
}

#[test]
fn the_state_of_read_only_memory_is_kept() {
    // SAFETY: no other code reaches the memory.
    let read_only = unsafe { vector().assume_read_only() }.expect("one handle");
    let back = read_only.into_dlpark().into_tensor().expect("our own");
    assert_eq!(back.access(), Access::ReadOnly);
}

#[test]
fn changed_structs_are_not_taken_for_our_own() {
    let change = |change: &dyn Fn(&mut DLManagedTensorVersioned)| {
        let managed = vector().into_aliased().expect("alone").into_dlpark();
        // SAFETY: only this test uses the struct now.
        change(unsafe { &mut *managed.as_ptr() });
        is_refused(managed)
    };
    let grown = change(&|managed| {
        // SAFETY: the struct has one size.
        unsafe { managed.dl_tensor.shape.write(1 << 20) };
    });
    assert_eq!(grown.description().expect("readable").layout().len(), 1 << 20);
    let moved = change(&|managed| managed.dl_tensor.data = std::ptr::without_provenance_mut(64));
    assert_eq!(moved.validate().expect("readable").data_ptr().addr(), 64);
    drop(change(&|managed| managed.dl_tensor.byte_offset = 4));
    drop(change(&|managed| managed.dl_tensor.dtype.bits = 64));
    let read_only = change(&|managed| managed.flags = DlpackFlags::READ_ONLY);
    // What was changed says less than was true, so the struct can be imported.
    let tensor = imported(read_only);
    assert_eq!(tensor.access(), Access::Aliased { writable: false, trusted: true });
}

#[test]
fn a_struct_without_our_deleter_is_not_our_own() {
    let mut managed = vector().into_dlpark();
    // SAFETY: only this test uses the struct now.
    let deleter = unsafe { &mut (*managed.as_ptr()).deleter };
    let ours = deleter.take().expect("a deleter");
    managed = is_refused(managed);
    // SAFETY: only this test uses the struct now.
    unsafe { (*managed.as_ptr()).deleter = Some(ours) };
    assert_eq!(managed.into_tensor().expect("our own").len(), 3);
}

#[test]
fn a_struct_with_our_marker_alone_is_not_our_own() {
    let ours = vector().into_dlpark();
    // SAFETY: `ours` is borrowed, and its struct is read.
    let marker = unsafe { (*ours.as_ptr()).manager_ctx };
    let (foreign, deleted) = crate::support::hostile(Default::default());
    // SAFETY: only this test uses the struct; its deleter does not read the context.
    unsafe { (*foreign.as_ptr()).manager_ctx = marker };
    drop(is_refused(foreign));
    assert_eq!(deleted.times(), 1);
}

#[test]
fn a_round_trip_through_dlparks_raw_pointer_is_unwrapped() {
    let raw = vector().into_dlpark().into_raw();
    // SAFETY: `into_raw` gave the struct to this test.
    let managed = unsafe { Managed::from_raw(raw) }.expect("a version that dlpark knows");
    assert_eq!(managed.into_tensor().expect("our own").access(), Access::Exclusive);
    drop(vector().into_dlpark().into_deleter()); // releases the memory
}
