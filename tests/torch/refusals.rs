//! Tensors and arrays that are refused before libtorch gets them.

use dlbridge::{
    ArrayExt, ArrayTorchExt, DType, Descriptor, Device, Error, Layout, Tensor, TorchExt,
};
use half::{bf16, f16};
use ndarray::{Axis, Ix1, Ix2, Ix3, array, s};
use tch::Kind;

use crate::support::{matrix, torch_matrix};

#[test]
fn into_torch_refuses_what_libtorch_cannot_represent() {
    let mut inverted = matrix();
    inverted.invert_axis(Axis(0));
    let rejected = inverted.into_torch().expect_err("libtorch would abort");
    assert!(matches!(rejected.error(), Error::NegativeStride { dimension: 0, stride: -3, .. }));
    let copied = rejected.into_value().to_torch().expect("a copy has none");
    assert_eq!(copied.double_value(&[0, 0]), 4.0);

    let shared = matrix().into_shared();
    let other = shared.clone();
    let rejected = shared.into_torch().expect_err("libtorch would write it");
    assert!(rejected.error().to_string().contains("to_torch()"), "{}", rejected.error());
    drop(other);
    assert!(rejected.into_value().into_torch().is_ok(), "no other handle shares it now");

    let tensor = matrix().into_tensor();
    let second = tensor.share();
    let tensor = tensor.into_torch().expect_err("a writer beside a second handle").into_value();
    drop(second);
    // SAFETY: no code writes the memory.
    let read_only = unsafe { tensor.assume_read_only() }.expect("alone");
    assert!(matches!(
        read_only.into_torch().expect_err("read-only").into_error(),
        Error::ReadOnly { .. }
    ));
    let aliased = matrix().into_tensor().into_aliased().expect("alone");
    assert!(matches!(
        aliased.into_torch().expect_err("no caller guarantees that it is not written").into_error(),
        Error::Aliased
    ));
}

#[test]
fn dtypes_unknown_to_libtorch_are_refused() {
    static BYTES: [u64; 4] = [0; 4];
    for dtype in [
        DType::scalar(2, 128),
        DType { lanes: 2, ..DType::F32 },
        DType::scalar(7, 8),
        DType::scalar(17, 4),
        DType::scalar(3, 64),
        DType::scalar(99, 8),
        DType::scalar(0, 4),
    ] {
        let layout = Layout::contiguous([1]).expect("small");
        let data = BYTES.as_ptr().cast_mut().cast();
        let descriptor = Descriptor::new(data, layout, dtype, Device::CPU).expect("valid");
        // SAFETY: static memory, large enough, never written because it is refused.
        let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, ()) };
        assert!(matches!(tensor.to_torch(), Err(Error::UnsupportedDType { .. })), "{dtype}");
        assert!(matches!(
            tensor.into_torch().expect_err("no such type").into_error(),
            Error::UnsupportedDType { .. }
        ));
    }
}

#[test]
fn strides_of_size_one_and_empty_dims_are_normalized() {
    static VALUES: [f32; 3] = [1.0, 2.0, 3.0];
    for (shape, strides) in
        [(&[1_i64, 3][..], &[i64::MIN, 1][..]), (&[0, 3], &[-7, i64::MAX]), (&[3, 1], &[1, -1])]
    {
        let layout = Layout::new(shape, strides).expect("valid");
        let data = VALUES.as_ptr().cast_mut().cast();
        let descriptor = Descriptor::new(data, layout, DType::F32, Device::CPU).expect("valid");
        // SAFETY: static memory, not written.
        let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, ()) };
        assert_eq!(tensor.to_torch().expect("copied").size(), shape);
        // SAFETY: no other code reaches the memory, and no code writes it.
        let torch = unsafe { tensor.share_torch_unchecked() }.expect("shared");
        assert_eq!(torch.numel(), torch.flatten(0, -1).numel());
    }
}

#[test]
fn ranks_above_64_are_refused() {
    let deep = Tensor::from_vec(vec![1.0_f32], vec![1; 65]).expect("one element");
    assert!(matches!(deep.to_torch(), Err(Error::TooManyDimensions { limit: 64, .. })));
    let deep = deep.into_torch().expect_err("too deep").into_value();
    assert_eq!(deep.item::<f32>(), Ok(1.0));
    let deepest = Tensor::from_vec(vec![1.0_f32], vec![1; 64]).expect("one element");
    assert_eq!(deepest.into_torch().expect("deep enough").dim(), 64);
}

#[test]
fn other_dtypes_and_ranks_are_refused() {
    let tensor = torch_matrix().copy();
    let rejected = tensor.into_ndarray::<f64, Ix2>().expect_err("f32");
    assert_eq!(*rejected.error(), Error::DTypeMismatch { expected: DType::F64, found: DType::F32 });
    let rejected = rejected.into_value().into_ndarray::<f32, Ix3>().expect_err("rank 2");
    assert_eq!(*rejected.error(), Error::RankMismatch { expected: 3, found: 2 });
    assert!(rejected.into_value().to_ndarray::<f64, Ix2>().is_err(), "nothing is cast");
    let bf16 = torch_matrix().to_kind(Kind::BFloat16);
    assert!(matches!(bf16.to_ndarray::<f16, Ix2>(), Err(Error::DTypeMismatch { .. })));
    assert_eq!(bf16.to_ndarray::<bf16, Ix2>().expect("bf16")[[1, 2]], bf16::from_f32(6.0));
}

#[test]
fn reinterpreted_bytes_are_checked() {
    // A Vec<u8> may be aligned to 1 byte only.
    let mut array = ndarray::Array1::from_vec(vec![0_u8; 20]);
    let odd = 1 + array.as_ptr().align_offset(4);
    array.slice_collapse(s![odd..odd + 16]);
    let tensor = array.into_torch().expect("moved").view_dtype(Kind::Float);
    let error = tensor.into_ndarray::<f32, Ix1>().expect_err("misaligned").into_error();
    assert!(matches!(error, Error::Misaligned { align: 4, .. }), "{error}");
    // A byte that libtorch wrote into a bool through another type.
    let tensor = array![true, false, true].into_torch().expect("moved");
    let _ = tensor.view_dtype(Kind::Uint8).get(2).fill_(2);
    let rejected = tensor.into_ndarray::<bool, Ix1>().expect_err("2 is no bool");
    assert_eq!(*rejected.error(), Error::InvalidBool { value: 2 });
    let mut tensor = rejected.into_value();
    assert_eq!(tensor.as_ndarray_mut::<bool, Ix1>(), Err(Error::InvalidBool { value: 2 }));
    assert_eq!(tensor.to_ndarray::<bool, Ix1>(), Err(Error::InvalidBool { value: 2 }));
    let _ = tensor.fill_(1);
    assert_eq!(*tensor.into_ndarray::<bool, Ix1>().expect("all 1"), array![true, true, true]);
}

#[test]
fn share_torch_unchecked_refuses_what_into_torch_refuses() {
    let mut inverted = matrix();
    inverted.invert_axis(Axis(0));
    let inverted = inverted.into_tensor();
    // SAFETY: refused.
    let refused = unsafe { inverted.share_torch_unchecked() };
    assert!(matches!(refused, Err(Error::NegativeStride { .. })));
    let deep = Tensor::from_vec(vec![1_u8], vec![1; 65]).expect("one element");
    // SAFETY: refused.
    let refused = unsafe { deep.share_torch_unchecked() };
    assert!(matches!(refused, Err(Error::TooManyDimensions { .. })));
}

#[test]
fn libtorch_error_messages_are_passed_on() {
    static VALUE: f32 = 1.0;
    let layout = Layout::new(&[1 << 45], &[0]).expect("one element again and again");
    let data = (&raw const VALUE).cast_mut().cast();
    let descriptor = Descriptor::new(data, layout, DType::F32, Device::CPU).expect("valid");
    // SAFETY: a static that no code writes.
    let huge = unsafe { Tensor::from_raw_parts(descriptor, false, ()) };
    assert!(matches!(huge.to_torch(), Err(Error::Libtorch(words)) if words.contains("memory")));
}
