//! The cache of this process, its limit, and the public functions that control it.

#![forbid(unsafe_code)]

use std::ffi::OsStr;

use super::block_cache::BlockCache;

/// The limit (bytes) if neither the program nor the environment sets one. On Linux, the system can
/// take most of the memory when it runs short, so the limit has room for two blocks of 256 MiB. On
/// other systems, where it cannot and nothing was measured, the cache is off.
const DEFAULT_LIMIT_BYTES: usize = if cfg!(target_os = "linux") { 512 << 20 } else { 0 };

/// The environment variable with the limit (bytes).
const LIMIT_VARIABLE: &str = "DLBRIDGE_CACHE_LIMIT";

/// Stands for a limit that has not been set yet.
const NOT_SET: usize = usize::MAX;

static CACHE: BlockCache = BlockCache::new(NOT_SET);

/// Returns the cache, with its limit set.
#[inline]
pub(super) fn cache() -> &'static BlockCache {
    if CACHE.limit() == NOT_SET {
        set_initial_limit();
    }
    &CACHE
}

#[cold]
fn set_initial_limit() {
    let variable = std::env::var_os(LIMIT_VARIABLE);
    CACHE.replace_limit(NOT_SET, initial_limit(variable.as_deref()));
}

/// Returns the limit that the environment variable names, or else the default.
fn initial_limit(variable: Option<&OsStr>) -> usize {
    let bytes = variable.and_then(OsStr::to_str).and_then(|text| text.trim().parse().ok());
    bytes.map_or(DEFAULT_LIMIT_BYTES, |bytes: usize| bytes.min(NOT_SET - 1))
}

/// Gives all cached memory back to the allocator, and returns its size in bytes.
///
/// Memory of 2 MiB or more that this crate allocated for a copy is cached when the last handle to
/// it is dropped, and a later copy of about the same size takes it. [`set_cache_limit`] says how
/// much is kept, and for how long.
///
/// ```
/// use dlbridge::Tensor;
///
/// let tensor = Tensor::zeros::<f32>([1024, 1024])?;
/// drop(tensor.deep_clone()?); // 4 MiB stay in the cache
/// let second = tensor.deep_clone()?; // uses them again
/// drop(second);
///
/// dlbridge::trim();
/// assert_eq!(dlbridge::cached_bytes(), 0);
/// # Ok::<(), dlbridge::Error>(())
/// ```
pub fn trim() -> usize {
    // Without the limit: reading the environment allocates, and a global allocator that has no
    // memory may call this function.
    CACHE.trim()
}

/// Returns the size in bytes of the memory that is cached for later copies.
///
/// This is address space. After the system took pages of it, less memory is in use. The result is 0
/// in the child of a fork if another thread of its parent was using the cache at that time.
///
/// ```
/// dlbridge::trim();
/// assert_eq!(dlbridge::cached_bytes(), 0);
/// ```
pub fn cached_bytes() -> usize {
    CACHE.bytes()
}

/// Sets the maximum size in bytes of the cached memory, and returns the maximum from before.
///
/// With `bytes` = 0 the cache is off. Memory above the new maximum is given back at once. The
/// maximum is the one for the whole process, and begins with the value of the environment variable
/// `DLBRIDGE_CACHE_LIMIT` (a number of bytes), which is read once. Without this variable, or if it
/// is not such a number, the maximum is 512 MiB on Linux and 0 on other systems.
///
/// | memory in the cache | how long it stays |
/// |---|---|
/// | Linux: all but the next two lines | until the system runs short of memory and takes the pages (`MADV_FREE`); tools count them as resident until then |
/// | the blocks that were freed last, up to 32 MiB | as long as no later blocks exceed these 32 MiB |
/// | the end of a block after its last whole huge page (2 MiB) | as long as the block |
/// | a block that no copy used for 10 seconds | until the next time that memory of 2 MiB or more is allocated for a copy, or freed |
/// | a block from before a `fork`, in the parent and in the child | the same: it is not used again |
/// | all blocks | until [`trim`], or until an allocation of this crate fails for lack of memory, after which it is tried again |
///
/// ```
/// let before = dlbridge::set_cache_limit(64 << 20);
/// assert!(dlbridge::cached_bytes() <= 64 << 20);
/// assert_eq!(dlbridge::set_cache_limit(before), 64 << 20);
/// ```
pub fn set_cache_limit(bytes: usize) -> usize {
    cache().set_limit(bytes.min(NOT_SET - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_a_number_of_bytes() {
        let limit = |text: &str| initial_limit(Some(OsStr::new(text)));
        assert_eq!(limit("0"), 0);
        assert_eq!(limit(" 4096\n"), 4096);
        assert_eq!(limit(&usize::MAX.to_string()), usize::MAX - 1);
        for text in ["", "-1", "1G", "0x10", "many", "99999999999999999999999"] {
            assert_eq!(limit(text), DEFAULT_LIMIT_BYTES, "{text}");
        }
        assert_eq!(initial_limit(None), DEFAULT_LIMIT_BYTES);
    }
}
