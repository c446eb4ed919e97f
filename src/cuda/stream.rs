//! Streams, and the events that order one stream after another.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use cudarc::driver::sys::{CUevent, CUstream};

use super::context::Context;
use super::driver::{CUDA_ERROR_NOT_READY, EVENT_DISABLE_TIMING, STREAM_NON_BLOCKING};
use crate::{Device, Error, Result};

/// A queue of work of a CUDA device. The device runs the work of one stream in order.
///
/// The value is a handle: a clone is the same stream. The numbers of [`as_raw`](Self::as_raw) and
/// [`from_raw`](Self::from_raw) are those of the [array API]: 1 is the legacy default stream, 2 the
/// calling thread's default stream, and greater ones are handles of the driver (`CUstream`,
/// `cudaStream_t`).
///
/// ```
/// use dlbridge::{Device, Stream, Tensor};
///
/// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
/// let stream = Stream::new(Device::cuda(0))?;
/// let host = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
/// let on_device = host.to_device_on(Device::cuda(0), &stream)?; // copied in the stream's order
/// stream.synchronize()?; // the host waits for it
/// assert_eq!(on_device.cpu()?.to_vec::<f32>()?, [1.0, 2.0]);
/// # Ok::<(), dlbridge::Error>(())
/// ```
///
/// [array API]:
/// https://data-apis.org/array-api/latest/API_specification/generated/array_api.array.__dlpack__.html
#[derive(Clone)]
pub struct Stream {
    pub(super) context: &'static Context,
    queue: QueueKind,
}

#[derive(Clone)]
enum QueueKind {
    LegacyDefault,
    PerThreadDefault,
    Created(Arc<CreatedStream>),
    Foreign {
        handle: Handle,
        /// Keeps the stream.
        _owner: Arc<dyn Any + Send + Sync>,
    },
}

#[derive(Clone, Copy)]
struct Handle(CUstream);

// SAFETY: the driver documents that its functions may be called on any thread; it locks a stream's
// state itself.
unsafe impl Send for Handle {}
// SAFETY: the handle is only passed to the driver's functions, which several threads may call at
// once.
unsafe impl Sync for Handle {}

/// A stream that this crate made.
struct CreatedStream {
    context: &'static Context,
    handle: Handle,
}

impl Drop for CreatedStream {
    fn drop(&mut self) {
        // The driver finishes the work that is on the stream before it frees what the stream needs.
        if let Ok(_entered) = self.context.enter() {
            // SAFETY: `Stream::new` made the stream, and the last handle destroys it here.
            let _destroyed = unsafe { self.context.driver.destroy_stream(self.handle.0) };
        }
    }
}

const LEGACY_DEFAULT: i64 = 1;
const PER_THREAD_DEFAULT: i64 = 2;

impl Stream {
    /// Makes a new stream, which waits for no other stream unless a call makes it wait.
    ///
    /// It is destroyed with the last handle to it; tensors that were made on it hold handles.
    ///
    /// ```
    /// use dlbridge::{Device, Error, Stream};
    ///
    /// let refused = Stream::new(Device::CPU);
    /// assert!(matches!(refused, Err(Error::UnsupportedDevice { .. })));
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let (one, other) = (Stream::new(Device::cuda(0))?, Stream::new(Device::cuda(0))?);
    /// assert_ne!(one, other);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnsupportedDevice`] if `device` is not a CUDA device; [`Error::CudaUnavailable`],
    /// [`Error::Cuda`].
    pub fn new(device: Device) -> Result<Self> {
        let context = Context::of(cuda(device)?)?;
        let _entered = context.enter()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the pointer is to a local variable to write to, and a context was just entered.
        unsafe { context.driver.create_stream(&raw mut handle, STREAM_NON_BLOCKING) }?;
        Ok(Self {
            context,
            queue: QueueKind::Created(Arc::new(CreatedStream { context, handle: Handle(handle) })),
        })
    }

    /// Returns the legacy default stream: the default of PyTorch, CuPy and the CUDA runtime.
    ///
    /// Work on it runs after all work that was put on blocking streams before, and work that is put
    /// on blocking streams afterwards runs after it. The streams that [`new`](Self::new) makes are
    /// not blocking: they are not ordered with it.
    ///
    /// ```
    /// use dlbridge::{Device, Stream};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let stream = Stream::legacy_default(Device::cuda(0))?;
    /// assert_eq!(stream.as_raw(), 1);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn legacy_default(device: Device) -> Result<Self> {
        Ok(Self { context: Context::of(cuda(device)?)?, queue: QueueKind::LegacyDefault })
    }

    /// Returns the stream that stands for the default stream of the thread that uses it.
    ///
    /// So each thread that uses the result puts work on a stream of its own.
    ///
    /// ```
    /// use dlbridge::{Device, Stream};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let stream = Stream::per_thread_default(Device::cuda(0))?;
    /// assert_eq!(stream.as_raw(), 2);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn per_thread_default(device: Device) -> Result<Self> {
        Ok(Self { context: Context::of(cuda(device)?)?, queue: QueueKind::PerThreadDefault })
    }

    /// Returns the stream with this number, which another library may have made.
    ///
    /// `owner` is dropped when the last handle to the stream is dropped. It may keep the stream
    /// alive; `()` does nothing.
    ///
    /// ```
    /// use dlbridge::{Device, Stream, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// # let theirs = Stream::new(Device::cuda(0))?;
    /// # let (handle, owner) = (theirs.as_raw(), theirs.clone());
    /// // `handle` is another library's cudaStream_t, which lives as long as `owner`.
    /// // SAFETY: a stream of device 0, which `owner` keeps alive.
    /// let stream = unsafe { Stream::from_raw(Device::cuda(0), handle, owner) }?;
    /// let host = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// let on_device = host.to_device_on(Device::cuda(0), &stream)?; // keeps a handle to `stream`
    /// # assert_eq!((stream.as_raw(), on_device.device()), (handle, Device::cuda(0)));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`new`](Self::new), and [`Error::InvalidDescriptor`] if `number` is 0, which could
    /// mean either default stream, or negative.
    ///
    /// # Safety
    /// * A number above 2 is a stream of `device`. The stream lives until all tensors, exports and
    ///   transfers that were made with the result, or from one that was, are dropped. `owner` may
    ///   ensure that.
    pub unsafe fn from_raw(
        device: Device,
        number: i64,
        owner: impl Send + Sync + 'static,
    ) -> Result<Self> {
        let device = cuda(device)?;
        let handle = match usize::try_from(number) {
            Ok(0) => {
                return Err(refusal(
                    number,
                    "on CUDA, 0 could mean either default stream: use 1 or 2",
                ));
            }
            Ok(1) => return Self::legacy_default(device),
            Ok(2) => return Self::per_thread_default(device),
            Ok(handle) => Handle(std::ptr::with_exposed_provenance_mut(handle)),
            Err(_) => return Err(refusal(number, "streams have no negative numbers")),
        };
        let queue = QueueKind::Foreign { handle, _owner: Arc::new(owner) };
        Ok(Self { context: Context::of(device)?, queue })
    }

    /// Returns the stream's number: 1, 2, or the driver's handle (`CUstream`).
    ///
    /// The handle is valid as long as the stream lives.
    ///
    /// ```
    /// use dlbridge::{Device, Stream};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let stream = Stream::new(Device::cuda(0))?;
    /// let handle = stream.as_raw() as *mut std::ffi::c_void; // for `cuLaunchKernel`, for example
    /// assert!(stream.as_raw() > 2 && !handle.is_null());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn as_raw(&self) -> i64 {
        match &self.queue {
            QueueKind::LegacyDefault => LEGACY_DEFAULT,
            QueueKind::PerThreadDefault => PER_THREAD_DEFAULT,
            QueueKind::Created(made) => made.handle.0.expose_provenance() as i64,
            QueueKind::Foreign { handle, .. } => handle.0.expose_provenance() as i64,
        }
    }

    /// Returns the device whose queue this is.
    ///
    /// ```
    /// use dlbridge::{Device, Stream};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// assert_eq!(Stream::new(Device::cuda(0))?.device(), Device::cuda(0));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn device(&self) -> Device {
        Device::cuda(self.context.index)
    }

    /// Blocks the host until all work that was put on the stream so far is done.
    ///
    /// ```
    /// use dlbridge::{Device, Stream, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let stream = Stream::new(Device::cuda(0))?;
    /// let pinned = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?.pin()?;
    /// let upload = pinned.start_to_device(Device::cuda(0), &stream)?;
    /// stream.synchronize()?;
    /// assert!(upload.is_done()?);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Cuda`], also if work on the stream failed.
    pub fn synchronize(&self) -> Result<()> {
        let _entered = self.context.enter()?;
        // SAFETY: `self` keeps its handle alive, and its context was just entered.
        unsafe { self.context.driver.synchronize_stream(self.raw()) }
    }

    /// Makes later work on this stream wait for the work that is on `other` now.
    ///
    /// The device waits; the call returns at once.
    ///
    /// ```
    /// use dlbridge::{Device, Stream, Tensor};
    ///
    /// # if Device::cuda(0).check_available().is_err() { return Ok(()); }
    /// let (first, second) = (Stream::new(Device::cuda(0))?, Stream::new(Device::cuda(0))?);
    /// let pinned = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?.pin()?;
    /// let upload = pinned.start_to_device(Device::cuda(0), &first)?;
    /// second.wait_for(&first)?;
    /// second.synchronize()?; // waits for `first` too
    /// assert!(upload.is_done()?);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Cuda`]; [`Error::InvalidDescriptor`] for a stream on which a graph is being
    /// captured.
    pub fn wait_for(&self, other: &Self) -> Result<()> {
        if self == other {
            return Ok(());
        }
        let _entered = self.context.enter()?;
        // The graph that is being captured would take the other stream in, and the wait would
        // happen at each replay instead of now.
        self.refuse_capture()?;
        other.refuse_capture()?;
        let event = Event::record(other)?;
        // SAFETY: `self` and `event` keep their handles alive until the call returns; the driver
        // keeps what it needs of the event.
        unsafe { self.context.driver.stream_wait_event(self.raw(), event.raw, 0) }
    }

    /// Blocks the host until all work that any thread put on the stream so far is done.
    pub(super) fn finish(&self) -> Result<()> {
        match self.queue {
            // The handle means the calling thread's stream, but the work may be on another
            // thread's.
            QueueKind::PerThreadDefault => self.context.synchronize(),
            _ => self.synchronize(),
        }
    }

    /// Refuses a stream on which a graph is being captured: work that is put on it does not run.
    pub(super) fn refuse_capture(&self) -> Result<()> {
        if self.is_capturing()? {
            Err(refusal(self.as_raw(), "a CUDA graph is being captured on it"))
        } else {
            Ok(())
        }
    }

    pub(super) fn is_capturing(&self) -> Result<bool> {
        let _entered = self.context.enter()?;
        let mut status = 0;
        // SAFETY: `self` keeps its handle alive, its context was just entered, and `status` is a
        // local variable to write to.
        unsafe { self.context.driver.is_capturing(self.raw(), &raw mut status) }?;
        Ok(status != 0)
    }

    /// The driver's handle. Those of the default streams are the numbers 1 and 2.
    pub(super) fn raw(&self) -> CUstream {
        match &self.queue {
            QueueKind::LegacyDefault => std::ptr::without_provenance_mut(LEGACY_DEFAULT as usize),
            QueueKind::PerThreadDefault => {
                std::ptr::without_provenance_mut(PER_THREAD_DEFAULT as usize)
            }
            QueueKind::Created(made) => made.handle.0,
            QueueKind::Foreign { handle, .. } => handle.0,
        }
    }

    /// A stream that is the same on every thread and is ordered after this one.
    ///
    /// That is the stream itself, except for a thread's default stream: the legacy default stream
    /// is ordered after those of all threads.
    pub(super) fn for_every_thread(&self) -> Self {
        match self.queue {
            QueueKind::PerThreadDefault => {
                Self { context: self.context, queue: QueueKind::LegacyDefault }
            }
            _ => self.clone(),
        }
    }
}

impl PartialEq for Stream {
    fn eq(&self, other: &Self) -> bool {
        self.context == other.context && self.raw() == other.raw()
    }
}

impl Eq for Stream {}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.queue {
            QueueKind::LegacyDefault => "legacy default",
            QueueKind::PerThreadDefault => "per-thread default",
            QueueKind::Created(_) => "own",
            QueueKind::Foreign { .. } => "foreign",
        };
        write!(f, "Stream({}, {name})", self.device())
    }
}

/// Refuses devices that are not CUDA devices.
fn cuda(device: Device) -> Result<Device> {
    if device == Device::cuda(device.index) {
        Ok(device)
    } else {
        Err(Error::UnsupportedDevice { device, target: "CUDA's streams" })
    }
}

#[cold]
fn refusal(number: i64, reason: &'static str) -> Error {
    Error::InvalidDescriptor { field: "stream".into(), value: number.to_string(), reason }
}

/// A point in a stream.
pub(super) struct Event {
    context: &'static Context,
    raw: CUevent,
}

// SAFETY: the driver documents that its functions may be called on any thread; it locks an event's
// state itself.
unsafe impl Send for Event {}
// SAFETY: shared references only pass the event to the driver's functions, which several threads
// may call at once.
unsafe impl Sync for Event {}

impl Event {
    /// An event that was not recorded yet. Waiting for it returns at once.
    pub(super) fn new(context: &'static Context) -> Result<Self> {
        let _entered = context.enter()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pointer is to a local variable to write to, and a context was just entered.
        unsafe { context.driver.create_event(&raw mut raw, EVENT_DISABLE_TIMING) }?;
        Ok(Self { context, raw })
    }

    /// An event that marks the end of the work that was put on `stream` so far.
    pub(super) fn record(stream: &Stream) -> Result<Self> {
        let _entered = stream.context.enter()?;
        let event = Self::new(stream.context)?;
        event.record_on(stream)?;
        Ok(event)
    }

    /// Makes this event mark the end of the work that was put on `stream`, a stream of the same
    /// device, so far.
    pub(super) fn record_on(&self, stream: &Stream) -> Result<()> {
        let _entered = self.context.enter()?;
        // SAFETY: both keep their handles alive, and belong to the context that was just entered.
        unsafe { self.context.driver.record_event(self.raw, stream.raw()) }
    }

    /// Waits until the work before the event is done.
    pub(super) fn wait(&self) -> Result<()> {
        let _entered = self.context.enter()?;
        // SAFETY: `self` keeps the event alive.
        unsafe { self.context.driver.synchronize_event(self.raw) }
    }

    /// Whether the work before the event is done.
    pub(super) fn is_past(&self) -> Result<bool> {
        let _entered = self.context.enter()?;
        // SAFETY: `self` keeps the event alive.
        match unsafe { self.context.driver.query_event(self.raw) } {
            Ok(()) => Ok(true),
            Err(Error::Cuda { code: CUDA_ERROR_NOT_READY, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Ok(_entered) = self.context.enter() {
            // SAFETY: `new` made the event, and this is the only place that destroys it. The driver
            // keeps what streams need that wait for it.
            let _destroyed = unsafe { self.context.driver.destroy_event(self.raw) };
        }
    }
}
