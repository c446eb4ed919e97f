//! The errors of this crate, and their texts.

#![forbid(unsafe_code)]

mod fact;

use std::borrow::Cow;
use std::fmt;

use self::fact::Fact;
use crate::{DType, Device, Remedy};

/// The result of a dlbridge operation.
///
/// ```
/// use dlbridge::{Result, Tensor};
///
/// fn sum(tensor: &Tensor) -> Result<f32> {
///     Ok(tensor.as_slice::<f32>()?.iter().sum())
/// }
/// assert_eq!(sum(&Tensor::from_vec(vec![1.0_f32, 2.0], [2])?)?, 3.0);
/// # Ok::<(), dlbridge::Error>(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason why an operation failed, with the values that the caller needs to correct the call.
///
/// [`Display`](fmt::Display) prints the [`fact`](Self::fact), then the [`remedy`](Self::remedy) if
/// there is one. Shapes, strides and element types are printed as Python prints them.
///
/// ```
/// use dlbridge::{DType, Error, Tensor};
///
/// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
/// let error = tensor.as_slice::<f64>().unwrap_err();
/// assert_eq!(error, Error::DTypeMismatch { expected: DType::F64, found: DType::F32 });
/// assert_eq!(error.to_string(), "expected float64, found float32");
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// The DLPack struct has a major version that this crate does not know.
    UnsupportedVersion {
        /// Major version found.
        major: u32,
        /// Minor version found.
        minor: u32,
    },

    /// A field of a descriptor holds an invalid value.
    InvalidDescriptor {
        /// The field, e.g. `shape[1]`.
        field: String,
        /// The value found in it.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// A size or an address computed from shape and strides does not fit this machine.
    Overflow {
        /// Shape in elements.
        shape: Vec<i64>,
        /// Strides in elements; empty if the layout was to be row-major.
        strides: Vec<i64>,
        /// Bits of one element; `None` if the operation has no element type, as for a
        /// [`Layout`](crate::Layout).
        element_bits: Option<u32>,
    },

    /// The tensor has another element type than the operation needs. No element is cast silently.
    DTypeMismatch {
        /// Element type needed.
        expected: DType,
        /// Element type found.
        found: DType,
    },

    /// The operation or the target library does not support the element type.
    UnsupportedDType {
        /// The element type.
        dtype: DType,
        /// What does not support it.
        target: &'static str,
    },

    /// The operation or the target library does not support memory on this device.
    UnsupportedDevice {
        /// The device.
        device: Device,
        /// What does not support it.
        target: &'static str,
    },

    /// The operation needs host memory, and the tensor is on another device.
    NotOnCpu {
        /// Where the memory is.
        device: Device,
        /// The target of the conversion.
        target: &'static str,
    },

    /// The device is a CUDA device, and this build does not have the feature `cuda`.
    CudaNotEnabled {
        /// The device.
        device: Device,
    },

    /// The device is a CUDA device, and this machine has no such device, or no driver.
    CudaUnavailable {
        /// The device.
        device: Device,
        /// What is missing.
        reason: String,
    },

    /// CUDA's driver refused a call, or reported that earlier work failed.
    Cuda {
        /// The driver's function.
        call: &'static str,
        /// The `CUresult` that it returned.
        code: i32,
        /// The driver's name and description of that result.
        message: String,
    },

    /// The number of dimensions differs from the one needed.
    RankMismatch {
        /// Rank needed.
        expected: usize,
        /// Rank found.
        found: usize,
    },

    /// A dimension or an index does not exist. Negative numbers count from the end.
    OutOfRange {
        /// What the number names: `dimension` or `index`.
        name: &'static str,
        /// The number given.
        value: i64,
        /// The lowest number possible.
        min: i64,
        /// The highest number possible; below `min` if there is none.
        max: i64,
    },

    /// The elements of the tensor do not have the view that was asked for.
    InvalidView {
        /// Shape of the tensor in elements.
        shape: Vec<i64>,
        /// Strides of the tensor in elements.
        strides: Vec<i64>,
        /// Why there is no such view.
        reason: String,
        /// What the caller can do, if anything.
        remedy: Option<Remedy>,
    },

    /// The tensor has more dimensions than the operation supports.
    TooManyDimensions {
        /// Rank found.
        found: usize,
        /// Highest rank possible.
        limit: usize,
        /// What has the limit.
        target: &'static str,
    },

    /// Source and target of a copy have different shapes.
    ShapeMismatch {
        /// Shape of the target.
        expected: Vec<i64>,
        /// Shape of the source.
        found: Vec<i64>,
    },

    /// A buffer holds another number of elements than the shape needs.
    LengthMismatch {
        /// The shape.
        shape: Vec<i64>,
        /// Elements needed.
        expected: usize,
        /// Elements found.
        found: usize,
    },

    /// The elements do not lie one after the other in row-major order.
    NotContiguous {
        /// Shape in elements.
        shape: Vec<i64>,
        /// Strides in elements.
        strides: Vec<i64>,
    },

    /// Elements may overlap, so they cannot be written: two indices reach the same element, or
    /// dimensions interleave so that two indices might.
    SelfOverlap {
        /// Shape in elements.
        shape: Vec<i64>,
        /// Strides in elements.
        strides: Vec<i64>,
    },

    /// Source and target of a copy share memory.
    CopyOverlaps,

    /// The target library supports no negative strides (libtorch would abort the process).
    NegativeStride {
        /// The dimension.
        dimension: usize,
        /// Its stride in elements.
        stride: i64,
        /// What does not support it.
        target: &'static str,
    },

    /// The first element does not lie on a multiple of its type's alignment.
    Misaligned {
        /// Address of the first element.
        address: usize,
        /// Alignment needed, in bytes.
        align: usize,
        /// Element type.
        dtype: DType,
    },

    /// The memory may not be written, nor passed to a library that would write it.
    ReadOnly {
        /// What the caller can do.
        remedy: Remedy,
    },

    /// Another handle holds the same memory.
    NotUnique,

    /// Code outside this crate may write the memory at any time, so safe code gets no view of it.
    Aliased,

    /// A byte of a boolean buffer is neither 0 nor 1, so it is no Rust `bool`.
    InvalidBool {
        /// The byte found.
        value: u8,
    },

    /// The tensor does not own a container of the requested type with exactly its elements.
    NotOriginal {
        /// The requested container, with its article.
        target: &'static str,
        /// What the caller can do.
        remedy: Remedy,
    },

    /// Another owner besides this libtorch tensor can reach its memory.
    TorchNotExclusive {
        /// Which other owner there is.
        reason: &'static str,
        /// What the caller can do.
        remedy: Remedy,
    },

    /// The libtorch tensor is more than a plain strided buffer.
    NotPlainTensor {
        /// What the tensor is, with its dispatch key or layout if that is the reason.
        reason: Cow<'static, str>,
        /// What the caller can do, if anything.
        remedy: Option<Remedy>,
    },

    /// libtorch threw an exception.
    Libtorch(String),

    /// The allocator had no memory left.
    OutOfMemory {
        /// Requested bytes.
        bytes: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.fact(), f)?;
        match self.remedy() {
            None => Ok(()),
            // A sentence of its own, as PyTorch writes it.
            Some(remedy @ Remedy::CopyToCpu) => write!(f, ". {remedy}"),
            Some(remedy) => write!(f, "; {remedy}"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Returns the text without a remedy, for programs that print remedies of their own.
    ///
    /// ```
    /// use dlbridge::{Error, Remedy};
    ///
    /// let error = Error::ReadOnly { remedy: Remedy::WriteToClone };
    /// assert_eq!(error.fact().to_string(), "the memory is read-only");
    /// assert_eq!(error.to_string(), "the memory is read-only; write to a deep_clone() instead");
    /// ```
    pub fn fact(&self) -> impl fmt::Display + '_ {
        Fact(self)
    }

    /// Returns what the caller can do; `None` if that depends on the purpose of the call.
    ///
    /// ```
    /// use dlbridge::{Error, Remedy};
    ///
    /// assert_eq!(Error::CopyOverlaps.remedy(), Some(Remedy::CloneSource));
    /// assert_eq!(Error::RankMismatch { expected: 2, found: 3 }.remedy(), None);
    /// ```
    pub const fn remedy(&self) -> Option<Remedy> {
        // No `_`: a new variant must say whether it has one.
        match self {
            Self::UnsupportedVersion { .. } => Some(Remedy::ExportVersion1),
            Self::NotOnCpu { .. } => Some(Remedy::CopyToCpu),
            Self::CudaNotEnabled { .. } => Some(Remedy::EnableCuda),
            Self::NotContiguous { .. } => Some(Remedy::CloneContiguous),
            Self::SelfOverlap { .. } => Some(Remedy::WriteToClone),
            Self::CopyOverlaps => Some(Remedy::CloneSource),
            Self::NegativeStride { .. } => Some(Remedy::CopyToTorch),
            Self::Misaligned { .. } => Some(Remedy::Clone),
            Self::NotUnique => Some(Remedy::DropOtherHandles),
            Self::Aliased => Some(Remedy::CloneOrAssume),
            Self::ReadOnly { remedy }
            | Self::NotOriginal { remedy, .. }
            | Self::TorchNotExclusive { remedy, .. } => Some(*remedy),
            Self::NotPlainTensor { remedy, .. } | Self::InvalidView { remedy, .. } => *remedy,
            Self::InvalidDescriptor { .. }
            | Self::Overflow { .. }
            | Self::DTypeMismatch { .. }
            | Self::UnsupportedDType { .. }
            | Self::UnsupportedDevice { .. }
            | Self::CudaUnavailable { .. }
            | Self::Cuda { .. }
            | Self::RankMismatch { .. }
            | Self::OutOfRange { .. }
            | Self::TooManyDimensions { .. }
            | Self::ShapeMismatch { .. }
            | Self::LengthMismatch { .. }
            | Self::InvalidBool { .. }
            | Self::Libtorch(_)
            | Self::OutOfMemory { .. } => None,
        }
    }

    /// Adds the size of an element to an [`Error::Overflow`] that has none; keeps other errors. The
    /// error of a [`Layout`](crate::Layout) has none, because a layout has no element type. If
    /// `bits` is 0, the method changes nothing: such an element type has no size.
    ///
    /// ```
    /// use dlbridge::Layout;
    ///
    /// let error = Layout::contiguous([1_i64 << 62, 8]).unwrap_err().with_element_bits(32);
    /// assert!(error.to_string().contains("4-byte elements"));
    /// ```
    #[must_use]
    pub fn with_element_bits(mut self, bits: u32) -> Self {
        if let Self::Overflow { element_bits, .. } = &mut self
            && bits != 0
        {
            element_bits.get_or_insert(bits);
        }
        self
    }

    /// Returns the status of the C library for this error: a `DLB_ERROR_…` of `dlbridge.h`.
    ///
    /// ```
    /// assert_eq!(dlbridge::Error::CopyOverlaps.status(), 6); // DLB_ERROR_LAYOUT
    /// ```
    pub const fn status(&self) -> i32 {
        // No `_`: a new variant must be given a status.
        match self {
            Self::InvalidDescriptor { .. } | Self::InvalidBool { .. } | Self::OutOfRange { .. } => {
                2
            }
            Self::UnsupportedVersion { .. } => 3,
            Self::DTypeMismatch { .. } | Self::UnsupportedDType { .. } => 4,
            Self::UnsupportedDevice { .. } => 5,
            Self::Overflow { .. }
            | Self::RankMismatch { .. }
            | Self::TooManyDimensions { .. }
            | Self::ShapeMismatch { .. }
            | Self::LengthMismatch { .. }
            | Self::NotContiguous { .. }
            | Self::InvalidView { .. }
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
