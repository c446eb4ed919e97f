//! Handles. In cuda.h they are pointers; here they are numbers that are no address on any machine.

#![forbid(unsafe_code)]

use std::fmt;

/// The type of the object that a handle names.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum HandleKind {
    Context = 0x11,
    Stream = 0x12,
    Event = 0x13,
    Module = 0x14,
    Function = 0x15,
}

impl HandleKind {
    /// The handle of the object with this index.
    pub(crate) fn handle(self, index: usize) -> usize {
        (self as usize) << 56 | (index + 1) << 8
    }

    /// The index of the object with this handle; `None` if `handle` is not of this kind.
    pub(crate) fn index(self, handle: usize) -> Option<usize> {
        let number = handle ^ (self as usize) << 56;
        if number.is_multiple_of(256) && number >> 56 == 0 {
            (number >> 8).checked_sub(1)
        } else {
            None
        }
    }
}

/// A handle as the log writes it: the third stream that was created is `#3`, and a context is
/// written as the number of its device.
pub(crate) struct Named(pub(crate) HandleKind, pub(crate) usize);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1, self.0.index(self.1)) {
            (HandleKind::Stream, 0 | 1, _) => write!(f, "legacy"),
            (HandleKind::Stream, 2, _) => write!(f, "per-thread"),
            (HandleKind::Context, _, Some(device)) => write!(f, "{device}"),
            (_, _, Some(index)) => write!(f, "#{}", index + 1),
            (_, handle, None) => write!(f, "{handle:#x}"),
        }
    }
}
