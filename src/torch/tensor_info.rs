//! What a libtorch tensor says of itself: read, checked, and never changed.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::bindings::*;
use super::shim::{check, handle};
use crate::ffi::DLDataType;
use crate::storage::Storage;
use crate::{DType, Descriptor, Device, Error, Layout, Result};

/// A plain tensor as the shim read it.
pub(super) struct TensorInfo {
    pub(super) descriptor: Descriptor,
    /// Whether the tensor owns its memory alone, as the shim found: a `DLB_TORCH_…` of `shim.h`.
    exclusive: u32,
    /// Whether DLPack structs made from the tensor hold its memory too; [`reclaim`](Self::reclaim)
    /// finds out.
    exported: bool,
    /// The storage that the memory came from, if it is one of ours.
    pub(super) context: Option<NonNull<c_void>>,
}

/// Reads a tensor, and refuses one that is not a plain strided buffer. Changes nothing.
#[inline]
pub(super) fn tensor_info(tensor: &tch::Tensor) -> Result<TensorInfo> {
    let mut view = MaybeUninit::uninit();
    // SAFETY: a valid tensor and room for the result.
    check(unsafe { dlb_torch_read(handle(tensor), view.as_mut_ptr()) })?;
    // SAFETY: the shim writes the result on success.
    let view: dlb_torch_view = unsafe { view.assume_init() };
    if view.plain.cast_unsigned() != DLB_TORCH_PLAIN {
        return Err(refusal(&view));
    }
    // SAFETY: libtorch's own sizes, valid as long as the borrowed tensor is not changed.
    let shape = unsafe { numbers(view.shape, view.ndim) };
    // SAFETY: libtorch's own strides, valid for as long.
    let strides = unsafe { numbers(view.strides, view.ndim) };
    let DLDataType { code, bits, lanes } = view.dtype;
    let dtype = DType { code, bits, lanes };
    let device = Device { device_type: view.device_type, index: view.device_index };
    let (shape, strides) = (shape.iter().copied(), strides.iter().copied());
    // libtorch's sizes and strides are not negative, and the shim compared them with the storage.
    let layout = Layout::from_checked(shape, strides, view.ndim, view.len);
    Ok(TensorInfo {
        descriptor: Descriptor::from_allocated(view.data, layout, dtype, device)?,
        exclusive: view.exclusive.cast_unsigned(),
        exported: false,
        context: NonNull::new(view.context),
    })
}

impl TensorInfo {
    /// Makes memory of ours that was shared out exclusive again if no DLPack struct made from it is
    /// left, and notes whether one is. Changes our storage, not the tensor.
    ///
    /// # Safety
    /// * The tensor that was read lives.
    #[inline]
    pub(super) unsafe fn reclaim(&mut self) {
        let Some(context) = self.context.filter(|_| self.is_alone()) else { return };
        // SAFETY: libtorch's counts say that only this tensor reaches its storage.
        let reclaim = |storage: &mut Storage| unsafe { storage.reclaim() };
        // SAFETY: the tensor, which the caller keeps, holds the context's reference, and no other
        // code uses that one, because the tensor's storage is not shared.
        self.exported = !unsafe { Storage::with_raw(context.as_ptr(), reclaim) };
    }

    fn is_alone(&self) -> bool {
        self.exclusive == DLB_TORCH_EXCLUSIVE && !self.exported
    }

    /// The error if the tensor does not own its memory alone.
    #[inline]
    pub(super) fn require_alone(&self) -> Result<()> {
        if self.is_alone() { Ok(()) } else { Err(sharing(self.exclusive)) }
    }

    /// Lets `use_it` work on the storage that the memory came from, if it is one of ours.
    ///
    /// # Safety
    /// * The tensor lives, and owns its memory alone.
    #[inline]
    pub(super) unsafe fn with_storage(
        &self,
        use_it: impl FnOnce(&mut Storage) -> Result<()>,
    ) -> Result<()> {
        match self.context {
            // SAFETY: libtorch holds the context's reference as long as the tensor lives, and no
            // other code uses that one, because the tensor owns its memory alone.
            Some(context) => unsafe { Storage::with_raw(context.as_ptr(), use_it) },
            None => Ok(()),
        }
    }
}

/// # Safety
/// * Unless `count` is 0, `start` points to `count` numbers that stay as they are for `'a`.
unsafe fn numbers<'a>(start: *const i64, count: usize) -> &'a [i64] {
    if count == 0 {
        return &[];
    }
    // SAFETY: the caller guarantees `count` numbers that do not change.
    unsafe { std::slice::from_raw_parts(start, count) }
}

#[cold]
fn refusal(view: &dlb_torch_view) -> Error {
    let (reason, remedy) = match view.plain.cast_unsigned() {
        DLB_TORCH_UNDEFINED => ("is undefined", "there is nothing to convert"),
        DLB_TORCH_NESTED => ("is nested", "convert its parts, or use to_padded_tensor()"),
        DLB_TORCH_NOT_STRIDED => ("is not strided (sparse or opaque)", "use to_dense() first"),
        DLB_TORCH_NO_STORAGE => ("has no storage", "copy it into an ordinary tensor first"),
        DLB_TORCH_FUNCTIONAL => {
            ("stands for a computation", "copy it into an ordinary tensor first")
        }
        DLB_TORCH_REQUIRES_GRAD => ("requires grad", "use detach() first"),
        DLB_TORCH_CONJUGATE => ("has its conjugate bit set", "use resolve_conj() first"),
        DLB_TORCH_NEGATIVE => ("has its negative bit set", "use resolve_neg() first"),
        DLB_TORCH_COPY_ON_WRITE => ("is a lazy clone", "use copy() first"),
        DLB_TORCH_DTYPE => (
            "has a type of element that DLPack does not have (quantized or of odd width)",
            "use dequantize() or to_kind() first",
        ),
        DLB_TORCH_SHORT_STORAGE => ("reaches beyond its storage", "use copy() first"),
        DLB_TORCH_DEVICE => {
            ("is on a device that DLPack does not have (meta, for one)", "move it to the CPU first")
        }
        _ => ("is of a kind that is not known here", "copy it into an ordinary tensor first"),
    };
    Error::NotPlainTensor { reason, remedy }
}

/// Why a tensor does not own its memory alone. If libtorch's counts say that it does, a DLPack struct
/// holds the memory.
#[cold]
fn sharing(exclusive: u32) -> Error {
    let reason = match exclusive {
        DLB_TORCH_EXCLUSIVE => {
            return Error::TorchNotExclusive {
                reason: "a DLPack struct made from it is still in use",
                remedy: "release it first, or copy with to_ndarray()",
            };
        }
        DLB_TORCH_SHARED_TENSOR => {
            "a clone of the handle, a view or an autograd graph holds the tensor"
        }
        DLB_TORCH_SHARED_STORAGE => "another tensor shares its memory",
        DLB_TORCH_EXTERNAL_MEMORY => {
            "the memory is not from libtorch's CPU allocator (a file, pinned memory, a blob of other code)"
        }
        _ => "it is shared in a way that is not known here",
    };
    Error::TorchNotExclusive { reason, remedy: "drop the others first, or copy with to_ndarray()" }
}
