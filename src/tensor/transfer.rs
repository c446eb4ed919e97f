//! Copies that run while the host does other work.

use std::fmt;

use super::{Access, Tensor};
#[cfg(doc)]
use crate::Error;
use crate::cuda::{self, PendingCopy, Stream};
use crate::{Device, MemoryFormat, Result};

/// A copy that was started and may still be running: see [`Tensor::start_to_device`].
///
/// It keeps the new memory and another handle to the source, so that safe code cannot write either
/// of them while the copy runs. Dropping it waits for the copy, as [`wait`](Self::wait) does.
///
/// ```
/// use dlbridge::{Device, Error, Stream, Tensor};
///
/// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
/// let stream = Stream::new(Device::cuda(0))?;
/// let mut pinned = Tensor::from_vec(vec![1.0_f32; 1000], [1000])?.pin()?;
/// let upload = pinned.start_to_device(Device::cuda(0), &stream)?;
/// // ... other work of the host ...
/// assert_eq!(pinned.as_slice_mut::<f32>().unwrap_err(), Error::NotUnique);
/// let on_device = upload.wait()?;
/// pinned.as_slice_mut::<f32>()?.fill(2.0); // the next input
/// assert_eq!(on_device.cpu()?.to_vec::<f32>()?[999], 1.0);
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[must_use = "dropping it waits until the copy is done"]
pub struct Transfer {
    target: Option<Tensor>,
    pending: PendingCopy,
    /// Keeps the memory that the device reads.
    source: Tensor,
}

impl Transfer {
    /// Returns true if the copy is done. Then [`wait`](Self::wait) returns at once.
    ///
    /// ```
    /// use dlbridge::{Device, Stream, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let stream = Stream::new(Device::cuda(0))?;
    /// let pinned = Tensor::from_vec(vec![1.0_f32; 4], [4])?.pin()?;
    /// let upload = pinned.start_to_device(Device::cuda(0), &stream)?;
    /// stream.synchronize()?;
    /// assert!(upload.is_done()?);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub fn is_done(&self) -> Result<bool> {
        self.pending.is_done()
    }

    /// Returns the new tensor, before the copy is done; `None` if the tensor is on the host.
    ///
    /// Use it for work that is put on a stream, and therefore runs after the copy.
    ///
    /// ```
    /// use dlbridge::{Device, Stream, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let stream = Stream::new(Device::cuda(0))?;
    /// let pinned = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?.pin()?;
    /// let upload = pinned.start_to_device(Device::cuda(0), &stream)?;
    /// let on_device = upload.device_tensor().expect("the target is a device");
    /// let clone = on_device.deep_clone()?; // the device runs it after the upload
    /// assert_eq!(clone.cpu()?.to_vec::<f32>()?, [1.0, 2.0]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn device_tensor(&self) -> Option<&Tensor> {
        self.target.as_ref().filter(|target| !target.device().is_host())
    }

    /// Waits until the copy is done, and returns the new tensor.
    ///
    /// ```
    /// use dlbridge::{Device, Stream, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let stream = Stream::new(Device::cuda(0))?;
    /// let on_device = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?.cuda(0)?;
    /// let download = on_device.start_to_device(Device::CUDA_HOST, &stream)?;
    /// // ... other work of the host ...
    /// assert_eq!(download.wait()?.to_vec::<f32>()?, [1.0, 2.0]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub fn wait(mut self) -> Result<Tensor> {
        match self.target.take() {
            Some(target) => self.pending.wait(&self.source.buffer, &target.buffer).map(|()| target),
            None => unreachable!("taken only here, and when this is dropped"),
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(target) = self.target.take() {
            let _gone = self.pending.wait(&self.source.buffer, &target.buffer);
        }
    }
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer")
            .field("target", &self.target.as_ref().map(Tensor::device))
            .finish_non_exhaustive()
    }
}

impl Tensor {
    /// Copies as [`to_device_on`](Self::to_device_on) does, but may return before the copy is done.
    ///
    /// This is PyTorch's `non_blocking=True`. The call returns early if the memory on the host is
    /// page-locked ([`pin`](Self::pin), [`Device::CUDA_HOST`]) and has the strides of the memory on
    /// the device. The device does not use other host memory after the call, nor
    /// [`Access::Aliased`] host memory, which other code may write.
    ///
    /// ```
    /// use dlbridge::{Device, Stream, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let stream = Stream::new(Device::cuda(0))?;
    /// let pinned = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?.pin()?;
    /// let upload = pinned.start_to_device(Device::cuda(0), &stream)?;
    /// let sum: f32 = pinned.as_slice::<f32>()?.iter().sum(); // while the device copies
    /// assert_eq!((sum, upload.wait()?.device()), (3.0, Device::cuda(0)));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`to_device_on`](Self::to_device_on).
    pub fn start_to_device(&self, device: Device, stream: &Stream) -> Result<Transfer> {
        self.check_address()?;
        let format = MemoryFormat::Preserve;
        // SAFETY: the transfer keeps both buffers, and waits before it gives host memory out.
        let started =
            unsafe { cuda::start_copy_to(&self.buffer, device, format, Some(stream), true) };
        let (target, pending) = started?;
        if matches!(self.access(), Access::Aliased { .. }) {
            pending.wait_for_host_memory(&self.buffer, &target)?;
        }
        Ok(Transfer { target: Some(Self::from_buffer(target)), pending, source: self.share() })
    }
}
