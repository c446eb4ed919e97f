//! What tests ask for, beside what cuda.h has. These calls are not logged, and nothing queued runs for them.

use std::ffi::{CStr, c_char, c_int, c_void};

use crate::driver::driver;
use crate::error::{Code, INVALID_VALUE, SUCCESS};
use crate::log::Log;
use crate::work::Work;

/// Forgets the log, the faults and the failures to come, and sets how many devices there are; with 0,
/// `cuInit` fails. What was made stays valid, and what was queued stays queued.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_cuda_reset(devices: c_int) {
    let mut driver = driver();
    driver.log = Log::default();
    driver.set_count(usize::try_from(devices).unwrap_or_default());
}

/// Writes the calls since the reset, a line each, as far as there is room, and a NUL. How much room all
/// of it takes, with the NUL.
///
/// # Safety
/// * `buffer` has room for `size` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fake_cuda_log(buffer: *mut c_char, size: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { write(driver().log.calls(), buffer, size) }
}

/// Writes the faults since the reset, likewise.
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
    // SAFETY: the caller's promise.
    unsafe { write(&faults, buffer, size) }
}

/// # Safety
/// * `buffer` has room for `size` bytes.
unsafe fn write(text: &str, buffer: *mut c_char, size: usize) -> usize {
    if size > 0 {
        let length = text.len().min(size - 1);
        // SAFETY: the caller's promise; `length` is below `size`.
        unsafe { buffer.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), length) };
        // SAFETY: likewise.
        unsafe { buffer.wrapping_add(length).write(0) };
    }
    text.len() + 1
}

/// Lets the `nth` next call of a function (1 is the next one) give a code and do nothing. With or without
/// the `_v2` of its name.
///
/// # Safety
/// * `name` ends with a NUL.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fake_cuda_fail(name: *const c_char, nth: c_int, code: c_int) {
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    driver().log.fail(&name.to_string_lossy(), nth, code);
}

/// How many there are of 0: allocations of the devices, 1: page-locked allocations, 2: events, 3: made
/// streams, 4: retains of contexts, 5: queued operations that have not run, not counting events' marks
/// and waits. -1 for other kinds.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_cuda_live(kind: c_int) -> i64 {
    let driver = driver();
    let count = match kind {
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

/// Copies device memory as it is now. 0 if there is such memory, freed or not.
///
/// # Safety
/// * `buffer` has room for `size` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fake_cuda_peek(address: u64, buffer: *mut c_void, size: usize) -> Code {
    match driver().memory.peek(address, size) {
        Some(bytes) => {
            // SAFETY: the caller's promise.
            unsafe { buffer.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), size) };
            SUCCESS
        }
        None => INVALID_VALUE,
    }
}

/// Begins to capture a graph on a stream that was made, or ends it.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_cuda_capture(stream: usize, captures: c_int) -> Code {
    driver().capture(stream, captures != 0).err().unwrap_or(SUCCESS)
}

/// How many contexts are on this thread's stack.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fake_cuda_current_depth() -> c_int {
    driver().stack().len() as c_int
}
