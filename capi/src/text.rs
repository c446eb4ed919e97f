//! Text in a buffer of the caller, as `snprintf` writes it.

use std::ffi::c_char;

/// A buffer of a caller in C. The address may be NULL.
pub(crate) struct TextBuffer {
    pub(crate) start: *mut c_char,
    /// Number of bytes, the NUL included.
    pub(crate) size: usize,
}

impl TextBuffer {
    /// Writes at most `size` bytes of a text, the last of them NUL. Writes nothing if the address
    /// is NULL or the size is 0.
    ///
    /// # Safety
    /// * The address is NULL, or valid for writes of `size` bytes, which are not bytes of `text`.
    pub(crate) unsafe fn write(self, text: &[u8]) {
        let (false, Some(most)) = (self.start.is_null(), self.size.checked_sub(1)) else { return };
        let written = text.len().min(most);
        let start = self.start.cast::<u8>();
        // SAFETY: the caller guarantees `size` bytes at `start`, of which `written` and the NUL are
        // at most `size`; `text` holds `written` bytes, and is other memory.
        unsafe { start.copy_from_nonoverlapping(text.as_ptr(), written) };
        let end = start.wrapping_add(written);
        // SAFETY: the caller guarantees `size` bytes at `start`, and `written` is below `size`.
        unsafe { end.write(0) };
    }
}
