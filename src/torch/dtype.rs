//! Element types and devices, as libtorch and tch have them.

#![forbid(unsafe_code)]

use tch::Kind;

use crate::{DType, Device, Error, Remedy};

/// Makes the table of element types, and a test that the compiler turns into a jump.
macro_rules! dtypes {
    ($($name:ident = $dtype:expr, $kind:expr;)*) => {
        $(const $name: DType = $dtype;)*

        /// The element types of DLPack that libtorch 2.11 to 2.13 have, and tch's names for them.
        const DTYPES: &[(DType, Option<Kind>)] = &[$(($name, $kind)),*];

        /// Whether libtorch has this element type.
        #[inline]
        pub(super) const fn is_supported(dtype: DType) -> bool {
            matches!(dtype, $($name)|*)
        }
    };
}

dtypes! {
    BOOL = DType::BOOL, Some(Kind::Bool);
    U8 = DType::U8, Some(Kind::Uint8);
    U16 = DType::U16, None;
    U32 = DType::U32, None;
    U64 = DType::U64, None;
    I8 = DType::I8, Some(Kind::Int8);
    I16 = DType::I16, Some(Kind::Int16);
    I32 = DType::I32, Some(Kind::Int);
    I64 = DType::I64, Some(Kind::Int64);
    F16 = DType::F16, Some(Kind::Half);
    BF16 = DType::BF16, Some(Kind::BFloat16);
    F32 = DType::F32, Some(Kind::Float);
    F64 = DType::F64, Some(Kind::Double);
    C32 = DType::scalar(5, 32), Some(Kind::ComplexHalf);
    C64 = DType::C64, Some(Kind::ComplexFloat);
    C128 = DType::C128, Some(Kind::ComplexDouble);
    F8_E4M3FN = DType::scalar(10, 8), Some(Kind::Float8e4m3fn);
    F8_E4M3FNUZ = DType::scalar(11, 8), Some(Kind::Float8e4m3fnuz);
    F8_E5M2 = DType::scalar(12, 8), Some(Kind::Float8e5m2);
    F8_E5M2FNUZ = DType::scalar(13, 8), Some(Kind::Float8e5m2fnuz);
    F8_E8M0FNU = DType::scalar(14, 8), None;
    F4_E2M1FN_X2 = DType { code: 17, bits: 4, lanes: 2 }, None;
}

impl TryFrom<Kind> for DType {
    type Error = Error;

    /// # Errors
    /// [`Error::NotPlainTensor`] for quantized kinds, which DLPack does not have.
    fn try_from(kind: Kind) -> Result<Self, Error> {
        let found = DTYPES.iter().find(|(_, theirs)| *theirs == Some(kind));
        found.map(|&(ours, _)| ours).ok_or(Error::NotPlainTensor {
            reason: "has a quantized kind, which DLPack does not have".into(),
            remedy: Some(Remedy::Dequantize),
        })
    }
}

impl TryFrom<DType> for Kind {
    type Error = Error;

    /// # Errors
    /// [`Error::UnsupportedDType`] for types that tch has no name for.
    fn try_from(dtype: DType) -> Result<Self, Error> {
        let found = DTYPES.iter().find(|(ours, _)| *ours == dtype);
        found
            .and_then(|&(_, theirs)| theirs)
            .ok_or(Error::UnsupportedDType { dtype, target: "tch" })
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
