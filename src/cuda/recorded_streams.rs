//! The streams that a tracker has recorded, behind a lock.
//!
//! Dropping a [`Stream`] may drop an owner, which runs code outside this crate. That code may
//! panic, block, or call the same tracker. It never runs while the lock is held: the lock's guard
//! never leaves this module, no function here waits for a stream, and a method that removes streams
//! returns them, so the caller drops them after the lock is free.

#![forbid(unsafe_code)]

use std::mem;
use std::sync::PoisonError;

use smallvec::SmallVec;

use super::stream::Stream;
use crate::sync::{Mutex, MutexGuard};

/// A list of streams. One stream needs no allocation.
pub(super) type Streams = SmallVec<[Stream; 1]>;

/// The recorded streams, each once, with the reasons why it is recorded.
#[derive(Default)]
pub(super) struct RecordedStreams(Mutex<SmallVec<[Recorded; 1]>>);

struct Recorded {
    stream: Stream,
    /// How many uses have begun and not ended.
    uses: usize,
    /// Whether the stream stays recorded until the memory is released, whatever `uses` is.
    until_release: bool,
}

impl RecordedStreams {
    fn lock(&self) -> MutexGuard<'_, SmallVec<[Recorded; 1]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The streams that are recorded now.
    pub(super) fn snapshot(&self) -> Streams {
        self.lock().iter().map(|recorded| recorded.stream.clone()).collect()
    }

    /// Records one more use on `stream`.
    pub(super) fn begin_use(&self, stream: &Stream) {
        self.add(stream, 1, false);
    }

    /// Records `stream` until the memory is released.
    pub(super) fn add_until_release(&self, stream: &Stream) {
        self.add(stream, 0, true);
    }

    fn add(&self, stream: &Stream, uses: usize, until_release: bool) {
        let mut list = self.lock();
        match list.iter_mut().find(|recorded| recorded.stream == *stream) {
            Some(recorded) => {
                recorded.uses += uses;
                recorded.until_release |= until_release;
            }
            None => list.push(Recorded { stream: stream.clone(), uses, until_release }),
        }
    }

    /// Ends one use on `stream`. If there is no other reason to record the stream, removes and
    /// returns it.
    #[must_use = "the stream may have an owner: drop it where no lock is held"]
    pub(super) fn end_use(&self, stream: &Stream) -> Option<Stream> {
        let mut list = self.lock();
        let index = list.iter().position(|recorded| recorded.stream == *stream)?;
        let recorded = &mut list[index];
        recorded.uses = recorded.uses.saturating_sub(1);
        let is_needed = recorded.until_release || recorded.uses > 0;
        if is_needed { None } else { Some(list.swap_remove(index).stream) }
    }

    /// Removes `stream`, for whatever reasons it is recorded.
    #[must_use = "the stream may have an owner: drop it where no lock is held"]
    pub(super) fn remove(&self, stream: &Stream) -> Option<Stream> {
        let mut list = self.lock();
        let index = list.iter().position(|recorded| recorded.stream == *stream)?;
        Some(list.swap_remove(index).stream)
    }

    /// Removes all streams.
    #[must_use = "the streams may have owners: drop them where no lock is held"]
    pub(super) fn take_all(&self) -> Streams {
        let list = mem::take(&mut *self.lock());
        list.into_iter().map(|recorded| recorded.stream).collect()
    }
}
