//! In which order memory of a device is used, and when it may be used for something else.
//!
//! Invariants, for the memory of one storage:
//! * what this crate puts on a stream comes after all that was put on the memory's home stream, and on the
//!   streams that it was handed to, before; and home comes after it;
//! * when the storage is dropped, home comes after all that is on those streams by then. Memory of ours is
//!   freed on home; the host waits for nothing.

use std::sync::{Mutex, PoisonError};

use super::stream::Stream;
use crate::Result;

/// Who uses the memory of a storage.
pub(crate) struct Order {
    /// The contents are there in the order of this stream.
    home: Stream,
    /// Other streams that the memory was handed to.
    users: Mutex<Vec<Stream>>,
}

impl Order {
    pub(super) fn new(home: &Stream) -> Self {
        Self { home: home.for_every_thread(), users: Mutex::new(Vec::new()) }
    }

    /// Makes a stream wait for the contents, and for everybody who may still write them.
    pub(super) fn before(&self, stream: &Stream) -> Result<()> {
        stream.wait_for(&self.home)?;
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.iter().try_for_each(|user| stream.wait_for(user))
    }

    /// Makes home wait for what was put on a stream.
    pub(super) fn after(&self, stream: &Stream) -> Result<()> {
        self.home.wait_for(stream)
    }

    /// Hands the memory to a stream, for as long as the storage lives.
    pub(super) fn hand_to(&self, stream: &Stream) -> Result<()> {
        self.before(stream)?;
        let user = stream.for_every_thread();
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if user != self.home && !users.contains(&user) {
            users.push(user);
        }
        Ok(())
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        let users = self.users.get_mut().unwrap_or_else(PoisonError::into_inner);
        for user in users.drain(..) {
            if self.home.wait_for(&user).is_err() {
                // Its owner may have destroyed the stream too early: then wait for everything.
                let _broken = user.context.synchronize();
            }
        }
    }
}
