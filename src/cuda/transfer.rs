//! Tensors on their way: new memory, copies into it, and the order of streams.

use std::fmt;
use std::sync::Arc;

use super::context::Context;
use super::crossing::{Copy, Place, Region, Streams};
use super::memory::{self, DeviceBuffer, OwnedBuffer, PinnedBuffer};
use super::order::{Order, Use};
use super::stream::{Event, Stream};
use crate::copy::{self, Buffer, Memory};
use crate::storage::Storage;
use crate::{Access, Descriptor, Device, Error, Layout, MemoryFormat, Rejected, Result, Tensor};

/// The order in which a tensor's memory is used: that of the legacy default stream, where nobody says more.
fn order(tensor: &Tensor, context: &'static Context) -> Result<Arc<Order>> {
    if let Some(order) = tensor.storage.order().get() {
        return Ok(order);
    }
    let home = Stream::legacy_default(Device::cuda(context.index))?;
    Ok(tensor.storage.order().get_or_set(Order::new(&home, false)))
}

/// What a copy has put on streams.
struct UnderWay {
    /// Whether a device still reads or writes the host's memory.
    is_busy: bool,
    done: Option<Event>,
    streams: Streams,
}

impl UnderWay {
    /// Waits until the copy is done. Where that fails and nobody knows, its memory is kept for ever.
    fn wait(&self, source: &Tensor, target: &Tensor) -> Result<()> {
        let Some(done) = &self.done else { return Ok(()) };
        done.wait().inspect_err(|_| keep_unless_settled(&self.streams, source, target))
    }

    /// The same, if it has to be done before the host goes on.
    fn wait_if_busy(&self, source: &Tensor, target: &Tensor) -> Result<()> {
        if self.is_busy { self.wait(source, target) } else { Ok(()) }
    }
}

/// After a failure: waits in other ways, and keeps the memory if they fail too.
fn keep_unless_settled(streams: &Streams, source: &Tensor, target: &Tensor) {
    if !streams.settle() {
        std::mem::forget((source.share(), target.share()));
    }
}

/// Puts a copy of elements to those of another tensor on streams, which are of their devices. Whether it is done
/// can be asked if that is watched, or somebody has to wait for it.
///
/// # Safety
/// * Nobody else uses the target; shapes, types and writability were looked at. As long as the host's memory is in
///   use the caller keeps it, and others from it.
unsafe fn copy(
    source: &Tensor,
    target: &Tensor,
    streams: Streams,
    memory: Memory,
    is_watched: bool,
) -> Result<UnderWay> {
    let (from, to) = (Place::of(source.device())?, Place::of(target.device())?);
    let bytes;
    let (source_layout, target_layout, itemsize) = match source.descriptor.itemsize() {
        Some(itemsize) => (source.layout(), target.layout(), itemsize),
        // Packed elements are contiguous on both sides.
        None => {
            bytes = Layout::contiguous(&[i64::try_from(source.nbytes()).unwrap_or(i64::MAX)])?;
            (&bytes, &bytes, 1)
        }
    };
    let region = |tensor: &Tensor, place, layout| Region { place, data: tensor.data_ptr().cast(), layout };
    let (from, to) = (region(source, from, source_layout), region(target, to, target_layout));
    let copy = Copy { from, to, itemsize, memory, streams };
    let sides = [(source, from.place, &copy.streams.from), (target, to.place, &copy.streams.to)];
    let orders = || {
        sides.iter().filter_map(|&(tensor, place, stream)| match (place, stream) {
            (Place::Device(context), Some(stream)) => {
                Some(order(tensor, context).map(|order| (order, stream)))
            }
            _ => None,
        })
    };
    for side in orders() {
        let (order, stream) = side?;
        order.before(stream)?;
    }
    let run = || {
        // Between devices nobody else's code runs from here on.
        let _entered = match (from.place, to.place) {
            (Place::Device(context), Place::Device(_)) => Some(context.enter()?),
            _ => None,
        };
        // SAFETY: the caller's promises, and the streams wait for whoever used the memory.
        let is_busy = unsafe { copy.run() }?;
        let mut is_lent = false;
        for side in orders() {
            let (order, stream) = side?;
            order.after(stream)?;
            is_lent |= !order.is_ours;
        }
        let last = copy.streams.last().filter(|_| is_watched || is_busy || is_lent);
        let done = last.map(Event::record).transpose()?;
        if let Some(done) = done.as_ref().filter(|_| is_lent) {
            done.wait()?;
        }
        Ok((is_busy, done))
    };
    match run() {
        Ok((is_busy, done)) => Ok(UnderWay { is_busy, done, streams: copy.streams }),
        Err(error) => {
            keep_unless_settled(&copy.streams, source, target);
            Err(error)
        }
    }
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
    let streams = Streams::new(Place::of(source.device())?, Place::of(target.device())?, stream)?;
    // SAFETY: the caller's promises; the memory is kept until the wait is over.
    unsafe { copy(source, target, streams, memory, false) }?.wait_if_busy(source, target)
}

/// New memory for elements of this layout, which is dense: for work on this stream of its device.
fn new_tensor(
    source: &Descriptor,
    device: Device,
    layout: Layout,
    stream: Option<&Stream>,
) -> Result<Tensor> {
    let bytes = source.nbytes();
    let (data, storage) = match stream {
        Some(stream) => {
            let buffer = DeviceBuffer::new(bytes, stream)?;
            let (data, order) = (buffer.as_ptr(), Order::new(buffer.home(), true));
            let owner = OwnedBuffer::new(buffer, Arc::clone(&order));
            let storage = Storage::new(owner, Access::Exclusive, true);
            storage.order().get_or_set(order);
            (data, storage)
        }
        None if device == Device::CUDA_HOST => {
            let near = source.device().on_cuda().unwrap_or(Device::cuda(0));
            let buffer = PinnedBuffer::new(bytes, Context::of(near)?)?;
            (buffer.as_ptr(), Storage::new(buffer, Access::Exclusive, true))
        }
        None => {
            let buffer = Buffer::uninit(bytes)?;
            (buffer.as_ptr(), Storage::new(buffer, Access::Exclusive, true))
        }
    };
    Ok(Tensor::new(storage, source.moved_to_device(data, layout, device)))
}

/// Starts to copy a tensor to new memory of a device.
fn start(
    source: &Tensor,
    device: Device,
    format: MemoryFormat,
    stream: Option<&Stream>,
    is_watched: bool,
) -> Result<(Tensor, UnderWay)> {
    if ![Device::CPU, Device::CUDA_HOST].contains(&device) && device != Device::cuda(device.index) {
        return Err(Error::UnsupportedDevice { device, target: "dlbridge's copies" });
    }
    copy::check_elements(&source.descriptor)?;
    let layout = source.layout().cloned(format)?;
    if source.descriptor.itemsize().is_none() && !layout.is_contiguous() {
        return Err(Error::UnsupportedDType { dtype: source.dtype(), target: "a strided copy" });
    }
    let streams = Streams::new(Place::of(source.device())?, Place::of(device)?, stream)?;
    let target = new_tensor(&source.descriptor, device, layout, streams.to.as_ref())?;
    // SAFETY: new memory, dense and as large as the elements; callers wait, or keep both tensors.
    let under_way = unsafe { copy(source, &target, streams, Memory::Fresh, is_watched) }?;
    Ok((target, under_way))
}

/// A copy of a tensor in new memory of a device: the source's, for one.
pub(crate) fn copy_to(
    source: &Tensor,
    device: Device,
    format: MemoryFormat,
    stream: Option<&Stream>,
) -> Result<Tensor> {
    let (target, under_way) = start(source, device, format, stream, false)?;
    under_way.wait_if_busy(source, &target)?;
    Ok(target)
}

/// Whether host memory is page-locked.
pub(crate) fn is_pinned(descriptor: &Descriptor) -> bool {
    let (start, bytes) = descriptor.span();
    memory::is_pinned(start, bytes)
}

/// Makes memory ready for what every export without a stream is for: work on the legacy default stream.
pub(crate) fn hand_to_default(tensor: &Tensor) -> Result<()> {
    // Devices of others, and CUDA's where it is missing, have no streams that are known here.
    let Ok(Place::Device(context)) = Place::of(tensor.device()) else { return Ok(()) };
    let order = order(tensor, context)?;
    let default = Stream::legacy_default(Device::cuda(context.index))?;
    order.hand_to(&default).or_else(|_| order.hand_to_late(&default))
}

/// Makes the memory of one tensor take part in the order of another's, which keeps it.
pub(crate) fn join_order(view: &Tensor, base: &Tensor) {
    if let Ok(Place::Device(context)) = Place::of(base.device())
        && let Ok(order) = order(base, context)
    {
        view.storage.order().get_or_set(order);
    }
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
/// let device_tensor = upload.wait()?;
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[must_use = "dropping it waits until the copy is done"]
pub struct Transfer {
    target: Option<Tensor>,
    under_way: UnderWay,
    /// Keeps what the device reads.
    source: Tensor,
}

impl Transfer {
    /// Whether the copy is done; then [`wait`](Self::wait) does not wait.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub fn is_done(&self) -> Result<bool> {
        self.under_way.done.as_ref().map_or(Ok(true), Event::is_past)
    }

    /// The copy, if it is on a device: for work that is put on a stream behind it, before the copy is done.
    pub fn device_tensor(&self) -> Option<&Tensor> {
        self.target.as_ref().filter(|target| !target.device().is_host())
    }

    /// Waits until the copy is done, and gives it.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub fn wait(mut self) -> Result<Tensor> {
        match self.target.take() {
            Some(target) => self.under_way.wait(&self.source, &target).map(|()| target),
            None => unreachable!("taken only here, and when this is dropped"),
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(target) = self.target.take() {
            let _gone = self.under_way.wait(&self.source, &target);
        }
    }
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer")
            .field("target", &self.target.as_ref().map(Tensor::device))
            .finish_non_exhaustive()
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
    /// As for [`to_device`](Self::to_device), and [`Error::InvalidDescriptor`] for a stream of a third device, or on
    /// which a graph is being captured. Where no CUDA device takes part the stream does not matter.
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

    /// As [`to_device_on`](Self::to_device_on), but returns while the copy may be under way (PyTorch's
    /// `non_blocking=True`): where the side on the host is page-locked ([`pin`](Self::pin), [`Device::CUDA_HOST`]) and
    /// has the strides of the other side. Any other host memory is not in use any more when the call returns, nor is
    /// [`Access::Aliased`] memory, which others may write.
    ///
    /// # Errors
    /// As for [`to_device_on`](Self::to_device_on).
    pub fn start_to_device(&self, device: Device, stream: &Stream) -> Result<Transfer> {
        let (target, under_way) = start(self, device, MemoryFormat::Preserve, Some(stream), true)?;
        if matches!(self.access(), Access::Aliased { .. }) {
            under_way.wait_if_busy(self, &target)?;
        }
        Ok(Transfer { target: Some(target), under_way, source: self.share() })
    }

    /// As [`deep_clone_with`](Self::deep_clone_with), in the order of a stream of the device.
    ///
    /// # Errors
    /// As for [`deep_clone_with`](Self::deep_clone_with), and [`Error::InvalidDescriptor`] for a stream of another device.
    pub fn deep_clone_on(&self, format: MemoryFormat, stream: &Stream) -> Result<Self> {
        copy_to(self, self.device().on_cuda().unwrap_or(self.device()), format, Some(stream))
    }

    /// As [`copy_into`](Self::copy_into), in the order of a stream of the source's device or the target's.
    ///
    /// # Errors
    /// As for [`copy_into`](Self::copy_into), and [`Error::InvalidDescriptor`] as for [`to_device_on`](Self::to_device_on).
    pub fn copy_into_on(&self, target: &mut Self, stream: &Stream) -> Result<()> {
        target.require_exclusive()?;
        // SAFETY: nobody but `target` reaches its memory, so it is not `self`'s either.
        let copied = unsafe { self.copy_into_unchecked_on(target, stream) };
        copied.inspect_err(|_| target.lose_if_kept())
    }

    /// As [`copy_into_unchecked`](Self::copy_into_unchecked), in the order of a stream of the source's device or the
    /// target's.
    ///
    /// # Errors
    /// As for [`copy_into_unchecked`](Self::copy_into_unchecked), and [`Error::InvalidDescriptor`] for a stream of a third
    /// device.
    ///
    /// # Safety
    /// * As for [`copy_into_unchecked`](Self::copy_into_unchecked).
    pub unsafe fn copy_into_unchecked_on(&self, target: &Self, stream: &Stream) -> Result<()> {
        // SAFETY: the caller's promises.
        unsafe { self.copy_elements(target, Memory::Used, Some(stream)) }
    }

    /// Makes this handle one for work on a stream, for a consumer for example: what is put on the stream from now on
    /// waits for the contents, and the end of the handle, or of what it moves into, for what is on the stream by then.
    /// Host memory has no streams: there it does nothing.
    ///
    /// When memory of this crate's is freed it is not used again before that work is done; the device waits, not the
    /// host. Memory that came in is released in the order of the legacy default stream: an owner that frees it on
    /// another stream has to see to the order itself.
    ///
    /// ```no_run
    /// use dlbridge::{Device, Stream, Tensor};
    ///
    /// let near = Tensor::zeros::<f32>([1 << 20])?.cuda(0)?;
    /// let stream = Stream::new(Device::cuda(0))?;
    /// let exported = near.share().with_stream(&stream)?.into_dlpack(); // for a consumer that works on it
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::CudaUnavailable`], [`Error::Cuda`]; [`Error::InvalidDescriptor`] for a stream on which a graph is being captured. The
    /// tensor comes back inside the error.
    pub fn with_stream(mut self, stream: &Stream) -> Result<Self, Rejected<Self>> {
        let used = self.context().and_then(|context| match context {
            Some(context) => Use::new(&order(&self, context)?, stream),
            None => Ok(Use::NONE),
        });
        match used {
            Ok(used) => {
                self.used = used;
                Ok(self)
            }
            Err(error) => Err(Rejected::new(self, error)),
        }
    }

    /// Makes the contents ready for work on a stream, as [`with_stream`](Self::with_stream), but until the memory is released:
    /// what is put on the stream from now on waits for them, and the release for what is on the stream by then. For
    /// kernels of one's own on [`data_ptr`](Self::data_ptr); PyTorch's `record_stream` is the second half of it. Does
    /// nothing for host memory.
    ///
    /// Every stream that is named here is waited for until the end: for consumers that come and go there is
    /// [`with_stream`](Self::with_stream). Exports are ready on the legacy default stream without either.
    ///
    /// # Errors
    /// [`Error::CudaUnavailable`], [`Error::Cuda`]; [`Error::InvalidDescriptor`] for a stream on which a graph is being captured.
    pub fn record_stream(&self, stream: &Stream) -> Result<()> {
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
    /// [`Error::CudaUnavailable`], [`Error::Cuda`]; [`Error::InvalidDescriptor`] for a stream on which a graph is being captured.
    pub fn wait_stream(&self, stream: &Stream) -> Result<()> {
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
