//! Tensors that are moved into, shared with and lent to dlpark.

use dlbridge::{Access, DType, Descriptor, Device, DlparkExt, Error, Layout, Tensor};
use dlpark::{DlpackFlags, tensor};

use crate::support::{NONE, vector};

#[test]
fn a_moved_tensor_may_be_written_if_it_was_the_only_handle() {
    let tensor = vector();
    let address = tensor.data_ptr();
    let mut managed = tensor.into_dlpark();
    assert_eq!(managed.flags(), NONE);
    let mut writable = managed.validate_mut().expect("not read-only");
    // SAFETY: only `managed` reaches the three numbers.
    let values = unsafe { writable.cpu_slice_mut::<f32>() }.expect("compact");
    assert_eq!(values.as_ptr().cast(), address.cast_const());
    values[0] = 9.0;
    let back = managed.into_tensor().expect("our own");
    assert_eq!(back.into_vec::<f32>().expect("the original"), [9.0, 2.0, 3.0]);

    let tensor = vector();
    let other = tensor.share();
    let mut managed = tensor.into_dlpark();
    assert_eq!(managed.flags(), DlpackFlags::READ_ONLY);
    assert!(matches!(managed.validate_mut(), Err(tensor::Error::ReadOnly)));
    drop(other);
}

#[test]
fn flags_say_what_is_true() {
    let copied = vector().deep_clone().expect("memory").into_dlpark();
    assert_eq!(copied.flags(), DlpackFlags::IS_COPIED);
    let aliased = vector().into_aliased().expect("alone");
    assert_eq!(aliased.share_dlpark().flags(), NONE);
    assert_eq!(vector().share_dlpark().flags(), DlpackFlags::READ_ONLY);

    let bytes = vec![0_u8; 4];
    let layout = Layout::contiguous([4]).expect("small");
    let float4 = DType::scalar(17, 4);
    let data = bytes.as_ptr().cast_mut().cast();
    let described = Descriptor::new(data, layout, float4, Device::CPU).expect("valid");
    let padded = described.padded().expect("4 bytes");
    // SAFETY: the `Vec` keeps four bytes at `data`, and nothing writes them.
    let tensor = unsafe { Tensor::from_raw_parts(padded, false, bytes) };
    let managed = tensor.into_dlpark();
    assert_eq!(managed.flags(), DlpackFlags::READ_ONLY | DlpackFlags::IS_SUBBYTE_TYPE_PADDED);
    assert_eq!(managed.description().expect("valid").nbytes(), 4);
    assert!(managed.into_tensor().expect("our own").descriptor().is_padded());
}

#[test]
fn the_older_type_is_refused_where_it_would_lie() {
    let tensor = vector();
    let other = tensor.share();
    let rejected = tensor.into_dlpark_legacy().err().expect("two handles");
    assert!(matches!(rejected.error(), Error::ReadOnly { .. }));
    drop(other);
    let managed = rejected.into_value().into_dlpark_legacy().expect("the only handle");
    assert_eq!(managed.flags(), NONE);
    assert!(matches!(vector().share_dlpark_legacy(), Err(Error::ReadOnly { .. })));
    drop(managed);
}

#[test]
fn every_layout_is_described_as_it_is() {
    for (shape, strides) in [
        (&[][..], &[][..]),
        (&[0], &[1]),
        (&[2, 3], &[3, 1]),
        (&[3, 2], &[1, 3]),
        (&[2, 2], &[6, 2]),
    ] {
        let layout = Layout::new(shape, strides).expect("valid");
        let tensor = Tensor::zeros_with(layout, DType::I16).expect("memory");
        let view = tensor.as_dlpark();
        let seen = view.tensor_ref().expect("valid");
        assert_eq!(seen.shape(), tensor.shape());
        assert_eq!(seen.strides().unwrap_or_default(), tensor.strides());
        assert_eq!((seen.dtype().bits, seen.device().device_type.0), (16, 1));
        let (address, bytes) = (seen.data_ptr(), seen.num_bytes());
        assert_eq!(bytes, tensor.nbytes());
        if tensor.is_empty() {
            assert!(address.is_null(), "what DLPack says of tensors without elements");
        } else {
            assert_eq!(address, tensor.data_ptr().cast_const());
        }
        let managed = tensor.into_dlpark();
        assert_eq!(managed.validate_export().expect("valid").data_ptr(), address);
        let described = managed.description().expect("valid");
        assert_eq!(described.layout().shape(), shape);
    }
}

#[test]
fn a_broadcast_of_more_bytes_than_there_are_is_dlparks_error() {
    let layout = Layout::new(&[1 << 40, 1 << 20], &[0, 0]).expect("one element");
    let tensor = Tensor::zeros_with(layout, DType::F64).expect("8 bytes");
    assert!(matches!(
        tensor.as_dlpark().tensor_ref().map(|_| ()),
        Err(tensor::Error::NumBytesOverflow)
    ));
    let managed = tensor.into_dlpark();
    assert!(managed.validate().is_err());
    assert_eq!(managed.into_tensor().expect("our own").len(), 1 << 60);
}

#[test]
fn a_share_keeps_the_memory_and_other_threads_may_release_it() {
    let tensor = vector();
    let (address, shared) = (tensor.data_ptr(), tensor.share_dlpark());
    drop(tensor);
    let back = std::thread::spawn(move || shared.into_tensor().expect("our own"));
    let mut back = back.join().expect("no panic");
    assert_eq!((back.data_ptr(), back.access()), (address, Access::Exclusive));
    assert!(back.is_unique());
    back.as_slice_mut::<f32>().expect("the only handle again")[2] = 7.0;
    let shared = back.share_dlpark();
    std::thread::spawn(move || drop(shared)).join().expect("no panic");
    assert_eq!(back.into_vec::<f32>().expect("the original"), [1.0, 2.0, 7.0]);
}
