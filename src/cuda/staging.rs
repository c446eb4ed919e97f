//! Page-locked memory that others' memory goes through on its way to a device and back: while the device is
//! busy with one half, the host is with the other.
//!
//! Invariant: a half is written by the host only after the device is done with it, and by the device only after
//! the host is and after what the device did with it before.

use std::mem::ManuallyDrop;
use std::sync::PoisonError;

use super::context::Context;
use super::memory::PinnedBuffer;
use super::stream::{Event, Stream};
use crate::Result;

/// Bytes of a half. Small enough for near caches, large enough for the bus.
pub(super) const HALF: usize = 4 << 20;

/// Two halves.
pub(super) struct Staging {
    halves: [Half; 2],
}

/// One of them.
pub(super) struct Half {
    memory: PinnedBuffer,
    /// Where the device is done with it.
    done: Event,
}

impl Half {
    fn new(context: &'static Context) -> Result<Self> {
        Ok(Self { memory: PinnedBuffer::new(HALF, context)?, done: Event::new(context)? })
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

/// Lets a transfer use a pair of halves of the stream's device, which are kept for later ones.
pub(super) fn with_halves(
    stream: &Stream,
    run: impl FnOnce(&[Half; 2]) -> Result<()>,
) -> Result<()> {
    let context = stream.context;
    let kept = context.stagings.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let staging = match kept {
        Some(staging) => staging,
        None => Staging { halves: [Half::new(context)?, Half::new(context)?] },
    };
    // Should anything panic, or nobody know what the device still does with it, it is kept for ever.
    let staging = ManuallyDrop::new(staging);
    let outcome = run(&staging.halves);
    if outcome.is_ok() || stream.synchronize().is_ok() {
        let staging = ManuallyDrop::into_inner(staging);
        context.stagings.lock().unwrap_or_else(PoisonError::into_inner).push(staging);
    }
    outcome
}
