//! The functions for tests, which cuda.h does not have. These calls are not logged and run no
//! queued work.

use std::ffi::{CStr, c_char, c_int, c_void};

use crate::driver::driver;
use crate::error::{Code, INVALID_VALUE, SUCCESS};
use crate::log::Log;
use crate::work::Work;

/// Clears the log, the faults and the injected failures, and sets how many devices there are; with
/// 0, `cuInit` fails. Objects stay valid, and queued work stays queued.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_cuda_reset(devices: c_int) {
    let mut driver = driver();
    driver.log = Log::default();
    driver.set_count(usize::try_from(devices).unwrap_or_default());
}

/// Writes the calls since the reset, one per line, as many bytes as fit, and a NUL. Returns how
/// many bytes all of it takes, with the NUL.
///
/// # Safety
/// * `buffer` has room for `size` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fake_cuda_log(buffer: *mut c_char, size: usize) -> usize {
    // SAFETY: the caller guarantees the room.
    unsafe { write(driver().log.calls(), buffer, size) }
}

/// Writes the faults since the reset, as [`fake_cuda_log`] writes the calls.
///
/// # Safety
/// * `buffer` has room for `size` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fake_cuda_faults(buffer: *mut c_char, size: usize) -> usize {
    let mut driver = driver();
    let mut faults = driver.log.faults().to_owned();
    for overrun in driver.memory.overruns() {
        faults += &format!("at the report: {overrun}\n");
    }
    // SAFETY: the caller guarantees the room.
    unsafe { write(&faults, buffer, size) }
}

/// # Safety
/// * `buffer` has room for `size` bytes.
unsafe fn write(text: &str, buffer: *mut c_char, size: usize) -> usize {
    if size > 0 {
        let length = text.len().min(size - 1);
        // SAFETY: the caller guarantees room for `size` bytes, and `length` is below `size`.
        unsafe { buffer.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), length) };
        // SAFETY: the caller guarantees room for `size` bytes, and `length` is below `size`.
        unsafe { buffer.wrapping_add(length).write(0) };
    }
    text.len() + 1
}

/// Lets the `nth` next call of a function (1 is the next one) return a code and do nothing. `name`
/// may be with or without `_v2`.
///
/// # Safety
/// * `name` ends with a NUL.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fake_cuda_fail(name: *const c_char, nth: c_int, code: c_int) {
    // SAFETY: the caller guarantees that `name` ends with a NUL.
    let name = unsafe { CStr::from_ptr(name) };
    driver().log.fail(&name.to_string_lossy(), nth, code);
}

/// How many objects of a type there are. `object` is 0 for device allocations, 1 for page-locked
/// allocations, 2 for events, 3 for streams that were created, 4 for retains of contexts, and 5 for
/// queued operations that have not run, without events' marks and waits. Others give -1.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_cuda_live(object: c_int) -> i64 {
    let driver = driver();
    let count = match object {
        0 => driver.memory.live_allocations(),
        1 => driver.memory.live_pinned(),
        2 => driver.events.iter().filter(|event| !event.destroyed).count(),
        3 => driver.streams.iter().filter(|stream| !stream.destroyed).count(),
        4 => driver.devices.iter().map(|device| device.retained).sum::<u64>() as usize,
        5 => driver.queues.waiting().filter(|work| !matches!(work, Work::Nothing)).count(),
        _ => return -1,
    };
    count as i64
}

/// Copies the bytes of device memory as they are now. Returns 0 if there is such memory, freed or
/// not.
///
/// # Safety
/// * `buffer` has room for `size` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fake_cuda_peek(
    address: u64,
    buffer: *mut c_void,
    size: usize,
) -> Code {
    match driver().memory.peek(address, size) {
        Some(bytes) => {
            // SAFETY: the caller guarantees room for `size` bytes, as many as `peek` returned.
            unsafe { buffer.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), size) };
            SUCCESS
        }
        None => INVALID_VALUE,
    }
}

/// Marks a stream as one that a graph is being captured on, or not.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_cuda_capture(stream: usize, captures: c_int) -> Code {
    match driver().stream(stream) {
        Ok(stream) => {
            stream.captures = captures != 0;
            SUCCESS
        }
        Err(code) => code,
    }
}

/// How many contexts are on this thread's stack.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_cuda_current_depth() -> c_int {
    driver().stack().len() as c_int
}
