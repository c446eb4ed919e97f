//! DLPack: exported structs, imported structs, and the structs of a hostile producer.

#[path = "support/producer.rs"]
mod producer;

use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use dlbridge::ffi::DLManagedTensorVersioned;
use dlbridge::{Access, DType, Descriptor, Device, Error, Exported, Layout, Tensor};
use producer::{Deleted, HostileProducer, VALUES};

type Deleter = unsafe extern "C" fn(*mut DLManagedTensorVersioned);

const READ_ONLY: u64 = 1;
const IS_COPIED: u64 = 2;
const PADDED: u64 = 4;

fn tensor() -> Tensor {
    Tensor::from_vec(vec![1.0_f32, 2.0, 3.0], [3]).expect("3 elements")
}

/// Imports a struct, which is refused. The deleter runs when the refused struct is dropped.
fn refused(producer: HostileProducer) -> Error {
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
fn without_deleter() -> (NonNull<DLManagedTensorVersioned>, Deleter, Deleted) {
    let (mut source, deleted) = HostileProducer::default().make();
    // SAFETY: `make` allocated the struct, and nothing else uses it.
    let deleter = unsafe { source.as_mut() }.deleter.take().expect("the producer's deleter");
    (source, deleter, deleted)
}

/// Imports a struct, which is accepted.
fn consumed(producer: HostileProducer) -> (Tensor, Deleted) {
    let (source, deleted) = producer.make();
    // SAFETY: the struct is ours and valid.
    let tensor = unsafe { Tensor::from_dlpack(source) }.expect("a valid struct");
    assert_eq!(deleted.times(), 0);
    (tensor, deleted)
}

fn field_of(error: &Error) -> &str {
    match error {
        Error::InvalidDescriptor { field, .. } => field,
        other => panic!("{other}"),
    }
}

#[test]
fn exported_fields_describe_the_tensor() {
    let exported = tensor().into_dlpack();
    // SAFETY: ours, and valid.
    let managed = unsafe { exported.as_ptr().as_ref() };
    assert_eq!((managed.version.major, managed.version.minor), (1, 3));
    let description = &managed.dl_tensor;
    assert_eq!((description.ndim, description.byte_offset), (1, 0));
    assert_eq!((description.device.device_type, description.device.device_id), (1, 0));
    let dtype = description.dtype;
    assert_eq!((dtype.code, dtype.bits, dtype.lanes), (2, 32, 1));
    // SAFETY: one dimension.
    assert_eq!(unsafe { description.shape.read() }, 3);
    // SAFETY: one dimension.
    assert_eq!(unsafe { description.strides.read() }, 1);
    // SAFETY: three elements.
    let values = unsafe { std::slice::from_raw_parts(description.data.cast::<f32>(), 3) };
    assert_eq!(values, [1.0, 2.0, 3.0]);
}

#[test]
fn exported_strides_are_never_null_and_empty_data_is_null() {
    for shape in [&[0_i64, 3][..], &[1, 1], &[2, 0, 5]] {
        let exported = Tensor::zeros::<f32>(shape).expect("small").into_dlpack();
        // SAFETY: ours, and valid.
        let description = unsafe { &exported.as_ptr().as_ref().dl_tensor };
        assert!(!description.strides.is_null() && !description.shape.is_null());
        assert_eq!(description.data.is_null(), shape.contains(&0));
    }
}

fn flags(exported: &Exported) -> u64 {
    // SAFETY: valid as long as `exported` lives.
    unsafe { exported.as_ptr().as_ref() }.flags
}

#[test]
fn exports_are_read_only_unless_the_handle_is_unique() {
    assert_eq!(flags(&tensor().into_dlpack()), 0);
    assert_eq!(flags(&tensor().share_dlpack()), READ_ONLY);
    let (first, second) = {
        let first = tensor();
        let second = first.share();
        (first, second)
    };
    assert_eq!(flags(&first.into_dlpack()), READ_ONLY);
    drop(second);
    assert_eq!(flags(&tensor().deep_clone().expect("memory").into_dlpack()), IS_COPIED);
    assert_eq!(flags(&tensor().deep_clone().expect("memory").share_dlpack()), READ_ONLY);
}

#[test]
fn reexported_flags_match_the_imported_flags() {
    for (given, expected, access) in [
        (0, 0, Access::Aliased { writable: true, trusted: true }),
        (READ_ONLY, READ_ONLY, Access::Aliased { writable: false, trusted: true }),
        (READ_ONLY | IS_COPIED, READ_ONLY, Access::ReadOnly),
        (1 << 40, 0, Access::Aliased { writable: true, trusted: true }),
    ] {
        let (tensor, _) = consumed(HostileProducer { flags: given, ..HostileProducer::default() });
        assert_eq!(tensor.access(), access, "{given}");
        assert_eq!(flags(&tensor.share_dlpack()), expected, "{given}");
        assert_eq!(flags(&tensor.into_dlpack()), expected, "{given}");
    }
    let (tensor, _) = consumed(HostileProducer { flags: IS_COPIED, ..HostileProducer::default() });
    assert_eq!(tensor.access(), Access::Exclusive);
    assert_eq!(flags(&tensor.share_dlpack()), READ_ONLY);
    assert_eq!(flags(&tensor.into_dlpack()), IS_COPIED);
    assert_eq!(flags(&self::tensor().into_aliased().expect("alone").share_dlpack()), 0);
}

#[test]
fn legacy_exports_refuse_read_only_memory() {
    assert!(matches!(tensor().share_dlpack_legacy(), Err(Error::ReadOnly { .. })));
    let (first, second) = {
        let first = tensor();
        let second = first.share();
        (first, second)
    };
    let rejected = first.into_dlpack_legacy().expect_err("two handles");
    drop(second);
    let raw = rejected.into_value().into_dlpack_legacy().expect("one handle").into_raw();
    // SAFETY: made just above.
    let back = unsafe { Tensor::from_dlpack_legacy(raw) }.expect("our own");
    assert_eq!(back.into_vec::<f32>().expect("its own Vec"), [1.0, 2.0, 3.0]);
    let foreign = tensor().into_aliased().expect("alone");
    assert!(foreign.share_dlpack_legacy().is_ok());
}

#[test]
fn legacy_imports_are_read_only() {
    let (source, deleted) = HostileProducer::default().make_legacy();
    // SAFETY: the struct is ours and valid.
    let tensor = unsafe { Tensor::from_dlpack_legacy(source) }.expect("valid");
    assert_eq!(tensor.access(), Access::Aliased { writable: false, trusted: true });
    assert_eq!(tensor.to_vec::<f32>().expect("readable"), [0.0, 1.0, 2.0]);
    drop(tensor);
    assert_eq!(deleted.times(), 1);
    let (source, deleted) = HostileProducer { ndim: Some(-1), ..HostileProducer::default() }.make_legacy();
    // SAFETY: the struct is ours.
    drop(unsafe { Tensor::from_dlpack_legacy(source) }.expect_err("negative rank"));
    assert_eq!(deleted.times(), 1);
}

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

#[test]
fn other_major_versions_are_refused_unread() {
    for version in [(2, 0), (0, 5), (u32::MAX, 0)] {
        // Fields behind the version that would crash whoever believed them.
        let hostile = HostileProducer { version, ndim: Some(i32::MAX), shape: None, strides: None, ..HostileProducer::default() };
        assert!(matches!(refused(hostile), Error::UnsupportedVersion { major, .. } if major == version.0));
    }
    for minor in [0, 2, 99] {
        consumed(HostileProducer { version: (1, minor), ..HostileProducer::default() });
    }
}

#[test]
fn null_strides_are_row_major_in_every_version() {
    for version in [(1, 0), (1, 3)] {
        let shape = Some(vec![2, 3]);
        let (tensor, _) = consumed(HostileProducer { version, shape, strides: None, ..HostileProducer::default() });
        assert_eq!(tensor.strides(), [3, 1]);
        let exported = tensor.share_dlpack();
        // SAFETY: ours, and valid.
        let strides = unsafe { exported.as_ptr().as_ref() }.dl_tensor.strides;
        assert!(!strides.is_null());
    }
}

#[test]
fn byte_offset_is_added_to_the_data_pointer() {
    for offset in [0_u64, 4, 8] {
        let (tensor, _) = consumed(HostileProducer { byte_offset: offset, ..HostileProducer::default() });
        assert_eq!(tensor.to_vec::<f32>().expect("readable")[0], (offset / 4) as f32);
        let exported = tensor.share_dlpack();
        // SAFETY: ours, and valid.
        let description = unsafe { &exported.as_ptr().as_ref().dl_tensor };
        assert_eq!(description.byte_offset, 0);
        assert_eq!(description.data, tensor.data_ptr());
    }
    let (odd, _) = consumed(HostileProducer { byte_offset: 1, ..HostileProducer::default() });
    assert!(matches!(odd.as_slice::<f32>(), Err(Error::Misaligned { align: 4, .. })));
    assert_eq!(odd.to_vec::<f32>().expect("copies need no alignment").len(), 3);
    assert_eq!(odd.deep_clone().expect("likewise").as_slice::<f32>().expect("aligned").len(), 3);
    assert_eq!(field_of(&refused(HostileProducer { byte_offset: u64::MAX, ..HostileProducer::default() })), "byte_offset");
}

#[test]
fn imports_read_every_stride_pattern() {
    for (shape, strides, offset, expected) in [
        (&[2_i64, 3][..], &[1_i64, 2][..], 0, &[0., 2., 4., 1., 3., 5.][..]),
        (&[3], &[-1], 2, &[2., 1., 0.]),
        (&[2, 2], &[0, 1], 0, &[0., 1., 0., 1.]),
        (&[3, 3], &[1, 1], 0, &[0., 1., 2., 1., 2., 3., 2., 3., 4.]),
        (&[1, 3], &[i64::MIN, 1], 0, &[0., 1., 2.]),
        (&[], &[], 5, &[5.]),
        (&[0, 3], &[7, -9], 0, &[]),
    ] {
        let (tensor, _) = consumed(HostileProducer { byte_offset: 4 * offset, ..HostileProducer::shaped(shape, strides) });
        assert_eq!(tensor.to_vec::<f32>().expect("readable"), expected, "{shape:?} {strides:?}");
        let clone = tensor.deep_clone().expect("memory");
        assert_eq!(clone.to_vec::<f32>().expect("readable"), expected, "{shape:?} {strides:?}");
        assert!(clone.strides().iter().all(|&stride| stride >= 0 || clone.is_empty()));
    }
}

#[test]
fn invalid_fields_are_refused_by_name() {
    let shape_of = |shape: &[i64]| HostileProducer { shape: Some(shape.into()), strides: None, ..HostileProducer::default() };
    for (field, producer) in [
        ("ndim", HostileProducer { ndim: Some(-1), ..HostileProducer::default() }),
        ("shape", HostileProducer { shape: None, ndim: Some(2), ..HostileProducer::default() }),
        ("shape[0]", HostileProducer::shaped(&[-1], &[1])),
        ("shape[1]", shape_of(&[2, i64::MIN])),
        ("data", HostileProducer { data: null_mut(), ..HostileProducer::default() }),
        ("dtype.bits", HostileProducer { dtype: (2, 0, 1), ..HostileProducer::default() }),
        ("dtype.lanes", HostileProducer { dtype: (2, 32, 0), ..HostileProducer::default() }),
        ("dtype.bits", HostileProducer { dtype: (17, 8, 1), ..HostileProducer::default() }),
        ("dtype.bits", HostileProducer { dtype: (15, 4, 1), ..HostileProducer::default() }),
    ] {
        assert_eq!(field_of(&refused(producer)), field);
    }
    for producer in [
        shape_of(&[1 << 62, 8]),
        HostileProducer::shaped(&[3], &[i64::MAX]),
        HostileProducer::shaped(&[1 << 40, 2], &[1 << 22, 1]),
        HostileProducer::shaped(&[1 << 61], &[1]),
    ] {
        assert!(matches!(refused(producer), Error::Overflow { .. }));
    }
    let (empty, _) = consumed(HostileProducer { data: null_mut(), ..shape_of(&[1 << 62, 1 << 62, 0]) });
    assert_eq!(empty.to_vec::<f32>().expect("nothing to read").len(), 0);
    assert!(empty.is_contiguous() && empty.deep_clone().is_ok());
}

#[test]
fn unknown_devices_and_dtypes_pass_through_unread() {
    for (kind, readable) in
        [(1, true), (2, false), (3, true), (10, false), (11, true), (12, false), (13, false), (99, false)]
    {
        let (tensor, _) = consumed(HostileProducer { device: (kind, 5), ..HostileProducer::default() });
        assert_eq!(tensor.device(), Device { device_type: kind as i32, index: 5 });
        assert_eq!(tensor.as_slice::<f32>().is_ok(), readable, "{kind}");
        assert_eq!(tensor.to_vec::<f32>().is_ok(), readable, "{kind}");
        assert_eq!(tensor.deep_clone().is_ok(), readable, "{kind}");
        let exported = tensor.into_dlpack();
        // SAFETY: ours, and valid.
        assert_eq!(unsafe { exported.as_ptr().as_ref() }.dl_tensor.device.device_type, kind);
    }
    let (cuda, _) = consumed(HostileProducer { device: (2, 0), ..HostileProducer::default() });
    assert_eq!(
        cuda.to_list().expect_err("on the device").to_string(),
        "can't convert cuda:0 device type tensor to list. Use Tensor::cpu() to copy the tensor to host memory first."
    );
    for dtype in [(99, 32, 1), (3, 64, 1), (2, 32, 2), (6, 1, 1), (2, 24, 1)] {
        let (tensor, _) = consumed(HostileProducer { dtype, shape: Some(vec![1]), ..HostileProducer::default() });
        assert!(matches!(tensor.as_slice::<f32>(), Err(Error::DTypeMismatch { .. })));
        assert!(matches!(tensor.to_list(), Err(Error::UnsupportedDType { .. })), "{dtype:?}");
        assert_eq!(tensor.share_dlpack().into_raw_dtype(), dtype);
    }
}

trait RawDType {
    fn into_raw_dtype(self) -> (u8, u8, u16);
}

impl RawDType for Exported {
    fn into_raw_dtype(self) -> (u8, u8, u16) {
        // SAFETY: ours, and valid.
        let dtype = unsafe { self.as_ptr().as_ref() }.dl_tensor.dtype;
        (dtype.code, dtype.bits, dtype.lanes)
    }
}

#[test]
fn padded_flag_decides_the_size_of_sub_byte_elements() {
    let fp4 = |flags| HostileProducer { dtype: (17, 4, 1), flags, shape: Some(vec![5]), ..HostileProducer::default() };
    let (packed, _) = consumed(fp4(0));
    let (padded, _) = consumed(fp4(PADDED));
    assert_eq!((packed.nbytes(), padded.nbytes()), (3, 5));
    assert_eq!(flags(&padded.share_dlpack()) & PADDED, PADDED);
    let (pair, _) = consumed(HostileProducer { dtype: (17, 4, 2), ..fp4(0) });
    assert_eq!(pair.nbytes(), 5);
    assert_eq!(packed.deep_clone().expect("contiguous").nbytes(), 3);
    let (strided, _) = consumed(HostileProducer { strides: Some(vec![2]), ..fp4(0) });
    assert!(matches!(strided.deep_clone(), Err(Error::UnsupportedDType { .. })));
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
    let (mut tensor, deleted) = consumed(HostileProducer { flags: READ_ONLY, ..HostileProducer::default() });
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

    let foreign = self::tensor().into_aliased().expect("alone");
    assert!(matches!(foreign.as_slice::<f32>(), Err(Error::Aliased)), "nobody guarantees that it is not written");
    assert!(matches!(foreign.share().as_slice::<f32>(), Err(Error::Aliased)), "nor for a share");
    assert_eq!(foreign.to_vec::<f32>().expect("copies are made"), [1.0, 2.0, 3.0]);
    // SAFETY: no export was made.
    let mut exclusive = unsafe { foreign.assume_exclusive() }.expect("one handle");
    exclusive.as_slice_mut::<f32>().expect("exclusive again")[0] = 4.0;
    assert_eq!(exclusive.into_vec::<f32>().expect("the original"), [4.0, 2.0, 3.0]);
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
    let layout = Layout::contiguous(&[3]).expect("small");
    let data = VALUES.as_ptr().cast_mut().cast();
    let descriptor = Descriptor::new(data, layout, DType::F32, Device::CPU).expect("valid");
    // SAFETY: the values are constant and static.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, false, Explosive) };
    let raw = tensor.into_dlpack().into_raw();
    // SAFETY: ours, and valid; the deleter is called once.
    let deleter = unsafe { raw.as_ref() }.deleter.expect("ours has one");
    // SAFETY: likewise.
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
fn misaligned_shape_and_strides_are_refused() {
    for field in ["shape", "strides"] {
        let (source, deleted) = HostileProducer::default().make();
        // SAFETY: the struct is ours.
        let description = unsafe { &mut (*source.as_ptr()).dl_tensor };
        match field {
            "shape" => description.shape = description.shape.wrapping_byte_add(1),
            _ => description.strides = description.strides.wrapping_byte_add(1),
        }
        // SAFETY: what it says wrong is what the test is about.
        let rejected = unsafe { Tensor::from_dlpack(source) }.expect_err("misaligned");
        assert_eq!(field_of(rejected.error()), field);
        drop(rejected);
        assert_eq!(deleted.times(), 1);
    }
}

#[test]
fn legacy_exports_refuse_padded_elements() {
    let fp4 = HostileProducer { dtype: (17, 4, 1), flags: PADDED, shape: Some(vec![2]), ..HostileProducer::default() };
    let (padded, _) = consumed(fp4);
    assert!(matches!(padded.share_dlpack_legacy(), Err(Error::UnsupportedDType { .. })));
    let (single, _) = consumed(HostileProducer { flags: PADDED, ..HostileProducer::default() });
    assert!(single.share_dlpack_legacy().is_ok(), "padding means nothing for whole bytes");
}

#[test]
fn copies_refuse_unreachable_devices() {
    let mut target = Tensor::zeros::<f32>([3]).expect("small");
    // CUDA is refused as this build or this machine has it; 99 devices are more than any has.
    let lacking = |error: Error| match error {
        Error::CudaNotEnabled { .. } => cfg!(not(feature = "cuda")),
        Error::CudaUnavailable { .. } => cfg!(feature = "cuda"),
        _ => false,
    };
    let unsupported = |error: Error| matches!(error, Error::UnsupportedDevice { .. });
    type Expected<'a> = &'a dyn Fn(Error) -> bool;
    let devices: [(_, Expected<'_>); 4] =
        [((2, 99), &lacking), ((13, 99), &lacking), ((10, 0), &unsupported), ((7, 0), &unsupported)];
    for (device, expected) in devices {
        let (far, deleted) = consumed(HostileProducer { device, ..HostileProducer::default() });
        assert!(far.copy_into(&mut target).is_err_and(expected), "{device:?}");
        // SAFETY: refused before anything is written.
        assert!(unsafe { target.copy_into_unchecked(&far) }.is_err_and(expected), "{device:?}");
        assert!(far.deep_clone().is_err_and(expected), "{device:?}");
        assert!(far.to_device(Device::CPU).is_err_and(expected), "{device:?}");
        assert!(target.to_device(far.device()).is_err(), "{device:?}");
        drop(far.share_dlpack());
        let rejected = far.cpu().expect_err("out of reach");
        assert!(expected(rejected.error().clone()), "{}", rejected.error());
        assert_eq!(
            (rejected.into_value().device().device_type, deleted.times()),
            (i32::try_from(device.0).expect("small"), 0)
        );
    }
    let third = Device { device_type: 1, index: 3 };
    assert!(target.to_device(third).is_err_and(|error| matches!(error, Error::UnsupportedDevice { .. })));
    let message = target.to_device(Device::cuda(99)).expect_err("none has so many").to_string();
    assert!(message.starts_with("cuda:99 ") && message.contains("this "), "{message}");
}

#[test]
fn consumed_structs_can_be_neither_imported_nor_deleted_again() {
    let (source, deleted) = HostileProducer::default().make();
    // SAFETY: the struct is ours and valid.
    let deleter = unsafe { source.as_ref() }.deleter;
    // SAFETY: likewise.
    let tensor = unsafe { Tensor::from_dlpack(source) }.expect("a valid struct");
    // SAFETY: not ours any more: the mistake that is to be noticed. The struct still lives.
    let rejected = unsafe { Tensor::from_dlpack(source) }.expect_err("taken twice");
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
    drop(unsafe { Tensor::from_dlpack_legacy(source) }.expect_err("taken twice"));
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

#[test]
fn aliased_memory_stays_aliased_after_reimport() {
    let foreign = tensor().into_aliased().expect("alone");
    // SAFETY: our own struct, of a moment ago.
    let back = unsafe { Tensor::from_dlpack(foreign.share_dlpack().into_raw()) }.expect("our own");
    let back = back.into_aliased().expect("nothing to give up");
    assert_eq!(back.access(), Access::Aliased { writable: true, trusted: false });
    let shared = tensor();
    let other = shared.share();
    assert!(matches!(shared.into_aliased().map_err(Error::from), Err(Error::NotUnique)));
    drop(other);
}

#[test]
fn as_dl_tensor_points_into_the_handle() {
    let tensor = tensor();
    let described = tensor.as_dl_tensor();
    assert_eq!(described.shape, tensor.shape().as_ptr().cast_mut());
    assert_eq!(described.strides, tensor.strides().as_ptr().cast_mut());
    assert_eq!(described.data, tensor.data_ptr());
    assert_eq!(tensor.dlpack_flags(), READ_ONLY);
    // SAFETY: made just above of a handle that lives.
    let read = unsafe { Descriptor::from_dl_tensor(&described, 0) }.expect("our own");
    assert_eq!((read.data_ptr(), read.layout()), (tensor.data_ptr(), tensor.layout()));
}

#[test]
fn changed_fields_of_our_structs_are_read_on_reimport() {
    let change = |change: &dyn Fn(&mut DLManagedTensorVersioned)| {
        let drops = tensor().into_aliased().expect("alone");
        let raw = drops.share_dlpack().into_raw();
        // SAFETY: ours, and nobody else uses it.
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
        // SAFETY: the struct's own numbers.
        unsafe { managed.dl_tensor.shape.write(100_000) };
        // SAFETY: likewise.
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
