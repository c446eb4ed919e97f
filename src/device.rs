//! Devices: the type and the index that say where memory is.

#![forbid(unsafe_code)]

use std::fmt;

/// A device, as DLPack describes it: a type and an index.
///
/// A tensor may be on a device whose type this crate does not know. This crate passes such a
/// tensor on, but reads none of its memory.
///
/// ```
/// use dlbridge::{Device, Tensor};
///
/// let tensor = Tensor::zeros::<f32>([2, 3])?;
/// assert_eq!(tensor.device(), Device::CPU);
/// assert_eq!(Device::cuda(1).to_string(), "cuda:1"); // the names are PyTorch's
/// assert_eq!(Device { device_type: 10, index: 0 }.to_string(), "rocm:0"); // kDLROCM is 10
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// The type, as a number of DLPack's enum `DLDeviceType`.
    pub device_type: i32,
    /// The number of the device among those of its type; 0 for host memory.
    pub index: i32,
}

const DEVICE_TYPE_CPU: i32 = 1;
const DEVICE_TYPE_CUDA: i32 = 2;
const DEVICE_TYPE_CUDA_HOST: i32 = 3;
const DEVICE_TYPE_VULKAN: i32 = 7;
const DEVICE_TYPE_METAL: i32 = 8;
const DEVICE_TYPE_ROCM: i32 = 10;
const DEVICE_TYPE_ROCM_HOST: i32 = 11;
const DEVICE_TYPE_CUDA_MANAGED: i32 = 13;
const DEVICE_TYPE_ONEAPI: i32 = 14;
const DEVICE_TYPE_TPU_HOST: i32 = 20;

impl Device {
    /// Ordinary host memory.
    pub const CPU: Self = Self { device_type: DEVICE_TYPE_CPU, index: 0 };
    /// Host memory that CUDA page-locked.
    pub const CUDA_HOST: Self = Self { device_type: DEVICE_TYPE_CUDA_HOST, index: 0 };
    /// Host memory that ROCm page-locked.
    pub const ROCM_HOST: Self = Self { device_type: DEVICE_TYPE_ROCM_HOST, index: 0 };
    /// The Metal device.
    pub const METAL: Self = Self { device_type: DEVICE_TYPE_METAL, index: 0 };
    /// The Vulkan device.
    pub const VULKAN: Self = Self { device_type: DEVICE_TYPE_VULKAN, index: 0 };

    /// Returns the CUDA device with this index. The device need not exist.
    ///
    /// ```
    /// use dlbridge::Device;
    ///
    /// let device = Device::cuda(0);
    /// assert_eq!((device.device_type, device.index), (2, 0)); // kDLCUDA is 2
    /// ```
    pub const fn cuda(index: i32) -> Self {
        Self { device_type: DEVICE_TYPE_CUDA, index }
    }

    /// Returns true for memory that host code may read.
    ///
    /// That is ordinary memory, and memory that is page-locked for CUDA, ROCm or TPUs.
    ///
    /// ```
    /// use dlbridge::Device;
    ///
    /// assert!(Device::CPU.is_host() && Device::CUDA_HOST.is_host());
    /// assert!(!Device::cuda(0).is_host());
    /// ```
    pub const fn is_host(self) -> bool {
        matches!(
            self.device_type,
            DEVICE_TYPE_CPU | DEVICE_TYPE_CUDA_HOST | DEVICE_TYPE_ROCM_HOST | DEVICE_TYPE_TPU_HOST
        )
    }
}

impl Device {
    /// Returns true if a pointer to memory of the device is an address, to which an offset can be
    /// added. On other devices (OpenCL, Vulkan, Metal, WebGPU) the pointer may be the handle of a
    /// buffer, and the sum of a handle and an offset is not a handle.
    pub(crate) const fn has_addresses(self) -> bool {
        matches!(
            self.device_type,
            DEVICE_TYPE_CPU
                | DEVICE_TYPE_CUDA
                | DEVICE_TYPE_CUDA_HOST
                | DEVICE_TYPE_ROCM
                | DEVICE_TYPE_ROCM_HOST
                | DEVICE_TYPE_CUDA_MANAGED
                | DEVICE_TYPE_ONEAPI
                | DEVICE_TYPE_TPU_HOST
        )
    }

    /// Returns the CUDA device that the memory is on: the device of device memory, or the device
    /// that managed memory belongs to.
    pub(crate) const fn on_cuda(self) -> Option<Self> {
        match self.device_type {
            DEVICE_TYPE_CUDA | DEVICE_TYPE_CUDA_MANAGED => Some(Self::cuda(self.index)),
            _ => None,
        }
    }
}

impl fmt::Display for Device {
    /// Writes the name that PyTorch uses if it has one, for example `cuda:0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device_type, index } = *self;
        let name = match device_type {
            DEVICE_TYPE_CPU => return f.write_str("cpu"),
            DEVICE_TYPE_CUDA_HOST => return f.write_str("cuda_host"),
            DEVICE_TYPE_ROCM_HOST => return f.write_str("rocm_host"),
            DEVICE_TYPE_CUDA => "cuda",
            4 => "opencl",
            DEVICE_TYPE_VULKAN => "vulkan",
            DEVICE_TYPE_METAL => "mps",
            9 => "vpi",
            DEVICE_TYPE_ROCM => "rocm",
            12 => "ext_dev",
            DEVICE_TYPE_CUDA_MANAGED => "cuda_managed",
            DEVICE_TYPE_ONEAPI => "oneapi",
            15 => "webgpu",
            16 => "hexagon",
            17 => "maia",
            18 => "trn",
            19 => "tpu",
            DEVICE_TYPE_TPU_HOST => "tpu_host",
            21 => "ascend",
            _ => return write!(f, "device({device_type}):{index}"),
        };
        write!(f, "{name}:{index}")
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_torch() {
        assert_eq!(Device::CPU.to_string(), "cpu");
        assert_eq!(Device::cuda(1).to_string(), "cuda:1");
        assert_eq!(Device { device_type: 20, index: 0 }.to_string(), "tpu_host:0");
        assert_eq!(Device { device_type: 99, index: -1 }.to_string(), "device(99):-1");
    }

    #[test]
    fn pinned_memory_is_host_memory_and_managed_is_not() {
        for device_type in [1, 3, 11, 20] {
            assert!(Device { device_type, index: 0 }.is_host(), "{device_type}");
        }
        for device_type in [0, 2, 10, 13, 19, 21, 99] {
            assert!(!Device { device_type, index: 0 }.is_host(), "{device_type}");
        }
    }
}
