//! New memory: device memory, in the order of a stream, and page-locked host memory.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::context::Context;
use super::driver::{
    CUDA_ERROR_OUT_OF_MEMORY, MEMHOSTALLOC_PORTABLE, MEMORYTYPE_HOST, POINTER_MEMORY_TYPE, address,
    driver,
};
use super::stream::Stream;
use super::tracker::StreamTracker;
use crate::sync::Arc;
use crate::{Device, Error, Result};

/// Device memory from the default pool of the driver's stream-ordered allocator.
pub(super) struct DeviceBuffer {
    address: u64,
    /// The stream in whose order the memory was allocated, and in whose order it is freed. Other
    /// streams wait for this one before they use the memory.
    alloc_stream: Stream,
}

impl DeviceBuffer {
    /// Memory of unspecified content, for work on `stream`. Nothing is allocated for 0 bytes.
    pub(super) fn new(bytes: usize, stream: &Stream) -> Result<Self> {
        let context = stream.context;
        let mut address = 0;
        if bytes > 0 {
            let _entered = context.enter()?;
            // SAFETY: `address` is a local variable to write to; `stream` keeps its handle alive,
            // and its context was just entered.
            unsafe { context.driver.allocate(&raw mut address, bytes, stream.raw()) }
                .map_err(|error| name_out_of_memory(error, bytes))?;
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
        // If a graph is being captured on the stream, each launch of the graph would free the
        // memory again. Then the memory is leaked.
        if self.address != 0
            && self.alloc_stream.refuse_capture().is_ok()
            && let Ok(_entered) = context.enter()
        {
            // SAFETY: `new` allocated the memory, and this is the only place that frees it. All
            // uses come before in the order of the stream: a temporary buffer is used on this
            // stream only, or `DeviceCopy` orders it after the other one; the memory of a tensor is
            // freed after `OwnedBuffer` had its tracker join all recorded streams.
            let _freed = unsafe { context.driver.free(self.address, self.alloc_stream.raw()) };
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
            // SAFETY: this is the only place that drops the buffer, and it is not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.buffer) };
        }
    }
}

/// Page-locked host memory, which devices read and write directly.
pub(super) struct PinnedBuffer {
    data: NonNull<u8>,
    /// `None` if nothing was allocated.
    context: Option<&'static Context>,
}

// SAFETY: the pointer is to memory that only this buffer reaches, and the driver frees such memory
// on any thread.
unsafe impl Send for PinnedBuffer {}

impl PinnedBuffer {
    /// Memory of unspecified content, aligned to pages. Nothing is allocated for 0 bytes.
    pub(super) fn new(bytes: usize, context: &'static Context) -> Result<Self> {
        if bytes == 0 {
            return Ok(Self { data: NonNull::dangling(), context: None });
        }
        let _entered = context.enter()?;
        let mut data: *mut c_void = std::ptr::null_mut();
        // SAFETY: `data` is a local variable to write to, and a context was just entered.
        unsafe { context.driver.allocate_host(&raw mut data, bytes, MEMHOSTALLOC_PORTABLE) }
            .map_err(|error| name_out_of_memory(error, bytes))?;
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
            // SAFETY: `new` allocated the memory, and this is the only place that frees it. No
            // device uses it any more: the code that put a copy from or to it on a stream waited
            // for that copy, or leaked the buffer (`with_bounce_buffers`, `PendingCopy`).
            let _freed = unsafe { context.driver.free_host(self.data.as_ptr().cast()) };
        }
    }
}

/// Whether host memory is page-locked, by this crate or by other code. Only the first and the last
/// byte are checked, because whole allocations are locked. `false` if there is no CUDA.
pub(super) fn is_pinned(start: *const u8, bytes: usize) -> bool {
    let Ok(driver) = driver(Device::CUDA_HOST) else { return false };
    let is_locked = |byte: *const u8| {
        let mut memory_type = 0_u32;
        let value = (&raw mut memory_type).cast();
        // SAFETY: `memory_type` is a local variable of the attribute's type to write to; the driver
        // returns an error for an address that it does not know.
        let known = unsafe { driver.pointer_attribute(value, POINTER_MEMORY_TYPE, address(byte)) };
        known.is_ok() && memory_type == MEMORYTYPE_HOST
    };
    bytes > 0 && is_locked(start) && is_locked(start.wrapping_add(bytes - 1))
}

/// [`Error::OutOfMemory`] for the driver's error that says so.
fn name_out_of_memory(error: Error, bytes: usize) -> Error {
    match error {
        Error::Cuda { code: CUDA_ERROR_OUT_OF_MEMORY, .. } => Error::OutOfMemory { bytes },
        error => error,
    }
}
