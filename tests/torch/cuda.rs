//! CUDA tensors. Tests that need a device return early without one.

use dlbridge::{DType, Descriptor, Device, Error, Layout, Tensor, TorchExt};
use ndarray::{Ix1, Ix2};

use crate::support::{matrix, torch_matrix};

#[test]
fn cuda_memory_is_refused_with_a_remedy() {
    let layout = Layout::contiguous([2]).expect("small");
    let data = std::ptr::without_provenance_mut(0x1000);
    let descriptor = Descriptor::new(data, layout, DType::F32, Device::cuda(0)).expect("valid");
    // SAFETY: device memory is never read by the host.
    let cuda = unsafe { Tensor::from_raw_parts(descriptor, true, ()) };
    assert!(matches!(cuda.to_torch(), Err(Error::NotOnCpu { .. })));
    let rejected = cuda.into_ndarray::<f32, Ix1>().expect_err("on the device");
    assert_eq!(
        rejected.error().to_string(),
        "can't convert cuda:0 device type tensor to ndarray. Use Tensor::cpu() to copy the tensor \
         to host memory first."
    );
    if !tch::Cuda::is_available() {
        let rejected =
            rejected.into_value().into_torch().expect_err("libtorch has no device either");
        assert!(matches!(rejected.error(), Error::Libtorch(_)), "{}", rejected.error());
        assert_eq!(rejected.into_value().device(), Device::cuda(0));
    }
}

/// Whether libtorch has a CUDA device. `cargo xtask gpu-check` says that it must.
fn has_cuda() -> bool {
    let available = tch::Cuda::is_available();
    assert!(
        available || std::env::var_os("DLBRIDGE_EXPECTS_CUDA").is_none(),
        "libtorch finds no CUDA device"
    );
    available
}

#[test]
fn cuda_tensors_are_copied_to_the_host() {
    if !has_cuda() {
        return; // `cuda_memory_is_refused_with_a_remedy` covers the refusal on a description
    }
    let tensor = torch_matrix().to_device(tch::Device::Cuda(0));
    let rejected = tensor.into_ndarray::<f32, Ix2>().expect_err("on the device");
    assert!(matches!(rejected.error(), Error::NotOnCpu { .. }));
    let host = rejected.into_value().into_tensor().expect("carried").cpu().expect("transferred");
    assert_eq!(*host.into_ndarray::<f32, Ix2>().expect("on the host"), matrix());
}

#[cfg(feature = "cuda")]
#[test]
fn dlbridge_cuda_memory_moves_into_libtorch() {
    use dlbridge::ArrayExt;
    if !has_cuda() {
        return;
    }
    let near = matrix().into_tensor().cuda(0).expect("a device");
    let address = near.data_ptr();
    let mut tensor = near.into_torch().expect("moved");
    assert_eq!(tensor.device(), tch::Device::Cuda(0));
    assert_eq!(tensor.data_ptr(), address);
    let _ = tensor.g_add_scalar_(1.0);
    let back = tensor.into_tensor().expect("alone");
    assert_eq!((back.access(), back.data_ptr()), (dlbridge::Access::Exclusive, address));
    let array = back.cpu().expect("transferred").into_ndarray::<f32, Ix2>().expect("on the host");
    assert_eq!(*array, matrix() + 1.0);
}
