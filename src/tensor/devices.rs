//! Copies and moves from one device to another.

use super::Tensor;
#[cfg(doc)]
use crate::Error;
use crate::shared_buffer::SharedBuffer;
use crate::{Device, MemoryFormat, Rejected, Result, cuda};

/// Copies and moves between devices. Without the feature `cuda`, and on machines without CUDA,
/// every device but the host is refused, and the error says which of the two is missing.
///
/// The methods keep the order of streams, so the caller needs no synchronization. A copy from a
/// CUDA device runs after all work that was put on its legacy default stream before. The result of
/// a copy to a CUDA device is ready for all work that is put on that stream afterwards. A copy to
/// the host is complete when the method returns. Methods whose names end in `_on` use another
/// stream.
impl Tensor {
    /// Copies the elements to new memory of a device, even if they are on that device already.
    ///
    /// The dimensions keep the order of the source's strides. Dense layouts stay as they are, gaps
    /// are closed, and broadcast elements are transferred once. [`Device::CUDA_HOST`] means
    /// page-locked host memory. Device memory comes from the default pool of the driver's
    /// stream-ordered allocator. The calling thread's current CUDA device does not change.
    ///
    /// ```
    /// use dlbridge::{Device, Error, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let host = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// let on_device = host.to_device(Device::cuda(0))?;
    /// assert_eq!(on_device.device(), Device::cuda(0));
    /// assert!(matches!(on_device.to_vec::<f32>(), Err(Error::NotOnCpu { .. })));
    /// assert_eq!(on_device.to_device(Device::CPU)?.to_vec::<f32>()?, [1.0, 2.0]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::CudaNotEnabled`], [`Error::CudaUnavailable`]; [`Error::UnsupportedDevice`] for
    /// devices that are neither the host nor CUDA devices; [`Error::OutOfMemory`]; [`Error::Cuda`]
    /// with the driver's message.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        if self.device().is_host() && device == Device::CPU {
            return self.deep_clone();
        }
        self.check_address()?;
        if device == Device::CPU
            && !cuda::tracks(self.device())
            && !self.descriptor().is_detached()
            && let Some(copied) = self.buffer.storage().copy_to_host(self.descriptor())
        {
            return copied.map(|(storage, descriptor)| {
                // SAFETY: `OwnerHooks::copy_to_host` gives a storage that keeps these elements.
                Self::from_buffer(unsafe { SharedBuffer::new(storage, descriptor) })
            });
        }
        cuda::copy_to(&self.buffer, device, MemoryFormat::Preserve, None).map(Self::from_buffer)
    }

    /// Moves to a device: returned unchanged if already there, else one copy.
    ///
    /// Page-locked host memory counts as being on [`Device::CPU`].
    ///
    /// ```
    /// use dlbridge::{Device, Tensor};
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// let address = tensor.data_ptr();
    /// let tensor = tensor.into_device(Device::CPU)?;
    /// assert_eq!(tensor.data_ptr(), address); // it was there already
    ///
    /// let refused = tensor.into_device(Device::cuda(99)).unwrap_err();
    /// assert_eq!(refused.into_value().data_ptr(), address); // the tensor comes back
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`to_device`](Self::to_device). The tensor comes back inside the error.
    pub fn into_device(self, device: Device) -> Result<Self, Rejected<Self>> {
        if self.is_at(device) {
            return Ok(self);
        }
        self.to_device(device).map_err(|error| Rejected::new(self, error))
    }

    /// Moves to the host: returned unchanged if already there, else one copy.
    ///
    /// This is Python's `t.cpu()`.
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

    /// Moves to the CUDA device `index`: returned unchanged if already there, else one copy.
    ///
    /// This is Python's `t.cuda(index)`.
    ///
    /// ```
    /// use dlbridge::{Device, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let on_device = Tensor::from_vec(vec![1_u8, 2, 3], [3])?.cuda(0)?;
    /// let address = on_device.data_ptr();
    /// assert_eq!(on_device.cuda(0)?.data_ptr(), address); // it was there already
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`to_device`](Self::to_device). The tensor comes back inside the error.
    pub fn cuda(self, index: i32) -> Result<Self, Rejected<Self>> {
        self.into_device(Device::cuda(index))
    }

    /// Moves to page-locked host memory: returned unchanged if it is page-locked, else one copy.
    ///
    /// This is Python's `t.pin_memory()`. Devices access page-locked memory without help of the
    /// processor. Its allocation is expensive, and reduces the memory that the system has for other
    /// uses: allocate few buffers, and use them again.
    ///
    /// ```
    /// use dlbridge::{Device, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let mut pinned = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?.pin()?;
    /// assert_eq!(pinned.device(), Device::CUDA_HOST);
    /// pinned.as_slice_mut::<f32>()?[0] = 5.0; // the host reads and writes it as other memory
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`to_device`](Self::to_device). The tensor comes back inside the error.
    pub fn pin(self) -> Result<Self, Rejected<Self>> {
        if self.is_pinned() { Ok(self) } else { self.into_device(Device::CUDA_HOST) }
    }

    /// Returns true if the memory is page-locked host memory, no matter which code locked it.
    ///
    /// ```
    /// use dlbridge::{Device, Tensor};
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// assert!(!tensor.is_pinned());
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// assert!(tensor.pin()?.is_pinned());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
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
    /// Fails unless this build and this machine can copy to and from the device.
    ///
    /// For CUDA's managed memory, the method checks only copies from it.
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
