//! CUDA: memory of devices, copied to them, from them and between them, each in the order of a stream.
//!
//! A copy has a source and a target, which may lie on the host, on one device or on two. What crosses between
//! places crosses once and densely: broadcast elements one time, gaps not at all, in the order of the target's
//! strides. On a device a kernel gathers the elements ([`strided_copy`]), on the host the engine of `copy` does,
//! chunk by chunk through page-locked memory ([`bounce_buffers`], [`chunks`]) unless the memory is page-locked itself.
//!
//! Invariants:
//! * work on a device's memory is put on a stream after what [`StreamTracker`] says it has to wait for, and `StreamTracker` is
//!   told of it afterwards;
//! * no call returns while a device may still read or write host memory that is not in its care, or memory of a
//!   device that somebody else owns: they may free it at any time. [`Transfer`] returns earlier, and owns both.

mod bounce_buffers;
mod chunks;
mod context;
mod copies;
mod device_copy;
mod driver;
mod memory;
mod recorded_streams;
mod stream;
mod strided_copy;
mod tracker;

pub(crate) use copies::{
    PendingCopy, copy_into, copy_to, is_pinned, record_default_stream, share_tracker,
    start_copy_to, tracker_of,
};
pub use stream::Stream;
pub(crate) use tracker::StreamUse;

use std::ffi::{c_int, c_void};

use crate::{Device, Error, Result};

/// With the feature `cuda`.
impl Device {
    /// The CUDA device that is current on the calling thread; the first one where none is.
    ///
    /// # Errors
    /// [`Error::CudaUnavailable`], [`Error::Cuda`].
    pub fn current_cuda() -> Result<Self> {
        let driver = driver::driver(Self::cuda(0))?;
        let (mut context, mut index): (_, c_int) = (std::ptr::null_mut(), 0);
        // SAFETY: room for the handle.
        unsafe { driver.current_context(&raw mut context) }?;
        if !context.is_null() {
            // SAFETY: room for the number; a context is current.
            unsafe { driver.current_device(&raw mut index) }?;
        }
        Ok(Self::cuda(index))
    }

    /// The CUDA device that memory is on.
    ///
    /// # Errors
    /// [`Error::CudaUnavailable`], [`Error::Cuda`]; [`Error::InvalidDescriptor`] for an address that is not one of a device: of host
    /// memory, page-locked or not, or of nothing.
    pub fn of_cuda_memory(address: *const c_void) -> Result<Self> {
        let driver = driver::driver(Self::cuda(0))?;
        let ask = |attribute| {
            let mut answer: c_int = 0;
            let (room, address) = ((&raw mut answer).cast(), stream::address(address));
            // SAFETY: room for the number; the driver knows the address, or refuses it.
            match unsafe { driver.pointer_attribute(room, attribute, address) } {
                Ok(()) => Ok(Some(answer)),
                Err(Error::Cuda { code: driver::INVALID_VALUE, .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        match (ask(driver::MEMORY_TYPE)?, ask(driver::DEVICE_ORDINAL)?) {
            (Some(driver::DEVICE_MEMORY), Some(index)) => Ok(Self::cuda(index)),
            _ => Err(Error::InvalidDescriptor {
                field: "address".into(),
                value: format!("{address:p}"),
                reason: "it is not memory of a CUDA device",
            }),
        }
    }
}

/// Whether the order of streams is kept with memory of a device.
pub(crate) fn tracks(device: Device) -> bool {
    device.on_cuda().is_some()
}

/// Whether this build and this machine can copy to and from a device.
pub(crate) fn check_available(device: Device) -> Result<()> {
    if device == Device::CPU {
        return Ok(());
    }
    let near = if device == Device::CUDA_HOST { Some(Device::cuda(0)) } else { device.on_cuda() };
    match near {
        Some(near) => context::Context::of(near).map(drop),
        None => Err(Error::UnsupportedDevice { device, target: "dlbridge's copies" }),
    }
}
