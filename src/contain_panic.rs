//! Containment of panics: none reaches C code that called a deleter.

#![forbid(unsafe_code)]

use std::panic;

/// Runs code that may drop owners from outside this crate, and contains a panic. The payload of a
/// panic may panic when it is dropped, and so may the payload of that panic; a third one is leaked.
pub(crate) fn contain_panic(run: impl FnOnce()) {
    let caught = |run: &mut dyn FnMut()| panic::catch_unwind(panic::AssertUnwindSafe(run)).err();
    let mut run = Some(run);
    let mut payload = caught(&mut || run.take().into_iter().for_each(|run| run()));
    for _ in 0..2 {
        payload = caught(&mut || drop(payload.take()));
    }
    std::mem::forget(payload);
}
