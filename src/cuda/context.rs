//! The devices' primary contexts, which libtorch and the CUDA runtime use too.
//!
//! Invariants: a context is retained once, when its device is first used, and for as long as the process
//! lives; the caller's current context is current again when a call of this crate returns.

use std::cell::Cell;
use std::ffi::c_int;
use std::marker::PhantomData;
use std::sync::{Mutex, OnceLock};

use cudarc::driver::sys::CUcontext;

use super::bounce_buffers::BounceBuffers;
use super::driver::{Driver, MULTIPROCESSORS, RELAXED, driver};
use super::strided_copy::Kernels;
use crate::{Device, Error, Result};

/// A device that is in use.
pub(super) struct Context {
    pub(super) index: i32,
    pub(super) raw: CUcontext,
    pub(super) driver: &'static Driver,
    pub(super) multiprocessors: u32,
    pub(super) kernels: OnceLock<Kernels>,
    /// Those that no transfer is using.
    pub(super) bounce_buffers: Mutex<Vec<BounceBuffers>>,
}

// SAFETY: contexts and functions of the driver may be used on any thread.
unsafe impl Send for Context {}
// SAFETY: likewise.
unsafe impl Sync for Context {}

impl Context {
    /// The context of a CUDA device.
    ///
    /// # Errors
    /// [`Error::CudaUnavailable`] when there is no driver or no such device; [`Error::Cuda`].
    pub(super) fn of(device: Device) -> Result<&'static Self> {
        static CONTEXTS: OnceLock<Box<[OnceLock<Context>]>> = OnceLock::new();
        static FIRST: Mutex<()> = Mutex::new(());
        let driver = driver(device)?;
        let contexts = match CONTEXTS.get() {
            Some(contexts) => contexts,
            None => {
                let mut count = 0;
                // SAFETY: room for the number.
                unsafe { driver.device_count(&raw mut count) }?;
                CONTEXTS.get_or_init(|| (0..count).map(|_| OnceLock::new()).collect())
            }
        };
        let place = usize::try_from(device.index).ok().and_then(|index| contexts.get(index));
        let Some(place) = place else {
            let reason = match contexts.len() {
                0 => "the driver has no device".to_owned(),
                1 => "the driver has cuda:0 only".to_owned(),
                count => format!("the driver has cuda:0 to cuda:{}", count - 1),
            };
            return Err(Error::CudaUnavailable { device, reason });
        };
        if let Some(context) = place.get() {
            return Ok(context);
        }
        let _alone = FIRST.lock();
        if let Some(context) = place.get() {
            return Ok(context);
        }
        let context = Self::retain(driver, device.index)?;
        Ok(place.get_or_init(|| context))
    }

    fn retain(driver: &'static Driver, index: i32) -> Result<Self> {
        let (mut device, mut multiprocessors): (c_int, c_int) = (0, 0);
        let mut raw = std::ptr::null_mut();
        // SAFETY: room for the number.
        unsafe { driver.device(&raw mut device, index) }?;
        // SAFETY: likewise, and a device that the driver just gave.
        unsafe { driver.device_attribute(&raw mut multiprocessors, MULTIPROCESSORS, device) }?;
        // SAFETY: likewise.
        unsafe { driver.retain_context(&raw mut raw, device) }?;
        let multiprocessors = multiprocessors.max(1).unsigned_abs();
        let (kernels, bounce_buffers) = (OnceLock::new(), Mutex::new(Vec::new()));
        Ok(Self { index, raw, driver, multiprocessors, kernels, bounce_buffers })
    }

    /// Makes this context the thread's current one until the result is dropped. Costs nothing where it was entered
    /// already. Nobody else's code may run meanwhile: it could leave another one current.
    pub(super) fn enter(&'static self) -> Result<Entered> {
        let before = ENTERED.get();
        if before == Some(self.index) {
            return Ok(Entered { context: None, mode: None, before, _thread: PhantomData });
        }
        // SAFETY: a context that stays retained.
        unsafe { self.driver.push_context(self.raw) }?;
        // Nothing that is done here belongs into a graph that another thread is capturing, nor disturbs it.
        let mut mode = RELAXED;
        // SAFETY: a mode, in exchange for the thread's.
        let exchanged = unsafe { self.driver.exchange_capture_mode(&raw mut mode) };
        ENTERED.set(Some(self.index));
        let mode = exchanged.is_ok().then_some(mode);
        Ok(Entered { context: Some(self), mode, before, _thread: PhantomData })
    }

    /// Waits until the device has done everything.
    pub(super) fn synchronize(&'static self) -> Result<()> {
        let _entered = self.enter()?;
        // SAFETY: a context is current.
        unsafe { self.driver.synchronize() }
    }
}

impl PartialEq for Context {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}

thread_local! {
    /// The device whose context is entered on this thread.
    static ENTERED: Cell<Option<i32>> = const { Cell::new(None) };
}

/// A context that is current on this thread.
pub(super) struct Entered {
    /// To be left, unless it was entered before.
    context: Option<&'static Context>,
    /// How the thread captured graphs before.
    mode: Option<c_int>,
    /// What was entered before.
    before: Option<i32>,
    /// Contexts are current on one thread.
    _thread: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let Some(Context { driver, .. }) = self.context else { return };
        if let Some(mut mode) = self.mode {
            // SAFETY: the mode that the thread had.
            let _back = unsafe { driver.exchange_capture_mode(&raw mut mode) };
        }
        let mut popped = std::ptr::null_mut();
        // SAFETY: room for the context that `enter` pushed on this thread, which is not `Send`.
        let _gone = unsafe { driver.pop_context(&raw mut popped) };
        ENTERED.set(self.before);
    }
}
