//! In which order memory of a device is used, and when it may be used for something else.
//!
//! Invariants, for the memory of one storage and of views of it:
//! * what this crate puts on a stream comes after all that was put on the memory's home stream, and on the
//!   streams that it was handed to, before; and home comes after it;
//! * when a use ends, and when the memory is released, home comes after all that is on those streams by then.
//!   Memory of ours is freed on home; the host waits for nothing.

use std::sync::{Arc, Mutex, PoisonError};

use super::driver::INVALID_HANDLE;
use super::stream::Stream;
use crate::{Error, Result};

/// Who uses the memory of a storage.
pub(crate) struct Order {
    /// The contents are there in the order of this stream.
    home: Stream,
    /// Whether the memory is freed in home's order: not before anything that this crate does with it.
    pub(super) is_ours: bool,
    /// Other streams that the memory was handed to.
    users: Mutex<Vec<User>>,
}

struct User {
    stream: Stream,
    /// Until the memory is released, not only for one use.
    stays: bool,
}

impl Order {
    /// `home` is the same stream on every thread.
    pub(super) fn new(home: &Stream, is_ours: bool) -> Arc<Self> {
        Arc::new(Self { home: home.clone(), is_ours, users: Mutex::default() })
    }

    /// Makes a stream wait for the contents, and for everybody who may still write them.
    pub(super) fn before(&self, stream: &Stream) -> Result<()> {
        stream.wait_for(&self.home)?;
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outcome = Ok(());
        users.retain(|user| match stream.wait_for(&user.stream) {
            Ok(()) => true,
            Err(error) => {
                // Its owner destroyed the stream too early: one wait for everything stands for what it did.
                let gone = is_gone(&error) && user.stream.context.synchronize().is_ok();
                if !gone && outcome.is_ok() {
                    outcome = Err(error);
                }
                !gone
            }
        });
        outcome
    }

    /// Makes home wait for what was put on a stream.
    pub(super) fn after(&self, stream: &Stream) -> Result<()> {
        self.home.wait_for(stream)
    }

    /// Hands the memory to a stream until it is released. Where that fails it is handed over all the same, but
    /// perhaps not ready.
    pub(super) fn hand_to(&self, stream: &Stream) -> Result<()> {
        self.add(stream, true);
        self.before(stream)
    }

    /// Makes the contents ready for everybody, however long that takes.
    pub(super) fn synchronize(&self) -> Result<()> {
        self.home.synchronize()
    }

    fn add(&self, stream: &Stream, stays: bool) {
        let stream = stream.for_every_thread();
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if stream != self.home && !(stays && users.iter().any(|user| user.stays && user.stream == stream)) {
            users.push(User { stream, stays });
        }
    }

    /// Makes home wait for a user whose use ends.
    fn leave(&self, stream: &Stream) {
        if self.home.wait_for(stream).is_err() && stream.synchronize().is_err() {
            let _broken = stream.context.synchronize();
        }
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        // An owner of a stream may panic when it is dropped: not before all have been waited for.
        let users = std::mem::take(self.users.get_mut().unwrap_or_else(PoisonError::into_inner));
        users.iter().for_each(|user| self.leave(&user.stream));
    }
}

/// A use of memory on a stream, which ends when this is dropped.
pub(crate) struct Use {
    order: Arc<Order>,
    stream: Stream,
}

impl Use {
    /// Makes the contents ready on a stream.
    pub(super) fn new(order: &Arc<Order>, stream: &Stream) -> Result<Self> {
        let stream = stream.clone();
        order.before(&stream)?;
        order.add(&stream, false);
        Ok(Self { order: Arc::clone(order), stream: stream.for_every_thread() })
    }
}

impl Use {
    /// Has it last as long as the memory.
    #[cfg(feature = "torch")]
    pub(crate) fn stay(self) {
        self.order.add(&self.stream, true);
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let Self { order, stream } = self;
        if *stream == order.home {
            return;
        }
        order.leave(stream);
        let mut users = order.users.lock().unwrap_or_else(PoisonError::into_inner);
        let place = users.iter().position(|user| !user.stays && user.stream == *stream);
        let left = place.map(|place| users.swap_remove(place));
        drop(users);
        // Its owner may do anything when it is dropped: not under the lock.
        drop(left);
    }
}

/// Whether the driver does not know a stream any more.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Cuda { code: INVALID_HANDLE, .. })
}
