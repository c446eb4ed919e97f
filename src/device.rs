//! Where memory lives.

#![forbid(unsafe_code)]

use std::fmt;

/// A device, as DLPack describes it: a type and an index.
///
/// Types that this crate does not know are carried along but never read.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// A `DLDeviceType` of DLPack.
    pub device_type: i32,
    /// Which of several; 0 for host memory.
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
    /// Host memory pinned by CUDA.
    pub const CUDA_HOST: Self = Self { device_type: DEVICE_TYPE_CUDA_HOST, index: 0 };
    /// Host memory pinned by ROCm.
    pub const ROCM_HOST: Self = Self { device_type: DEVICE_TYPE_ROCM_HOST, index: 0 };
    /// The Metal device.
    pub const METAL: Self = Self { device_type: DEVICE_TYPE_METAL, index: 0 };
    /// The Vulkan device.
    pub const VULKAN: Self = Self { device_type: DEVICE_TYPE_VULKAN, index: 0 };

    /// The CUDA device of this index.
    pub const fn cuda(index: i32) -> Self {
        Self { device_type: DEVICE_TYPE_CUDA, index }
    }

    /// Whether the host may read the memory: plain memory and memory pinned for CUDA, ROCm or TPUs.
    pub const fn is_host(self) -> bool {
        matches!(
            self.device_type,
            DEVICE_TYPE_CPU | DEVICE_TYPE_CUDA_HOST | DEVICE_TYPE_ROCM_HOST | DEVICE_TYPE_TPU_HOST
        )
    }
}

impl Device {
    /// Whether memory of the device has addresses, which can be computed with. Elsewhere an address
    /// may be the handle of a buffer (OpenCL, Vulkan, Metal, WebGPU), and adding to it would give
    /// the handle of nothing.
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

    /// The CUDA device that the memory is on: device memory, or managed memory that belongs to it.
    pub(crate) const fn on_cuda(self) -> Option<Self> {
        match self.device_type {
            DEVICE_TYPE_CUDA | DEVICE_TYPE_CUDA_MANAGED => Some(Self::cuda(self.index)),
            _ => None,
        }
    }
}

impl fmt::Display for Device {
    /// The name that PyTorch uses where it has one, e.g. `cuda:0`.
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
