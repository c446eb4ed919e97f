//! Copies between buffers, at least one of which is not on the host: into new memory or into memory
//! that exists, each in the order of streams.

use super::context::Context;
use super::device_copy::{CopyStreams, DeviceCopy, Endpoint, Location};
use super::elements::Elements;
use super::memory::{self, DeviceBuffer, OwnedBuffer, PinnedBuffer};
use super::stream::{Event, Stream};
use super::tracker::StreamTracker;
use crate::buffer::Buffer;
use crate::copy::Memory;
use crate::host_copy::layout_of_copy;
use crate::shared_buffer::SharedBuffer;
use crate::sync::Arc;
use crate::{Descriptor, Device, Error, Layout, MemoryFormat, Result};

/// The tracker of a buffer's memory. Memory that has none yet is used in the order of the legacy
/// default stream.
pub(crate) fn tracker(
    buffer: &SharedBuffer,
    context: &'static Context,
) -> Result<Arc<StreamTracker>> {
    if let Some(tracker) = buffer.storage().device_state().get() {
        return Ok(tracker);
    }
    let alloc_stream = Stream::legacy_default(Device::cuda(context.index))?;
    Ok(buffer.storage().device_state().get_or_set(StreamTracker::new(&alloc_stream, false)))
}

/// The tracker of a buffer's memory, and `None` for memory that is not on a CUDA device.
pub(crate) fn tracker_of(buffer: &SharedBuffer) -> Result<Option<Arc<StreamTracker>>> {
    match buffer.descriptor().device().on_cuda() {
        Some(device) => tracker(buffer, Context::of(device)?).map(Some),
        None => Ok(None),
    }
}

/// A copy that was put on streams, and may not be done yet.
pub(crate) struct PendingCopy {
    /// Whether a device still reads or writes the host's memory.
    uses_host_memory: bool,
    /// The event behind the last work of the copy. `None` if no caller waits for it.
    done: Option<Event>,
    streams: CopyStreams,
}

impl PendingCopy {
    /// Whether the copy is done.
    pub(crate) fn is_done(&self) -> Result<bool> {
        self.done.as_ref().map_or(Ok(true), Event::is_past)
    }

    /// Waits until the copy is done. If that fails and it is not known what the device still does,
    /// the memory of both buffers is leaked.
    pub(crate) fn wait(&self, source: &SharedBuffer, target: &SharedBuffer) -> Result<()> {
        let Some(done) = &self.done else { return Ok(()) };
        done.wait().inspect_err(|_| leak_unless_drained(&self.streams, source, target))
    }

    /// Waits as [`wait`](Self::wait) does, if a device still uses the host's memory.
    pub(crate) fn wait_for_host_memory(
        &self,
        source: &SharedBuffer,
        target: &SharedBuffer,
    ) -> Result<()> {
        if self.uses_host_memory { self.wait(source, target) } else { Ok(()) }
    }
}

/// After a failure: waits until the streams are empty, and leaks the memory if that fails too.
fn leak_unless_drained(streams: &CopyStreams, source: &SharedBuffer, target: &SharedBuffer) {
    if !streams.drain() {
        std::mem::forget((source.share(), target.share()));
    }
}

/// The memory of one side of a copy that is on a device, and the stream that works on it.
struct DeviceSide {
    tracker: Arc<StreamTracker>,
    stream: Stream,
}

impl DeviceSide {
    fn new(
        buffer: &SharedBuffer,
        location: Location,
        stream: Option<&Stream>,
    ) -> Result<Option<Self>> {
        match (location, stream) {
            (Location::Device(context), Some(stream)) => {
                Ok(Some(Self { tracker: tracker(buffer, context)?, stream: stream.clone() }))
            }
            _ => Ok(None),
        }
    }
}

/// Puts a copy of the elements of `source` to those of `target` on `streams`. If `watch` is true,
/// the result can tell when the copy is done.
///
/// # Safety
/// * The two have one shape and element type; the target may be written, overlaps neither itself
///   nor the source, and no other code uses it.
/// * As long as the result uses the host's memory, the caller keeps that memory, and keeps other
///   code from it.
unsafe fn start(
    source: &SharedBuffer,
    target: &SharedBuffer,
    streams: CopyStreams,
    memory: Memory,
    watch: bool,
) -> Result<PendingCopy> {
    let (from, to) = (source.descriptor(), target.descriptor());
    let locations = (Location::of(from.device())?, Location::of(to.device())?);
    let bytes;
    let (from_layout, to_layout, itemsize) = match from.itemsize() {
        Some(itemsize) => (from.layout(), to.layout(), itemsize),
        // Elements below a byte are contiguous on both sides.
        None => {
            bytes = Layout::contiguous([i64::try_from(from.nbytes()).unwrap_or(i64::MAX)])?;
            (&bytes, &bytes, 1)
        }
    };
    let endpoint = |location, descriptor: &Descriptor, layout| {
        let data = descriptor.data_ptr().cast();
        Endpoint { location, elements: Elements { data, layout } }
    };
    let sides = [
        DeviceSide::new(source, locations.0, streams.source.as_ref())?,
        DeviceSide::new(target, locations.1, streams.target.as_ref())?,
    ];
    let copy = DeviceCopy {
        source: endpoint(locations.0, from, from_layout),
        target: endpoint(locations.1, to, to_layout),
        itemsize,
        memory,
        streams,
    };
    // Before any work of the copy: the streams wait for all that may still use the memory.
    for DeviceSide { tracker, stream } in sides.iter().flatten() {
        tracker.order_after_users(stream)?;
    }
    // SAFETY: the caller guarantees what the copy requires of both sides, and the streams wait for
    // earlier users of the memory.
    match unsafe { run(&copy, &sides, watch) } {
        Ok((uses_host_memory, done)) => {
            Ok(PendingCopy { uses_host_memory, done, streams: copy.streams })
        }
        Err(error) => {
            // Some of the work may be on the streams already.
            leak_unless_drained(&copy.streams, source, target);
            Err(error)
        }
    }
}

/// Puts the work of a copy on its streams, which wait for earlier users already; then has later
/// users wait for the work. Returns whether a device still uses the host's memory, and the event
/// that marks the end of the copy if one is needed.
///
/// The order of lines matters:
/// 1. The copy is put on the streams. An error here or later leaves work on them: see `start`.
/// 2. The allocation streams wait for the copy, so that what uses or frees the memory later comes
///    after it. Until then nothing but the copy's own streams knows of the work.
/// 3. An event is recorded behind the last work. It is needed by a caller that watches the copy, by
///    one that has to wait until the device is done with the host's memory, and by step 4.
/// 4. Memory that code outside this crate owns may be freed by that code as soon as this call
///    returns, in no order with the streams. So the host waits for a copy from or to such memory.
///
/// # Safety
/// * As for [`DeviceCopy::run`].
unsafe fn run(
    copy: &DeviceCopy<'_>,
    sides: &[Option<DeviceSide>; 2],
    watch: bool,
) -> Result<(bool, Option<Event>)> {
    // A copy between devices runs no code from outside this crate from here on, so one context can
    // stay entered. A copy of host memory may run such code, so there each call of the driver
    // enters the context by itself.
    let _entered = match (copy.source.location, copy.target.location) {
        (Location::Device(context), Location::Device(_)) => Some(context.enter()?),
        _ => None,
    };
    // SAFETY: the caller guarantees what `DeviceCopy::run` requires of both ends.
    let uses_host_memory = unsafe { copy.run() }?;
    for DeviceSide { tracker, stream } in sides.iter().flatten() {
        tracker.wait_stream(stream)?;
    }
    let others_free_memory = sides.iter().flatten().any(|side| !side.tracker.frees_in_order);
    let done = if watch || uses_host_memory || others_free_memory {
        copy.streams.last().map(Event::record).transpose()?
    } else {
        None
    };
    if let Some(done) = done.as_ref().filter(|_| others_free_memory) {
        done.wait()?;
    }
    Ok((uses_host_memory, done))
}

/// Copies elements to those of another buffer, and waits until the host's memory is not in use any
/// more.
///
/// # Safety
/// * The two have one shape and element type; the target may be written, overlaps neither itself
///   nor the source, and no other code uses it during the call.
pub(crate) unsafe fn copy_into(
    source: &SharedBuffer,
    target: &SharedBuffer,
    stream: Option<&Stream>,
    memory: Memory,
) -> Result<()> {
    let location = |buffer: &SharedBuffer| Location::of(buffer.descriptor().device());
    let streams = CopyStreams::new(location(source)?, location(target)?, stream)?;
    // SAFETY: the caller guarantees it; both buffers live until the wait is over.
    let pending = unsafe { start(source, target, streams, memory, false) }?;
    pending.wait_for_host_memory(source, target)
}

/// New memory for the elements of `source` in this layout, which is dense: on a CUDA device for
/// work on `stream`, on the host without a stream. Also says whether the memory was used before.
///
/// # Safety
/// * The caller has every element written, in the order of `stream`, before it gives the result
///   out.
unsafe fn allocate(
    source: &Descriptor,
    device: Device,
    layout: Layout,
    stream: Option<&Stream>,
) -> Result<(SharedBuffer, Memory)> {
    let bytes = source.nbytes();
    let descriptor = |data| source.relocated_to_device(data, layout, device);
    let Some(stream) = stream else {
        if device == Device::CUDA_HOST {
            let near = source.device().on_cuda().unwrap_or(Device::cuda(0));
            let memory = PinnedBuffer::new(bytes, Context::of(near)?)?;
            let descriptor = descriptor(memory.as_ptr());
            // SAFETY: new memory of sufficient size; the caller has the elements written.
            return Ok((unsafe { SharedBuffer::copied(memory, descriptor) }, Memory::Fresh));
        }
        let memory = Buffer::uninit(bytes)?;
        let descriptor = descriptor(memory.as_ptr());
        let state = if memory.is_warm() { Memory::Used } else { Memory::Fresh };
        // SAFETY: new memory of sufficient size; the caller has the elements written.
        return Ok((unsafe { SharedBuffer::copied(memory, descriptor) }, state));
    };
    let memory = DeviceBuffer::new(bytes, stream)?;
    let tracker = StreamTracker::new(memory.alloc_stream(), true);
    let descriptor = descriptor(memory.as_ptr());
    // SAFETY: new memory of sufficient size, which the owner frees after all uses that the tracker
    // knows; the caller has the elements written.
    let buffer =
        unsafe { SharedBuffer::copied(OwnedBuffer::new(memory, Arc::clone(&tracker)), descriptor) };
    buffer.storage().device_state().get_or_set(tracker);
    Ok((buffer, Memory::Fresh))
}

/// Starts to copy a buffer to new memory of a device. If `watch` is true, the pending copy can tell
/// when it is done.
///
/// # Safety
/// * The caller waits for the pending copy before it gives host memory out, and keeps both buffers
///   until then.
pub(crate) unsafe fn start_copy_to(
    source: &SharedBuffer,
    device: Device,
    format: MemoryFormat,
    stream: Option<&Stream>,
    watch: bool,
) -> Result<(SharedBuffer, PendingCopy)> {
    if ![Device::CPU, Device::CUDA_HOST].contains(&device) && device != Device::cuda(device.index) {
        return Err(Error::UnsupportedDevice { device, target: "dlbridge's copies" });
    }
    let layout = layout_of_copy(source.descriptor(), format)?;
    let from = Location::of(source.descriptor().device())?;
    let streams = CopyStreams::new(from, Location::of(device)?, stream)?;
    // SAFETY: the copy that is started next writes every element.
    let (target, memory) =
        unsafe { allocate(source.descriptor(), device, layout, streams.target.as_ref()) }?;
    // SAFETY: new memory, dense and as large as the elements; callers wait, and keep both buffers.
    let pending = unsafe { start(source, &target, streams, memory, watch) }?;
    Ok((target, pending))
}

/// Copies a buffer to new memory of a device.
pub(crate) fn copy_to(
    source: &SharedBuffer,
    device: Device,
    format: MemoryFormat,
    stream: Option<&Stream>,
) -> Result<SharedBuffer> {
    // SAFETY: both buffers live until the wait below is over, which comes before the result is
    // used.
    let (target, pending) = unsafe { start_copy_to(source, device, format, stream, false) }?;
    pending.wait_for_host_memory(source, &target)?;
    Ok(target)
}

/// Whether host memory is page-locked.
pub(crate) fn is_pinned(descriptor: &Descriptor) -> bool {
    let (start, bytes) = descriptor.span();
    memory::is_pinned(start, bytes)
}

/// Makes memory ready for work on the legacy default stream. Every export without a stream is.
pub(crate) fn record_default_stream(buffer: &SharedBuffer) -> Result<()> {
    // Devices of other vendors have no streams that this crate knows. Without a driver a CUDA
    // device has none either.
    let Ok(Location::Device(context)) = Location::of(buffer.descriptor().device()) else {
        return Ok(());
    };
    let tracker = tracker(buffer, context)?;
    let default = Stream::legacy_default(Device::cuda(context.index))?;
    tracker.record_stream(&default).or_else(|_| tracker.record_stream_blocking(&default))
}

/// Makes `view`, a part of the memory of `base`, use the tracker of `base`.
pub(crate) fn share_tracker(view: &SharedBuffer, base: &SharedBuffer) {
    if let Ok(Location::Device(context)) = Location::of(base.descriptor().device())
        && let Ok(tracker) = tracker(base, context)
    {
        view.storage().device_state().get_or_set(tracker);
    }
}
