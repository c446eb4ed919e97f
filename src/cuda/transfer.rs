//! Tensors on their way: new memory, copies into it, and the order of streams.

use super::context::Context;
use super::crossing::{Copy, Place, Region, Streams};
use super::memory::{self, DeviceBuffer, PinnedBuffer};
use super::order::Order;
use super::stream::{Event, Stream};
use crate::copy::{self, Buffer, Memory};
use crate::storage::Storage;
use crate::{Access, Descriptor, Device, Error, Layout, MemoryFormat, Rejected, Result, Tensor};

/// The order in which a tensor's memory is used: that of the legacy default stream, where nobody says more.
fn order<'t>(tensor: &'t Tensor, context: &'static Context) -> Result<&'t Order> {
    if let Some(order) = tensor.storage.order().get() {
        return Ok(order);
    }
    let home = Stream::legacy_default(Device::cuda(context.index))?;
    Ok(tensor.storage.order().get_or_init(|| Box::new(Order::new(&home))))
}

/// Whether the memory is freed in the order of streams.
fn is_ours(tensor: &Tensor) -> bool {
    tensor.storage.owner_is::<DeviceBuffer>()
}

/// Copies elements to those of another tensor. Says whether a device still reads or writes the host's memory.
///
/// # Safety
/// * Nobody else uses the target; shapes, types and writability were looked at. Until the host's memory is not in
///   use any more the caller keeps it, and others from it.
unsafe fn copy(
    source: &Tensor,
    target: &Tensor,
    given: Option<&Stream>,
    memory: Memory,
) -> Result<(bool, Option<Event>)> {
    let (from, to) = (Place::of(source.device())?, Place::of(target.device())?);
    let streams = Streams::new(from, to, given)?;
    let (bytes, item);
    let (source_layout, target_layout, itemsize) = match source.descriptor.itemsize() {
        Some(itemsize) => (source.layout(), target.layout(), itemsize),
        // Packed elements are contiguous on both sides.
        None => {
            item = i64::try_from(source.nbytes()).unwrap_or(i64::MAX);
            bytes = Layout::contiguous(&[item])?;
            (&bytes, &bytes, 1)
        }
    };
    let ordered = [(source, from, &streams.from), (target, to, &streams.to)];
    for (tensor, place, stream) in ordered {
        if let (Place::Device(context), Some(stream)) = (place, stream) {
            order(tensor, context)?.before(stream)?;
        }
    }
    let region = |tensor: &Tensor, place, layout| Region { place, data: tensor.data_ptr().cast(), layout };
    let (from, to) = (region(source, from, source_layout), region(target, to, target_layout));
    let copy = Copy { from, to, itemsize, memory, streams };
    let finish = || {
        // SAFETY: the caller's promises, and the streams waited for whoever used the memory.
        let busy = unsafe { copy.run() }?;
        let mut lent = false;
        for (tensor, place, stream) in
            [(source, from.place, &copy.streams.from), (target, to.place, &copy.streams.to)]
        {
            if let (Place::Device(context), Some(stream)) = (place, stream) {
                order(tensor, context)?.after(stream)?;
                lent |= !is_ours(tensor);
            }
        }
        let done = copy.streams.last().map(Event::record).transpose()?;
        if let Some(done) = &done
            && lent
        {
            done.wait()?;
        }
        Ok((busy, done))
    };
    finish().inspect_err(|_| {
        // What was put on the streams may still be at work on memory that goes away now.
        for stream in [&copy.streams.from, &copy.streams.to].into_iter().flatten() {
            let _broken = stream.context.synchronize();
        }
    })
}

/// Copies elements to those of another tensor, at least one of which is not on the host, and waits until the
/// host's memory is not in use any more.
///
/// # Safety
/// * As for `Tensor::copy_into_unchecked`, whose checks were passed.
pub(crate) unsafe fn copy_into_on(
    source: &Tensor,
    target: &Tensor,
    stream: Option<&Stream>,
    memory: Memory,
) -> Result<()> {
    // SAFETY: the caller's promises; the memory is kept until the wait is over.
    match unsafe { copy(source, target, stream, memory) }? {
        (true, Some(done)) => done.wait(),
        _ => Ok(()),
    }
}

/// New memory for elements of this layout, which is dense: for work on this stream, or any stream of its own device's.
fn new_tensor(
    source: &Descriptor,
    device: Device,
    layout: Layout,
    stream: Option<&Stream>,
) -> Result<Tensor> {
    let bytes = source.nbytes();
    let made =
        |data: *mut u8, storage| Ok(Tensor::new(storage, source.moved_to_device(data, layout, device)));
    match Place::of(device)? {
        Place::Device(context) => {
            let default;
            let stream = match stream {
                Some(stream) if stream.context == context => stream,
                _ => {
                    default = Stream::legacy_default(device)?;
                    &default
                }
            };
            let buffer = DeviceBuffer::new(bytes, stream)?;
            let (data, order) = (buffer.as_ptr(), Box::new(Order::new(buffer.home())));
            let storage = Storage::new(buffer, Access::Exclusive, true);
            let _new = storage.order().set(order);
            made(data, storage)
        }
        Place::Host if device == Device::CUDA_HOST => {
            let context =
                Context::of(Device::cuda(source.device().on_cuda().map_or(0, |device| device.index)))?;
            let buffer = PinnedBuffer::new(bytes, context)?;
            made(buffer.as_ptr(), Storage::new(buffer, Access::Exclusive, true))
        }
        Place::Host => {
            let buffer = Buffer::uninit(bytes)?;
            made(buffer.as_ptr(), Storage::new(buffer, Access::Exclusive, true))
        }
    }
}

/// A copy of a tensor in new memory of a device. Says whether a device still reads or writes the host's memory.
fn started(
    source: &Tensor,
    device: Device,
    format: MemoryFormat,
    stream: Option<&Stream>,
) -> Result<(Tensor, bool, Option<Event>)> {
    if ![Device::CPU, Device::CUDA_HOST].contains(&device) && device != Device::cuda(device.index) {
        return Err(Error::UnsupportedDevice { device, target: "dlbridge's copies" });
    }
    copy::check_elements(&source.descriptor)?;
    let layout = source.layout().cloned(format)?;
    if source.descriptor.itemsize().is_none() && !layout.is_contiguous() {
        return Err(Error::UnsupportedDType { dtype: source.dtype(), target: "a strided copy" });
    }
    // Refuses a stream of neither device before memory is made.
    let streams = Streams::new(Place::of(source.device())?, Place::of(device)?, stream)?;
    let target = new_tensor(&source.descriptor, device, layout, streams.to.as_ref())?;
    // SAFETY: new memory, dense and as large as the elements; callers wait where the host's memory is in use.
    let (busy, done) = unsafe { copy(source, &target, stream, Memory::Fresh) }?;
    Ok((target, busy, done))
}

/// A copy of a tensor in new memory of a device: the source's, for one.
pub(crate) fn copy_to(
    source: &Tensor,
    device: Device,
    format: MemoryFormat,
    stream: Option<&Stream>,
) -> Result<Tensor> {
    let (target, busy, done) = started(source, device, format, stream)?;
    match done {
        Some(done) if busy => finished(target, &done),
        _ => Ok(target),
    }
}

fn finished(target: Tensor, done: &Event) -> Result<Tensor> {
    match done.wait() {
        Ok(()) => Ok(target),
        Err(error) => {
            // Nobody knows whether the device is still at it.
            std::mem::forget(target);
            Err(error)
        }
    }
}

/// Whether host memory is page-locked.
pub(crate) fn is_pinned(descriptor: &Descriptor) -> bool {
    let (start, bytes) = descriptor.span();
    memory::is_pinned(start, bytes)
}

/// What every export without a stream is for: work on the legacy default stream.
pub(crate) fn hand_to_default(tensor: &Tensor) {
    let handed = || {
        let Place::Device(context) = Place::of(tensor.device())? else { return Ok(()) };
        order(tensor, context)?.hand_to(&Stream::legacy_default(Device::cuda(context.index))?)
    };
    // An export cannot fail. Where the driver does, the device is of no use any more.
    let _broken: Result<()> = handed();
}

/// A copy that has been started, and what it needs: the copy's memory, and another handle to the source's. As long
/// as it is under way, neither can be written in safe code.
///
/// Dropping it waits, as [`wait`](Self::wait) does.
///
/// ```no_run
/// use dlbridge::{Device, Stream, Tensor};
///
/// let stream = Stream::new(Device::cuda(0))?;
/// let pinned = Tensor::zeros::<f32>([1 << 20])?.pin()?;
/// let upload = pinned.start_to_device(Device::cuda(0), &stream)?;
/// // ... other work of the host ...
/// let on_device = upload.wait()?;
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it waits until the copy is done"]
pub struct Transfer {
    target: Option<Tensor>,
    done: Option<Event>,
    /// Keeps what the device reads.
    _source: Tensor,
}

impl Transfer {
    /// Whether the copy is done; then [`wait`](Self::wait) does not wait.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub fn is_done(&self) -> Result<bool> {
        self.done.as_ref().map_or(Ok(true), Event::is_past)
    }

    /// Waits until the copy is done, and gives it.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub fn wait(mut self) -> Result<Tensor> {
        let done = self.done.take();
        match (self.target.take(), done) {
            (Some(target), Some(done)) => finished(target, &done),
            (Some(target), None) => Ok(target),
            (None, _) => unreachable!("taken only here"),
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let (Some(target), Some(done)) = (self.target.take(), self.done.take()) {
            let _gone = finished(target, &done);
        }
    }
}

/// With the feature `cuda`: in the order of a given stream.
impl Tensor {
    /// As [`to_device`](Self::to_device), in the order of a stream of the source's device or the target's.
    ///
    /// The new tensor's contents are there in the order of that stream, of which it keeps hold; what else this
    /// crate does with them waits by itself. A copy on the host is complete.
    ///
    /// # Errors
    /// As for [`to_device`](Self::to_device), and [`Error::Descriptor`] for a stream of a third device.
    pub fn to_device_on(&self, device: Device, stream: &Stream) -> Result<Self> {
        copy_to(self, device, MemoryFormat::Preserve, Some(stream))
    }

    /// As [`into_device`](Self::into_device), in the order of a stream as for
    /// [`to_device_on`](Self::to_device_on).
    ///
    /// # Errors
    /// As for [`to_device_on`](Self::to_device_on). The tensor comes back inside the error.
    pub fn into_device_on(self, device: Device, stream: &Stream) -> Result<Self, Rejected<Self>> {
        if self.is_at(device) {
            return Ok(self);
        }
        self.to_device_on(device, stream).map_err(|error| Rejected::new(self, error))
    }

    /// As [`to_device_on`](Self::to_device_on), but returns while the copy may be under way: where the side on the
    /// host is page-locked ([`pin`](Self::pin), [`Device::CUDA_HOST`]) and lies as the other does. Any other
    /// host memory is done with when the call returns.
    ///
    /// # Errors
    /// As for [`to_device_on`](Self::to_device_on).
    pub fn start_to_device(&self, device: Device, stream: &Stream) -> Result<Transfer> {
        let (target, _, done) = started(self, device, MemoryFormat::Preserve, Some(stream))?;
        Ok(Transfer { target: Some(target), done, _source: self.share() })
    }

    /// As [`deep_clone_with`](Self::deep_clone_with), in the order of a stream of the device.
    ///
    /// # Errors
    /// As for [`deep_clone_with`](Self::deep_clone_with), and [`Error::Descriptor`] for a stream of another device.
    pub fn deep_clone_on(&self, format: MemoryFormat, stream: &Stream) -> Result<Self> {
        copy_to(self, self.device(), format, Some(stream))
    }

    /// As [`copy_into`](Self::copy_into), in the order of a stream of the source's device or the target's.
    ///
    /// # Errors
    /// As for [`copy_into`](Self::copy_into), and [`Error::Descriptor`] for a stream of a third device.
    pub fn copy_into_on(&self, target: &mut Self, stream: &Stream) -> Result<()> {
        target.require_exclusive()?;
        // SAFETY: nobody but `target` reaches its memory, so it is not `self`'s either.
        unsafe { self.copy_into_unchecked_on(target, stream) }
    }

    /// As [`copy_into_unchecked`](Self::copy_into_unchecked), in the order of a stream of the source's device or the
    /// target's.
    ///
    /// # Errors
    /// As for [`copy_into_unchecked`](Self::copy_into_unchecked), and [`Error::Descriptor`] for a stream of a third
    /// device.
    ///
    /// # Safety
    /// * As for [`copy_into_unchecked`](Self::copy_into_unchecked).
    pub unsafe fn copy_into_unchecked_on(&self, target: &Self, stream: &Stream) -> Result<()> {
        // SAFETY: the caller's promises.
        unsafe { self.copy_elements(target, Memory::Used, Some(stream)) }
    }

    /// Makes the contents ready for work on a stream: what is put on it from now on waits for them, and when the
    /// memory is released it is not used for something else before what is on the stream by then is done. Whoever
    /// hands the memory on (as a DLPack struct, say) calls this for the stream on which it will be used. Does
    /// nothing for host memory.
    ///
    /// Exports are ready on the legacy default stream without it.
    ///
    /// # Errors
    /// [`Error::NoCuda`], [`Error::Cuda`].
    pub fn ready_on(&self, stream: &Stream) -> Result<()> {
        match self.context()? {
            Some(context) => order(self, context)?.hand_to(stream),
            None => Ok(()),
        }
    }

    /// Says that what is on a stream by now writes the memory: what this crate does with it from now on comes
    /// after. For memory that came in while it was being filled. Does nothing for host memory.
    ///
    /// Memory that came in without it counts as filled in the order of the legacy default stream.
    ///
    /// # Errors
    /// [`Error::NoCuda`], [`Error::Cuda`].
    pub fn written_on(&self, stream: &Stream) -> Result<()> {
        match self.context()? {
            Some(context) => order(self, context)?.after(stream),
            None => Ok(()),
        }
    }

    /// The CUDA device that the memory is on.
    fn context(&self) -> Result<Option<&'static Context>> {
        match self.device().on_cuda() {
            Some(device) => Context::of(device).map(Some),
            None => Ok(None),
        }
    }
}
