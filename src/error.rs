//! Why an operation was refused.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;

use crate::{DType, Device};

/// The result of a dlbridge operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation was refused. Variants carry the values needed to mend the call.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The DLPack struct is of a major version that this crate does not know.
    #[error("DLPack version {major}.{minor} is not understood; versions 1.x are")]
    UnsupportedVersion {
        /// Major version found.
        major: u32,
        /// Minor version found.
        minor: u32,
    },

    /// A field of a descriptor holds a value that cannot be right.
    #[error("{field} = {value}: {reason}")]
    InvalidDescriptor {
        /// The field, e.g. `shape[1]`.
        field: String,
        /// The value found in it.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// A size or an address computed from shape and strides does not fit this machine.
    #[error("{}", Overflowing { shape, strides, element_bits: *element_bits })]
    Overflow {
        /// Shape in elements.
        shape: Vec<i64>,
        /// Strides in elements; empty if the layout was to be row-major.
        strides: Vec<i64>,
        /// Bits of one element, if the failed operation knew it: a [`Layout`](crate::Layout) does
        /// not.
        element_bits: Option<u32>,
    },

    /// The tensor holds another element type than the one asked for; nothing is cast silently.
    #[error("expected elements of type {expected}, found {found}")]
    DTypeMismatch {
        /// Element type asked for.
        expected: DType,
        /// Element type found.
        found: DType,
    },

    /// The element type cannot be represented on the other side.
    #[error("elements of type {dtype} cannot be represented in {target}")]
    UnsupportedDType {
        /// The element type.
        dtype: DType,
        /// The side that cannot hold it.
        target: &'static str,
    },

    /// The other side cannot address this device.
    #[error("memory on {device} is out of reach for {target}")]
    UnsupportedDevice {
        /// The device.
        device: Device,
        /// The side that cannot address it.
        target: &'static str,
    },

    /// Host code asked for the elements of a tensor that lives on another device.
    #[error(
        "can't convert {device} device type tensor to {target}. Use Tensor::cpu() to copy the tensor to host memory first."
    )]
    NotOnCpu {
        /// Where the memory is.
        device: Device,
        /// What the tensor was to become.
        target: &'static str,
    },

    /// The device is CUDA's, and this build was made without the feature `cuda`.
    #[error("{device} needs CUDA, which this build of dlbridge does not have (feature `cuda`)")]
    CudaNotEnabled {
        /// The device.
        device: Device,
    },

    /// The device is CUDA's, and this machine does not have it, or no driver for it.
    #[error("{device} is not available on this machine: {reason}")]
    CudaUnavailable {
        /// The device.
        device: Device,
        /// What is missing.
        reason: String,
    },

    /// CUDA's driver refused a call, or reports that earlier work failed.
    #[error("CUDA: {call} gave {message} (error {code})")]
    Cuda {
        /// The driver's function.
        call: &'static str,
        /// Its answer: a `CUresult`.
        code: i32,
        /// The driver's name and words for it.
        message: String,
    },

    /// The number of dimensions differs from the one asked for.
    #[error("expected {expected} dimensions, found {found}")]
    RankMismatch {
        /// Rank asked for.
        expected: usize,
        /// Rank found.
        found: usize,
    },

    /// The tensor has more dimensions than the operation supports.
    #[error("{found} dimensions are more than the {limit} that {target} can hold")]
    TooManyDimensions {
        /// Rank found.
        found: usize,
        /// Highest rank possible.
        limit: usize,
        /// The side with the limit.
        target: &'static str,
    },

    /// The shape differs from the one needed.
    #[error("expected shape {expected:?}, found {found:?}")]
    ShapeMismatch {
        /// Shape needed.
        expected: Vec<i64>,
        /// Shape found.
        found: Vec<i64>,
    },

    /// A buffer holds another number of elements than the shape needs.
    #[error("shape {shape:?} needs {expected} elements, the buffer holds {found}")]
    LengthMismatch {
        /// The shape.
        shape: Vec<i64>,
        /// Elements needed.
        expected: usize,
        /// Elements found.
        found: usize,
    },

    /// The elements do not lie one after the other in row-major order.
    #[error(
        "shape {shape:?} with strides {strides:?} is not contiguous; use to_vec() or deep_clone_with(MemoryFormat::Contiguous)"
    )]
    NotContiguous {
        /// Shape in elements.
        shape: Vec<i64>,
        /// Strides in elements.
        strides: Vec<i64>,
    },

    /// Several indices reach the same element, or dimensions interleave so that they might, so it
    /// cannot be handed out for writing.
    #[error(
        "shape {shape:?} with strides {strides:?} overlaps itself or interleaves; use deep_clone()"
    )]
    SelfOverlap {
        /// Shape in elements.
        shape: Vec<i64>,
        /// Strides in elements.
        strides: Vec<i64>,
    },

    /// Source and target of a copy share memory.
    #[error("source and target of the copy share memory; copy through deep_clone()")]
    CopyOverlaps,

    /// The other side knows no negative strides (libtorch would abort the process).
    #[error(
        "stride {stride} of dimension {dimension} is negative, which {target} does not support; use to_torch() to copy"
    )]
    NegativeStride {
        /// The dimension.
        dimension: usize,
        /// Its stride in elements.
        stride: i64,
        /// The side that refuses it.
        target: &'static str,
    },

    /// The first element does not lie on a multiple of its type's alignment.
    #[error(
        "address {address:#x} is not a multiple of {align}, the alignment of {dtype}; use to_vec() or deep_clone()"
    )]
    Misaligned {
        /// Address of the first element.
        address: usize,
        /// Alignment needed, in bytes.
        align: usize,
        /// Element type.
        dtype: DType,
    },

    /// The memory may not be written, or may not be handed to a side that would write it.
    #[error("the memory is read-only; {remedy}")]
    ReadOnly {
        /// What to call instead.
        remedy: &'static str,
    },

    /// Another handle holds the same memory.
    #[error("another handle holds the same memory; drop it first or copy with deep_clone()")]
    NotUnique,

    /// Code outside this crate may write the memory at any time, so safe code gets no view of it.
    #[error(
        "code outside dlbridge may write the memory; copy it with deep_clone(), or guarantee that it does not \
         with assume_exclusive() or assume_read_only()"
    )]
    Aliased,

    /// A byte of a boolean buffer is neither 0 nor 1, so it is no Rust `bool`.
    #[error("byte {value} is not a valid bool (0 or 1)")]
    InvalidBool {
        /// The byte found.
        value: u8,
    },

    /// The memory did not begin as the container asked for, so there is none to give back.
    #[error(
        "the memory did not begin as a {target}, or is seen through another layout now; use {remedy} to copy"
    )]
    NotOriginal {
        /// The container asked for.
        target: &'static str,
        /// What to call instead.
        remedy: &'static str,
    },

    /// Someone besides this libtorch tensor can reach its memory.
    #[error("the libtorch tensor does not own its memory alone: {reason}; {remedy}")]
    TorchNotExclusive {
        /// Who else can reach it.
        reason: &'static str,
        /// What to call instead.
        remedy: &'static str,
    },

    /// The libtorch tensor is more than a plain strided buffer.
    #[error("the libtorch tensor {reason}; {remedy}")]
    NotPlainTensor {
        /// What it is, with the name of its dispatch key or layout if that is the reason.
        reason: Cow<'static, str>,
        /// What to call instead.
        remedy: &'static str,
    },

    /// libtorch threw an exception.
    #[error("libtorch: {0}")]
    Libtorch(String),

    /// The allocator had no memory left.
    #[error("out of memory: {bytes} bytes")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
}

/// The text of [`Error::Overflow`].
struct Overflowing<'a> {
    shape: &'a [i64],
    strides: &'a [i64],
    element_bits: Option<u32>,
}

impl fmt::Display for Overflowing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shape {:?}", self.shape)?;
        if !self.strides.is_empty() {
            write!(f, " with strides {:?}", self.strides)?;
        }
        match self.element_bits {
            None => f.write_str(" exceeds the address space, whatever its elements"),
            Some(bits) if bits % 8 == 0 => {
                write!(f, " and {}-byte elements exceeds the address space", bits / 8)
            }
            Some(bits) => write!(f, " and {bits}-bit elements exceeds the address space"),
        }
    }
}

impl Error {
    /// The same error, with the size of an element if it is an [`Error::Overflow`] that does not
    /// have one: what fails for a [`Layout`](crate::Layout) fails before the element type is known.
    ///
    /// ```
    /// use dlbridge::Layout;
    ///
    /// let error = Layout::contiguous(&[1 << 62, 8]).unwrap_err().with_element_bits(32);
    /// assert!(error.to_string().contains("4-byte elements"));
    /// ```
    #[must_use]
    pub fn with_element_bits(mut self, bits: u32) -> Self {
        if let Self::Overflow { element_bits, .. } = &mut self {
            element_bits.get_or_insert(bits);
        }
        self
    }

    /// The status that the C library returns for this error: a `DLB_ERROR_…` of `dlbridge.h`.
    pub const fn status(&self) -> i32 {
        // No `_`: a new variant must be given a status.
        match self {
            Self::InvalidDescriptor { .. } | Self::InvalidBool { .. } => 2,
            Self::UnsupportedVersion { .. } => 3,
            Self::DTypeMismatch { .. } | Self::UnsupportedDType { .. } => 4,
            Self::UnsupportedDevice { .. } => 5,
            Self::Overflow { .. }
            | Self::RankMismatch { .. }
            | Self::TooManyDimensions { .. }
            | Self::ShapeMismatch { .. }
            | Self::LengthMismatch { .. }
            | Self::NotContiguous { .. }
            | Self::SelfOverlap { .. }
            | Self::CopyOverlaps
            | Self::NegativeStride { .. }
            | Self::Misaligned { .. } => 6,
            Self::ReadOnly { .. }
            | Self::NotUnique
            | Self::Aliased
            | Self::TorchNotExclusive { .. } => 7,
            Self::NotOnCpu { .. } => 8,
            Self::OutOfMemory { .. } => 10,
            Self::CudaUnavailable { .. } | Self::Cuda { .. } => 11,
            Self::CudaNotEnabled { .. }
            | Self::NotOriginal { .. }
            | Self::NotPlainTensor { .. }
            | Self::Libtorch(_) => 13,
        }
    }
}
