//! Copies that go on while the host does other things.

use std::fmt;

use super::{Access, Tensor};
#[cfg(doc)]
use crate::Error;
use crate::cuda::{self, PendingCopy, Stream};
use crate::{Device, MemoryFormat, Result};

/// A copy that has been started, and what it needs: the copy's memory, and another handle to the
/// source's. As long as it is pending, neither can be written in safe code.
///
/// Dropping it waits, as [`wait`](Self::wait) does.
///
/// ```no_run
/// use dlbridge::{Device, Stream, Tensor};
///
/// let stream = Stream::new(Device::cuda(0))?;
/// let pinned = Tensor::zeros::<f32>([1 << 20])?.pin()?;
/// let upload = pinned.start_to_device(Device::cuda(0), &stream)?;
/// // ... other work of the host ...
/// let device_tensor = upload.wait()?;
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[must_use = "dropping it waits until the copy is done"]
pub struct Transfer {
    target: Option<Tensor>,
    pending: PendingCopy,
    /// Keeps what the device reads.
    source: Tensor,
}

impl Transfer {
    /// Whether the copy is done; then [`wait`](Self::wait) does not wait.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub fn is_done(&self) -> Result<bool> {
        self.pending.is_done()
    }

    /// The copy, if it is on a device: for work that is put on a stream behind it, before the copy
    /// is done.
    pub fn device_tensor(&self) -> Option<&Tensor> {
        self.target.as_ref().filter(|target| !target.device().is_host())
    }

    /// Waits until the copy is done, and gives it.
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
    /// As [`to_device_on`](Self::to_device_on), but returns while the copy may be pending
    /// (PyTorch's `non_blocking=True`): where the side on the host is page-locked
    /// ([`pin`](Self::pin), [`Device::CUDA_HOST`]) and has the strides of the other side. Any other
    /// host memory is not in use any more when the call returns, nor is [`Access::Aliased`] memory,
    /// which others may write.
    ///
    /// # Errors
    /// As for [`to_device_on`](Self::to_device_on).
    pub fn start_to_device(&self, device: Device, stream: &Stream) -> Result<Transfer> {
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
