//! What the caller can do about an error: numbers, and C's words for them.

#![forbid(unsafe_code)]

use dlbridge::Remedy;

/// What the caller can do about an error: one of DLB_REMEDY_*. Numbers may be added.
pub type dlb_remedy = i32;

/// No remedy is known.
pub const DLB_REMEDY_NONE: dlb_remedy = 0;
/// Copy the tensor to the host.
pub const DLB_REMEDY_COPY_TO_CPU: dlb_remedy = 1;
/// Make the tensor on the host, and copy it to the device.
pub const DLB_REMEDY_COPY_TO_DEVICE: dlb_remedy = 2;
/// Copy the data into new memory of any layout.
pub const DLB_REMEDY_CLONE: dlb_remedy = 3;
/// Copy the data into new row-major memory.
pub const DLB_REMEDY_CLONE_CONTIGUOUS: dlb_remedy = 4;
/// Copy from a deep copy of the source.
pub const DLB_REMEDY_CLONE_SOURCE: dlb_remedy = 5;
/// Write to a deep copy instead.
pub const DLB_REMEDY_WRITE_TO_CLONE: dlb_remedy = 6;
/// Free the other handles to the memory, or copy the data.
pub const DLB_REMEDY_DROP_OTHER_HANDLES: dlb_remedy = 7;
/// Copy the data; in Rust the caller may guarantee instead that no other code writes it.
pub const DLB_REMEDY_CLONE_OR_ASSUME: dlb_remedy = 8;
/// Copy the elements into a container of the program.
pub const DLB_REMEDY_COPY_TO_VEC: dlb_remedy = 9;
/// Copy the elements into an array of the program.
pub const DLB_REMEDY_COPY_TO_NDARRAY: dlb_remedy = 10;
/// Export DLPack's versioned struct instead of the older one, or a deep copy.
pub const DLB_REMEDY_EXPORT_VERSIONED: dlb_remedy = 11;
/// Have the producer export a struct of DLPack 1.x.
pub const DLB_REMEDY_EXPORT_VERSION_1: dlb_remedy = 12;
/// Use a build of the library with CUDA.
pub const DLB_REMEDY_ENABLE_CUDA: dlb_remedy = 13;
/// Copy the elements into a new libtorch tensor.
pub const DLB_REMEDY_COPY_TO_TORCH: dlb_remedy = 14;
/// Copy the elements of the libtorch tensor.
pub const DLB_REMEDY_COPY_FROM_TORCH: dlb_remedy = 15;
/// Release what else holds the libtorch tensor's memory, or copy its elements.
pub const DLB_REMEDY_DROP_TORCH_OWNERS: dlb_remedy = 16;
/// Move the libtorch tensor to the CPU.
pub const DLB_REMEDY_MOVE_TORCH_TO_CPU: dlb_remedy = 17;
/// Make the sparse libtorch tensor dense.
pub const DLB_REMEDY_TO_DENSE: dlb_remedy = 18;
/// Dequantize the libtorch tensor.
pub const DLB_REMEDY_DEQUANTIZE: dlb_remedy = 19;
/// Apply the libtorch tensor's lazy negation.
pub const DLB_REMEDY_RESOLVE_NEG: dlb_remedy = 20;
/// Apply the libtorch tensor's lazy conjugation.
pub const DLB_REMEDY_RESOLVE_CONJ: dlb_remedy = 21;
/// Detach the libtorch tensor from autograd.
pub const DLB_REMEDY_DETACH: dlb_remedy = 22;
/// Pad the nested libtorch tensor.
pub const DLB_REMEDY_TO_PADDED_TENSOR: dlb_remedy = 23;
/// Copy the lazy libtorch tensor into memory of its own.
pub const DLB_REMEDY_CLONE_TORCH: dlb_remedy = 24;
/// Cast the libtorch tensor to another element type.
pub const DLB_REMEDY_CAST_TORCH: dlb_remedy = 25;
/// Copy the libtorch tensor's elements into an ordinary tensor.
pub const DLB_REMEDY_MAKE_ORDINARY: dlb_remedy = 26;

/// The number of a remedy in the header.
pub(crate) const fn number(remedy: Option<Remedy>) -> dlb_remedy {
    match remedy {
        Some(remedy) => remedy as dlb_remedy,
        None => DLB_REMEDY_NONE,
    }
}

/// C's words for a remedy; "" for one without.
pub(crate) const fn words(remedy: dlb_remedy) -> &'static str {
    match remedy {
        DLB_REMEDY_COPY_TO_CPU => "copy it to the host with dlb_tensor_to_device()",
        DLB_REMEDY_COPY_TO_DEVICE => "make it on the host, and copy it with dlb_tensor_to_device()",
        DLB_REMEDY_CLONE => "copy it with dlb_tensor_clone()",
        DLB_REMEDY_CLONE_CONTIGUOUS => {
            "copy it with dlb_tensor_clone() and DLB_MEMORY_FORMAT_CONTIGUOUS"
        }
        DLB_REMEDY_CLONE_SOURCE => "copy from a dlb_tensor_clone() of `source`",
        DLB_REMEDY_WRITE_TO_CLONE => "write to a copy: dlb_tensor_clone()",
        DLB_REMEDY_DROP_OTHER_HANDLES => "free it first, or copy with dlb_tensor_clone()",
        DLB_REMEDY_CLONE_OR_ASSUME => "copy it with dlb_tensor_clone()",
        DLB_REMEDY_COPY_TO_VEC => "copy it with dlb_tensor_copy_into()",
        DLB_REMEDY_COPY_TO_NDARRAY => "copy it with dlb_tensor_copy_into()",
        DLB_REMEDY_EXPORT_VERSIONED => {
            "export it with dlb_tensor_share_dlpack(), or export a dlb_tensor_clone()"
        }
        DLB_REMEDY_EXPORT_VERSION_1 => "have the producer export DLPack 1.x",
        DLB_REMEDY_ENABLE_CUDA => "use a library that was built with CUDA",
        DLB_REMEDY_COPY_TO_TORCH => "pass a dlb_tensor_clone() to libtorch",
        DLB_REMEDY_COPY_FROM_TORCH => "use libtorch's clone() first",
        DLB_REMEDY_DROP_TORCH_OWNERS => "release the other owner first, or use libtorch's clone()",
        DLB_REMEDY_MOVE_TORCH_TO_CPU => "use libtorch's cpu() first",
        DLB_REMEDY_TO_DENSE => "use libtorch's to_dense() first",
        DLB_REMEDY_DEQUANTIZE => "use libtorch's dequantize() first",
        DLB_REMEDY_RESOLVE_NEG => "use libtorch's resolve_neg() first",
        DLB_REMEDY_RESOLVE_CONJ => "use libtorch's resolve_conj() first",
        DLB_REMEDY_DETACH => "use libtorch's detach() first",
        DLB_REMEDY_TO_PADDED_TENSOR => "use libtorch's to_padded_tensor() first",
        DLB_REMEDY_CLONE_TORCH => "use libtorch's clone() first",
        DLB_REMEDY_CAST_TORCH => "use libtorch's to() first",
        DLB_REMEDY_MAKE_ORDINARY => "copy its elements into an ordinary tensor first",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_remedy_has_words_in_c() {
        assert_eq!(words(number(None)), "");
        for &remedy in Remedy::ALL {
            let words = words(number(Some(remedy)));
            assert!(!words.is_empty(), "{remedy:?}");
            for foreign in ["deep_clone", "to_vec", "::", "dlbridge.", "share_dlpack() of"] {
                assert!(!words.contains(foreign), "{remedy:?}: {words}");
            }
        }
        assert_eq!(words(Remedy::ALL.len() as dlb_remedy + 1), "");
    }

    #[test]
    fn the_numbers_are_those_of_the_crate() {
        let numbers = [
            (Remedy::CopyToCpu, DLB_REMEDY_COPY_TO_CPU),
            (Remedy::CopyToDevice, DLB_REMEDY_COPY_TO_DEVICE),
            (Remedy::Clone, DLB_REMEDY_CLONE),
            (Remedy::CloneContiguous, DLB_REMEDY_CLONE_CONTIGUOUS),
            (Remedy::CloneSource, DLB_REMEDY_CLONE_SOURCE),
            (Remedy::WriteToClone, DLB_REMEDY_WRITE_TO_CLONE),
            (Remedy::DropOtherHandles, DLB_REMEDY_DROP_OTHER_HANDLES),
            (Remedy::CloneOrAssume, DLB_REMEDY_CLONE_OR_ASSUME),
            (Remedy::CopyToVec, DLB_REMEDY_COPY_TO_VEC),
            (Remedy::CopyToNdarray, DLB_REMEDY_COPY_TO_NDARRAY),
            (Remedy::ExportVersioned, DLB_REMEDY_EXPORT_VERSIONED),
            (Remedy::ExportVersion1, DLB_REMEDY_EXPORT_VERSION_1),
            (Remedy::EnableCuda, DLB_REMEDY_ENABLE_CUDA),
            (Remedy::CopyToTorch, DLB_REMEDY_COPY_TO_TORCH),
            (Remedy::CopyFromTorch, DLB_REMEDY_COPY_FROM_TORCH),
            (Remedy::DropTorchOwners, DLB_REMEDY_DROP_TORCH_OWNERS),
            (Remedy::MoveTorchToCpu, DLB_REMEDY_MOVE_TORCH_TO_CPU),
            (Remedy::ToDense, DLB_REMEDY_TO_DENSE),
            (Remedy::Dequantize, DLB_REMEDY_DEQUANTIZE),
            (Remedy::ResolveNeg, DLB_REMEDY_RESOLVE_NEG),
            (Remedy::ResolveConj, DLB_REMEDY_RESOLVE_CONJ),
            (Remedy::Detach, DLB_REMEDY_DETACH),
            (Remedy::ToPaddedTensor, DLB_REMEDY_TO_PADDED_TENSOR),
            (Remedy::CloneTorch, DLB_REMEDY_CLONE_TORCH),
            (Remedy::CastTorch, DLB_REMEDY_CAST_TORCH),
            (Remedy::MakeOrdinary, DLB_REMEDY_MAKE_ORDINARY),
        ];
        assert_eq!(numbers.len(), Remedy::ALL.len());
        for (remedy, expected) in numbers {
            assert_eq!(number(Some(remedy)), expected, "{remedy:?}");
        }
    }
}
