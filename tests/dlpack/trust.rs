//! Who may view and write imported memory, and structs of dlbridge's own that come back.

use dlbridge::ffi::DLManagedTensorVersioned;
use dlbridge::{Access, Error, Tensor};

use crate::producer::{HostileProducer, VALUES};
use crate::support::{READ_ONLY, consumed, tensor};

#[test]
fn legacy_imports_are_read_only() {
    let (source, deleted) = HostileProducer::default().make_legacy();
    // SAFETY: the struct is ours and valid.
    let tensor = unsafe { Tensor::from_dlpack_legacy(source) }.expect("valid");
    assert_eq!(tensor.access(), Access::Aliased { writable: false, trusted: true });
    assert_eq!(tensor.to_vec::<f32>().expect("readable"), [0.0, 1.0, 2.0]);
    drop(tensor);
    assert_eq!(deleted.times(), 1);
    let (source, deleted) =
        HostileProducer { ndim: Some(-1), ..HostileProducer::default() }.make_legacy();
    // SAFETY: the struct is ours.
    drop(unsafe { Tensor::from_dlpack_legacy(source) }.expect_err("negative rank"));
    assert_eq!(deleted.times(), 1);
}

#[test]
fn reimported_structs_are_unwrapped() {
    let tensor = tensor();
    let address = tensor.data_ptr();
    let exported = tensor.share_dlpack();
    drop(tensor);
    // SAFETY: made just above.
    let mut back = unsafe { Tensor::from_dlpack(exported.into_raw()) }.expect("our own");
    assert_eq!((back.data_ptr(), back.access()), (address, Access::Exclusive));
    back.as_slice_mut::<f32>().expect("the only handle again")[0] = 9.0;
    assert_eq!(back.into_vec::<f32>().expect("the original"), [9.0, 2.0, 3.0]);
}

#[test]
fn aliased_memory_is_viewable_only_if_trusted() {
    let (mut tensor, deleted) =
        consumed(HostileProducer { flags: READ_ONLY, ..HostileProducer::default() });
    assert!(matches!(tensor.as_slice_mut::<f32>(), Err(Error::Aliased)));
    assert_eq!(tensor.as_slice::<f32>().expect("the import was unsafe"), [0.0, 1.0, 2.0]);
    assert_eq!(tensor.as_slice::<f32>().expect("zero-copy").as_ptr(), VALUES.as_ptr());
    let other = tensor.share();
    // SAFETY: the values are constant.
    let rejected = unsafe { tensor.assume_read_only() }.expect_err("two handles");
    drop(other);
    // SAFETY: the values are constant.
    let tensor = unsafe { rejected.into_value().assume_read_only() }.expect("one handle");
    assert_eq!(tensor.access(), Access::ReadOnly);
    drop(tensor);
    assert_eq!(deleted.times(), 1);

    let aliased = self::tensor().into_aliased().expect("alone");
    assert!(
        matches!(aliased.as_slice::<f32>(), Err(Error::Aliased)),
        "no caller guarantees that it is not written"
    );
    assert!(matches!(aliased.share().as_slice::<f32>(), Err(Error::Aliased)), "nor for a share");
    assert_eq!(aliased.to_vec::<f32>().expect("copies are made"), [1.0, 2.0, 3.0]);
    // SAFETY: no export was made.
    let mut exclusive = unsafe { aliased.assume_exclusive() }.expect("one handle");
    exclusive.as_slice_mut::<f32>().expect("exclusive again")[0] = 4.0;
    assert_eq!(exclusive.into_vec::<f32>().expect("the original"), [4.0, 2.0, 3.0]);
}

#[test]
fn aliased_memory_stays_aliased_after_reimport() {
    let aliased = tensor().into_aliased().expect("alone");
    // SAFETY: our own struct, of a moment ago.
    let back = unsafe { Tensor::from_dlpack(aliased.share_dlpack().into_raw()) }.expect("our own");
    let back = back.into_aliased().expect("nothing to give up");
    assert_eq!(back.access(), Access::Aliased { writable: true, trusted: false });
    let shared = tensor();
    let other = shared.share();
    assert!(matches!(shared.into_aliased().map_err(Error::from), Err(Error::NotUnique)));
    drop(other);
}

#[test]
fn changed_fields_of_our_structs_are_read_on_reimport() {
    let change = |change: &dyn Fn(&mut DLManagedTensorVersioned)| {
        let drops = tensor().into_aliased().expect("alone");
        let raw = drops.share_dlpack().into_raw();
        // SAFETY: ours, and no other code uses it.
        change(unsafe { &mut *raw.as_ptr() });
        // SAFETY: still valid: the changes say less than was true.
        let back = unsafe { Tensor::from_dlpack(raw) }.expect("valid");
        drop(drops);
        back
    };
    let read_only = change(&|managed| managed.flags |= READ_ONLY);
    assert_eq!(read_only.access(), Access::Aliased { writable: false, trusted: true });
    assert_eq!(read_only.to_vec::<f32>().expect("alive"), [1.0, 2.0, 3.0]);
    let shifted = change(&|managed| {
        managed.dl_tensor.byte_offset = 4;
        managed.dl_tensor.ndim = 0;
    });
    assert_eq!(shifted.item::<f32>().expect("one element"), 2.0);
    // A broadcast, and a transpose of one row, written over the numbers that the struct came with.
    let broadcast = change(&|managed| {
        // SAFETY: the struct has one size, which only this test uses now.
        unsafe { managed.dl_tensor.shape.write(100_000) };
        // SAFETY: the struct has one stride, which only this test uses now.
        unsafe { managed.dl_tensor.strides.write(0) };
    });
    assert_eq!(broadcast.len(), 100_000);
    assert_eq!(
        broadcast.deep_clone().expect("memory").to_vec::<f32>().expect("readable"),
        vec![1.0; 100_000]
    );
    let whole = change(&|_| {});
    assert_eq!(whole.access(), Access::Aliased { writable: true, trusted: true });
    assert_eq!(whole.into_aliased().map(|tensor| tensor.len()).expect("one handle"), 3);
}
