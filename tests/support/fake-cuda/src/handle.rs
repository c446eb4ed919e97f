//! Handles: pointers in cuda.h, here numbers that are no addresses on any machine.

use std::fmt;

/// What a handle is of.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum Kind {
    Context = 0x11,
    Stream = 0x12,
    Event = 0x13,
    Module = 0x14,
    Function = 0x15,
}

impl Kind {
    /// The handle of the object of this index.
    pub(crate) fn handle(self, index: usize) -> usize {
        (self as usize) << 56 | (index + 1) << 8
    }

    /// The index of the object that has this handle, if a handle of this kind is what it is.
    pub(crate) fn index(self, handle: usize) -> Option<usize> {
        let number = handle ^ (self as usize) << 56;
        if number.is_multiple_of(256) && number >> 56 == 0 { (number >> 8).checked_sub(1) } else { None }
    }
}

/// How the log writes handles: the third stream that was made is `#3`, and contexts are
/// written as the numbers of their devices.
pub(crate) struct Named(pub(crate) Kind, pub(crate) usize);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1, self.0.index(self.1)) {
            (Kind::Stream, 0 | 1, _) => write!(f, "legacy"),
            (Kind::Stream, 2, _) => write!(f, "per-thread"),
            (Kind::Context, _, Some(device)) => write!(f, "{device}"),
            (_, _, Some(index)) => write!(f, "#{}", index + 1),
            (_, handle, None) => write!(f, "{handle:#x}"),
        }
    }
}
