//! In which order memory of a device is used, and when it may be used for something else.
//!
//! Invariants, for the memory of one storage and of views of it:
//! * what this crate puts on a stream comes after all that was put on the memory's allocation stream, and on the
//!   streams that it was handed to, before; and the allocation stream comes after it;
//! * when a use ends, and when the memory is released, the allocation stream comes after all that is on those streams by then.
//!   Memory of ours is freed on the allocation stream, or, where nobody could be waited for, never; the host waits for nothing;
//! * owners of streams are dropped, and anybody is waited for, outside the lock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use super::driver::INVALID_HANDLE;
use super::stream::Stream;
use crate::{Error, Result};

/// Who uses the memory of a storage.
pub(crate) struct StreamTracker {
    /// The contents are there in the order of this stream, and memory of ours is freed on it.
    alloc_stream: Stream,
    /// Whether the memory is freed in the allocation stream's order: not before anything that this crate does with it.
    pub(super) frees_in_order: bool,
    /// Other streams that the memory was handed to, each once.
    users: Mutex<Users>,
}

type Users = SmallVec<[User; 1]>;

struct User {
    stream: Stream,
    /// How many uses there are.
    uses: usize,
    /// Whether it stays until the memory is released.
    stays: bool,
}

impl StreamTracker {
    /// `alloc_stream` is the same stream on every thread.
    pub(super) fn new(alloc_stream: &Stream, frees_in_order: bool) -> Arc<Self> {
        Arc::new(Self {
            alloc_stream: alloc_stream.clone(),
            frees_in_order,
            users: Mutex::default(),
        })
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn streams(&self) -> SmallVec<[Stream; 1]> {
        self.users().iter().map(|user| user.stream.clone()).collect()
    }

    /// Makes a stream wait for the contents, and for everybody who may still write them.
    pub(super) fn order_after_users(&self, stream: &Stream) -> Result<()> {
        stream.wait_for(&self.alloc_stream)?;
        for user in self.streams() {
            if let Err(error) = stream.wait_for(&user) {
                // Where its owner destroyed it too early, one wait for everything stands for what it did.
                let answer = user.is_capturing();
                let is_gone = matches!(answer, Err(Error::Cuda { code: INVALID_HANDLE, .. }));
                if !is_gone || user.context.synchronize().is_err() {
                    return Err(error);
                }
                let mut users = self.users();
                let place = users.iter().position(|known| known.stream == user);
                let gone = place.map(|place| users.swap_remove(place));
                drop(users);
                drop(gone);
            }
        }
        Ok(())
    }

    /// Makes the allocation stream wait for what was put on a stream.
    pub(crate) fn wait_stream(&self, stream: &Stream) -> Result<()> {
        self.alloc_stream.wait_for(stream)
    }

    /// Hands the memory to a stream until it is released.
    pub(crate) fn record_stream(&self, stream: &Stream) -> Result<()> {
        self.order_after_users(stream)?;
        self.add(stream, 0, true);
        Ok(())
    }

    /// The same where the device cannot be made to wait: the host does, and hands it over in any case.
    pub(super) fn record_stream_blocking(&self, stream: &Stream) -> Result<()> {
        let users = self.streams();
        self.add(stream, 0, true);
        self.alloc_stream.synchronize()?;
        users.iter().try_for_each(|user| user.synchronize().or_else(|_| user.context.synchronize()))
    }

    fn add(&self, stream: &Stream, uses: usize, stays: bool) {
        let stream = stream.for_every_thread();
        if stream == self.alloc_stream {
            return;
        }
        let mut users = self.users();
        match users.iter_mut().find(|user| user.stream == stream) {
            Some(user) => {
                user.uses += uses;
                user.stays |= stays;
            }
            None => users.push(User { stream, uses, stays }),
        }
    }

    /// Ends a use.
    fn remove(&self, stream: &Stream) {
        let mut users = self.users();
        let Some(place) = users.iter().position(|user| user.stream == *stream) else { return };
        users[place].uses = users[place].uses.saturating_sub(1);
        let last = !users[place].stays && users[place].uses == 0;
        let left = last.then(|| users.swap_remove(place));
        drop(users);
        drop(left);
    }

    /// Makes the allocation stream wait for a user who leaves; where that cannot be, the host waits. Says whether anybody did.
    fn join(&self, stream: &Stream) -> bool {
        if self.alloc_stream.wait_for(stream).is_ok() {
            return true;
        }
        // A stream that captures a graph cannot be waited for; to try would spoil the graph.
        let captures = [stream, &self.alloc_stream]
            .iter()
            .any(|stream| stream.is_capturing().is_ok_and(|captures| captures));
        !captures && (stream.synchronize().is_ok() || stream.context.synchronize().is_ok())
    }

    /// Makes the allocation stream wait for all users, who leave. Says whether all could be waited for.
    pub(super) fn join_all(&self) -> bool {
        // An owner of a stream may panic when it is dropped: not before all have been waited for.
        let users = std::mem::take(&mut *self.users());
        users.iter().filter(|user| !self.join(&user.stream)).count() == 0
    }
}

impl Drop for StreamTracker {
    fn drop(&mut self) {
        let _all = self.join_all();
    }
}

/// A use of memory on a stream, which ends when this is dropped.
pub(crate) struct StreamUse(Option<Box<Used>>);

struct Used {
    tracker: Arc<StreamTracker>,
    stream: Stream,
}

impl StreamUse {
    /// None.
    pub(crate) const NONE: Self = Self(None);

    /// Makes the contents ready on a stream.
    pub(crate) fn new(tracker: &Arc<StreamTracker>, stream: &Stream) -> Result<Self> {
        tracker.order_after_users(stream)?;
        tracker.add(stream, 1, false);
        Ok(Self(Some(Box::new(Used {
            tracker: Arc::clone(tracker),
            stream: stream.for_every_thread(),
        }))))
    }

    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Has it last as long as the memory.
    #[cfg(feature = "torch")]
    pub(crate) fn keep_until_release(self) {
        if let Some(used) = &self.0 {
            used.tracker.add(&used.stream, 0, true);
        }
    }
}

impl Drop for StreamUse {
    #[inline]
    fn drop(&mut self) {
        if let Some(used) = self.0.take() {
            end(*used);
        }
    }
}

/// Ends a use.
#[cold]
#[inline(never)]
fn end(Used { tracker, stream }: Used) {
    if stream == tracker.alloc_stream {
        return;
    }
    if !tracker.join(&stream) {
        // Tried again when the memory is released.
        tracker.add(&stream, 0, true);
    }
    tracker.remove(&stream);
}
