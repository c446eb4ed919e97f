//! Replaces `cuda` without the feature `cuda`: the same names, which refuse CUDA devices.

use crate::copy::Memory;
use crate::shared_buffer::SharedBuffer;
use crate::{Descriptor, Device, Error, MemoryFormat, Result};

/// There are no streams.
pub(crate) enum Stream {}

/// No memory is used on a stream.
pub(crate) struct StreamUse;

impl StreamUse {
    pub(crate) const NONE: Self = Self;

    pub(crate) fn is_none(&self) -> bool {
        true
    }

    #[cfg(feature = "torch")]
    pub(crate) fn keep_until_release(self) {}
}

/// Whether the order of streams is kept for memory of a device. False for every device.
pub(crate) fn tracks(_device: Device) -> bool {
    false
}

/// Refuses every device but the host's ordinary memory, and says why.
pub(crate) fn check_available(device: Device) -> Result<()> {
    match device {
        Device::CPU => Ok(()),
        Device::CUDA_HOST => Err(Error::CudaNotEnabled { device }),
        device if device.on_cuda().is_some() => Err(Error::CudaNotEnabled { device }),
        device => Err(Error::UnsupportedDevice { device, target: "dlbridge's copies" }),
    }
}

pub(crate) fn copy_to(
    source: &SharedBuffer,
    device: Device,
    _format: MemoryFormat,
    _stream: Option<&Stream>,
) -> Result<SharedBuffer> {
    check_available(device)?;
    check_available(source.descriptor().device())?;
    Err(Error::UnsupportedDevice { device, target: "dlbridge's copies" })
}

/// # Safety
/// * There is no precondition; the signature is that of the function it replaces.
pub(crate) unsafe fn copy_into(
    source: &SharedBuffer,
    target: &SharedBuffer,
    _stream: Option<&Stream>,
    _memory: Memory,
) -> Result<()> {
    check_available(source.descriptor().device())?;
    check_available(target.descriptor().device())?;
    let device = target.descriptor().device();
    Err(Error::UnsupportedDevice { device, target: "dlbridge's copies" })
}

pub(crate) fn record_default_stream(_buffer: &SharedBuffer) -> Result<()> {
    Ok(())
}

pub(crate) fn share_tracker(_view: &SharedBuffer, _base: &SharedBuffer) {}

pub(crate) fn is_pinned(_descriptor: &Descriptor) -> bool {
    false
}
