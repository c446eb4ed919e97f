use dlbridge::{Error, MemoryFormat, Remedy};

// Later versions may have more errors, remedies and formats, so a `match` needs `_`.
fn main() {
    match Error::NotUnique {
        Error::NotUnique => {}
        Error::UnsupportedVersion { .. }
        | Error::InvalidDescriptor { .. }
        | Error::Overflow { .. }
        | Error::DTypeMismatch { .. }
        | Error::UnsupportedDType { .. }
        | Error::UnsupportedDevice { .. }
        | Error::NotOnCpu { .. }
        | Error::CudaNotEnabled { .. }
        | Error::CudaUnavailable { .. }
        | Error::Cuda { .. }
        | Error::RankMismatch { .. }
        | Error::OutOfRange { .. }
        | Error::InvalidView { .. }
        | Error::TooManyDimensions { .. }
        | Error::ShapeMismatch { .. }
        | Error::LengthMismatch { .. }
        | Error::NotContiguous { .. }
        | Error::SelfOverlap { .. }
        | Error::CopyOverlaps
        | Error::NegativeStride { .. }
        | Error::Misaligned { .. }
        | Error::ReadOnly { .. }
        | Error::Aliased
        | Error::InvalidBool { .. }
        | Error::NotOriginal { .. }
        | Error::TorchNotExclusive { .. }
        | Error::NotPlainTensor { .. }
        | Error::Libtorch(_)
        | Error::OutOfMemory { .. } => {}
    }
    match MemoryFormat::Preserve {
        MemoryFormat::Preserve
        | MemoryFormat::Contiguous
        | MemoryFormat::ChannelsLast
        | MemoryFormat::ChannelsLast3d => {}
    }
    match Remedy::Clone {
        Remedy::CopyToCpu
        | Remedy::CopyToDevice
        | Remedy::Clone
        | Remedy::CloneContiguous
        | Remedy::CloneSource
        | Remedy::WriteToClone
        | Remedy::DropOtherHandles
        | Remedy::CloneOrAssume
        | Remedy::CopyToVec
        | Remedy::CopyToNdarray
        | Remedy::ExportVersioned
        | Remedy::ExportVersion1
        | Remedy::EnableCuda
        | Remedy::CopyToTorch
        | Remedy::CopyFromTorch
        | Remedy::DropTorchOwners
        | Remedy::MoveTorchToCpu
        | Remedy::ToDense
        | Remedy::Dequantize
        | Remedy::ResolveNeg
        | Remedy::ResolveConj
        | Remedy::Detach
        | Remedy::ToPaddedTensor
        | Remedy::CloneTorch
        | Remedy::CastTorch
        | Remedy::MakeOrdinary => {}
    }
}
