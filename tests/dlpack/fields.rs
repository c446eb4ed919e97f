//! How the fields of imported structs are read, and which ones are refused.

use std::ptr::null_mut;

use dlbridge::{Device, Error, Exported, MemoryFormat, Tensor};

use crate::producer::HostileProducer;
use crate::support::{IS_COPIED, PADDED, consumed, field_of, flags, refused};

#[test]
fn other_major_versions_are_refused_unread() {
    for version in [(2, 0), (0, 5), (u32::MAX, 0)] {
        // An importer that read the fields behind the version would crash.
        let hostile = HostileProducer {
            version,
            ndim: Some(i32::MAX),
            shape: None,
            strides: None,
            ..HostileProducer::default()
        };
        let Error::UnsupportedVersion { major, .. } = refused(hostile) else {
            panic!("{version:?}")
        };
        assert_eq!(major, version.0);
    }
    for minor in [0, 2, 99] {
        consumed(HostileProducer { version: (1, minor), ..HostileProducer::default() });
    }
}

#[test]
fn null_strides_are_row_major_in_every_version() {
    for version in [(1, 0), (1, 3)] {
        let shape = Some(vec![2, 3]);
        let (tensor, _) = consumed(HostileProducer {
            version,
            shape,
            strides: None,
            ..HostileProducer::default()
        });
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
        let (tensor, _) =
            consumed(HostileProducer { byte_offset: offset, ..HostileProducer::default() });
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
    assert_eq!(
        odd.deep_clone()
            .expect("copies need no alignment")
            .as_slice::<f32>()
            .expect("aligned")
            .len(),
        3
    );
    for byte_offset in [u64::MAX, u64::MAX - 3, 1 << 63] {
        let error = refused(HostileProducer { byte_offset, ..HostileProducer::default() });
        assert_eq!(field_of(&error), "byte_offset");
        assert!(error.to_string().contains(&byte_offset.to_string()));
    }
}

/// On these devices `data` is the handle of a buffer, and on devices that no one knows it may be.
#[test]
fn byte_offset_is_kept_where_data_is_a_handle() {
    for device_type in [4, 7, 8, 15, 99] {
        let handle = std::ptr::without_provenance_mut(0x1001);
        let device = (device_type, 0);
        let far = |byte_offset| HostileProducer {
            device,
            data: handle,
            byte_offset,
            ..HostileProducer::default()
        };
        for offset in [0_u64, 8, 5] {
            let (tensor, _) = consumed(far(offset));
            assert_eq!((tensor.data_ptr(), tensor.len()), (handle, 3));
            assert_eq!(tensor.descriptor().byte_offset() as u64, offset);
            let exported = tensor.into_dlpack();
            // SAFETY: ours, and valid.
            let description = unsafe { &exported.as_ptr().as_ref().dl_tensor };
            assert_eq!((description.data, description.byte_offset), (handle, offset));
            // SAFETY: made just above.
            let back = unsafe { Tensor::from_dlpack(exported.into_raw()) }.expect("our own");
            assert_eq!(back.descriptor().byte_offset() as u64, offset);
        }
        assert_eq!(field_of(&refused(far(1 << 63))), "byte_offset");
        assert!(matches!(refused(far(isize::MAX as u64 - 4)), Error::Overflow { .. }));
    }
}

#[test]
fn strides_that_reach_nothing_are_exported_as_harmless_numbers() {
    for (shape, strides, expected) in [
        (&[0_i64, 3][..], &[-3_i64, -1][..], &[3_i64, 1][..]),
        (&[2, 0], &[0, 0], &[1, 1]),
        (&[1, 3], &[-3, 1], &[3, 1]),
        (&[3, 1, 2], &[2, i64::MAX, 1], &[2, 2, 1]),
        (&[1, 3], &[i64::MIN, -1], &[3, -1]),
    ] {
        let shaped = HostileProducer::shaped(shape, strides);
        let (tensor, _) = consumed(HostileProducer { byte_offset: 8, ..shaped });
        let clone = tensor.deep_clone().expect("memory");
        let row_major = tensor.deep_clone_with(MemoryFormat::Contiguous).expect("memory");
        for strides in [clone.strides(), row_major.strides()] {
            assert!(strides.iter().all(|stride| (1..=6).contains(stride)), "{strides:?}");
        }
        let exported = tensor.into_dlpack();
        // SAFETY: ours, and valid.
        let strides = unsafe { exported.as_ptr().as_ref() }.dl_tensor.strides;
        // SAFETY: a struct has as many strides as dimensions.
        let strides = unsafe { std::slice::from_raw_parts(strides, shape.len()) };
        assert_eq!(strides, expected, "{shape:?}");
    }
}

/// Wherever the address of an empty tensor leads, views of it do not.
#[test]
fn empty_tensors_may_have_any_address() {
    for address in [0, 1, 3, usize::MAX] {
        for shape in [&[0_i64][..], &[0, 3], &[2, 0, 5]] {
            let data = std::ptr::without_provenance_mut(address);
            let strides = vec![-1; shape.len()];
            let producer = HostileProducer {
                data,
                flags: IS_COPIED,
                ..HostileProducer::shaped(shape, &strides)
            };
            let (mut tensor, _) = consumed(producer);
            assert!(tensor.as_slice::<f32>().expect("nothing").is_empty());
            assert!(tensor.as_slice_mut::<f32>().expect("nothing").is_empty());
            assert!(tensor.to_vec::<f32>().expect("nothing").is_empty());
            assert!(tensor.deep_clone().expect("nothing").is_empty());
            #[cfg(feature = "ndarray")]
            {
                use ndarray::IxDyn;
                let view = tensor.as_ndarray::<f32, IxDyn>().expect("nothing");
                assert!(view.as_ptr().is_aligned() && !view.as_ptr().is_null());
                let array = tensor.into_ndarray::<f32, IxDyn>().expect("nothing");
                assert_eq!(array.len(), 0);
                let refused = array.into_array().expect_err("it was never an array");
                assert!(matches!(refused.error(), Error::NotOriginal { .. }));
            }
        }
    }
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
        let (tensor, _) = consumed(HostileProducer {
            byte_offset: 4 * offset,
            ..HostileProducer::shaped(shape, strides)
        });
        assert_eq!(tensor.to_vec::<f32>().expect("readable"), expected, "{shape:?} {strides:?}");
        let clone = tensor.deep_clone().expect("memory");
        assert_eq!(clone.to_vec::<f32>().expect("readable"), expected, "{shape:?} {strides:?}");
        assert!(clone.strides().iter().all(|&stride| stride >= 0 || clone.is_empty()));
    }
}

#[test]
fn invalid_fields_are_refused_by_name() {
    let shape_of = |shape: &[i64]| HostileProducer {
        shape: Some(shape.into()),
        strides: None,
        ..HostileProducer::default()
    };
    // READ_ONLY, IS_COPIED and IS_SUBBYTE_TYPE_PADDED change nothing about it.
    for flags in 0..8 {
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
            let producer = HostileProducer { flags, ..producer };
            assert_eq!(field_of(&refused(producer)), field);
        }
    }
    for producer in [
        shape_of(&[1 << 62, 8]),
        HostileProducer::shaped(&[3], &[i64::MAX]),
        HostileProducer::shaped(&[1 << 40, 2], &[1 << 22, 1]),
        HostileProducer::shaped(&[1 << 61], &[1]),
    ] {
        let error = refused(producer);
        assert!(matches!(error, Error::Overflow { .. }));
        assert!(error.to_string().contains(" and 4-byte elements exceed"), "{error}");
    }
    let (empty, _) =
        consumed(HostileProducer { data: null_mut(), ..shape_of(&[1 << 62, 1 << 62, 0]) });
    assert_eq!(empty.to_vec::<f32>().expect("nothing to read").len(), 0);
    assert!(empty.is_contiguous() && empty.deep_clone().is_ok());
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
fn unknown_devices_and_dtypes_pass_through_unread() {
    for (device_type, readable) in [
        (1, true),
        (2, false),
        (3, true),
        (10, false),
        (11, true),
        (12, false),
        (13, false),
        (99, false),
    ] {
        let (tensor, _) =
            consumed(HostileProducer { device: (device_type, 5), ..HostileProducer::default() });
        assert_eq!(tensor.device(), Device { device_type: device_type as i32, index: 5 });
        assert_eq!(tensor.as_slice::<f32>().is_ok(), readable, "{device_type}");
        assert_eq!(tensor.to_vec::<f32>().is_ok(), readable, "{device_type}");
        assert_eq!(tensor.deep_clone().is_ok(), readable, "{device_type}");
        let exported = tensor.into_dlpack();
        // SAFETY: ours, and valid.
        assert_eq!(unsafe { exported.as_ptr().as_ref() }.dl_tensor.device.device_type, device_type);
    }
    let (cuda, _) = consumed(HostileProducer { device: (2, 0), ..HostileProducer::default() });
    assert_eq!(
        cuda.to_list().expect_err("on the device").to_string(),
        "can't convert cuda:0 device type tensor to list. Use Tensor::cpu() to copy the tensor to \
         host memory first."
    );
    for dtype in [(99, 32, 1), (3, 64, 1), (2, 32, 2), (6, 1, 1), (2, 24, 1)] {
        let (tensor, _) =
            consumed(HostileProducer { dtype, shape: Some(vec![1]), ..HostileProducer::default() });
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
    let fp4 = |flags| HostileProducer {
        dtype: (17, 4, 1),
        flags,
        shape: Some(vec![5]),
        ..HostileProducer::default()
    };
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
    let devices: [(_, Expected<'_>); 4] = [
        ((2, 99), &lacking),
        ((13, 99), &lacking),
        ((10, 0), &unsupported),
        ((7, 0), &unsupported),
    ];
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
    assert!(
        target
            .to_device(third)
            .is_err_and(|error| matches!(error, Error::UnsupportedDevice { .. }))
    );
    let message =
        target.to_device(Device::cuda(99)).expect_err("no machine has 100 devices").to_string();
    assert!(message.starts_with("cuda:99 ") && message.contains("this "), "{message}");
}
