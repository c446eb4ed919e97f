//! Locks, atomics and counted references of code whose interleavings are tested with loom.
//!
//! They are those of `std`, except in the unit tests of a build with `--cfg loom`. Such a build
//! replaces them by loom's, which run a test once for each order that the threads' steps can have.
//! Code outside this crate's own tests never sees loom's types, which work inside a loom model
//! only.

#![forbid(unsafe_code)]
#![allow(unused_imports, reason = "a build without some feature uses only some of these")]

#[cfg(all(loom, test))]
pub(crate) use loom::{
    sync::{Arc, Condvar, Mutex, MutexGuard, atomic},
    thread,
};
#[cfg(not(all(loom, test)))]
pub(crate) use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, atomic},
    thread,
};
