//! Copies in the order of a given stream, and the streams on which memory is used.

use super::Tensor;
use crate::copy::Memory;
use crate::cuda::{self, Stream, StreamUse};
#[cfg(doc)]
use crate::{Access, Error};
use crate::{Device, MemoryFormat, Rejected, Result};

/// With the feature `cuda`: copies in the order of a given stream.
impl Tensor {
    /// Works as [`to_device`](Self::to_device), in the order of `stream`.
    ///
    /// `stream` belongs to the device of the source or to the target device. It is ignored if
    /// neither of them is a CUDA device. A new tensor on a device is ready in the order of
    /// `stream`, and keeps a handle to it; other calls of this crate that use the tensor wait for
    /// it on the device. A copy on the host is complete when the method returns.
    ///
    /// ```
    /// use dlbridge::{Device, Stream, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let stream = Stream::new(Device::cuda(0))?;
    /// let host = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// let on_device = host.to_device_on(Device::cuda(0), &stream)?; // may still be running
    /// let back = on_device.to_device(Device::CPU)?;                 // waits for `stream`
    /// assert_eq!(back.to_vec::<f32>()?, [1.0, 2.0]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`to_device`](Self::to_device), and [`Error::InvalidDescriptor`] for a stream of a
    /// third device, or on which a graph is being captured.
    pub fn to_device_on(&self, device: Device, stream: &Stream) -> Result<Self> {
        self.check_address()?;
        cuda::copy_to(&self.buffer, device, MemoryFormat::Preserve, Some(stream))
            .map(Self::from_buffer)
    }

    /// Works as [`into_device`](Self::into_device), in the order of `stream`.
    ///
    /// `stream` is used as in [`to_device_on`](Self::to_device_on).
    ///
    /// ```
    /// use dlbridge::{Device, Stream, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let stream = Stream::new(Device::cuda(0))?;
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// let tensor = tensor.into_device_on(Device::cuda(0), &stream)?; // one copy
    /// let address = tensor.data_ptr();
    /// let tensor = tensor.into_device_on(Device::cuda(0), &stream)?; // returned unchanged
    /// assert_eq!(tensor.data_ptr(), address);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`to_device_on`](Self::to_device_on). The tensor comes back inside the error.
    pub fn into_device_on(self, device: Device, stream: &Stream) -> Result<Self, Rejected<Self>> {
        if self.is_at(device) {
            return Ok(self);
        }
        self.to_device_on(device, stream).map_err(|error| Rejected::new(self, error))
    }

    /// Works as [`deep_clone_with`](Self::deep_clone_with), in the order of `stream`.
    ///
    /// `stream` belongs to the device of this tensor.
    ///
    /// ```
    /// use dlbridge::{Device, MemoryFormat, Stream, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let stream = Stream::new(Device::cuda(0))?;
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?.cuda(0)?;
    /// let clone = tensor.deep_clone_on(MemoryFormat::Contiguous, &stream)?;
    /// assert_ne!(clone.data_ptr(), tensor.data_ptr());
    /// assert_eq!(clone.cpu()?.to_vec::<f32>()?, [1.0, 2.0]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`deep_clone_with`](Self::deep_clone_with), and [`Error::InvalidDescriptor`] for a
    /// stream of another device.
    pub fn deep_clone_on(&self, format: MemoryFormat, stream: &Stream) -> Result<Self> {
        self.check_address()?;
        let device = self.device().on_cuda().unwrap_or(self.device());
        cuda::copy_to(&self.buffer, device, format, Some(stream)).map(Self::from_buffer)
    }

    /// Works as [`copy_into`](Self::copy_into), in the order of `stream`.
    ///
    /// `stream` belongs to the device of the source or to that of the target.
    ///
    /// ```
    /// use dlbridge::{Device, Stream, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let stream = Stream::new(Device::cuda(0))?;
    /// let mut on_device = Tensor::zeros::<f32>([2])?.cuda(0)?; // allocated once
    /// for value in [1.0_f32, 2.0] {
    ///     let host = Tensor::from_vec(vec![value; 2], [2])?;
    ///     host.copy_into_on(&mut on_device, &stream)?;
    /// }
    /// assert_eq!(on_device.cpu()?.to_vec::<f32>()?, [2.0, 2.0]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`copy_into`](Self::copy_into), and [`Error::InvalidDescriptor`] as for
    /// [`to_device_on`](Self::to_device_on).
    pub fn copy_into_on(&self, target: &mut Self, stream: &Stream) -> Result<()> {
        target.require_exclusive()?;
        // SAFETY: only `target` reaches its memory, so that is not the memory of `self` either.
        let copied = unsafe { self.copy_into_unchecked_on(target, stream) };
        copied.inspect_err(|_| target.detach_if_shared())
    }

    /// Works as [`copy_into_unchecked`](Self::copy_into_unchecked), in the order of `stream`.
    ///
    /// `stream` belongs to the device of the source or to that of the target.
    ///
    /// ```
    /// use dlbridge::{Device, Stream, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let stream = Stream::new(Device::cuda(0))?;
    /// let target = Tensor::zeros::<f32>([2])?.cuda(0)?;
    /// let view = target.share(); // a second handle, so `copy_into_on` would refuse
    /// let source = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// // SAFETY: no other code uses the target's memory, and the source has memory of its own.
    /// unsafe { source.copy_into_unchecked_on(&target, &stream)? };
    /// assert_eq!(view.cpu()?.to_vec::<f32>()?, [1.0, 2.0]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`copy_into_unchecked`](Self::copy_into_unchecked), and [`Error::InvalidDescriptor`]
    /// for a stream of a third device.
    ///
    /// # Safety
    /// * As for [`copy_into_unchecked`](Self::copy_into_unchecked).
    pub unsafe fn copy_into_unchecked_on(&self, target: &Self, stream: &Stream) -> Result<()> {
        // SAFETY: the caller guarantees that no other code uses the target.
        unsafe { self.copy_elements(target, Memory::Used, Some(stream)) }
    }

    /// Registers this handle for use on `stream`, until the handle is dropped.
    ///
    /// Work that is put on `stream` from now on runs after the contents are ready. When the handle,
    /// or the value that it is moved into, is dropped, the memory counts as used until the work
    /// that is on `stream` by then is done. The device waits for that work before it uses the
    /// memory for something else; the host does not wait. For host memory the method does nothing.
    ///
    /// Memory that this crate did not allocate is released in the order of the legacy default
    /// stream. An owner that frees it on another stream must order the two itself.
    ///
    /// ```
    /// use dlbridge::{Device, Stream, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let tensor = Tensor::from_vec(vec![1.0_f32; 4], [4])?.cuda(0)?;
    /// let stream = Stream::new(Device::cuda(0))?;
    /// // The consumer of this DLPack struct works on `stream`, without synchronization.
    /// let exported = tensor.share().with_stream(&stream)?.into_dlpack();
    /// drop(exported); // the device waits for the consumer's work, the host does not
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::CudaUnavailable`], [`Error::Cuda`]; [`Error::InvalidDescriptor`] for a stream on
    /// which a graph is being captured. The tensor comes back inside the error.
    pub fn with_stream(mut self, stream: &Stream) -> Result<Self, Rejected<Self>> {
        let stream_use = cuda::tracker_of(&self.buffer).and_then(|tracker| match tracker {
            Some(tracker) => StreamUse::new(&tracker, stream),
            None => Ok(StreamUse::NONE),
        });
        match stream_use {
            Ok(stream_use) => {
                self.stream_use = stream_use;
                Ok(self)
            }
            Err(error) => Err(Rejected::new(self, error)),
        }
    }

    /// Makes the contents ready for work on `stream`, until the memory is released.
    ///
    /// Work that is put on `stream` from now on runs after the contents are ready, and the memory
    /// is released after the work that is on `stream` by then. This is for kernels of your own on
    /// [`data_ptr`](Self::data_ptr). PyTorch's `record_stream` only delays the release, and does
    /// not order the work after the contents. For host memory the method does nothing.
    ///
    /// Each stream stays recorded until the release, and later copies wait for it too. For a use
    /// that ends earlier, call [`with_stream`](Self::with_stream). An export without either is
    /// ready on the legacy default stream.
    ///
    /// ```
    /// use dlbridge::{Device, Stream, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let tensor = Tensor::from_vec(vec![1.0_f32; 4], [4])?.cuda(0)?;
    /// let stream = Stream::new(Device::cuda(0))?;
    /// tensor.record_stream(&stream)?;
    /// let (address, queue) = (tensor.data_ptr(), stream.as_raw());
    /// // ... launch a kernel of your own on `queue` that reads and writes `address` ...
    /// drop(tensor); // the memory is freed after the kernel
    /// # let _ = (address, queue);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::CudaUnavailable`], [`Error::Cuda`]; [`Error::InvalidDescriptor`] for a stream on
    /// which a graph is being captured.
    pub fn record_stream(&self, stream: &Stream) -> Result<()> {
        match cuda::tracker_of(&self.buffer)? {
            Some(tracker) => tracker.record_stream(stream),
            None => Ok(()),
        }
    }

    /// Makes later uses of the memory wait for the work that is on `stream` now.
    ///
    /// This is for memory that other code is still writing on `stream` when it comes in. Memory
    /// that comes in without this call counts as written in the order of the legacy default stream.
    /// For host memory the method does nothing.
    ///
    /// ```
    /// use dlbridge::{Device, Stream, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let stream = Stream::new(Device::cuda(0))?;
    /// let tensor = Tensor::from_vec(vec![1.0_f32; 4], [4])?.cuda(0)?;
    /// tensor.record_stream(&stream)?;
    /// // ... launch a kernel of your own on `stream` that writes the elements ...
    /// tensor.wait_stream(&stream)?;
    /// assert_eq!(tensor.cpu()?.to_vec::<f32>()?, [1.0; 4]); // copied after the kernel
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::CudaUnavailable`], [`Error::Cuda`]; [`Error::InvalidDescriptor`] for a stream on
    /// which a graph is being captured.
    pub fn wait_stream(&self, stream: &Stream) -> Result<()> {
        match cuda::tracker_of(&self.buffer)? {
            Some(tracker) => tracker.wait_stream(stream),
            None => Ok(()),
        }
    }
}
