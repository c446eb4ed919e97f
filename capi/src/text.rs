//! Text in a buffer of the caller, as `snprintf` writes it.

use std::ffi::c_char;

/// Writes at most `size` bytes of a text, the last of them NUL. Writes nothing if `buffer` is NULL
/// or `size` is 0.
///
/// # Safety
/// * `buffer` is NULL, or valid for writes of `size` bytes, which are not bytes of `text`.
pub(crate) unsafe fn write(text: &[u8], buffer: *mut c_char, size: usize) {
    let (false, Some(most)) = (buffer.is_null(), size.checked_sub(1)) else { return };
    let written = text.len().min(most);
    let buffer = buffer.cast::<u8>();
    // SAFETY: the caller guarantees `size` bytes at `buffer`, of which `written` and the NUL are at
    // most `size`; `text` holds `written` bytes, and is other memory.
    unsafe { buffer.copy_from_nonoverlapping(text.as_ptr(), written) };
    // SAFETY: the caller guarantees `size` bytes at `buffer`, and `written` is below `size`.
    unsafe { buffer.add(written).write(0) };
}
