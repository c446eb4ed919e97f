//! Copies to, from and between devices: what crosses where, on which streams.

use super::bounce_buffers::{BOUNCE_BUFFER_BYTES, BounceBuffer, with_bounce_buffers};
use super::chunks::{Chunk, for_each_chunk};
use super::context::Context;
use super::memory::{self, DeviceBuffer};
use super::stream::{Stream, address};
use super::strided_copy::strided_copy;
use crate::buffer::Buffer;
use crate::copy::{self, Memory};
use crate::{Device, Error, Layout, MemoryFormat, Result};

/// Where memory is, as far as copies are concerned.
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

/// Elements somewhere.
#[derive(Clone, Copy)]
pub(super) struct Endpoint<'a> {
    pub(super) place: Location,
    pub(super) data: *mut u8,
    pub(super) layout: &'a Layout,
}

/// A copy: what, and on which streams.
pub(super) struct DeviceCopy<'a> {
    pub(super) from: Endpoint<'a>,
    pub(super) to: Endpoint<'a>,
    pub(super) itemsize: usize,
    pub(super) memory: Memory,
    pub(super) streams: Streams,
}

/// Where the work of a copy is put: on the source's device, and on the target's.
pub(super) struct Streams {
    pub(super) from: Option<Stream>,
    pub(super) to: Option<Stream>,
}

impl Streams {
    /// The stream that is given serves its device, or both if there is one; a default stream any other.
    pub(super) fn new(from: Location, to: Location, given: Option<&Stream>) -> Result<Self> {
        let pick = |place| match (place, given) {
            (Location::Host, _) => Ok(None),
            (Location::Device(context), Some(given)) if given.context == context => {
                Ok(Some(given.clone()))
            }
            (Location::Device(context), _) => {
                Stream::legacy_default(Device::cuda(context.index)).map(Some)
            }
        };
        let streams = Self { from: pick(from)?, to: pick(to)? };
        for stream in streams.all() {
            stream.refuse_capture()?;
        }
        match given {
            // On the host there is no order to keep.
            Some(_) if streams.last().is_none() => Ok(streams),
            Some(given)
                if streams.from.as_ref() != Some(given) && streams.to.as_ref() != Some(given) =>
            {
                Err(Error::InvalidDescriptor {
                    field: "stream".into(),
                    value: format!("{given:?}"),
                    reason: "the copy does not go to or from its device",
                })
            }
            _ => Ok(streams),
        }
    }

    /// The stream on which the last work is.
    pub(super) fn last(&self) -> Option<&Stream> {
        self.to.as_ref().or(self.from.as_ref())
    }

    /// Waits until nothing is under way. Says whether that is known.
    #[must_use]
    pub(super) fn drain(&self) -> bool {
        self.all().all(|stream| stream.finish().is_ok())
    }

    /// Each stream once.
    fn all(&self) -> impl Iterator<Item = &Stream> {
        let other = self.to.as_ref().filter(|&to| self.from.as_ref() != Some(to));
        self.from.iter().chain(other)
    }
}

impl DeviceCopy<'_> {
    /// Puts the work on the streams. Says whether a device still reads or writes the host's memory afterwards.
    ///
    /// # Safety
    /// * Elements of `from` may be read, those of `to` written; none of `to` is reached twice, nor is it one of
    ///   `from`: on the host from now on until the work is done, on a device in the order of its stream.
    pub(super) unsafe fn run(&self) -> Result<bool> {
        let Self { from, to, itemsize, .. } = *self;
        if to.layout.is_empty() {
            return Ok(false);
        }
        match (&self.streams.from, &self.streams.to) {
            (Some(stream), Some(_)) if from.place == to.place => {
                // SAFETY: the caller's promises.
                unsafe {
                    strided_copy((from.data, from.layout), (to.data, to.layout), itemsize, stream)
                }?;
                Ok(false)
            }
            (None, Some(stream)) => {
                let once = PackedLayout::new(&self.from, &self.to)?;
                // SAFETY: likewise.
                let cross = |landing| unsafe { self.upload(&once, landing, stream) };
                self.unpack(&once, stream, cross)
            }
            (Some(stream), None) => {
                let once = PackedLayout::new(&self.from, &self.to)?;
                // SAFETY: likewise.
                let cross = |departure| unsafe { self.download(&once, departure, stream) };
                // SAFETY: likewise.
                unsafe { self.pack(&once, stream, cross) }
            }
            (Some(here), Some(there)) => {
                let once = PackedLayout::new(&self.from, &self.to)?;
                let cross = |landing: *mut u8| {
                    here.wait_for(there)?;
                    let cross = |departure| {
                        peer_copy(departure, here, landing, there, once.bytes(itemsize))
                    };
                    // SAFETY: likewise.
                    unsafe { self.pack(&once, here, cross) }?;
                    there.wait_for(here)?;
                    Ok(false)
                };
                self.unpack(&once, there, cross)
            }
            (None, None) => {
                let target = (to.data, to.layout);
                // SAFETY: both on the host; the caller's promises.
                unsafe {
                    copy::strided(from.data, from.layout, target.0, target.1, itemsize, self.memory)
                };
                Ok(false)
            }
        }
    }

    /// Gathers on the source's device what is not dense there in the order in which it crosses.
    ///
    /// # Safety
    /// * As for `run`.
    unsafe fn pack<R>(
        &self,
        once: &PackedLayout,
        stream: &Stream,
        cross: impl FnOnce(*mut u8) -> Result<R>,
    ) -> Result<R> {
        if same(&once.source, &once.crossing) {
            return cross(self.from.data);
        }
        let dense = DeviceBuffer::new(once.bytes(self.itemsize), stream)?;
        let target = (dense.as_ptr().cast_const(), &once.crossing);
        // SAFETY: the caller's promises; new memory on this stream.
        unsafe { strided_copy((self.from.data, &once.source), target, self.itemsize, stream) }?;
        cross(dense.as_ptr())
    }

    /// Has what crosses land in the target if it lies there in the same way, else beside it, to be spread out on the
    /// target's device.
    fn unpack(
        &self,
        once: &PackedLayout,
        stream: &Stream,
        cross: impl FnOnce(*mut u8) -> Result<bool>,
    ) -> Result<bool> {
        let Self { to, itemsize, .. } = *self;
        if once.is_whole && same(to.layout, &once.crossing) {
            return cross(to.data);
        }
        let dense = DeviceBuffer::new(once.bytes(itemsize), stream)?;
        let busy = match cross(dense.as_ptr()) {
            Ok(busy) => busy,
            Err(error) => {
                // It is freed in this stream's order, and another one may be writing it.
                if !self.streams.drain() {
                    std::mem::forget(dense);
                }
                return Err(error);
            }
        };
        // SAFETY: what crossed is there in the order of the stream; the target may be written in this order.
        unsafe {
            strided_copy((dense.as_ptr(), &once.repeated), (to.data, to.layout), itemsize, stream)
        }?;
        Ok(busy)
    }

    /// Copies from the host to dense memory of a device.
    ///
    /// # Safety
    /// * As for `run`; `landing` has room for what crosses.
    unsafe fn upload(
        &self,
        once: &PackedLayout,
        landing: *mut u8,
        stream: &Stream,
    ) -> Result<bool> {
        let (data, bytes) = (self.from.data.cast_const(), once.bytes(self.itemsize));
        let driver = stream.context.driver;
        if same(&once.source, &once.crossing) && memory::is_pinned(data, bytes) {
            let _entered = stream.context.enter()?;
            // SAFETY: one run on both sides; the caller keeps the source until the device has read it.
            unsafe { driver.copy_to_device(address(landing), data.cast(), bytes, stream.raw()) }?;
            return Ok(true);
        }
        with_bounce_buffers(stream, |buffers| {
            let mut turn = buffers.iter().cycle();
            for_each_chunk(
                &once.source,
                &once.crossing,
                BOUNCE_BUFFER_BYTES / self.itemsize,
                |chunk| {
                    let Some(buffer) = turn.next() else { unreachable!("a cycle of two") };
                    buffer.wait()?;
                    let source =
                        data.wrapping_offset(chunk.on_host as isize * self.itemsize as isize);
                    // SAFETY: elements of the source, and a buffer that the device is done with, with room for them.
                    unsafe {
                        copy::strided(
                            source,
                            &chunk.host,
                            buffer.as_ptr(),
                            &chunk.crossing,
                            self.itemsize,
                            Memory::Used,
                        )
                    };
                    let landing = landing.wrapping_add(chunk.crossed * self.itemsize);
                    let _entered = stream.context.enter()?;
                    let (from, bytes) = (buffer.as_ptr().cast(), chunk.len * self.itemsize);
                    // SAFETY: the buffer's first bytes, and the elements' place; the buffer is not touched before it waited.
                    unsafe { driver.copy_to_device(address(landing), from, bytes, stream.raw()) }?;
                    buffer.in_use_on(stream)
                },
            )
        })?;
        Ok(false)
    }

    /// Copies from dense memory of a device to the host.
    ///
    /// # Safety
    /// * As for `run`; `departure` is memory that has what crosses in the order of the stream.
    unsafe fn download(
        &self,
        once: &PackedLayout,
        departure: *mut u8,
        stream: &Stream,
    ) -> Result<bool> {
        let (data, bytes) = (self.to.data, once.bytes(self.itemsize));
        if once.is_whole && same(self.to.layout, &once.crossing) && memory::is_pinned(data, bytes) {
            let (driver, _entered) = (stream.context.driver, stream.context.enter()?);
            // SAFETY: one run on both sides; the caller keeps the target until the device has written it.
            unsafe { driver.copy_to_host(data.cast(), address(departure), bytes, stream.raw()) }?;
            return Ok(true);
        }
        if once.is_whole {
            // SAFETY: the caller's promises.
            unsafe { self.download_to(data, self.to.layout, once, departure, stream) }?;
            return Ok(false);
        }
        // On the host every element is written to all its places.
        let dense = Buffer::uninit(bytes)?;
        // SAFETY: new memory with room for what crosses.
        unsafe { self.download_to(dense.as_ptr(), &once.crossing, once, departure, stream) }?;
        // SAFETY: the elements that arrived, each as often as the target has it.
        unsafe {
            copy::strided(
                dense.as_ptr(),
                &once.repeated,
                data,
                self.to.layout,
                self.itemsize,
                self.memory,
            )
        };
        Ok(false)
    }

    /// Copies through the buffers.
    ///
    /// # Safety
    /// * As for `download`; the elements of `layout` at `data` may be written.
    unsafe fn download_to(
        &self,
        data: *mut u8,
        layout: &Layout,
        once: &PackedLayout,
        departure: *mut u8,
        stream: &Stream,
    ) -> Result<()> {
        let driver = stream.context.driver;
        with_bounce_buffers(stream, |buffers| {
            let empty = |(buffer, chunk): (&BounceBuffer, Chunk)| {
                buffer.wait()?;
                let target = data.wrapping_offset(chunk.on_host as isize * self.itemsize as isize);
                // SAFETY: what the device wrote to the buffer, and elements of the target.
                unsafe {
                    copy::strided(
                        buffer.as_ptr(),
                        &chunk.crossing,
                        target,
                        &chunk.host,
                        self.itemsize,
                        self.memory,
                    )
                };
                Ok(())
            };
            let mut turn = buffers.iter().cycle();
            let mut under_way = None;
            for_each_chunk(layout, &once.crossing, BOUNCE_BUFFER_BYTES / self.itemsize, |chunk| {
                let Some(buffer) = turn.next() else { unreachable!("a cycle of two") };
                buffer.wait()?;
                let departure = departure.wrapping_add(chunk.crossed * self.itemsize);
                let (to, bytes) = (buffer.as_ptr().cast(), chunk.len * self.itemsize);
                {
                    // Not while the chunk before is copied: other jobs may run on this thread meanwhile.
                    let _entered = stream.context.enter()?;
                    // SAFETY: the elements' place, and a buffer that the device is done with and the host has emptied.
                    unsafe { driver.copy_to_host(to, address(departure), bytes, stream.raw()) }?;
                }
                buffer.in_use_on(stream)?;
                under_way.replace((buffer, chunk)).map_or(Ok(()), empty)
            })?;
            under_way.map_or(Ok(()), empty)
        })
    }
}

/// What crosses: every element once, densely, in the order of the target's strides.
struct PackedLayout {
    /// The source without its broadcast dimensions.
    source: Layout,
    crossing: Layout,
    /// What crossed, seen in the shape of the whole.
    repeated: Layout,
    /// Whether no dimension is broadcast.
    is_whole: bool,
}

impl PackedLayout {
    fn new(from: &Endpoint<'_>, to: &Endpoint<'_>) -> Result<Self> {
        let (shape, strides) = (from.layout.shape(), from.layout.strides());
        let sizes =
            || shape.iter().zip(strides).map(|(&size, &stride)| if stride == 0 { 1 } else { size });
        let once: Vec<i64> = sizes().collect();
        let source = Layout::new(&once, strides)?;
        let crossing = Layout::new(&once, to.layout.strides())?.cloned(MemoryFormat::Preserve)?;
        let steps = (once.iter().zip(shape).zip(crossing.strides()))
            .map(|((once, size), &step)| if once == size { step } else { 0 });
        let repeated = Layout::new(shape, &steps.collect::<Vec<i64>>())?;
        Ok(Self { is_whole: once == shape, source, crossing, repeated })
    }

    fn bytes(&self, itemsize: usize) -> usize {
        self.crossing.len() * itemsize
    }
}

/// Whether the elements of two layouts of one shape lie in the same way.
fn same(one: &Layout, other: &Layout) -> bool {
    let steps = one.strides().iter().zip(other.strides());
    one.shape().iter().zip(steps).all(|(&size, (one, other))| size <= 1 || one == other)
}

fn peer_copy(
    from: *mut u8,
    here: &Stream,
    to: *mut u8,
    there: &Stream,
    bytes: usize,
) -> Result<()> {
    let (here_context, there_context) = (here.context, there.context);
    let _entered = here_context.enter()?;
    // SAFETY: dense memory of both devices, there in the order of `here`, which waited for `there`.
    unsafe {
        here_context.driver.copy_to_peer(
            address(to),
            there_context.raw,
            address(from),
            here_context.raw,
            bytes,
            here.raw(),
        )
    }
}
