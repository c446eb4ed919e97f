//! Bounce buffers: page-locked memory through which ordinary host memory is copied to a device and
//! back. While the device works on one buffer of a pair, the host works on the other.
//!
//! Invariant: the host uses a buffer only after the device has finished its work on it. The device
//! uses a buffer only after the host has finished, and after its own earlier work on the buffer.
//! Within one copy the stream and [`BounceBuffer::wait`] ensure this. Between copies, a pair
//! becomes idle only if the copy that used it succeeded or its stream was waited for, and then the
//! events of both buffers mark the end of all work of the device on them.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::sync::{Mutex, PoisonError};

use super::context::Context;
use super::memory::PinnedBuffer;
use super::stream::{Event, Stream};
use crate::Result;

/// Size of one buffer (bytes): small enough for the caches of a core, large enough for the bus to
/// be at full speed.
pub(super) const BOUNCE_BUFFER_BYTES: usize = 4 << 20;

/// A pair of buffers, which are used in turns.
pub(super) type BounceBuffers = [BounceBuffer; 2];

/// The pairs that no copy is using, by the index of their device.
static IDLE: Mutex<BTreeMap<i32, Vec<BounceBuffers>>> = Mutex::new(BTreeMap::new());

pub(super) struct BounceBuffer {
    memory: PinnedBuffer,
    /// The event at the end of the device's work on the memory.
    device_done: Event,
}

impl BounceBuffer {
    fn new(context: &'static Context) -> Result<Self> {
        let memory = PinnedBuffer::new(BOUNCE_BUFFER_BYTES, context)?;
        Ok(Self { memory, device_done: Event::new(context)? })
    }

    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.memory.as_ptr()
    }

    /// Waits until the device is done with the buffer.
    pub(super) fn wait(&self) -> Result<()> {
        self.device_done.wait()
    }

    /// Notes that the device uses the buffer in the work that was put on `stream` so far.
    pub(super) fn record_use(&self, stream: &Stream) -> Result<()> {
        self.device_done.record_on(stream)
    }
}

/// Calls `copy` with a pair of buffers of the device of `stream`. Pairs are kept for later copies.
pub(super) fn with_bounce_buffers(
    stream: &Stream,
    copy: impl FnOnce(&BounceBuffers) -> Result<()>,
) -> Result<()> {
    let context = stream.context;
    let buffers = match take_idle(context.index) {
        Some(buffers) => buffers,
        None => [BounceBuffer::new(context)?, BounceBuffer::new(context)?],
    };
    // If `copy` panics, or if it fails and the stream cannot be waited for, the device may still be
    // using the buffers: then they are leaked.
    let buffers = ManuallyDrop::new(buffers);
    let outcome = copy(&buffers);
    if outcome.is_ok() || stream.synchronize().is_ok() {
        put_idle(context.index, ManuallyDrop::into_inner(buffers));
    }
    outcome
}

fn take_idle(device: i32) -> Option<BounceBuffers> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&device)?.pop()
}

fn put_idle(device: i32, buffers: BounceBuffers) {
    let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    idle.entry(device).or_default().push(buffers);
}
