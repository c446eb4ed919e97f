//! Page-locked memory that others' memory goes through on its way to a device and back: while the device is
//! busy with one buffer, the host is with the other.
//!
//! Invariant: a buffer is written by the host only after the device is done with it, and by the device only after
//! the host is and after what the device did with it before.

use std::mem::ManuallyDrop;
use std::sync::PoisonError;

use super::context::Context;
use super::memory::PinnedBuffer;
use super::stream::{Event, Stream};
use crate::Result;

/// Bytes of a buffer. Small enough for near caches, large enough for the bus.
pub(super) const BOUNCE_BUFFER_BYTES: usize = 4 << 20;

/// Two buffers.
pub(super) struct BounceBuffers {
    buffers: [BounceBuffer; 2],
}

/// One of them.
pub(super) struct BounceBuffer {
    memory: PinnedBuffer,
    /// Where the device is done with it.
    done: Event,
}

impl BounceBuffer {
    fn new(context: &'static Context) -> Result<Self> {
        Ok(Self {
            memory: PinnedBuffer::new(BOUNCE_BUFFER_BYTES, context)?,
            done: Event::new(context)?,
        })
    }

    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.memory.as_ptr()
    }

    /// Waits until the device is done with it.
    pub(super) fn wait(&self) -> Result<()> {
        self.done.wait()
    }

    /// Says that the device uses it in what was put on this stream so far.
    pub(super) fn in_use_on(&self, stream: &Stream) -> Result<()> {
        self.done.move_to(stream)
    }
}

/// Lets a transfer use a pair of buffers of the stream's device, which are kept for later ones.
pub(super) fn with_bounce_buffers(
    stream: &Stream,
    run: impl FnOnce(&[BounceBuffer; 2]) -> Result<()>,
) -> Result<()> {
    let context = stream.context;
    let kept = context.bounce_buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let buffers = match kept {
        Some(buffers) => buffers,
        None => {
            BounceBuffers { buffers: [BounceBuffer::new(context)?, BounceBuffer::new(context)?] }
        }
    };
    // Should anything panic, or nobody know what the device still does with it, it is kept for ever.
    let buffers = ManuallyDrop::new(buffers);
    let outcome = run(&buffers.buffers);
    if outcome.is_ok() || stream.synchronize().is_ok() {
        let buffers = ManuallyDrop::into_inner(buffers);
        context.bounce_buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
    }
    outcome
}
