//! A libtorch tensor as the owner of its memory.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::bindings::{dlb_torch_free, dlb_torch_span_to_cpu, dlb_torch_tensor, dlb_torch_to_cpu};
use super::shim::make;
use super::tensor_info::tensor_info;
use crate::shared_buffer::SharedBuffer;
use crate::storage::{NewMemory, OwnerHooks, Storage};
use crate::{Descriptor, MemoryFormat, Result, host_copy};

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

    /// Returns the description of the tensor's elements.
    #[inline]
    pub(super) fn descriptor(&self) -> Result<Descriptor> {
        // SAFETY: `new` took the address from a `tch::Tensor`; `ManuallyDrop` does not free it.
        let tensor = ManuallyDrop::new(unsafe { tch::Tensor::from_ptr(self.0.as_ptr().cast()) });
        Ok(tensor_info(&tensor)?.descriptor)
    }

    /// Copies all elements to the host.
    fn copy_all(&self) -> NewMemory {
        // SAFETY: a valid tensor and room for the result.
        let copied = make(|out| unsafe { dlb_torch_to_cpu(self.0.as_ptr(), out) })?;
        let info = tensor_info(&copied)?;
        info.require_alone()?;
        // SAFETY: libtorch's counts and the memory's deleter prove that only the copy reaches its
        // memory.
        Ok((unsafe { Storage::exclusive(Self::new(copied)) }, info.descriptor))
    }

    /// Copies a view of the elements, all of which are described by `whole`, to the host.
    ///
    /// libtorch has no negative strides, so it copies everything from the lowest to the highest
    /// element of the view.
    fn copy_view(&self, whole: &Descriptor, view: &Descriptor) -> NewMemory {
        let itemsize = i128::from(view.dtype().element_bits()) / 8;
        let (low, high) = view.layout().extent().unwrap_or((0, -1));
        let between = |from: &Descriptor, to: &Descriptor| match to.layout().is_empty() {
            true => 0,
            false => (to.data_ptr().addr() as i128 - from.data_ptr().addr() as i128) / itemsize,
        };
        // Elements of one tensor are closer together than an `i64` counts.
        let first = (between(whole, view) + i128::from(low)) as i64;
        let copied = make(|out| {
            let tensor = self.0.as_ptr();
            // SAFETY: a valid tensor and room for the result; libtorch checks the bounds.
            unsafe { dlb_torch_span_to_cpu(tensor, first, high - low + 1, out) }
        })?;
        let start = tensor_info(&copied)?.descriptor.data_ptr().cast::<u8>();
        let data = start.wrapping_offset((-i128::from(low) * itemsize) as isize);
        let copied_view = view.relocated(data, view.layout().clone());
        // SAFETY: `copied` keeps the elements from the lowest to the highest of the view.
        let packed = unsafe { host_copy::deep_copy(&copied_view, MemoryFormat::Preserve) };
        packed.map(SharedBuffer::into_parts)
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
    fn copy_to_host(&self, part: &Descriptor) -> Option<NewMemory> {
        Some(self.descriptor().and_then(|whole| match whole.is_same_elements(part) {
            true => self.copy_all(),
            false => self.copy_view(&whole, part),
        }))
    }
}
