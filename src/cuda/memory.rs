//! Fresh memory: on a device, in the order of a stream; and on the host, page-locked.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

use super::context::Context;
use super::driver::{HOST_MEMORY, MEMORY_TYPE, OUT_OF_MEMORY, PORTABLE, driver};
use super::stream::{Stream, address};
use super::tracker::StreamTracker;
use crate::{Device, Error, Result};

/// Memory of a device, from its driver's stream-ordered allocator and default pool.
pub(super) struct DeviceBuffer {
    address: u64,
    /// It may be used on this stream, or once this stream has come to where it was allocated; and is freed on it.
    alloc_stream: Stream,
}

impl DeviceBuffer {
    /// Memory of unspecified content, for work on this stream. No bytes need no memory.
    pub(super) fn new(bytes: usize, stream: &Stream) -> Result<Self> {
        let context = stream.context;
        let mut address = 0;
        if bytes > 0 {
            let _entered = context.enter()?;
            // SAFETY: room for the address; the stream lives, and its context is current.
            unsafe { context.driver.allocate(&raw mut address, bytes, stream.raw()) }
                .map_err(|error| in_bytes(error, bytes))?;
        }
        Ok(Self { address, alloc_stream: stream.for_every_thread() })
    }

    pub(super) fn as_ptr(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.address as usize)
    }

    pub(super) fn alloc_stream(&self) -> &Stream {
        &self.alloc_stream
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        let context = self.alloc_stream.context;
        // In a graph that is being captured, it would be freed whenever that is replayed: better never.
        if self.address != 0
            && self.alloc_stream.refuse_capture().is_ok()
            && let Ok(_entered) = context.enter()
        {
            // SAFETY: allocated by `new`, and freed once, in the order of a stream that comes after all uses:
            // that is `StreamTracker`'s to see to.
            let _gone = unsafe { context.driver.free(self.address, self.alloc_stream.raw()) };
        }
    }
}

/// Device memory that a tensor owns.
pub(super) struct OwnedBuffer {
    buffer: ManuallyDrop<DeviceBuffer>,
    tracker: Arc<StreamTracker>,
}

impl OwnedBuffer {
    pub(super) fn new(buffer: DeviceBuffer, tracker: Arc<StreamTracker>) -> Self {
        Self { buffer: ManuallyDrop::new(buffer), tracker }
    }
}

impl Drop for OwnedBuffer {
    fn drop(&mut self) {
        if self.tracker.join_all() {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.buffer) };
        }
    }
}

/// Page-locked host memory, which devices read and write by themselves.
pub(super) struct PinnedBuffer {
    data: NonNull<u8>,
    context: Option<&'static Context>,
}

// SAFETY: plain memory that only its owner reaches.
unsafe impl Send for PinnedBuffer {}

impl PinnedBuffer {
    /// Memory of unspecified content, aligned to pages. No bytes need no memory, but CUDA all the same.
    pub(super) fn new(bytes: usize, context: &'static Context) -> Result<Self> {
        if bytes == 0 {
            return Ok(Self { data: NonNull::dangling(), context: None });
        }
        let _entered = context.enter()?;
        let mut data: *mut c_void = std::ptr::null_mut();
        // SAFETY: room for the address, and a current context.
        unsafe { context.driver.allocate_host(&raw mut data, bytes, PORTABLE) }
            .map_err(|error| in_bytes(error, bytes))?;
        let data = NonNull::new(data.cast()).ok_or(Error::OutOfMemory { bytes })?;
        Ok(Self { data, context: Some(context) })
    }

    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.data.as_ptr()
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        if let Some(context) = self.context
            && let Ok(_entered) = context.enter()
        {
            // SAFETY: allocated by `new`, and freed once. Whoever let a device at it has waited for that device.
            let _gone = unsafe { context.driver.free_host(self.data.as_ptr().cast()) };
        }
    }
}

/// Whether host memory is page-locked, whoever did it: its ends are, and whoever locks memory locks all of an
/// allocation. `false` where there is no CUDA.
pub(super) fn is_pinned(start: *const u8, bytes: usize) -> bool {
    let Ok(driver) = driver(Device::CUDA_HOST) else { return false };
    let locked = |byte: *const u8| {
        let mut kind = 0_u32;
        // SAFETY: room for the number; the driver knows the address, or refuses it.
        let known =
            unsafe { driver.pointer_attribute((&raw mut kind).cast(), MEMORY_TYPE, address(byte)) };
        known.is_ok() && kind == HOST_MEMORY
    };
    bytes > 0 && locked(start) && locked(start.wrapping_add(bytes - 1))
}

/// The driver's refusal to give memory, in this crate's words.
fn in_bytes(error: Error, bytes: usize) -> Error {
    match error {
        Error::Cuda { code: OUT_OF_MEMORY, .. } => Error::OutOfMemory { bytes },
        error => error,
    }
}
