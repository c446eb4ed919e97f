//! Memory of other types inside libtorch.

use std::sync::Arc;

use dlbridge::{Access, DType, Error, Remedy, Tensor, TorchExt};
use tch::Kind;

#[test]
fn libtorch_gets_no_memory_that_it_must_not_write() {
    let weights: Arc<[f32]> = vec![1.0, 2.0].into();
    let tensor = Tensor::from_owner(Arc::clone(&weights), [2]).expect("it fits");
    let rejected = tensor.into_torch().expect_err("read-only");
    assert_eq!(*rejected.error(), Error::ReadOnly { remedy: Remedy::CopyToTorch });
    let mut copy = rejected.into_value().to_torch().expect("a copy");
    let _ = copy.fill_(5.0);
    assert_eq!(*weights, [1.0, 2.0]);
}

#[test]
fn libtorch_writes_the_elements_of_an_owner() {
    let tensor = Tensor::from_owner_mut([1.0_f32, 2.0, 3.0, 4.0], (2, 2)).expect("it fits");
    let address = tensor.data_ptr();
    let mut torch = tensor.into_torch().expect("exclusive");
    assert_eq!(torch.data_ptr(), address);
    let _ = torch.select(0, 1).fill_(7.0);
    let view = torch.view([4]);
    assert!(torch.shallow_clone().into_tensor().is_err(), "a view shares the memory");
    drop(view);
    let _ = torch.neg_();
    let tensor = torch.into_tensor().expect("the only tensor");
    assert_eq!(tensor.access(), Access::Exclusive);
    let values = tensor.into_owner::<[f32; 4]>().expect("the only handle");
    assert_eq!(values, [-1.0, -2.0, -7.0, -7.0]);
}

/// Flags in the owner itself, which counts them when it is dropped.
struct Flags([bool; 3], std::sync::mpsc::Sender<Vec<u8>>);

impl AsMut<[bool]> for Flags {
    fn as_mut(&mut self) -> &mut [bool] {
        &mut self.0
    }
}

impl Drop for Flags {
    fn drop(&mut self) {
        let _ = self.1.send(self.0.iter().map(|&flag| flag.into()).collect());
    }
}

#[test]
fn bytes_that_libtorch_wrote_become_valid_bools() {
    let (sender, dropped) = std::sync::mpsc::channel();
    let written = || {
        let flags = Flags([true, false, false], sender.clone());
        let tensor = Tensor::from_owner_mut(flags, [3]).expect("it fits");
        let torch = tensor.into_torch().expect("exclusive");
        let _ = torch.view_dtype(Kind::Uint8).select(0, 2).fill_(9);
        torch
    };
    drop(written());
    assert_eq!(dropped.try_recv(), Ok(vec![1, 0, 1]));
    let tensor = written().into_tensor().expect("the only tensor");
    let rejected = tensor.into_owner::<Flags>().map(drop).expect_err("an invalid bool");
    assert_eq!(*rejected.error(), Error::InvalidBool { value: 9 });
    drop(rejected);
    assert_eq!(dropped.try_recv(), Ok(vec![1, 0, 1]));
}

#[test]
fn the_owner_is_dropped_when_libtorch_takes_other_memory() {
    let (sender, dropped) = std::sync::mpsc::channel();
    let tensor = Tensor::from_owner_mut(Flags([true; 3], sender), [3]).expect("it fits");
    let mut torch = tensor.into_torch().expect("exclusive");
    let _ = torch.resize_([1000]);
    assert_eq!(dropped.try_recv(), Ok(vec![1; 3]));
    let tensor = torch.into_tensor().expect("libtorch's own memory");
    assert!(matches!(
        tensor.into_owner::<Flags>().map(drop).expect_err("no owner").into_error(),
        Error::NotOriginal { .. }
    ));
}

/// tch copies the bytes of a tensor into a `Vec<bool>`, in safe code and without a check.
#[test]
fn bytes_that_are_no_bools_stay_out_of_libtorch() {
    let bytes = Tensor::from_bytes_owner([1_u8, 7, 0], DType::BOOL, [3], 0).expect("it fits");
    let invalid = Error::InvalidBool { value: 7 };
    assert_eq!(bytes.to_torch().map(drop), Err(invalid.clone()));
    let copy = bytes.deep_clone().expect("a copy");
    let rejected = copy.into_torch().map(drop).expect_err("exclusive, and no bools");
    assert_eq!(*rejected.error(), invalid);
    let valid = rejected.into_value().slice(0, None, None, 2).expect("without the 7");
    let copy = valid.to_torch().expect("bools");
    assert_eq!(Vec::<bool>::try_from(copy).expect("bools"), [true, false]);
    // libtorch reaches the byte between the two.
    let rejected = valid.into_torch().map(drop).expect_err("no bool in the gap");
    assert_eq!(*rejected.error(), invalid);
    let torch = rejected.into_value().deep_clone().expect("no gap").into_torch().expect("bools");
    assert_eq!(Vec::<bool>::try_from(torch).expect("bools"), [true, false]);
}
