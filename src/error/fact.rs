//! The facts that errors state, without remedies.

#![forbid(unsafe_code)]

use std::fmt;

use super::Error;
use crate::Remedy;
use crate::tuple::Tuple;

/// The text of an error without its remedy.
pub(super) struct Fact<'a>(pub(super) &'a Error);

impl fmt::Display for Fact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Error::UnsupportedVersion { major, minor } => {
                write!(f, "DLPack version {major}.{minor} is not supported")
            }
            Error::InvalidDescriptor { field, value, reason } => {
                write!(f, "{field} = {value}: {reason}")
            }
            Error::DTypeMismatch { expected, found } => {
                write!(f, "expected {expected}, found {found}")
            }
            Error::UnsupportedDType { dtype, target } => {
                write!(f, "elements of type {dtype} are not supported by {target}")
            }
            Error::NotUnique => f.write_str("another handle holds the same memory"),
            Error::Aliased => f.write_str("code outside dlbridge may write the memory"),
            Error::InvalidBool { value } => write!(f, "byte {value} is not a valid bool (0 or 1)"),
            Error::ReadOnly { remedy } => f.write_str(match remedy {
                Remedy::ExportVersioned => {
                    "the memory is read-only, which DLPack's older struct cannot say"
                }
                Remedy::CopyToTorch => "the memory is read-only, and libtorch would write it",
                _ => "the memory is read-only",
            }),
            Error::NotOriginal { target, .. } => {
                write!(f, "the tensor does not own {target} of exactly its elements")
            }
            Error::TorchNotExclusive { reason, .. } => {
                write!(f, "the libtorch tensor does not own its memory alone: {reason}")
            }
            Error::NotPlainTensor { reason, .. } => write!(f, "the libtorch tensor {reason}"),
            Error::Libtorch(text) => write!(f, "libtorch: {text}"),
            Error::OutOfMemory { bytes } => write!(f, "out of memory: {bytes} bytes"),
            // No `_`: a new variant must be given a fact.
            error @ (Error::UnsupportedDevice { .. }
            | Error::NotOnCpu { .. }
            | Error::CudaNotEnabled { .. }
            | Error::CudaUnavailable { .. }
            | Error::Cuda { .. }) => write_device_fact(f, error),
            error @ (Error::Overflow { .. }
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
            | Error::Misaligned { .. }) => write_layout_fact(f, error),
        }
    }
}

/// Writes the fact of an error about devices.
fn write_device_fact(f: &mut fmt::Formatter<'_>, error: &Error) -> fmt::Result {
    match error {
        Error::UnsupportedDevice { device, target } => {
            write!(f, "memory on {device} is not supported by {target}")
        }
        // PyTorch's words for the same error.
        Error::NotOnCpu { device, target } => {
            write!(f, "can't convert {device} device type tensor to {target}")
        }
        Error::CudaNotEnabled { device } => {
            write!(f, "{device} needs CUDA, which this build of dlbridge does not have")
        }
        Error::CudaUnavailable { device, reason } => {
            write!(f, "{device} is not available on this machine: {reason}")
        }
        Error::Cuda { call, code, message } => {
            write!(f, "CUDA: {call} gave {message} (error {code})")
        }
        _ => unreachable!("`Fact` passes the errors above only"),
    }
}

/// Writes the fact of an error about shapes, strides or addresses.
fn write_layout_fact(f: &mut fmt::Formatter<'_>, error: &Error) -> fmt::Result {
    match error {
        Error::Overflow { shape, strides, element_bits } => {
            write!(f, "shape {}", Tuple(shape))?;
            if !strides.is_empty() {
                write!(f, " with strides {}", Tuple(strides))?;
            }
            match *element_bits {
                None => f.write_str(" exceeds the address space for every element type"),
                Some(bits) if bits % 8 == 0 => {
                    write!(f, " and {}-byte elements exceed the address space", bits / 8)
                }
                Some(bits) => write!(f, " and {bits}-bit elements exceed the address space"),
            }
        }
        Error::RankMismatch { expected, found } => {
            write!(f, "expected {expected} dimensions, found {found}")
        }
        Error::OutOfRange { name, value, min, max } if min <= max => {
            write!(f, "{name} {value} is out of range: expected {min} to {max}")
        }
        Error::OutOfRange { name, value, .. } => {
            write!(f, "{name} {value} is out of range: there is none")
        }
        Error::InvalidView { shape, strides, reason, .. } => {
            let (shape, strides) = (Tuple(shape), Tuple(strides));
            write!(f, "shape {shape} with strides {strides} has no such view: {reason}")
        }
        Error::TooManyDimensions { found, limit, target } => {
            write!(f, "{found} dimensions are more than the {limit} of {target}")
        }
        Error::ShapeMismatch { expected, found } => {
            write!(f, "source has shape {}, target has shape {}", Tuple(found), Tuple(expected))
        }
        Error::LengthMismatch { shape, expected, found } => {
            write!(f, "shape {} needs {expected} elements, found {found}", Tuple(shape))
        }
        Error::NotContiguous { shape, strides } => {
            let (shape, strides) = (Tuple(shape), Tuple(strides));
            write!(f, "shape {shape} with strides {strides} is not contiguous")
        }
        Error::SelfOverlap { shape, strides } => {
            let (shape, strides) = (Tuple(shape), Tuple(strides));
            write!(f, "shape {shape} with strides {strides} overlaps itself or interleaves")
        }
        Error::CopyOverlaps => f.write_str("source and target of the copy share memory"),
        Error::NegativeStride { dimension, stride, target } => {
            write!(
                f,
                "stride {stride} of dimension {dimension} is negative, which {target} does not \
                 support"
            )
        }
        Error::Misaligned { address, align, dtype } => {
            write!(f, "address {address:#x} is not a multiple of {align}, the alignment of {dtype}")
        }
        _ => unreachable!("`Fact` passes the errors above only"),
    }
}
