//! Where a copy reads and where it writes.

/// An address in the source and the address in the target that belongs to it.
#[derive(Clone, Copy)]
pub(super) struct Endpoints {
    pub(super) source: *const u8,
    pub(super) target: *mut u8,
}

impl Endpoints {
    /// Both addresses, moved by `source` and by `target` bytes.
    ///
    /// # Safety
    /// * The address `source` bytes on is in the memory of the source or at its end, that `target`
    ///   bytes on in the memory of the target or at its end.
    #[inline(always)]
    pub(super) unsafe fn offset(self, source: isize, target: isize) -> Self {
        Self {
            // SAFETY: the caller says that this is in the memory of the source or at its end.
            source: unsafe { self.source.offset(source) },
            // SAFETY: the caller says that this is in the memory of the target or at its end.
            target: unsafe { self.target.offset(target) },
        }
    }
}
