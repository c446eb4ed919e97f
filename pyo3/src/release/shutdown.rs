//! Decides which releases may still attach to the interpreter when it ends.

use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

/// True once the interpreter has begun to end. From then on a thread that waits to attach may be
/// stopped and never resumed, in the middle of a deleter, so only the thread that ends the
/// interpreter may attach.
static CLOSING: AtomicBool = AtomicBool::new(false);

/// The thread that ends the interpreter.
static CLOSING_THREAD: OnceLock<ThreadId> = OnceLock::new();

/// Number of releases in progress, on all threads.
static RELEASES: AtomicUsize = AtomicUsize::new(0);

/// Longest time that the end of the interpreter waits for releases in progress on other threads.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The interpreter whose objects this module is prepared to release: the main one, or NULL.
static READY_FOR: AtomicPtr<ffi::PyInterpreterState> = AtomicPtr::new(null_mut());

/// Prepares this module to release objects of the interpreter. Each function that takes memory of
/// Python calls this first. Raises ImportError in a subinterpreter.
#[inline]
pub(crate) fn ensure_ready(py: Python<'_>) -> PyResult<()> {
    // SAFETY: the thread must be attached to an interpreter, as `py` proves.
    let interpreter = unsafe { ffi::PyInterpreterState_Get() };
    if READY_FOR.load(Ordering::Relaxed) == interpreter {
        return Ok(());
    }
    make_ready(py, interpreter)
}

#[cold]
fn make_ready(py: Python<'_>, interpreter: *mut ffi::PyInterpreterState) -> PyResult<()> {
    // SAFETY: the interpreter must be alive: `ensure_ready` passes the one that this thread is
    // attached to.
    if unsafe { ffi::PyInterpreterState_GetID(interpreter) } != 0 {
        // Releases attach to the main interpreter, which would deadlock in a subinterpreter.
        return Err(PyImportError::new_err("dlbridge can't be used in subinterpreters"));
    }
    py.import("atexit")?.call_method1("register", (wrap_pyfunction!(close, py)?,))?;
    READY_FOR.store(interpreter, Ordering::Relaxed);
    Ok(())
}

/// Called by `atexit`: lets the releases in progress finish, and stops others from beginning.
#[pyfunction]
fn close(py: Python<'_>) {
    let _first = CLOSING_THREAD.set(thread::current().id());
    CLOSING.store(true, Ordering::SeqCst);
    let start = Instant::now();
    while RELEASES.load(Ordering::SeqCst) > 0 && start.elapsed() < CLOSE_TIMEOUT {
        #[expect(clippy::disallowed_methods, reason = "no tensor is used meanwhile")]
        py.detach(|| thread::sleep(Duration::from_millis(1)));
    }
}

/// Counts a release as in progress for as long as it exists.
pub(super) struct ReleaseInProgress(());

impl ReleaseInProgress {
    /// Counts a release; `None` if this thread may not attach to the interpreter any more.
    #[inline]
    pub(super) fn begin() -> Option<Self> {
        // The release is counted before CLOSING is read, so that either `close` sees the count, or
        // this function sees CLOSING.
        RELEASES.fetch_add(1, Ordering::SeqCst);
        let release = Self(());
        if CLOSING.load(Ordering::SeqCst) && CLOSING_THREAD.get() != Some(&thread::current().id()) {
            return None;
        }
        // SAFETY: `Py_IsInitialized` has no precondition: any thread may call it at any time.
        (unsafe { ffi::Py_IsInitialized() } != 0).then_some(release)
    }
}

impl Drop for ReleaseInProgress {
    fn drop(&mut self) {
        RELEASES.fetch_sub(1, Ordering::SeqCst);
    }
}
