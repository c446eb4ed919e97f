//! Every order of the steps of threads that use one device's memory: `cargo xtask loom`.
//!
//! loom runs the tracker's own code, on the fake CUDA driver of `tests/support/fake-cuda`. That
//! driver delays work as long as it may, frees memory as early as it may, and keeps a list of calls
//! that CUDA does not allow. A wait that is missing in any interleaving appears in this list.

use std::ffi::{CStr, c_char, c_int};

use cudarc::driver::sys::culib;
use loom::thread;

use super::memory::{DeviceBuffer, OwnedBuffer};
use super::stream::Stream;
use super::tracker::{StreamTracker, StreamUse};
use crate::Device;
use crate::sync::Arc;

const GPU: Device = Device::cuda(0);

/// Tries all interleavings of a scenario on an empty driver, which must find no fault.
fn try_all(scenario: fn()) {
    loom::model(move || {
        // SAFETY: the function has this type, and takes any number of devices.
        let reset = unsafe { culib().get::<unsafe extern "C" fn(c_int)>(b"fake_cuda_reset\0") };
        // SAFETY: the fake driver has this function with this type, and takes any number of
        // devices.
        unsafe { reset.expect("the fake CUDA driver on LD_LIBRARY_PATH")(2) };
        scenario();
        let context = stream().context;
        context.synchronize().expect("a device that works");
        assert_eq!(faults(), "");
    });
}

fn faults() -> String {
    type Function = unsafe extern "C" fn(*mut c_char, usize) -> usize;
    // SAFETY: the function has this type.
    let read = unsafe { culib().get::<Function>(b"fake_cuda_faults\0") };
    let mut text = [0_u8; 4096];
    // SAFETY: the function writes no more bytes than the buffer has.
    unsafe { read.expect("the fake CUDA driver")(text.as_mut_ptr().cast(), text.len()) };
    let text = CStr::from_bytes_until_nul(&text).expect("an end");
    text.to_string_lossy().into_owned()
}

fn stream() -> Stream {
    Stream::new(GPU).expect("a stream")
}

/// Device memory that is freed with the last reference, its address, and its tracker.
fn memory() -> (Arc<OwnedBuffer>, u64, Arc<StreamTracker>) {
    let alloc_stream = stream();
    let buffer = DeviceBuffer::new(64, &alloc_stream).expect("device memory");
    let address = buffer.as_ptr().expose_provenance() as u64;
    let tracker = StreamTracker::new(&alloc_stream, true);
    (Arc::new(OwnedBuffer::new(buffer, Arc::clone(&tracker))), address, tracker)
}

/// What a consumer does: work on its stream, which this crate does not see.
fn work(address: u64, stream: &Stream) {
    let _entered = stream.context.enter().expect("a context");
    let driver = stream.context.driver;
    // SAFETY: 16 bytes each at the beginning and in the middle of memory of 64 bytes, which is
    // used in the order of the stream.
    let done = unsafe { driver.copy_on_device(address, address + 32, 16, stream.raw()) };
    done.expect("a copy");
}

/// A consumer ends its use and releases the memory; so does the one on the other thread.
fn consume(memory: Arc<OwnedBuffer>, address: u64, tracker: &Arc<StreamTracker>) {
    let stream = stream();
    let stream_use = StreamUse::new(tracker, &stream).expect("a use");
    work(address, &stream);
    drop((stream_use, memory));
}

/// Whichever thread releases the memory last frees it after both uses.
#[test]
fn loom_memory_is_freed_after_all_uses() {
    try_all(|| {
        let (memory, address, tracker) = memory();
        let (other_memory, other_tracker) = (Arc::clone(&memory), Arc::clone(&tracker));
        let other = thread::spawn(move || consume(other_memory, address, &other_tracker));
        consume(memory, address, &tracker);
        drop(tracker);
        other.join().expect("no panic");
    });
}

/// A stream that is recorded until the release is waited for by the thread that releases last.
#[test]
fn loom_memory_is_freed_after_recorded_streams() {
    try_all(|| {
        let (memory, address, tracker) = memory();
        let (other_memory, other_tracker) = (Arc::clone(&memory), Arc::clone(&tracker));
        let other = thread::spawn(move || {
            let stream = stream();
            other_tracker.record_stream(&stream).expect("an order");
            work(address, &stream);
            drop(other_memory);
        });
        drop((memory, tracker));
        other.join().expect("no panic");
    });
}

/// A thread makes its stream wait for all users while another user ends and its stream goes away.
#[test]
fn loom_a_stream_that_is_waited_for_is_not_destroyed() {
    try_all(|| {
        let (memory, address, tracker) = memory();
        let used = stream();
        let stream_use = StreamUse::new(&tracker, &used).expect("a use");
        work(address, &used);
        let waiting = stream();
        let ending = thread::spawn(move || drop((stream_use, used)));
        tracker.order_after_users(&waiting).expect("a stream that lives");
        work(address, &waiting);
        tracker.wait_stream(&waiting).expect("a stream that lives");
        ending.join().expect("no panic");
        assert!(tracker.recorded.snapshot().is_empty());
        drop((tracker, memory));
    });
}

/// Two uses on one stream: the stream stays recorded until both have ended.
#[test]
fn loom_a_stream_is_recorded_as_long_as_one_use_lasts() {
    try_all(|| {
        let (memory, address, tracker) = memory();
        let used = stream();
        let (other_tracker, other_stream) = (Arc::clone(&tracker), used.clone());
        let other = thread::spawn(move || {
            let stream_use = StreamUse::new(&other_tracker, &other_stream).expect("a use");
            work(address, &other_stream);
            drop(stream_use);
        });
        let stream_use = StreamUse::new(&tracker, &used).expect("a use");
        assert_eq!(tracker.recorded.snapshot().len(), 1);
        other.join().expect("no panic");
        assert_eq!(tracker.recorded.snapshot().len(), 1, "this use lasts");
        drop(stream_use);
        assert!(tracker.recorded.snapshot().is_empty());
        drop((tracker, memory));
    });
}
