//! A libtorch tensor as the owner of its memory.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::bindings::{dlb_torch_free, dlb_torch_tensor, dlb_torch_to_cpu};
use super::shim::make;
use super::tensor_info::tensor_info;
use crate::storage::{NewMemory, OwnerHooks, Storage};

/// A libtorch tensor as the owner of its memory.
pub(super) struct TorchOwner(NonNull<dlb_torch_tensor>);

// SAFETY: libtorch's tensors may be used and freed on any thread.
unsafe impl Send for TorchOwner {}

impl TorchOwner {
    #[inline]
    pub(super) fn new(tensor: tch::Tensor) -> Self {
        let mut tensor = ManuallyDrop::new(tensor);
        match NonNull::new(tensor.as_mut_ptr().cast()) {
            Some(handle) => Self(handle),
            None => unreachable!("tch's tensors have an address"),
        }
    }

    pub(super) fn into_tensor(self) -> tch::Tensor {
        let handle = ManuallyDrop::new(self).0;
        // SAFETY: `new` took the address from a `tch::Tensor`, which it forgot.
        unsafe { tch::Tensor::from_ptr(handle.as_ptr().cast()) }
    }
}

impl Drop for TorchOwner {
    fn drop(&mut self) {
        // SAFETY: `new` took over the tensor, which is freed once, here.
        unsafe { dlb_torch_free(self.0.as_ptr()) };
    }
}

// SAFETY: libtorch's functions may read a tensor on several threads if no code changes it, and a
// tensor that came in through safe code has no other handle.
unsafe impl OwnerHooks for TorchOwner {
    fn copy_to_host(&self) -> Option<NewMemory> {
        // SAFETY: a valid tensor and room for the result.
        let copied = make(|out| unsafe { dlb_torch_to_cpu(self.0.as_ptr(), out) });
        Some(copied.and_then(|copied| {
            let info = tensor_info(&copied)?;
            info.require_alone()?;
            // SAFETY: libtorch's counts and the memory's deleter prove that only the copy reaches
            // its memory.
            Ok((unsafe { Storage::exclusive(Self::new(copied)) }, info.descriptor))
        }))
    }
}
