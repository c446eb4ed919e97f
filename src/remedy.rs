//! What the caller can do about an error.

#![forbid(unsafe_code)]

use std::fmt;

/// What the caller can do about an [`Error`](crate::Error). [`Display`](fmt::Display) prints the
/// remedy with the names of Rust's methods.
///
/// The number of a variant is that of the `DLB_REMEDY_…` in `dlbridge.h`. C, C++ and Python print a
/// text of their own for each variant.
///
/// ```
/// use dlbridge::{Remedy, Tensor};
///
/// let mut tensor = Tensor::from_vec(vec![1_u8, 2], [2])?;
/// let other = tensor.share();
/// let error = tensor.as_slice_mut::<u8>().unwrap_err();
/// assert_eq!(error.remedy(), Some(Remedy::DropOtherHandles));
/// assert_eq!(
///     error.to_string(),
///     "another handle holds the same memory; drop it first, or copy with deep_clone()"
/// );
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Remedy {
    /// Copy the tensor to host memory.
    CopyToCpu = 1,
    /// Make the tensor in host memory, and copy it to the device.
    CopyToDevice = 2,
    /// Copy the data into new memory of any layout.
    Clone = 3,
    /// Copy the data into new row-major memory.
    CloneContiguous = 4,
    /// Copy from a deep copy of the source.
    CloneSource = 5,
    /// Write to a deep copy instead.
    WriteToClone = 6,
    /// Drop the other handles to the memory, or copy the data.
    DropOtherHandles = 7,
    /// Copy the data, or guarantee that no other code writes the memory.
    CloneOrAssume = 8,
    /// Copy the elements into a new `Vec`.
    CopyToVec = 9,
    /// Copy the elements into a new ndarray array.
    CopyToNdarray = 10,
    /// Export DLPack's versioned struct instead of the older one, or export a deep copy.
    ExportVersioned = 11,
    /// Have the producer export a struct of DLPack 1.x.
    ExportVersion1 = 12,
    /// Use a build with CUDA.
    EnableCuda = 13,
    /// Copy the elements into a new libtorch tensor.
    CopyToTorch = 14,
    /// Copy the elements of the libtorch tensor.
    CopyFromTorch = 15,
    /// Drop the other owners of the libtorch tensor's memory, or copy its elements.
    DropTorchOwners = 16,
    /// Move the libtorch tensor to the CPU.
    MoveTorchToCpu = 17,
    /// Make the sparse libtorch tensor dense.
    ToDense = 18,
    /// Dequantize the libtorch tensor.
    Dequantize = 19,
    /// Apply the libtorch tensor's lazy negation.
    ResolveNeg = 20,
    /// Apply the libtorch tensor's lazy conjugation.
    ResolveConj = 21,
    /// Detach the libtorch tensor from autograd.
    Detach = 22,
    /// Pad the nested libtorch tensor.
    ToPaddedTensor = 23,
    /// Copy the lazy libtorch tensor into memory of its own.
    CloneTorch = 24,
    /// Cast the libtorch tensor to another element type.
    CastTorch = 25,
    /// Copy the libtorch tensor's elements into an ordinary tensor.
    MakeOrdinary = 26,
}

impl Remedy {
    /// Every variant, in the order of their numbers.
    ///
    /// ```
    /// use dlbridge::Remedy;
    ///
    /// assert!(Remedy::ALL.contains(&Remedy::ToDense));
    /// assert!(Remedy::ALL.iter().all(|remedy| !remedy.to_string().is_empty()));
    /// ```
    pub const ALL: &[Self] = &[
        Self::CopyToCpu,
        Self::CopyToDevice,
        Self::Clone,
        Self::CloneContiguous,
        Self::CloneSource,
        Self::WriteToClone,
        Self::DropOtherHandles,
        Self::CloneOrAssume,
        Self::CopyToVec,
        Self::CopyToNdarray,
        Self::ExportVersioned,
        Self::ExportVersion1,
        Self::EnableCuda,
        Self::CopyToTorch,
        Self::CopyFromTorch,
        Self::DropTorchOwners,
        Self::MoveTorchToCpu,
        Self::ToDense,
        Self::Dequantize,
        Self::ResolveNeg,
        Self::ResolveConj,
        Self::Detach,
        Self::ToPaddedTensor,
        Self::CloneTorch,
        Self::CastTorch,
        Self::MakeOrdinary,
    ];
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            // PyTorch's words for the same error.
            Self::CopyToCpu => "Use Tensor::cpu() to copy the tensor to host memory first.",
            Self::CopyToDevice => "make it in host memory, and copy it with to_device()",
            Self::Clone => "copy with deep_clone()",
            Self::CloneContiguous => {
                "copy with to_vec() or deep_clone_with(MemoryFormat::Contiguous)"
            }
            Self::CloneSource => "copy from a deep_clone() of the source",
            Self::WriteToClone => "write to a deep_clone() instead",
            Self::DropOtherHandles => "drop it first, or copy with deep_clone()",
            Self::CloneOrAssume => {
                "copy with deep_clone(), or exclude such writes with assume_exclusive() or \
                 assume_read_only()"
            }
            Self::CopyToVec => "copy with to_vec()",
            Self::CopyToNdarray => "copy with to_ndarray()",
            Self::ExportVersioned => "export with share_dlpack(), or export a deep_clone()",
            Self::ExportVersion1 => "have the producer export DLPack 1.x",
            Self::EnableCuda => "enable the Cargo feature cuda of dlbridge",
            Self::CopyToTorch => "copy with to_torch()",
            Self::CopyFromTorch => "copy with to_tensor() or to_ndarray()",
            Self::DropTorchOwners => {
                "drop the other owner first, or copy with to_tensor() or to_ndarray()"
            }
            Self::MoveTorchToCpu => "use to_device(tch::Device::Cpu) first",
            Self::ToDense => "use to_dense() first",
            Self::Dequantize => "use dequantize() first",
            Self::ResolveNeg => "use resolve_neg() first",
            Self::ResolveConj => "use resolve_conj() first",
            Self::Detach => {
                "detach() it and drop the original, or copy with to_tensor() or to_ndarray()"
            }
            Self::ToPaddedTensor => "use to_padded_tensor() first, or convert its parts",
            Self::CloneTorch => "use copy() first, or copy with to_tensor()",
            Self::CastTorch => "use to_kind() first",
            Self::MakeOrdinary => "copy its elements into an ordinary tensor first",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_from_1() {
        for (index, &remedy) in Remedy::ALL.iter().enumerate() {
            assert_eq!(remedy as usize, index + 1, "{remedy:?}");
        }
        // The last variant: a new one is added to `ALL` too.
        assert_eq!(Remedy::ALL.len(), Remedy::MakeOrdinary as usize);
    }
}
