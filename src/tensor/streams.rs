//! Copies in the order of a given stream, and the streams that memory is used on.

use super::Tensor;
use crate::copy::Memory;
use crate::cuda::{self, Stream, StreamUse};
#[cfg(doc)]
use crate::{Access, Error};
use crate::{Device, MemoryFormat, Rejected, Result};

/// With the feature `cuda`: in the order of a given stream.
impl Tensor {
    /// As [`to_device`](Self::to_device), in the order of a stream of the source's device or the
    /// target's.
    ///
    /// The new tensor's contents are there in the order of that stream, of which it keeps hold;
    /// what else this crate does with them waits by itself. A copy on the host is complete.
    ///
    /// # Errors
    /// As for [`to_device`](Self::to_device), and [`Error::InvalidDescriptor`] for a stream of a
    /// third device, or on which a graph is being captured. Where no CUDA device takes part the
    /// stream does not matter.
    pub fn to_device_on(&self, device: Device, stream: &Stream) -> Result<Self> {
        cuda::copy_to(&self.buffer, device, MemoryFormat::Preserve, Some(stream))
            .map(Self::from_buffer)
    }

    /// As [`into_device`](Self::into_device), in the order of a stream as for
    /// [`to_device_on`](Self::to_device_on).
    ///
    /// # Errors
    /// As for [`to_device_on`](Self::to_device_on). The tensor comes back inside the error.
    pub fn into_device_on(self, device: Device, stream: &Stream) -> Result<Self, Rejected<Self>> {
        if self.is_at(device) {
            return Ok(self);
        }
        self.to_device_on(device, stream).map_err(|error| Rejected::new(self, error))
    }

    /// As [`deep_clone_with`](Self::deep_clone_with), in the order of a stream of the device.
    ///
    /// # Errors
    /// As for [`deep_clone_with`](Self::deep_clone_with), and [`Error::InvalidDescriptor`] for a
    /// stream of another device.
    pub fn deep_clone_on(&self, format: MemoryFormat, stream: &Stream) -> Result<Self> {
        let device = self.device().on_cuda().unwrap_or(self.device());
        cuda::copy_to(&self.buffer, device, format, Some(stream)).map(Self::from_buffer)
    }

    /// As [`copy_into`](Self::copy_into), in the order of a stream of the source's device or the
    /// target's.
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

    /// As [`copy_into_unchecked`](Self::copy_into_unchecked), in the order of a stream of the
    /// source's device or the target's.
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

    /// Makes this handle one for work on a stream, for a consumer for example: what is put on the
    /// stream from now on waits for the contents, and the end of the handle, or of what it moves
    /// into, for what is on the stream by then. Host memory has no streams: there it does nothing.
    ///
    /// When memory of this crate's is freed it is not used again before that work is done; the
    /// device waits, not the host. Memory that came in is released in the order of the legacy
    /// default stream: an owner that frees it on another stream has to see to the order itself.
    ///
    /// ```no_run
    /// use dlbridge::{Device, Stream, Tensor};
    ///
    /// let near = Tensor::zeros::<f32>([1 << 20])?.cuda(0)?;
    /// let stream = Stream::new(Device::cuda(0))?;
    /// let exported = near.share().with_stream(&stream)?.into_dlpack(); // for a consumer that works on it
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

    /// Makes the contents ready for work on a stream, as [`with_stream`](Self::with_stream), but
    /// until the memory is released: what is put on the stream from now on waits for them, and the
    /// release for what is on the stream by then. For kernels of one's own on
    /// [`data_ptr`](Self::data_ptr); PyTorch's `record_stream` is the second half of it. Does
    /// nothing for host memory.
    ///
    /// Every stream that is named here is waited for until the end: for consumers that come and go
    /// there is [`with_stream`](Self::with_stream). Exports are ready on the legacy default stream
    /// without either.
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

    /// Says that what is on a stream by now writes the memory: what this crate does with it from
    /// now on comes after. For memory that came in while it was being filled. Does nothing for host
    /// memory.
    ///
    /// Memory that came in without it counts as filled in the order of the legacy default stream.
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
