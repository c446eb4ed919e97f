//! The cache of memory for copies.

/// Gives all memory that is cached for later copies back to the system's allocator. Returns its
/// size in bytes.
///
/// Memory of 2 MiB or more that the library allocated for a copy is cached when its last handle is
/// freed, and a later copy of about the same size takes it. dlb_set_cache_limit() says how much is
/// kept, and for how long.
///
/// Ownership: none.
///
/// Example of the functions for the cache:
///
/// ```c
/// static const float numbers[1 << 20];
/// int64_t shape[] = {1 << 20};
/// DLTensor desc = {(void *)numbers, {kDLCPU, 0}, 1, {kDLFloat, 32, 1}, shape, NULL, 0};
/// dlb_tensor *tensor = NULL, *copy = NULL;
/// size_t before = dlb_set_cache_limit(64 << 20); // bytes
/// dlb_status status = dlb_tensor_from_memory(&desc, DLPACK_FLAG_BITMASK_READ_ONLY, NULL, NULL,
///                                            &tensor, NULL);
/// assert(status == DLB_OK);
/// status = dlb_tensor_clone(tensor, DLB_MEMORY_FORMAT_PRESERVE, DLB_STREAM_NO_SYNC, &copy, NULL);
/// assert(status == DLB_OK);
/// dlb_tensor_free(copy); // the next clone takes the 4 MiB of this one
/// assert(dlb_cached_bytes() >= 4 << 20);
/// assert(dlb_trim() >= 4 << 20 && dlb_cached_bytes() == 0);
/// dlb_tensor_free(tensor);
/// dlb_set_cache_limit(before);
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dlb_trim() -> usize {
    dlbridge::trim()
}

/// Returns the size in bytes of the memory that is cached for later copies. The system may already
/// have taken some of its pages.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_cached_bytes() -> usize {
    dlbridge::cached_bytes()
}

/// Sets the maximum size in bytes of the memory that is cached, and returns the maximum from
/// before. With `bytes` = 0 the cache is off. Memory above the new maximum is given back at once.
///
/// The maximum is one number for the process. It begins with the environment variable
/// DLBRIDGE_CACHE_LIMIT, a number of bytes; without it, the maximum is 512 MiB on Linux and 0 on
/// other systems. On Linux, the system takes cached pages when it runs short of memory, except for
/// the 32 MiB that were freed last and less than 2 MiB of each block; until then, tools count them
/// as resident. Memory that no copy used for 10 seconds is given back the next time that the
/// library allocates or frees 2 MiB or more for a copy, or calls dlb_trim().
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_set_cache_limit(bytes: usize) -> usize {
    dlbridge::set_cache_limit(bytes)
}
