//! The fields and flags of exported structs.

use dlbridge::{Access, Descriptor, Error, Tensor};

use crate::producer::HostileProducer;
use crate::support::{IS_COPIED, PADDED, READ_ONLY, consumed, flags, tensor};

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
    let aliased = tensor().into_aliased().expect("alone");
    assert!(aliased.share_dlpack_legacy().is_ok());
}

#[test]
fn legacy_exports_refuse_padded_elements() {
    let fp4 = HostileProducer {
        dtype: (17, 4, 1),
        flags: PADDED,
        shape: Some(vec![2]),
        ..HostileProducer::default()
    };
    let (padded, _) = consumed(fp4);
    assert!(matches!(padded.share_dlpack_legacy(), Err(Error::UnsupportedDType { .. })));
    let (single, _) = consumed(HostileProducer { flags: PADDED, ..HostileProducer::default() });
    assert!(single.share_dlpack_legacy().is_ok(), "padding means nothing for whole bytes");
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
