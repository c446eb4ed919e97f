//! The devices' primary contexts, which libtorch and the CUDA runtime use too.
//!
//! Invariants:
//! * a context is retained once, when its device is first used, until the process ends;
//! * while a context is entered, no code from outside this crate runs on the thread. Afterwards the
//!   caller's own context is current again.

use std::cell::Cell;
use std::ffi::c_int;
use std::marker::PhantomData;
use std::sync::{Mutex, OnceLock};

use cudarc::driver::sys::CUcontext;

use super::driver::{CAPTURE_MODE_RELAXED, DEVICE_MULTIPROCESSOR_COUNT, Driver, driver};
use crate::{Device, Error, Result};

/// A device that is in use.
pub(super) struct Context {
    pub(super) index: i32,
    pub(super) raw: CUcontext,
    pub(super) driver: &'static Driver,
    pub(super) multiprocessors: u32,
}

// SAFETY: the driver documents that contexts may be used on any thread; the other fields are
// numbers and a shared reference.
unsafe impl Send for Context {}
// SAFETY: no method changes the fields, and the driver locks the state of the context itself when
// several threads use it.
unsafe impl Sync for Context {}

impl Context {
    /// The context of a CUDA device.
    ///
    /// # Errors
    /// [`Error::CudaUnavailable`] when there is no driver or no such device; [`Error::Cuda`].
    pub(super) fn of(device: Device) -> Result<&'static Self> {
        static CONTEXTS: OnceLock<Box<[OnceLock<Context>]>> = OnceLock::new();
        static RETAINING: Mutex<()> = Mutex::new(());
        let driver = driver(device)?;
        let contexts = match CONTEXTS.get() {
            Some(contexts) => contexts,
            None => {
                let mut count = 0;
                // SAFETY: `count` is a local variable to write to.
                unsafe { driver.device_count(&raw mut count) }?;
                CONTEXTS.get_or_init(|| (0..count).map(|_| OnceLock::new()).collect())
            }
        };
        let slot = usize::try_from(device.index).ok().and_then(|index| contexts.get(index));
        let Some(slot) = slot else {
            let reason = match contexts.len() {
                0 => "the driver has no device".to_owned(),
                1 => "the driver has cuda:0 only".to_owned(),
                count => format!("the driver has cuda:0 to cuda:{}", count - 1),
            };
            return Err(Error::CudaUnavailable { device, reason });
        };
        if let Some(context) = slot.get() {
            return Ok(context);
        }
        // One thread at a time retains a context, so that none is retained twice.
        let _retaining = RETAINING.lock();
        if let Some(context) = slot.get() {
            return Ok(context);
        }
        let context = Self::retain(driver, device.index)?;
        Ok(slot.get_or_init(|| context))
    }

    fn retain(driver: &'static Driver, index: i32) -> Result<Self> {
        let (mut device, mut multiprocessors): (c_int, c_int) = (0, 0);
        let mut raw = std::ptr::null_mut();
        // SAFETY: `device` is a local variable to write to.
        unsafe { driver.device(&raw mut device, index) }?;
        let attribute = DEVICE_MULTIPROCESSOR_COUNT;
        // SAFETY: `multiprocessors` is a local variable to write to; `device` came from the driver.
        unsafe { driver.device_attribute(&raw mut multiprocessors, attribute, device) }?;
        // SAFETY: `raw` is a local variable to write to; `device` came from the driver.
        unsafe { driver.retain_context(&raw mut raw, device) }?;
        let multiprocessors = multiprocessors.max(1).unsigned_abs();
        Ok(Self { index, raw, driver, multiprocessors })
    }

    /// Makes this context the thread's current one until the result is dropped. Free if it was
    /// entered already. No code from outside this crate may run meanwhile, because it could change
    /// the current context.
    pub(super) fn enter(&'static self) -> Result<Entered> {
        let before = ENTERED.get();
        if before == Some(self.index) {
            return Ok(Entered { context: None, mode: None, before, _thread: PhantomData });
        }
        // SAFETY: the context is retained as long as the process lives.
        unsafe { self.driver.push_context(self.raw) }?;
        // No call of this crate belongs into a graph that another thread is capturing. In this mode
        // none invalidates such a graph either.
        let mut mode = CAPTURE_MODE_RELAXED;
        // SAFETY: `mode` is a local variable that holds a valid mode, to be replaced by the
        // thread's.
        let exchanged = unsafe { self.driver.exchange_capture_mode(&raw mut mode) };
        ENTERED.set(Some(self.index));
        let mode = exchanged.is_ok().then_some(mode);
        Ok(Entered { context: Some(self), mode, before, _thread: PhantomData })
    }

    /// Waits until the device has done all work.
    pub(super) fn synchronize(&'static self) -> Result<()> {
        let _entered = self.enter()?;
        // SAFETY: a context was just entered.
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
#[must_use = "the context is current until this is dropped"]
pub(super) struct Entered {
    /// The context to pop. `None` if it was entered before.
    context: Option<&'static Context>,
    /// The capture mode to restore, if it was exchanged.
    mode: Option<c_int>,
    /// The device whose context was entered before.
    before: Option<i32>,
    /// A context is current on one thread, so that this is not `Send`.
    _thread: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let Some(Context { driver, .. }) = self.context else { return };
        if let Some(mut mode) = self.mode {
            // SAFETY: `mode` is a local variable that holds the mode which the thread had before.
            let _restored = unsafe { driver.exchange_capture_mode(&raw mut mode) };
        }
        let mut popped = std::ptr::null_mut();
        // SAFETY: `popped` is a local variable to write to. `enter` pushed the context on this
        // thread: the guard is not `Send`.
        let _popped = unsafe { driver.pop_context(&raw mut popped) };
        ENTERED.set(self.before);
    }
}
