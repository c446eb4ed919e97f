//! tch's names for element types and devices, and ours.

use tch::Kind;

use crate::{DType, Device, Error};

/// Kinds that both sides have.
const KINDS: [(Kind, DType); 17] = [
    (Kind::Uint8, DType::U8),
    (Kind::Int8, DType::I8),
    (Kind::Int16, DType::I16),
    (Kind::Int, DType::I32),
    (Kind::Int64, DType::I64),
    (Kind::Half, DType::F16),
    (Kind::Float, DType::F32),
    (Kind::Double, DType::F64),
    (Kind::ComplexHalf, DType::scalar(5, 32)),
    (Kind::ComplexFloat, DType::C64),
    (Kind::ComplexDouble, DType::C128),
    (Kind::Bool, DType::BOOL),
    (Kind::BFloat16, DType::BF16),
    (Kind::Float8e4m3fn, DType::scalar(10, 8)),
    (Kind::Float8e4m3fnuz, DType::scalar(11, 8)),
    (Kind::Float8e5m2, DType::scalar(12, 8)),
    (Kind::Float8e5m2fnuz, DType::scalar(13, 8)),
];

impl TryFrom<Kind> for DType {
    type Error = Error;

    /// # Errors
    /// [`Error::NotPlainTensor`] for quantized kinds, which DLPack does not have.
    fn try_from(kind: Kind) -> Result<Self, Error> {
        let found = KINDS.iter().find(|(theirs, _)| *theirs == kind);
        found.map(|&(_, ours)| ours).ok_or(Error::NotPlainTensor {
            reason: "has a quantized kind, which DLPack does not have",
            remedy: "use dequantize() first",
        })
    }
}

impl TryFrom<DType> for Kind {
    type Error = Error;

    /// # Errors
    /// [`Error::UnsupportedDType`] for types that tch has no name for.
    fn try_from(dtype: DType) -> Result<Self, Error> {
        let found = KINDS.iter().find(|(_, ours)| *ours == dtype);
        found.map(|&(theirs, _)| theirs).ok_or(Error::UnsupportedDType { dtype, target: "tch" })
    }
}

impl From<tch::Device> for Device {
    fn from(device: tch::Device) -> Self {
        match device {
            tch::Device::Cpu => Self::CPU,
            tch::Device::Cuda(index) => Self::cuda(i32::try_from(index).unwrap_or(i32::MAX)),
            tch::Device::Mps => Self::METAL,
            tch::Device::Vulkan => Self::VULKAN,
        }
    }
}

impl TryFrom<Device> for tch::Device {
    type Error = Error;

    /// Pinned host memory counts as the CPU, as it does in libtorch.
    ///
    /// # Errors
    /// [`Error::UnsupportedDevice`] for devices that tch has no name for.
    fn try_from(device: Device) -> Result<Self, Error> {
        match (device, usize::try_from(device.index)) {
            (device, _) if device.is_host() => Ok(Self::Cpu),
            (device, Ok(index)) if device == Device::cuda(device.index) => Ok(Self::Cuda(index)),
            (Device::METAL, _) => Ok(Self::Mps),
            (Device::VULKAN, _) => Ok(Self::Vulkan),
            _ => Err(Error::UnsupportedDevice { device, target: "tch" }),
        }
    }
}
