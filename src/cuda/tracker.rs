//! The order of streams: which work on a device's memory runs before which.
//!
//! A CUDA stream is a queue: the device does what is put on one stream in that order, and does the
//! work of different streams in any order, unless a stream is told to wait for another one
//! ([`Stream::wait_for`]). The host waits for none of this. Memory on which several streams work
//! needs such waits, and this module keeps count of which ones.
//!
//! There is one [`StreamTracker`] for the memory of a storage and of all its views. It has
//! * the *allocation stream*: the contents are ready in the order of this stream, and memory that
//!   this crate allocated is freed on it. For memory that came in it is the legacy default stream,
//!   which `wait_stream` can make wait for another one;
//! * the *recorded streams*: all other streams on which the memory is in use.
//!
//! The life of a copy on a stream `s`, and of a consumer's use on a stream `c`:
//!
//! ```text
//! order_after_users(s)   s waits for the allocation stream and for every recorded stream
//! ... the copy is put on s ...
//! wait_stream(s)         the allocation stream waits for the copy; s need not be recorded
//!
//! StreamUse::new(c)      as order_after_users(c); then c is recorded
//! ... the consumer puts work on c, which this crate does not see ...
//! drop(StreamUse)        the allocation stream waits for c; c is not recorded any more
//!
//! record_stream(c)       as StreamUse::new, but until the memory is released
//! join_all()             at the release: the allocation stream waits for every recorded stream;
//!                        then the memory is freed on the allocation stream
//! ```
//!
//! Invariants:
//! * work that this crate puts on a stream runs after all work that was put on the allocation
//!   stream
//!   and on the recorded streams before, and the allocation stream waits for it;
//! * when a use ends, and when the memory is released, the allocation stream waits for all work
//!   that
//!   is on those streams by then. Memory that this crate allocated is freed on the allocation
//!   stream, or never if some stream could not be waited for;
//! * a stream stays recorded until the allocation stream waits for it, so that a wait that failed
//!   is tried again at the release;
//! * no stream is dropped or waited for while the list of recorded streams is locked:
//!   [`RecordedStreams`] ensures it.

#![forbid(unsafe_code)]

use super::driver::CUDA_ERROR_INVALID_HANDLE;
use super::recorded_streams::RecordedStreams;
use super::stream::Stream;
use crate::sync::Arc;
use crate::{Error, Result};

/// The streams that use the memory of a storage.
pub(crate) struct StreamTracker {
    /// The same stream on every thread.
    alloc_stream: Stream,
    /// Whether the memory is freed in the order of the allocation stream, so that it is not freed
    /// before anything that this crate does with it. False if code outside this crate frees it.
    pub(super) frees_in_order: bool,
    /// Other streams, each of which is the same on every thread.
    pub(super) recorded: RecordedStreams,
}

impl StreamTracker {
    /// `alloc_stream` is the same stream on every thread.
    pub(super) fn new(alloc_stream: &Stream, frees_in_order: bool) -> Arc<Self> {
        let recorded = RecordedStreams::default();
        Arc::new(Self { alloc_stream: alloc_stream.clone(), frees_in_order, recorded })
    }

    /// Makes `stream` wait for the contents, and for all streams that may still write them.
    pub(super) fn order_after_users(&self, stream: &Stream) -> Result<()> {
        stream.wait_for(&self.alloc_stream)?;
        for user in self.recorded.snapshot() {
            let Err(error) = stream.wait_for(&user) else { continue };
            // If the stream's owner destroyed it too early, one wait for everything on the device
            // includes what was on the stream.
            let answer = user.is_capturing();
            let is_destroyed =
                matches!(answer, Err(Error::Cuda { code: CUDA_ERROR_INVALID_HANDLE, .. }));
            if !is_destroyed || user.context.synchronize().is_err() {
                return Err(error);
            }
            drop(self.recorded.remove(&user));
        }
        Ok(())
    }

    /// Makes the allocation stream wait for what was put on `stream` so far.
    pub(crate) fn wait_stream(&self, stream: &Stream) -> Result<()> {
        self.alloc_stream.wait_for(stream)
    }

    /// Makes the contents ready on `stream`, and records it until the memory is released.
    pub(crate) fn record_stream(&self, stream: &Stream) -> Result<()> {
        self.order_after_users(stream)?;
        self.record_until_release(stream);
        Ok(())
    }

    /// As [`record_stream`](Self::record_stream), for a stream that could not be made to wait: the
    /// host waits instead. `stream` is recorded even if that fails.
    pub(super) fn record_stream_blocking(&self, stream: &Stream) -> Result<()> {
        let users = self.recorded.snapshot();
        self.record_until_release(stream);
        self.alloc_stream.synchronize()?;
        users.iter().try_for_each(|user| user.synchronize().or_else(|_| user.context.synchronize()))
    }

    fn record_until_release(&self, stream: &Stream) {
        let stream = stream.for_every_thread();
        if stream != self.alloc_stream {
            self.recorded.add_until_release(&stream);
        }
    }

    fn begin_use(&self, stream: &Stream) {
        let stream = stream.for_every_thread();
        if stream != self.alloc_stream {
            self.recorded.begin_use(&stream);
        }
    }

    /// Ends a use that [`begin_use`](Self::begin_use) began: what is freed later comes after it.
    fn end_use(&self, stream: &Stream) {
        if *stream == self.alloc_stream {
            return;
        }
        if !self.join(stream) {
            // The release of the memory tries again.
            self.record_until_release(stream);
        }
        drop(self.recorded.end_use(stream));
    }

    /// Orders the allocation stream after `stream`, or blocks the host if that fails. Returns false
    /// if neither worked.
    fn join(&self, stream: &Stream) -> bool {
        if self.alloc_stream.wait_for(stream).is_ok() {
            return true;
        }
        // A stream on which a graph is being captured cannot be waited for, and trying it would
        // invalidate the graph.
        let is_capturing = [stream, &self.alloc_stream]
            .iter()
            .any(|stream| stream.is_capturing().is_ok_and(|is_capturing| is_capturing));
        !is_capturing && (stream.synchronize().is_ok() || stream.context.synchronize().is_ok())
    }

    /// Orders the allocation stream after all recorded streams, which are not recorded any more.
    /// Returns false if some could not be waited for.
    pub(super) fn join_all(&self) -> bool {
        // The owner of a stream may panic when it is dropped, so all streams are joined first.
        let users = self.recorded.take_all();
        users.iter().filter(|user| !self.join(user)).count() == 0
    }
}

impl Drop for StreamTracker {
    fn drop(&mut self) {
        let _all_joined = self.join_all();
    }
}

/// A use of memory on a stream, which ends when this is dropped.
pub(crate) struct StreamUse(Option<Box<ActiveUse>>);

struct ActiveUse {
    tracker: Arc<StreamTracker>,
    /// The same stream on every thread.
    stream: Stream,
}

impl StreamUse {
    /// No use.
    pub(crate) const NONE: Self = Self(None);

    /// Makes the contents ready on `stream`, and begins a use of the memory there.
    pub(crate) fn new(tracker: &Arc<StreamTracker>, stream: &Stream) -> Result<Self> {
        tracker.order_after_users(stream)?;
        tracker.begin_use(stream);
        let (tracker, stream) = (Arc::clone(tracker), stream.for_every_thread());
        Ok(Self(Some(Box::new(ActiveUse { tracker, stream }))))
    }

    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Ends the use, and records its stream until the memory is released.
    #[cfg(feature = "torch")]
    pub(crate) fn keep_until_release(self) {
        if let Some(ActiveUse { tracker, stream }) = self.0.as_deref() {
            tracker.record_until_release(stream);
        }
    }
}

impl Drop for StreamUse {
    #[inline]
    fn drop(&mut self) {
        if let Some(active) = self.0.take() {
            end(*active);
        }
    }
}

/// Ends a use. Apart from `drop`, so that dropping [`StreamUse::NONE`] stays small.
#[cold]
#[inline(never)]
fn end(ActiveUse { tracker, stream }: ActiveUse) {
    tracker.end_use(&stream);
}
