//! Python objects that keep memory, and how anything of Python's is released from wherever.
//!
//! A deleter may run on any thread, attached to the interpreter or not, while an exception is pending, or
//! when there is no interpreter any more. So whatever touches Python on release goes through `release`:
//! it attaches, puts a pending exception aside, and leaks rather than touch a dead interpreter.

use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::mem::ManuallyDrop;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use pyo3::ffi;
use pyo3::prelude::*;

/// Set when the interpreter begins to end. From then on a thread that waits for it may be ended without
/// warning, in the middle of somebody's deleter, so only the thread that ends it may go on.
static CLOSING: AtomicBool = AtomicBool::new(false);
static CLOSER: OnceLock<ThreadId> = OnceLock::new();
/// Releases under way.
static RELEASES: AtomicUsize = AtomicUsize::new(0);

/// The longest that the interpreter's end waits for releases that other threads have begun.
const PATIENCE: Duration = Duration::from_secs(1);

/// Called at exit: lets releases that have begun come to their end.
#[pyfunction]
pub(crate) fn _close(py: Python<'_>) {
    let _first = CLOSER.set(thread::current().id());
    CLOSING.store(true, Ordering::SeqCst);
    let start = Instant::now();
    while RELEASES.load(Ordering::SeqCst) > 0 && start.elapsed() < PATIENCE {
        py.detach(|| thread::sleep(Duration::from_millis(1)));
    }
}

struct Release;

impl Release {
    fn begin() -> Self {
        RELEASES.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        RELEASES.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What is to be given back to Python.
trait ReleaseWithGil: 'static {
    fn release_with_gil(self, py: Python<'_>);
}

/// Releases within releases, up to so many; further ones wait until the outermost has come to its end. Otherwise
/// a long chain of owners would need as much stack.
const DEEPEST: u32 = 50;

#[derive(Clone, Copy)]
struct Nested {
    depth: u32,
    waiting: u32,
    /// The outermost lets go of the interpreter. That may end the thread's state, and with it objects of the
    /// thread's that hold more, which must not attach again in the middle of it.
    detaching: bool,
}

type GiveBack = Box<dyn FnOnce(Python<'_>)>;

thread_local! {
    static NESTED: Cell<Nested> = const { Cell::new(Nested { depth: 0, waiting: 0, detaching: false }) };
    static WAITING: RefCell<Vec<GiveBack>> = const { RefCell::new(Vec::new()) };
}

/// Gives something back to Python; leaks it when there is no interpreter to give it to.
fn release(held: impl ReleaseWithGil) {
    let held = ManuallyDrop::new(held);
    let release_with_gil =
        move |py: Python<'_>| ManuallyDrop::into_inner(held).release_with_gil(py);
    NESTED.with(|nested| release_within(nested, release_with_gil));
}

fn release_within(nested: &Cell<Nested>, release_with_gil: impl FnOnce(Python<'_>) + 'static) {
    let Nested { depth, waiting, detaching } = nested.get();
    if depth >= DEEPEST || detaching {
        // At the thread's end, without room to wait in, it is leaked.
        if WAITING.try_with(|held| held.borrow_mut().push(Box::new(release_with_gil))).is_ok() {
            nested.set(Nested { depth, waiting: waiting + 1, detaching });
        }
        return;
    }
    let _release = Release::begin();
    let closing = CLOSING.load(Ordering::SeqCst);
    if closing && CLOSER.get() != Some(&thread::current().id()) {
        return;
    }
    // SAFETY: may be asked at any time.
    if unsafe { ffi::Py_IsInitialized() } == 0 {
        return;
    }
    attached(nested, release_with_gil);
    while let now @ Nested { depth: 0, waiting: 1.., .. } = nested.get()
        && let Ok(Some(next)) = WAITING.try_with(|held| held.borrow_mut().pop())
    {
        nested.set(Nested { waiting: now.waiting - 1, ..now });
        attached(nested, next);
    }
}

/// Runs it attached, one level deeper.
#[inline]
fn attached(nested: &Cell<Nested>, release_with_gil: impl FnOnce(Python<'_>)) {
    let _level = Level::enter(nested);
    let _attached = Attached::new();
    {
        // SAFETY: attached just above, until the end of this function.
        let py = unsafe { Python::assume_attached() };
        let _pending = Pending::put_aside(py);
        release_with_gil(py);
    }
    let now = nested.get();
    nested.set(Nested { detaching: now.depth == 1, ..now });
}

/// A level of releases within releases. Levels may end in another order than they began: greenlets.
struct Level<'a>(&'a Cell<Nested>);

impl<'a> Level<'a> {
    #[inline]
    fn enter(nested: &'a Cell<Nested>) -> Self {
        let now = nested.get();
        nested.set(Nested { depth: now.depth + 1, ..now });
        Self(nested)
    }
}

impl Drop for Level<'_> {
    #[inline]
    fn drop(&mut self) {
        let now = self.0.get();
        self.0.set(Nested { depth: now.depth.saturating_sub(1), detaching: false, ..now });
    }
}

/// Sets the exception that stands for a panic of ours. Needs no PyO3, which may have been what panicked.
pub(crate) fn raise_panic() {
    // SAFETY: the interpreter's own exception.
    let class = unsafe { ffi::PyExc_RuntimeError };
    // SAFETY: called attached, with a class and a string.
    unsafe { ffi::PyErr_SetString(class, c"dlbridge panicked: this is a bug".as_ptr()) };
}

/// The interpreter's own word that this thread is attached. PyO3 goes by its count of what it attached itself, and
/// that is wrong here: when PyTorch frees a tensor it detaches, so our deleter may find itself detached within a
/// call of ours.
struct Attached(ffi::PyGILState_STATE);

impl Attached {
    fn new() -> Self {
        // SAFETY: there is an interpreter, which does not end, as far as anybody can know.
        Self(unsafe { ffi::PyGILState_Ensure() })
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // SAFETY: ensured on this thread, and released once.
        unsafe { ffi::PyGILState_Release(self.0) };
    }
}

/// An exception on its way, which comes back when this is dropped.
pub(crate) struct Pending([*mut ffi::PyObject; 3]);

impl Pending {
    pub(crate) fn put_aside(_py: Python<'_>) -> Self {
        let mut parts = [std::ptr::null_mut(); 3];
        let [kind, value, traceback] = &mut parts;
        // SAFETY: attached to the interpreter, and room for three references.
        unsafe { ffi::PyErr_Fetch(kind, value, traceback) };
        Self(parts)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let [kind, value, traceback] = self.0;
        // SAFETY: the thread is still attached: this lives within the function that attached it. The
        // references are those that `PyErr_Fetch` gave.
        unsafe { ffi::PyErr_Restore(kind, value, traceback) };
    }
}

/// Keeps a Python object that keeps memory.
pub(crate) struct PyOwner(ManuallyDrop<Py<PyAny>>);

impl PyOwner {
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> Self {
        Self(ManuallyDrop::new(object.clone().unbind()))
    }
}

impl Drop for PyOwner {
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        release(unsafe { ManuallyDrop::take(&mut self.0) });
    }
}

impl ReleaseWithGil for Py<PyAny> {
    fn release_with_gil(self, py: Python<'_>) {
        // As a `Bound`: dropping a `Py` may be put off until PyO3 is called again.
        drop(self.into_bound(py));
    }
}

/// Keeps a buffer that an object has lent, and gives it back.
pub(crate) struct BufferGuard(ManuallyDrop<Box<ffi::Py_buffer>>);

// SAFETY: only given back, by a thread that is attached.
unsafe impl Send for BufferGuard {}

impl BufferGuard {
    /// Asks an object for its buffer.
    pub(crate) fn new(object: &Bound<'_, PyAny>, flags: c_int) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: a live object, and room for a view.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &mut *view, flags) } == 0 {
            Ok(Self(ManuallyDrop::new(view)))
        } else {
            Err(PyErr::fetch(object.py()))
        }
    }

    pub(crate) fn view(&self) -> &ffi::Py_buffer {
        &self.0
    }
}

impl Drop for BufferGuard {
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        release(unsafe { ManuallyDrop::take(&mut self.0) });
    }
}

impl ReleaseWithGil for Box<ffi::Py_buffer> {
    fn release_with_gil(mut self, _: Python<'_>) {
        // SAFETY: attached; the view came from `PyObject_GetBuffer` and is given back once.
        unsafe { ffi::PyBuffer_Release(&mut *self) };
    }
}
