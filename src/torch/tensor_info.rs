//! The description of a libtorch tensor, read and checked. The tensor is never changed.

use std::borrow::Cow;
use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::bindings::*;
use super::shim::{check, handle};
use crate::ffi::{DLDataType, DLDevice};
use crate::storage::{Storage, this_copy};
use crate::{DType, Descriptor, Device, Error, Layout, Remedy, Result};

/// The address of tensors without elements, on either side: not NULL, and aligned for every type.
pub(super) const EMPTY_ADDRESS: *mut c_void = std::ptr::without_provenance_mut(64);

/// A plain tensor as the shim read it.
pub(super) struct TensorInfo {
    pub(super) descriptor: Descriptor,
    /// Whether the tensor owns its memory alone, as the shim found: a `DLB_TORCH_…` of `shim.h`.
    exclusive: u32,
    /// Whether DLPack structs made from the tensor hold its memory too; [`reclaim`](Self::reclaim)
    /// finds out.
    exported: bool,
    /// The storage that the memory came from, if this copy of the crate made it.
    pub(super) context: Option<NonNull<c_void>>,
}

/// Reads a tensor, and refuses one that is not a plain strided buffer. Changes nothing.
#[inline]
pub(super) fn tensor_info(tensor: &tch::Tensor) -> Result<TensorInfo> {
    let mut view = MaybeUninit::uninit();
    let view = read(tensor, &mut view)?;
    if view.plain.cast_unsigned() != DLB_TORCH_PLAIN {
        return Err(refusal(view));
    }
    // SAFETY: libtorch's own sizes, valid as long as the borrowed tensor is not changed.
    let shape = unsafe { numbers(view.shape, view.ndim) };
    // SAFETY: libtorch's own strides, valid for as long.
    let strides = unsafe { numbers(view.strides, view.ndim) };
    let DLDataType { code, bits, lanes } = view.dtype;
    let dtype = DType { code, bits, lanes };
    let DLDevice { device_type, device_id: index } = view.device;
    let device = Device { device_type: device_type.cast_signed(), index };
    let (shape, strides) = (shape.iter().copied(), strides.iter().copied());
    // The shim checked that sizes and strides are not negative, counted the elements, and compared
    // what they reach with the storage.
    let layout = Layout::from_checked(shape, strides, view.ndim, view.len);
    // libtorch gives no address to a tensor without elements.
    let data = if layout.is_empty() { EMPTY_ADDRESS } else { view.data };
    Ok(TensorInfo {
        descriptor: Descriptor::from_allocated(data, layout, dtype, device)?,
        exclusive: view.exclusive.cast_unsigned(),
        exported: false,
        context: NonNull::new(view.context),
    })
}

/// Reads a tensor into `view`, which stays where it is: the description is large.
#[inline]
fn read<'a>(
    tensor: &tch::Tensor,
    view: &'a mut MaybeUninit<dlb_torch_view>,
) -> Result<&'a dlb_torch_view> {
    // SAFETY: a valid tensor and room for the result.
    check(unsafe { dlb_torch_read(handle(tensor), this_copy(), view.as_mut_ptr()) })?;
    // SAFETY: the shim writes the result on success.
    Ok(unsafe { view.assume_init_ref() })
}

impl TensorInfo {
    /// Makes a storage of this crate that was shared out exclusive again, if no DLPack struct holds
    /// its memory any more, and notes whether one does. Changes the storage, not the tensor.
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

    /// Whether this is memory that libtorch allocated on the host and only the tensor reaches.
    #[inline]
    pub(super) fn is_exclusive_on_host(&self) -> bool {
        self.is_alone() && self.context.is_none() && self.descriptor.device().is_host()
    }

    #[inline]
    fn is_alone(&self) -> bool {
        self.exclusive == DLB_TORCH_EXCLUSIVE && !self.exported
    }

    /// The error if the tensor does not own its memory alone.
    #[inline]
    pub(super) fn require_alone(&self) -> Result<()> {
        if self.is_alone() { Ok(()) } else { Err(sharing(self.exclusive)) }
    }

    /// Calls `use_it` with the storage that the memory came from, if this copy of the crate made
    /// it.
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

/// Refuses tensors whose elements libtorch cannot copy into an ordinary tensor. Accepts tensors
/// that are conjugated or negated, zero tensors, lazy clones, and tensors that require grad.
pub(super) fn require_copyable(tensor: &tch::Tensor) -> Result<()> {
    let mut view = MaybeUninit::uninit();
    let view = read(tensor, &mut view)?;
    match view.plain.cast_unsigned() {
        DLB_TORCH_PLAIN
        | DLB_TORCH_ZERO
        | DLB_TORCH_NEGATIVE
        | DLB_TORCH_CONJUGATE
        | DLB_TORCH_REQUIRES_GRAD
        | DLB_TORCH_COPY_ON_WRITE => Ok(()),
        _ => Err(refusal(view)),
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
        DLB_TORCH_KEY => {
            let key = name(view);
            let reason = format!("has the dispatch key {key}, which no ordinary tensor has");
            return not_plain(reason, Remedy::MakeOrdinary);
        }
        DLB_TORCH_BACKEND => {
            let backend = name(view);
            if backend == "Meta" {
                let reason = "is on the device meta, which has no memory".into();
                return Error::NotPlainTensor { reason, remedy: None };
            }
            let reason =
                format!("is of the backend {backend}, and only the CPU and CUDA are supported");
            return not_plain(reason, Remedy::MoveTorchToCpu);
        }
        DLB_TORCH_LAYOUT => {
            return not_plain(format!("has the layout {}", name(view)), Remedy::ToDense);
        }
        DLB_TORCH_UNDEFINED => ("is undefined", None),
        DLB_TORCH_NESTED => ("is nested", Some(Remedy::ToPaddedTensor)),
        DLB_TORCH_QUANTIZED => ("is quantized", Some(Remedy::Dequantize)),
        DLB_TORCH_ZERO => ("is a zero tensor, which has no memory", Some(Remedy::CloneTorch)),
        DLB_TORCH_NEGATIVE => ("has its negative bit set", Some(Remedy::ResolveNeg)),
        DLB_TORCH_CONJUGATE => ("has its conjugate bit set", Some(Remedy::ResolveConj)),
        DLB_TORCH_REQUIRES_GRAD => ("requires grad", Some(Remedy::Detach)),
        DLB_TORCH_NO_STORAGE => ("has no storage", Some(Remedy::MakeOrdinary)),
        DLB_TORCH_COPY_ON_WRITE => ("is a lazy clone", Some(Remedy::CloneTorch)),
        DLB_TORCH_NO_ACCESS => {
            ("has a storage that refuses access to its memory", Some(Remedy::MakeOrdinary))
        }
        DLB_TORCH_NO_MEMORY => ("has elements, but its storage has no memory", None),
        DLB_TORCH_SIZES => ("has sizes, strides or an offset that are negative or too large", None),
        DLB_TORCH_SHORT_STORAGE => ("reaches beyond its storage", None),
        DLB_TORCH_DTYPE => {
            ("has an element type that DLPack does not have", Some(Remedy::CastTorch))
        }
        _ => ("is of a kind that dlbridge does not know", Some(Remedy::MakeOrdinary)),
    };
    Error::NotPlainTensor { reason: reason.into(), remedy }
}

fn not_plain(reason: String, remedy: Remedy) -> Error {
    Error::NotPlainTensor { reason: reason.into(), remedy: Some(remedy) }
}

/// The name of what the shim found.
fn name(view: &dlb_torch_view) -> Cow<'_, str> {
    if view.name.is_null() {
        return "without a name".into();
    }
    // SAFETY: libtorch's and the shim's names are static C strings.
    unsafe { CStr::from_ptr(view.name) }.to_string_lossy()
}

/// Why a tensor does not own its memory alone. If libtorch's counts say that it does, a DLPack
/// struct holds the memory.
#[cold]
fn sharing(exclusive: u32) -> Error {
    let (reason, remedy) = match exclusive {
        DLB_TORCH_EXCLUSIVE => {
            ("a DLPack struct made from it is still in use", Remedy::DropTorchOwners)
        }
        DLB_TORCH_SHARED_TENSOR => (
            "a clone of the handle, a view or an autograd graph holds the tensor",
            Remedy::DropTorchOwners,
        ),
        DLB_TORCH_SHARED_STORAGE => ("another tensor shares its memory", Remedy::DropTorchOwners),
        DLB_TORCH_EXTERNAL_MEMORY => (
            "the memory is not from libtorch's CPU allocator (a file, pinned memory, a blob of other code)",
            Remedy::CopyFromTorch,
        ),
        _ => ("it is shared in a way that dlbridge does not know", Remedy::CopyFromTorch),
    };
    Error::TorchNotExclusive { reason, remedy }
}
