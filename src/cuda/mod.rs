//! CUDA: memory of devices, and copies to, from and between devices, in the order of streams.
//!
//! The layers. Each imports only from layers above it in this list:
//!
//! ```text
//! driver            NVIDIA's library, loaded at run time
//! context           a device's primary context, made current for one call after another
//! stream            streams and events
//! tracker           which streams use which memory (recorded_streams: the list, and its lock)
//! memory            allocations that are freed in the order of a stream; page-locked memory
//! strided_copy      a copy on one device, by the driver or by a kernel
//! host_transfer     a copy over the bus, directly or through bounce_buffers, in chunks
//! device_copy       a copy between any two locations, made of the two above
//! copies            copies between buffers: new memory, and the order of streams
//! ```
//!
//! Invariants:
//! * work on a device's memory is put on a stream that waits for all streams that the memory's
//!   tracker has recorded, and the tracker's allocation stream waits for the work afterwards;
//! * no call returns while a device may still read or write host memory that this crate does not
//!   keep, or device memory that other code owns, because its owner may free it at any time.
//!   [`Tensor::start_to_device`](crate::Tensor::start_to_device) returns earlier. Its result keeps
//!   the host memory and the device memory.

mod bounce_buffers;
mod chunks;
mod context;
mod copies;
mod device_copy;
mod driver;
mod elements;
mod host_transfer;
#[cfg(all(loom, test))]
mod interleavings;
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

/// Methods that need the feature `cuda`.
impl Device {
    /// Returns the CUDA device that is current on the calling thread, or `cuda:0` if none is.
    ///
    /// ```
    /// use dlbridge::Device;
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let device = Device::current_cuda()?; // this thread has chosen none
    /// assert_eq!(device, Device::cuda(0));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::CudaUnavailable`], [`Error::Cuda`].
    pub fn current_cuda() -> Result<Self> {
        let driver = driver::driver(Self::cuda(0))?;
        let (mut context, mut index): (_, c_int) = (std::ptr::null_mut(), 0);
        // SAFETY: `context` is a local variable to write to.
        unsafe { driver.current_context(&raw mut context) }?;
        if !context.is_null() {
            // SAFETY: `index` is a local variable to write to, and a context is current.
            unsafe { driver.current_device(&raw mut index) }?;
        }
        Ok(Self::cuda(index))
    }

    /// Returns the CUDA device that the memory at `address` belongs to.
    ///
    /// ```
    /// use dlbridge::{Device, Error, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let host = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// let on_device = host.to_device(Device::cuda(0))?;
    /// assert_eq!(Device::of_cuda_memory(on_device.data_ptr())?, Device::cuda(0));
    /// let refused = Device::of_cuda_memory(host.data_ptr());
    /// assert!(matches!(refused, Err(Error::InvalidDescriptor { .. })));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::CudaUnavailable`], [`Error::Cuda`]; [`Error::InvalidDescriptor`] if `address` is
    /// not in device memory: it is in host memory, page-locked or not, or in no memory.
    pub fn of_cuda_memory(address: *const c_void) -> Result<Self> {
        let driver = driver::driver(Self::cuda(0))?;
        let ask = |attribute| {
            let mut answer: c_int = 0;
            let (value, address) = ((&raw mut answer).cast(), driver::address(address));
            // SAFETY: `answer` is a local variable of the attributes' type to write to; the driver
            // returns an error for an address that it does not know.
            match unsafe { driver.pointer_attribute(value, attribute, address) } {
                Ok(()) => Ok(Some(answer)),
                Err(Error::Cuda { code: driver::CUDA_ERROR_INVALID_VALUE, .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        match (ask(driver::POINTER_MEMORY_TYPE)?, ask(driver::POINTER_DEVICE_ORDINAL)?) {
            (Some(driver::MEMORYTYPE_DEVICE), Some(index)) => Ok(Self::cuda(index)),
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
