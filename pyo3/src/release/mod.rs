//! Release of Python objects and buffers, from any thread.
//!
//! A tensor that shares memory of Python holds a reference to an object ([`PyOwner`],
//! [`ArrayOwner`]), to two ([`PyOwnerPair`]), or a buffer that an object exported
//! ([`BufferGuard`]). The last handle of that tensor may be dropped by any
//! thread: one that is attached to the interpreter or not, one that has an exception pending, one
//! that is already inside a release, one that is ending, or one that outlives the interpreter.
//!
//! `with_gil::release` therefore takes every value through these steps:
//!
//! 1. If the thread is `MAX_NESTED_RELEASES` deep in releases already, or its outermost release is
//!    detaching from the interpreter, the value goes into a queue of the thread, and the call
//!    returns.
//! 2. The release is counted as in progress (`shutdown`), and then checks whether the interpreter
//!    is ending or has ended. If so, the value is leaked: without an interpreter nothing can be
//!    released, and a thread that attaches while another one ends the interpreter is never resumed.
//!    The thread that ends the interpreter itself goes on.
//! 3. The thread attaches, sets a pending exception aside, releases the value, restores the
//!    exception, and detaches. If the garbage collector is calling `__traverse__` of a class of
//!    Rust, nothing may be released, and the value goes into the queue. From CPython 3.13 on, so
//!    does a value that code outside PyO3 drops while the interpreter ends; it is leaked.
//! 4. The outermost release takes the values from the queue, one by one, through step 3.
//!
//! Three rules keep this correct:
//!
//! * **A value is released once or leaked, never dropped.** A value that was not released lies in a
//!   `ManuallyDrop`, also while it waits in the queue, because dropping a `Py` without being
//!   attached hands it to PyO3, which may never release it.
//! * **No borrow is held while a value is released.** Releasing runs code of other libraries, which
//!   may drop further tensors on the same thread. The queue is borrowed only to add or to take one
//!   value.
//! * **The order of steps is the order of drops.** The exception is restored before the thread
//!   detaches, and the nesting level ends after the thread has detached.

mod buffer_guard;
mod pending_exception;
mod py_owner;
mod py_owner_pair;
mod shutdown;
mod with_gil;

pub(crate) use buffer_guard::BufferGuard;
pub(crate) use pending_exception::PendingException;
pub(crate) use py_owner::{ArrayOwner, PyOwner};
pub(crate) use py_owner_pair::PyOwnerPair;
pub(crate) use shutdown::ensure_ready;
