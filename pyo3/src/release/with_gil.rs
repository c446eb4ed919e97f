//! Releases a value while its thread is attached to the interpreter. `mod.rs` describes the steps.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;

use pyo3::ffi;
use pyo3::prelude::*;

use super::pending_exception::PendingException;
use super::shutdown::ReleaseInProgress;

/// A value that must be released by a thread that is attached to the interpreter.
pub(super) trait ReleaseWithGil: 'static {
    fn release_with_gil(self, py: Python<'_>);
}

/// Maximum depth of nested releases on one thread; deeper ones are queued until the outermost has
/// finished. Without a limit, a long chain of owners would overflow the stack.
const MAX_NESTED_RELEASES: u32 = 50;

/// The releases of one thread.
#[derive(Clone, Copy)]
struct Nesting {
    /// Number of releases that are on the thread's stack.
    depth: u32,
    /// Number of values in the thread's queue.
    queued: u32,
    /// Whether the outermost release is detaching from the interpreter. That may end the thread's
    /// Python state, and with it thread-local objects that hold more memory, whose release must not
    /// attach again in the middle of it.
    detaching: bool,
}

type QueuedRelease = Box<dyn FnOnce(Python<'_>)>;

thread_local! {
    static NESTING: Cell<Nesting> =
        const { Cell::new(Nesting { depth: 0, queued: 0, detaching: false }) };
    static QUEUE: RefCell<Vec<QueuedRelease>> = const { RefCell::new(Vec::new()) };
}

/// Releases `value` now or, within other releases, soon; leaks it if there is no interpreter.
pub(super) fn release(value: impl ReleaseWithGil) {
    // If this closure is dropped without being called, it leaks the value.
    let value = ManuallyDrop::new(value);
    let release = move |py: Python<'_>| ManuallyDrop::into_inner(value).release_with_gil(py);
    NESTING.with(|nesting| release_nested(nesting, release));
}

fn release_nested(nesting: &Cell<Nesting>, release: impl FnOnce(Python<'_>) + 'static) {
    let Nesting { depth, detaching, .. } = nesting.get();
    if depth >= MAX_NESTED_RELEASES || detaching {
        return enqueue(nesting, release);
    }
    let Some(_in_progress) = ReleaseInProgress::begin() else { return };
    let mut allowed = run_attached(nesting, release);
    while allowed && let Some(next) = take_queued(nesting) {
        allowed = run_attached(nesting, next);
    }
}

/// Leaves `release` to a later release of this thread.
#[cold]
fn enqueue(nesting: &Cell<Nesting>, release: impl FnOnce(Python<'_>) + 'static) {
    // If the thread is ending, its queue may be destroyed; then the value is leaked.
    if QUEUE.try_with(|queue| queue.borrow_mut().push(Box::new(release))).is_ok() {
        let now = nesting.get();
        nesting.set(Nesting { queued: now.queued + 1, ..now });
    }
}

/// The value that the outermost release takes from the queue next; `None` within other releases.
#[inline]
fn take_queued(nesting: &Cell<Nesting>) -> Option<QueuedRelease> {
    let now @ Nesting { depth: 0, queued: 1.., .. } = nesting.get() else { return None };
    let next = QUEUE.try_with(|queue| queue.borrow_mut().pop()).ok()??;
    nesting.set(Nesting { queued: now.queued - 1, ..now });
    Some(next)
}

/// Runs `release` attached to the interpreter, one level deeper. Returns false, and leaves it to a
/// later release, if nothing may be released now.
#[inline]
fn run_attached(nesting: &Cell<Nesting>, release: impl FnOnce(Python<'_>) + 'static) -> bool {
    // Dropped in reverse order: the thread detaches first, and then the level ends.
    let _level = NestingLevel::enter(nesting);
    let _attached = AttachedThread::new();
    {
        // SAFETY: the thread must be attached: `_attached` attached it, until this function
        // returns.
        let py = unsafe { Python::assume_attached() };
        let _pending = PendingException::set_aside(py);
        // PyO3 forbids to attach while the collector runs the `__traverse__` of a class of Rust, in
        // which safe code may drop a tensor. The collector would use an object that is freed then.
        if Python::try_attach(|_| ()).is_none() {
            enqueue(nesting, release);
            return false;
        }
        release(py);
    }
    let now = nesting.get();
    nesting.set(Nesting { detaching: now.depth == 1, ..now });
    true
}

/// One level of nested releases. Levels may end in another order than they began: greenlets switch
/// stacks within a release.
struct NestingLevel<'a>(&'a Cell<Nesting>);

impl<'a> NestingLevel<'a> {
    #[inline]
    fn enter(nesting: &'a Cell<Nesting>) -> Self {
        let now = nesting.get();
        nesting.set(Nesting { depth: now.depth + 1, ..now });
        Self(nesting)
    }
}

impl Drop for NestingLevel<'_> {
    #[inline]
    fn drop(&mut self) {
        let now = self.0.get();
        self.0.set(Nesting { depth: now.depth.saturating_sub(1), detaching: false, ..now });
    }
}

/// Keeps this thread attached, by the interpreter's own count. PyO3 counts only what it attached
/// itself, which is not enough here: PyTorch detaches while it frees a tensor, so a deleter of
/// this crate may run detached within a call of this crate.
struct AttachedThread(ffi::PyGILState_STATE);

impl AttachedThread {
    fn new() -> Self {
        // SAFETY: there must be an interpreter, which no other thread ends meanwhile:
        // `ReleaseInProgress::begin` checked both, and `close` waits for the release, for
        // `CLOSE_TIMEOUT` at most.
        Self(unsafe { ffi::PyGILState_Ensure() })
    }
}

impl Drop for AttachedThread {
    fn drop(&mut self) {
        // SAFETY: each state must be released once, by the thread that got it: `new` got it, and
        // this type is neither `Clone` nor moved out of `run_attached`.
        unsafe { ffi::PyGILState_Release(self.0) };
    }
}
