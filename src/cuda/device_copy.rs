//! Copies to, from, on and between devices: on which streams, and through which memory.
//!
//! A copy takes one of these paths. Elements that go over the bus are *packed*: every element once
//! (those of broadcast dimensions are not repeated), without gaps, in the order of the target's
//! strides.
//!
//! ```text
//! OnDevice    source ──strided copy──► target
//!
//! Upload      source ──HostTransfer──► arrival ──unpack──► target
//!
//! Download    source ──pack──► packed ──HostTransfer──► target, or ──► buffer ──► target
//!
//! PeerToPeer  source ──pack──► packed ──over the bus──► arrival ──unpack──► target
//! ```
//!
//! `pack` and `unpack` are strided copies on the device that the memory is on. They are left out if
//! the elements are packed there already: then `packed` is the source's own memory, and `arrival`
//! the target's. Otherwise `packed` and `arrival` are temporary buffers, which are freed in the
//! order of the stream of their device. `pack` drops gaps and repetitions, and `unpack` restores
//! them. If a download has a source with repetitions, the host restores them, through one more
//! buffer.
//!
//! All work on one device is put on one stream, so it needs no further order. A copy between
//! two devices has a stream on each: the source's stream waits for the target's before it writes
//! there, and the target's stream waits for the source's before it unpacks.
//!
//! The caller orders the streams after earlier users of the memory, and later users after the
//! streams.

use super::context::Context;
use super::driver::address;
use super::elements::{Elements, have_equal_offsets};
use super::host_transfer::{HostTransfer, copy_on_host};
use super::memory::DeviceBuffer;
use super::stream::Stream;
use super::strided_copy::strided_copy;
use crate::buffer::Buffer;
use crate::copy::Memory;
use crate::{Device, Error, Layout, MemoryFormat, Result};

/// Where memory is: copies know the host and CUDA devices.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Location {
    Host,
    Device(&'static Context),
}

impl Location {
    pub(super) fn of(device: Device) -> Result<Self> {
        if device.is_host() {
            return Ok(Self::Host);
        }
        match device.on_cuda() {
            Some(device) => Ok(Self::Device(Context::of(device)?)),
            None => Err(Error::UnsupportedDevice { device, target: "dlbridge's copies" }),
        }
    }
}

/// One end of a copy.
#[derive(Clone, Copy)]
pub(super) struct Endpoint<'a> {
    pub(super) location: Location,
    pub(super) elements: Elements<'a>,
}

/// The streams that a copy is put on: one of the source's device and one of the target's, which are
/// the same on one device. `None` for the host.
pub(super) struct CopyStreams {
    pub(super) source: Option<Stream>,
    pub(super) target: Option<Stream>,
}

impl CopyStreams {
    /// `given` is the stream of its device; another device uses its legacy default stream.
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] if `given` belongs to neither device, unless both ends are on
    /// the host, or if a graph is being captured on one of the streams.
    pub(super) fn new(source: Location, target: Location, given: Option<&Stream>) -> Result<Self> {
        let streams = Self { source: pick(source, given)?, target: pick(target, given)? };
        for stream in streams.distinct() {
            stream.refuse_capture()?;
        }
        let Some(given) = given else { return Ok(streams) };
        let is_used = streams.distinct().any(|stream| stream == given);
        if is_used || streams.last().is_none() {
            return Ok(streams);
        }
        Err(Error::InvalidDescriptor {
            field: "stream".into(),
            value: format!("{given:?}"),
            reason: "the copy does not go to or from its device",
        })
    }

    /// The stream on which the last work of the copy is.
    pub(super) fn last(&self) -> Option<&Stream> {
        self.target.as_ref().or(self.source.as_ref())
    }

    /// Waits until all work on the streams is done. Returns whether that is certain.
    #[must_use = "if the streams cannot be waited for, memory that they use is not to be freed"]
    pub(super) fn drain(&self) -> bool {
        self.distinct().all(|stream| stream.finish().is_ok())
    }

    /// Each stream once.
    fn distinct(&self) -> impl Iterator<Item = &Stream> {
        let other = self.target.as_ref().filter(|&target| self.source.as_ref() != Some(target));
        self.source.iter().chain(other)
    }
}

/// The stream of one end of a copy.
fn pick(location: Location, given: Option<&Stream>) -> Result<Option<Stream>> {
    let Location::Device(context) = location else { return Ok(None) };
    match given {
        Some(given) if given.context == context => Ok(Some(given.clone())),
        _ => Stream::legacy_default(Device::cuda(context.index)).map(Some),
    }
}

/// A copy of the elements of `source` to `target`, which has the same shape.
pub(super) struct DeviceCopy<'a> {
    pub(super) source: Endpoint<'a>,
    pub(super) target: Endpoint<'a>,
    /// Size of one element in bytes.
    pub(super) itemsize: usize,
    /// Where the target's memory comes from, if it is on the host.
    pub(super) memory: Memory,
    pub(super) streams: CopyStreams,
}

/// The path of a copy, with the streams that it is put on.
enum Path<'a> {
    OnHost,
    OnDevice { stream: &'a Stream },
    Upload { stream: &'a Stream },
    Download { stream: &'a Stream },
    PeerToPeer { source_stream: &'a Stream, target_stream: &'a Stream },
}

impl DeviceCopy<'_> {
    fn path(&self) -> Path<'_> {
        match (&self.streams.source, &self.streams.target) {
            (None, None) => Path::OnHost,
            (None, Some(stream)) => Path::Upload { stream },
            (Some(stream), None) => Path::Download { stream },
            (Some(stream), Some(_)) if self.source.location == self.target.location => {
                Path::OnDevice { stream }
            }
            (Some(source_stream), Some(target_stream)) => {
                Path::PeerToPeer { source_stream, target_stream }
            }
        }
    }

    /// Puts the work of the copy on its streams. Returns whether a device still reads or writes the
    /// host's memory afterwards.
    ///
    /// # Safety
    /// * Every element of the source may be read, and every element of the target written: on the
    ///   host from now on until the call returns or, if it returns true, until the work is done; on
    ///   a device in the order of its stream.
    /// * No byte of the target belongs to two of its elements, or to an element of the source.
    pub(super) unsafe fn run(&self) -> Result<bool> {
        let (source, target) = (self.source.elements, self.target.elements);
        if target.layout.is_empty() {
            return Ok(false);
        }
        match self.path() {
            Path::OnHost => {
                // SAFETY: neither end has a stream, so that both are on the host; the caller
                // guarantees access until this returns.
                unsafe { copy_on_host(source, target, self.itemsize, self.memory) };
                Ok(false)
            }
            Path::OnDevice { stream } => {
                // SAFETY: both ends are on the stream's device; the caller guarantees access in the
                // order of the stream.
                unsafe { strided_copy(source, target, self.itemsize, stream) }?;
                Ok(false)
            }
            // SAFETY: the source has no stream, so it is on the host, and the target is on the
            // stream's device; the caller guarantees access to both.
            Path::Upload { stream } => unsafe { self.upload(stream) },
            // SAFETY: the source is on the stream's device, and the target has no stream, so it is
            // on the host; the caller guarantees access to both.
            Path::Download { stream } => unsafe { self.download(stream) },
            Path::PeerToPeer { source_stream, target_stream } => {
                // SAFETY: the ends are on the devices of these streams; the caller guarantees
                // access to both.
                unsafe { self.copy_between_devices(source_stream, target_stream) }?;
                Ok(false)
            }
        }
    }

    /// # Safety
    /// * As for [`run`](Self::run), with the source on the host and the target on the stream's
    ///   device.
    unsafe fn upload(&self, stream: &Stream) -> Result<bool> {
        let layouts = PackedLayouts::new(self)?;
        let arrival = self.arrival(&layouts, stream)?;
        let transfer = HostTransfer {
            host: Elements { data: self.source.elements.data, layout: &layouts.source },
            packed: Elements { data: arrival.as_ptr(), layout: &layouts.packed },
            itemsize: self.itemsize,
            stream,
        };
        // SAFETY: the caller lets the source be read; `arrival` is memory of the target or new, and
        // may be written in the order of the stream.
        match unsafe { transfer.upload() } {
            Ok(uses_host_memory) => {
                // SAFETY: the packed elements are in `arrival` in the order of the stream.
                unsafe { self.unpack(&arrival, &layouts, stream) }?;
                Ok(uses_host_memory)
            }
            Err(error) => {
                arrival.leak_unless_drained(&self.streams);
                Err(error)
            }
        }
    }

    /// # Safety
    /// * As for [`run`](Self::run), with the source on the stream's device and the target on the
    ///   host.
    unsafe fn download(&self, stream: &Stream) -> Result<bool> {
        let layouts = PackedLayouts::new(self)?;
        // SAFETY: the caller lets the source be read in the order of the stream.
        let packed = unsafe { self.pack(&layouts, stream) }?;
        let Self { target, itemsize, memory, .. } = *self;
        let elements = Elements { data: packed.as_ptr(), layout: &layouts.packed };
        let transfer = |host| HostTransfer { host, packed: elements, itemsize, stream };
        if !layouts.repeats {
            // SAFETY: the caller lets the target be written, and `packed` holds the elements in the
            // order of the stream.
            return unsafe { transfer(target.elements).download(memory) };
        }
        let buffer = Buffer::uninit(layouts.packed.len() * itemsize)?;
        let once = Elements { data: buffer.as_ptr(), layout: &layouts.packed };
        // SAFETY: the buffer is new and large enough for the packed elements, and the device writes
        // to bounce buffers only, so that the elements are in it when the call returns.
        unsafe { transfer(once).download_through_buffers(memory) }?;
        let repeated = Elements { data: buffer.as_ptr(), layout: &layouts.repeated };
        // SAFETY: `repeated` reaches the elements that were written just now; the caller lets the
        // target be written.
        unsafe { copy_on_host(repeated, target.elements, itemsize, memory) };
        Ok(false)
    }

    /// # Safety
    /// * As for [`run`](Self::run), with the ends on the devices of these streams.
    unsafe fn copy_between_devices(
        &self,
        source_stream: &Stream,
        target_stream: &Stream,
    ) -> Result<()> {
        let layouts = PackedLayouts::new(self)?;
        let arrival = self.arrival(&layouts, target_stream)?;
        // SAFETY: the caller lets the source be read; `arrival` is memory of the target or new, and
        // may be written in the order of the target's stream.
        let sent = unsafe { self.send(&layouts, source_stream, arrival.as_ptr(), target_stream) };
        if let Err(error) = sent {
            arrival.leak_unless_drained(&self.streams);
            return Err(error);
        }
        // SAFETY: `send` put the packed elements there in the order of the target's stream.
        unsafe { self.unpack(&arrival, &layouts, target_stream) }
    }

    /// Packs the source on its device, and copies that to `arrival` on the target's device, where
    /// it is in the order of `target_stream`.
    ///
    /// # Safety
    /// * As for [`run`](Self::run); `arrival` has room for the packed elements, and may be written
    ///   in the order of `target_stream`.
    unsafe fn send(
        &self,
        layouts: &PackedLayouts,
        source_stream: &Stream,
        arrival: *mut u8,
        target_stream: &Stream,
    ) -> Result<()> {
        // `arrival` was allocated, or used before, in the order of the target's stream.
        source_stream.wait_for(target_stream)?;
        // SAFETY: the caller lets the source be read in the order of its stream.
        let packed = unsafe { self.pack(layouts, source_stream) }?;
        let bytes = layouts.packed.len() * self.itemsize;
        // SAFETY: `packed` is there in the order of the source's stream, which waits for the
        // target's, in whose order `arrival` may be written.
        unsafe { peer_copy(packed.as_ptr(), source_stream, arrival, target_stream, bytes) }?;
        // A temporary buffer is freed in the order of the source's stream, behind the copy.
        drop(packed);
        target_stream.wait_for(source_stream)
    }

    /// The packed elements of the source, in the order of the stream of its device.
    ///
    /// # Safety
    /// * The source is on the stream's device, and may be read in the order of the stream.
    unsafe fn pack(&self, layouts: &PackedLayouts, stream: &Stream) -> Result<PackedMemory> {
        let data = self.source.elements.data;
        if have_equal_offsets(&layouts.source, &layouts.packed) {
            return Ok(PackedMemory::Own(data));
        }
        let buffer = DeviceBuffer::new(layouts.packed.len() * self.itemsize, stream)?;
        let source = Elements { data, layout: &layouts.source };
        let target = Elements { data: buffer.as_ptr(), layout: &layouts.packed };
        // SAFETY: the caller lets the source be read; the buffer is new, in the order of this
        // stream, and large enough for the packed elements.
        unsafe { strided_copy(source, target, self.itemsize, stream) }?;
        Ok(PackedMemory::Temporary(buffer))
    }

    /// Where the packed elements arrive on the target's device: in the target, if they lie there
    /// packed, or in a temporary buffer, from which [`unpack`](Self::unpack) copies them.
    fn arrival(&self, layouts: &PackedLayouts, stream: &Stream) -> Result<PackedMemory> {
        let target = self.target.elements;
        if !layouts.repeats && have_equal_offsets(target.layout, &layouts.packed) {
            return Ok(PackedMemory::Own(target.data));
        }
        DeviceBuffer::new(layouts.packed.len() * self.itemsize, stream).map(PackedMemory::Temporary)
    }

    /// Copies what arrived in a temporary buffer to the target.
    ///
    /// # Safety
    /// * The packed elements are in `arrival` in the order of the stream, which is the one that
    ///   [`arrival`](Self::arrival) got; the target may be written in this order.
    unsafe fn unpack(
        &self,
        arrival: &PackedMemory,
        layouts: &PackedLayouts,
        stream: &Stream,
    ) -> Result<()> {
        let PackedMemory::Temporary(buffer) = arrival else { return Ok(()) };
        let source = Elements { data: buffer.as_ptr(), layout: &layouts.repeated };
        // SAFETY: `repeated` reaches the packed elements, which the caller guarantees are there;
        // the target may be written, and is not the buffer.
        unsafe { strided_copy(source, self.target.elements, self.itemsize, stream) }
    }
}

/// Packed elements on a device.
enum PackedMemory {
    /// The memory of one end of the copy, in which the elements are packed already.
    Own(*mut u8),
    /// Freed in the order of the stream that it was allocated on, when it is dropped.
    Temporary(DeviceBuffer),
}

impl PackedMemory {
    fn as_ptr(&self) -> *mut u8 {
        match self {
            Self::Own(data) => *data,
            Self::Temporary(buffer) => buffer.as_ptr(),
        }
    }

    /// After a failure: a temporary buffer would be freed in the order of its own stream, but
    /// another stream may still be writing it. So all streams are waited for, and if that fails too
    /// the buffer is leaked.
    fn leak_unless_drained(self, streams: &CopyStreams) {
        if let Self::Temporary(buffer) = self
            && !streams.drain()
        {
            std::mem::forget(buffer);
        }
    }
}

/// The layouts of a copy over the bus.
struct PackedLayouts {
    /// The source without repetitions: its broadcast dimensions have size 1.
    source: Layout,
    /// Packed memory: dense, in the order of the target's strides, of the shape of `source`.
    packed: Layout,
    /// Packed memory in the shape of the target: broadcast dimensions have stride 0.
    repeated: Layout,
    /// Whether some dimension is broadcast.
    repeats: bool,
}

impl PackedLayouts {
    fn new(copy: &DeviceCopy<'_>) -> Result<Self> {
        let (from, to) = (copy.source.elements.layout, copy.target.elements.layout);
        let (shape, strides) = (from.shape(), from.strides());
        let sizes = shape.iter().zip(strides);
        let once: Vec<i64> =
            sizes.map(|(&size, &stride)| if stride == 0 { 1 } else { size }).collect();
        let source = Layout::new(&once, strides)?;
        let packed = Layout::new(&once, to.strides())?.cloned(MemoryFormat::Preserve)?;
        let sizes = once.iter().zip(shape).zip(packed.strides());
        let repeated: Vec<i64> =
            sizes.map(|((once, size), &stride)| if once == size { stride } else { 0 }).collect();
        let repeated = Layout::new(shape, &repeated)?;
        Ok(Self { repeats: once != shape, source, packed, repeated })
    }
}

/// Puts a copy between two devices on the stream of the source's device.
///
/// # Safety
/// * `bytes` at `source` may be read in the order of `source_stream`, and `bytes` at `target`
///   written, which are memory of the devices of these streams.
unsafe fn peer_copy(
    source: *mut u8,
    source_stream: &Stream,
    target: *mut u8,
    target_stream: &Stream,
    bytes: usize,
) -> Result<()> {
    let (from, to) = (source_stream.context, target_stream.context);
    let (source, target) = (address(source), address(target));
    let _entered = from.enter()?;
    // SAFETY: the caller guarantees both memories, of the devices of these contexts, in the order
    // of the source's stream.
    unsafe {
        from.driver.copy_to_peer(target, to.raw, source, from.raw, bytes, source_stream.raw())
    }
}
