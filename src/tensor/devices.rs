//! From one device to another.

use super::Tensor;
#[cfg(doc)]
use crate::Error;
use crate::shared_buffer::SharedBuffer;
use crate::{Device, MemoryFormat, Rejected, Result, cuda};

/// Between devices. Without the feature `cuda`, and on machines without CUDA, everything but the
/// host is refused; the error says which of the two is missing.
///
/// No method has the caller look after the order of things: what is copied from a CUDA device comes
/// after all that was put on its legacy default stream before, what is copied to one is there for
/// all that is put on that stream afterwards, and what arrives on the host is there when the method
/// returns. Methods whose names end in `_on` take another stream.
impl Tensor {
    /// Copies the data to a device, in the order of the source's strides: into new memory, also
    /// when it is there already. [`Device::CUDA_HOST`] stands for page-locked host memory.
    ///
    /// Dense layouts stay as they are, gaps are closed, and broadcast elements are transferred
    /// once. Device memory comes from the default pool of the driver's stream-ordered allocator.
    /// The calling thread's current CUDA device stays what it is.
    ///
    /// # Errors
    /// [`Error::CudaNotEnabled`], [`Error::CudaUnavailable`]; [`Error::UnsupportedDevice`] for
    /// devices that are neither the host nor CUDA's; [`Error::OutOfMemory`]; [`Error::Cuda`] with
    /// the driver's words.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        if self.device().is_host() && device == Device::CPU {
            return self.deep_clone();
        }
        if device == Device::CPU
            && !cuda::tracks(self.device())
            && !self.descriptor().is_detached()
            && let Some(copied) = self.buffer.storage().copy_to_host()
        {
            return copied.map(|(storage, descriptor)| {
                // SAFETY: `OwnerHooks::copy_to_host` gives a storage that keeps these elements.
                Self::from_buffer(unsafe { SharedBuffer::new(storage, descriptor) })
            });
        }
        cuda::copy_to(&self.buffer, device, MemoryFormat::Preserve, None).map(Self::from_buffer)
    }

    /// Moves to a device: through unchanged when the memory is there already, otherwise by one
    /// copy. Page-locked host memory counts as being on [`Device::CPU`].
    ///
    /// # Errors
    /// As for [`to_device`](Self::to_device). The tensor comes back inside the error.
    pub fn into_device(self, device: Device) -> Result<Self, Rejected<Self>> {
        if self.is_at(device) {
            return Ok(self);
        }
        self.to_device(device).map_err(|error| Rejected::new(self, error))
    }

    /// Moves to the host: through unchanged when the memory is there already, otherwise by one
    /// transfer. Python's `t.cpu()`.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// let address = tensor.data_ptr();
    /// assert_eq!(tensor.cpu()?.data_ptr(), address); // it was there already
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`to_device`](Self::to_device). The tensor comes back inside the error.
    pub fn cpu(self) -> Result<Self, Rejected<Self>> {
        self.into_device(Device::CPU)
    }

    /// Moves to the CUDA device of this index: through unchanged when the memory is there already,
    /// otherwise by one transfer. Python's `t.cuda()`.
    ///
    /// # Errors
    /// As for [`to_device`](Self::to_device). The tensor comes back inside the error.
    pub fn cuda(self, index: i32) -> Result<Self, Rejected<Self>> {
        self.into_device(Device::cuda(index))
    }

    /// Moves to page-locked host memory, which devices read and write by themselves: through
    /// unchanged when the memory is that already, otherwise by one copy. Python's `t.pin_memory()`.
    ///
    /// Such memory is expensive to make, and what the system has left for others shrinks: make
    /// little of it, and use it again.
    ///
    /// # Errors
    /// As for [`to_device`](Self::to_device). The tensor comes back inside the error.
    pub fn pin(self) -> Result<Self, Rejected<Self>> {
        if self.is_pinned() { Ok(self) } else { self.into_device(Device::CUDA_HOST) }
    }

    /// Whether the memory is page-locked host memory, whatever code locked it.
    pub fn is_pinned(&self) -> bool {
        if self.device() == Device::CPU && cuda::is_pinned(self.descriptor()) {
            return true;
        }
        matches!(self.device(), Device::CUDA_HOST | Device::ROCM_HOST)
    }

    pub(super) fn is_at(&self, device: Device) -> bool {
        self.device() == device || (self.device().is_host() && device == Device::CPU)
    }
}

impl Device {
    /// Whether this build and this machine can copy to and from the device; of CUDA's managed
    /// memory, from it.
    ///
    /// ```
    /// use dlbridge::{Device, Error};
    ///
    /// assert!(Device::CPU.check_available().is_ok());
    /// match Device::cuda(0).check_available() {
    ///     Ok(()) => println!("there is one"),
    ///     Err(Error::CudaUnavailable { reason, .. }) => println!("not on this machine: {reason}"),
    ///     Err(Error::CudaNotEnabled { .. }) => println!("not with this build"),
    ///     Err(error) => println!("{error}"),
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::CudaNotEnabled`], [`Error::CudaUnavailable`], [`Error::UnsupportedDevice`],
    /// [`Error::Cuda`].
    pub fn check_available(self) -> Result<()> {
        cuda::check_available(self)
    }
}

#[cfg(all(test, feature = "torch"))]
mod tests {
    use super::*;
    use crate::{DType, TorchExt};

    /// A device may still be writing memory that was detached, so libtorch must not read it either.
    #[test]
    fn detached_memory_of_libtorch_is_not_copied_to_the_host() {
        let torch = tch::Tensor::zeros([3], tch::kind::FLOAT_CPU);
        // SAFETY: the tensor is not resized, and nothing writes it.
        let mut tensor = unsafe { torch.into_tensor_unchecked() }.expect("a plain tensor");
        assert_eq!(tensor.dtype(), DType::F32);
        assert!(tensor.to_device(Device::CPU).is_ok());
        tensor.buffer.detach();
        assert!(tensor.to_device(Device::CPU).is_err());
        assert!(tensor.cpu().is_err());
    }
}
