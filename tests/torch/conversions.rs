//! NumPy and PyTorch's conversions: what is copied, what is shared, and how it prints.

use dlbridge::{ArrayExt, ArrayTorchExt, DType, Device, TorchExt};
use ndarray::{Ix1, Ix2};
use tch::Kind;

use crate::support::{address, matrix, torch_matrix};

#[test]
fn to_torch_copies_like_torch_tensor() {
    let mut array = matrix();
    let tensor = array.to_torch().expect("a copy");
    assert_ne!(address(&tensor), array.as_ptr().addr());
    array[[0, 0]] = 9.0;
    assert_eq!(tensor.double_value(&[0, 0]), 1.0);
    assert_eq!((tensor.size(), tensor.kind()), (vec![2, 3], Kind::Float));
}

#[test]
fn into_torch_shares_like_from_numpy() {
    let array = matrix();
    let before = array.as_ptr().addr();
    let mut tensor = array.into_torch().expect("moved");
    assert_eq!(address(&tensor), before);
    let _ = tensor.fill_(7.0);
    let array =
        tensor.into_ndarray::<f32, Ix2>().expect("back").into_array().expect("the original");
    assert_eq!((array.as_ptr().addr(), array.sum()), (before, 42.0));
}

#[test]
fn into_ndarray_shares_like_tensor_numpy() {
    let tensor = tch::Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0]);
    let before = address(&tensor);
    let mut array = tensor.into_ndarray::<f32, Ix1>().expect("moved");
    assert_eq!(array.as_ptr().addr(), before);
    array.get_mut().expect("alone")[0] = 9.0;
    let tensor = array.into_torch().expect("what it was");
    assert_eq!((address(&tensor), tensor.double_value(&[0])), (before, 9.0));
}

#[test]
fn as_ndarray_mut_shares_the_tensors_memory() {
    let mut tensor = torch_matrix().copy();
    let before = address(&tensor);
    let mut view = tensor.as_ndarray_mut::<f32, Ix2>().expect("alone");
    assert_eq!(view.as_ptr().addr(), before);
    view[[0, 1]] = 20.0;
    assert_eq!(tensor.double_value(&[0, 1]), 20.0);
    let _ = tensor.fill_(7.0);
    let view = tensor.as_ndarray_mut::<f32, Ix2>().expect("alone");
    assert_eq!((view[[1, 2]], view.as_ptr().addr()), (7.0, before));
}

#[test]
fn to_list_prints_like_tolist() {
    assert_eq!(
        torch_matrix().to_list().expect("2-D").to_string(),
        "[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]"
    );
    assert_eq!(tch::Tensor::from(3_i64).to_list().expect("0-D").to_string(), "3");
    let half = torch_matrix().to_kind(Kind::BFloat16).set_requires_grad(true);
    assert_eq!(half.get(0).to_list().expect("resolved").to_string(), "[1.0, 2.0, 3.0]");
    assert_eq!(
        tch::Tensor::zeros([3, 0], tch::kind::FLOAT_CPU).to_list().expect("empty").to_string(),
        "[[], [], []]"
    );
}

#[test]
fn copies_do_not_see_later_writes() {
    let mut tensor = torch_matrix().copy();
    let clone = TorchExt::to_tensor(&tensor).expect("a copy");
    let _ = tensor.fill_(0.0);
    assert_eq!(clone.to_ndarray::<f32, Ix2>().expect("f32"), matrix());
    let tensor = matrix().into_tensor();
    let mut again = tensor.deep_clone().expect("memory").into_torch().expect("moved");
    let _ = again.fill_(0.0);
    assert_eq!(tensor.as_ndarray::<f32, Ix2>().expect("f32"), matrix());
}

#[test]
fn kinds_and_devices_convert_both_ways() {
    for kind in
        [Kind::Uint8, Kind::Half, Kind::BFloat16, Kind::ComplexHalf, Kind::Bool, Kind::Float8e4m3fn]
    {
        assert_eq!(
            Kind::try_from(DType::try_from(kind).expect("in DLPack")).expect("in tch"),
            kind
        );
    }
    assert!(DType::try_from(Kind::QInt8).is_err() && Kind::try_from(DType::U16).is_err());
    for device in [tch::Device::Cpu, tch::Device::Cuda(2), tch::Device::Mps, tch::Device::Vulkan] {
        assert_eq!(tch::Device::try_from(Device::from(device)).expect("in tch"), device);
    }
    assert_eq!(tch::Device::try_from(Device::CUDA_HOST).expect("host memory"), tch::Device::Cpu);
    assert!(tch::Device::try_from(Device { device_type: 99, index: 0 }).is_err());
}

#[test]
fn dlbridge_memory_works_in_autograd() {
    let weight = matrix().into_torch().expect("moved").set_requires_grad(true);
    let loss = (&weight * &weight).sum(Kind::Float);
    loss.backward();
    let gradient =
        TorchExt::to_ndarray::<f32, Ix2>(&weight.grad()).expect("the weight holds it: a copy");
    assert_eq!(gradient, matrix() * 2.0);
    let inference =
        tch::no_grad(|| matrix().into_torch().expect("moved").matmul(&torch_matrix().tr()));
    assert_eq!(inference.size(), [2, 2]);
}
