//! Bytes on their way to the target: put together in a cache, then written past the caches.

use std::mem::MaybeUninit;
use std::ptr;

use super::CACHE_LINE_BYTES;
use super::processor::NontemporalStores;

/// So many bytes fit the second cache. They are on the stack of the thread that copies.
pub(super) const STORE_BUFFER_BYTES: usize = 80 << 10;

/// The most bytes to ask room for at once.
pub(super) const APPEND_MAX_BYTES: usize = 8 << 10;

/// Memory for them.
#[repr(align(64))]
pub(super) struct StoreBufferMemory(MaybeUninit<[u8; STORE_BUFFER_BYTES]>);

impl StoreBufferMemory {
    pub(super) const fn new() -> Self {
        Self(MaybeUninit::uninit())
    }
}

/// Pieces of the target that follow each other leave in whole lines.
///
/// Invariant: the first `filled` bytes of the buffer go to `to`, and may be written there.
pub(super) struct StoreBuffer<'a> {
    pub(super) stores: &'a NontemporalStores,
    buffer: *mut u8,
    to: *mut u8,
    filled: usize,
}

impl<'a> StoreBuffer<'a> {
    pub(super) fn new(memory: &'a mut StoreBufferMemory, stores: &'a NontemporalStores) -> Self {
        Self { stores, buffer: memory.0.as_mut_ptr().cast(), to: ptr::null_mut(), filled: 0 }
    }

    /// Where to put the bytes that go to `to`; there is room for [`APPEND_MAX_BYTES`] of them.
    ///
    /// # Safety
    /// * `bytes`, at most [`APPEND_MAX_BYTES`], are put there before the next call, and may be written to `to`.
    pub(super) unsafe fn room(&mut self, to: *mut u8, bytes: usize) -> *mut u8 {
        debug_assert!(bytes <= APPEND_MAX_BYTES);
        if self.to.wrapping_add(self.filled) != to {
            self.flush();
            self.to = to;
        } else if self.filled + bytes > STORE_BUFFER_BYTES {
            // What does not fill a line waits for more.
            let rest = (self.to.addr() + self.filled) % CACHE_LINE_BYTES;
            self.send(self.filled - rest);
        }
        // SAFETY: there is room: less than a line is left, or nothing was sent because all fits.
        let room = unsafe { self.buffer.add(self.filled) };
        self.filled += bytes;
        room
    }

    /// The empty buffer, for [`STORE_BUFFER_BYTES`] bytes that the caller writes to their places.
    pub(super) fn scratch(&mut self) -> *mut u8 {
        self.flush();
        self.buffer
    }

    /// Writes everything to where it goes.
    pub(super) fn flush(&mut self) {
        self.send(self.filled);
    }

    /// Writes the first bytes, of those that there are, to where they go.
    fn send(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        // SAFETY: the invariant.
        unsafe { (self.stores.copy)(self.buffer, self.to, bytes) };
        self.to = self.to.wrapping_add(bytes);
        self.filled -= bytes;
        // SAFETY: within the buffer.
        let rest = unsafe { self.buffer.add(bytes) };
        // SAFETY: the rest moves to the front.
        unsafe { rest.copy_to(self.buffer, self.filled) };
    }
}
