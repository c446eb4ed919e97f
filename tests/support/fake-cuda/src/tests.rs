//! Tests of the fake driver: what it delays, what it records as a fault.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::{Mutex, MutexGuard};

use crate::api::contexts::*;
use crate::api::copies::*;
use crate::api::devices::*;
use crate::api::events::*;
use crate::api::memory::*;
use crate::api::modules::*;
use crate::api::streams::*;
use crate::call::Out;
use crate::control::*;
use crate::error::*;
use crate::kernel::KernelDims;

const LEGACY: usize = 1;
const PER_THREAD: usize = 2;
const BLOCKING: u32 = 0;
const NON_BLOCKING: u32 = 1;
const SIZE: usize = 16;

/// Waits for the other tests to end, and makes device 0 current.
fn begin() -> MutexGuard<'static, ()> {
    static SERIAL: Mutex<()> = Mutex::new(());
    let serial = SERIAL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    fake_cuda_reset(2);
    assert_eq!(cuInit(0), SUCCESS);
    for device in [1, 0] {
        enter(device);
        assert_eq!(cuCtxSynchronize(), SUCCESS);
    }
    fake_cuda_reset(2);
    serial
}

fn enter(device: i32) {
    assert_eq!(cuCtxSetCurrent(made(|out| cuDevicePrimaryCtxRetain(out, device))), SUCCESS);
}

fn made<T>(call: impl FnOnce(Out<T>) -> Code) -> T {
    let mut out = MaybeUninit::uninit();
    assert_eq!(call(Some(&mut out)), SUCCESS);
    // SAFETY: written by a call that succeeded.
    unsafe { out.assume_init() }
}

fn stream(flags: u32) -> usize {
    made(|out| cuStreamCreate(out, flags))
}

/// Memory that exists already.
fn memory() -> u64 {
    made(|out| cuMemAlloc_v2(out, SIZE))
}

fn fill(to: u64, value: u8, stream: usize) {
    assert_eq!(cuMemsetD8Async(to, value, SIZE, stream), SUCCESS);
}

fn copy(to: u64, from: u64, stream: usize) {
    assert_eq!(cuMemcpyDtoDAsync_v2(to, from, SIZE, stream), SUCCESS);
}

/// Page-locked memory, filled.
fn pinned(value: u8) -> *mut u8 {
    let start =
        std::ptr::with_exposed_provenance_mut::<u8>(made(|out| cuMemHostAlloc(out, SIZE, 0)));
    // SAFETY: new memory of that size.
    unsafe { start.write_bytes(value, SIZE) };
    start
}

fn upload(to: u64, from: *const u8, stream: usize) {
    // SAFETY: the tests' memory has `SIZE` bytes and lives until the stream is synchronized.
    assert_eq!(unsafe { cuMemcpyHtoDAsync_v2(to, from.cast(), SIZE, stream) }, SUCCESS);
}

fn download(to: *mut u8, from: u64, stream: usize) {
    // SAFETY: the tests' memory has `SIZE` bytes and lives until the stream is synchronized.
    assert_eq!(unsafe { cuMemcpyDtoHAsync_v2(to.cast(), from, SIZE, stream) }, SUCCESS);
}

/// What memory holds, if all bytes are the same.
fn value(address: u64) -> u8 {
    let mut bytes = [0_u8; SIZE];
    // SAFETY: a buffer of that size.
    assert_eq!(unsafe { fake_cuda_peek(address, bytes.as_mut_ptr().cast(), SIZE) }, SUCCESS);
    assert_eq!(bytes, [bytes[0]; SIZE]);
    bytes[0]
}

/// An event at the end of a stream.
fn mark(stream: usize) -> usize {
    let event = made(|out| cuEventCreate(out, 2));
    assert_eq!(cuEventRecord(event, stream), SUCCESS);
    event
}

/// Makes a stream wait for everything that is on another stream now.
fn wait_for(first: usize, then: usize) {
    let event = mark(first);
    assert_eq!(cuStreamWaitEvent(then, event, 0), SUCCESS);
    assert_eq!(cuEventDestroy_v2(event), SUCCESS);
}

fn text(get: unsafe extern "C" fn(*mut std::ffi::c_char, usize) -> usize) -> String {
    // SAFETY: no room is used.
    let size = unsafe { get(std::ptr::null_mut(), 0) };
    let mut text = vec![0_u8; size];
    // SAFETY: a buffer of that size.
    unsafe { get(text.as_mut_ptr().cast(), size) };
    assert_eq!(text.pop(), Some(0));
    String::from_utf8(text).expect("text")
}

/// Checks that there are as many faults as parts, and that each contains its part.
fn expect_faults(parts: &[&str]) {
    let faults = text(fake_cuda_faults);
    assert_eq!(faults.lines().count(), parts.len(), "{faults}");
    for (line, part) in faults.lines().zip(parts) {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn waits_run_only_the_work_that_they_wait_for() {
    let _serial = begin();
    let (stream, first, second) = (stream(NON_BLOCKING), memory(), memory());
    fill(first, 1, stream);
    let event = mark(stream);
    fill(second, 2, stream);
    assert_eq!((value(first), fake_cuda_live(5)), (0xCD, 2));
    assert_eq!([(); 4].map(|()| cuEventQuery(event)), [NOT_READY, NOT_READY, NOT_READY, SUCCESS]);
    assert_eq!((value(first), value(second)), (1, 0xCD));
    assert_eq!(cuStreamQuery(stream), NOT_READY);
    assert_eq!(cuStreamDestroy_v2(stream), SUCCESS);
    assert_eq!(cuStreamSynchronize(stream), INVALID_HANDLE);
    assert_eq!(cuCtxSynchronize(), SUCCESS);
    assert_eq!((value(second), fake_cuda_live(5)), (2, 0));
    expect_faults(&["no such stream"]);
}

#[test]
fn streams_without_a_wait_read_old_bytes() {
    let _serial = begin();
    let (writer, reader, data, seen) = (stream(BLOCKING), stream(BLOCKING), memory(), memory());
    fill(data, 1, writer);
    copy(seen, data, reader);
    assert_eq!(cuStreamSynchronize(reader), SUCCESS);
    assert_eq!(value(seen), 0xCD);
    wait_for(writer, reader);
    copy(seen, data, reader);
    assert_eq!(cuStreamSynchronize(reader), SUCCESS);
    assert_eq!(value(seen), 1);
    expect_faults(&[]);
}

#[test]
fn freeing_before_queued_readers_is_a_fault() {
    let _serial = begin();
    let (ours, theirs, seen) = (stream(NON_BLOCKING), stream(NON_BLOCKING), memory());
    for waits in [true, false] {
        let data = made(|out| cuMemAllocAsync(out, SIZE, ours));
        fill(data, 1, ours);
        wait_for(ours, theirs);
        copy(seen, data, theirs);
        if waits {
            wait_for(theirs, ours);
        }
        assert_eq!(cuMemFreeAsync(data, ours), SUCCESS);
        assert_eq!((value(data), cuStreamSynchronize(theirs)), (0xDD, SUCCESS));
        assert_eq!(text(fake_cuda_faults).is_empty(), waits);
    }
    assert_eq!(cuMemFreeAsync(seen + 1, ours), INVALID_VALUE);
    expect_faults(&["cuMemcpyDtoDAsync", "not the start"]);
}

#[test]
fn access_before_allocation_or_out_of_bounds_is_a_fault() {
    let _serial = begin();
    let (ours, theirs) = (stream(NON_BLOCKING), stream(NON_BLOCKING));
    let data = made(|out| cuMemAllocAsync(out, SIZE, ours));
    fill(data, 1, theirs);
    assert_eq!(cuStreamSynchronize(theirs), SUCCESS);
    fill(data + 1, 1, ours);
    fill(data + 512, 1, ours);
    assert_eq!(cuStreamSynchronize(ours), SUCCESS);
    assert_eq!(value(data), 0xCD);
    expect_faults(&["has not run", "exceed", "not in device memory"]);
}

#[test]
fn pageable_memory_is_read_at_once_and_page_locked_memory_later() {
    let _serial = begin();
    let (stream, early, late) = (stream(NON_BLOCKING), memory(), memory());
    let (locked, mut pageable, result) = (pinned(1), [1_u8; SIZE], pinned(0));
    upload(early, pageable.as_ptr(), stream);
    upload(late, locked, stream);
    pageable.fill(2);
    // SAFETY: `pinned` made this memory with `SIZE` bytes, and it is not freed yet.
    unsafe { locked.write_bytes(2, SIZE) };
    download(result, late, stream);
    // SAFETY: `pinned` made and filled this memory, and it is not freed yet.
    assert_eq!(unsafe { result.read() }, 0, "not written yet");
    download(pageable.as_mut_ptr(), early, stream);
    assert_eq!((pageable, value(late)), ([1; SIZE], 2));
    // SAFETY: `pinned` made and filled this memory, and it is not freed yet.
    assert_eq!(unsafe { result.read() }, 2);
    expect_faults(&[]);
    upload(late, locked, stream);
    assert_eq!(cuMemFreeHost(locked.cast()), SUCCESS);
    assert_eq!(cuStreamSynchronize(stream), SUCCESS);
    expect_faults(&["pinned memory freed while in use", "is freed"]);
}

#[test]
fn legacy_and_blocking_streams_wait_for_each_other() {
    let _serial = begin();
    let sees = |writer: usize, reader: usize| {
        let (data, seen) = (memory(), memory());
        fill(data, 1, writer);
        copy(seen, data, reader);
        assert_eq!(cuStreamSynchronize(reader), SUCCESS);
        value(seen) == 1
    };
    let (blocking, free) = (stream(BLOCKING), stream(NON_BLOCKING));
    assert!(sees(blocking, LEGACY) && sees(0, blocking) && sees(0, LEGACY));
    assert!(sees(PER_THREAD, LEGACY) && sees(LEGACY, PER_THREAD));
    assert!(!sees(free, LEGACY) && !sees(LEGACY, free) && !sees(blocking, PER_THREAD));
    let (data, seen) = (memory(), memory());
    let fill_there = || {
        enter(0);
        fill(data, 1, PER_THREAD);
    };
    std::thread::scope(|scope| scope.spawn(fill_there).join()).expect("the other thread");
    copy(seen, data, PER_THREAD);
    assert_eq!(cuStreamSynchronize(PER_THREAD), SUCCESS);
    assert_eq!(value(seen), 0xCD, "that was another thread's stream");
    expect_faults(&[]);
}

#[test]
fn injected_failures_are_returned_and_logged() {
    let _serial = begin();
    let stream = stream(NON_BLOCKING);
    // SAFETY: a C string literal ends with a NUL.
    unsafe { fake_cuda_fail(c"cuMemAllocAsync".as_ptr(), 2, OUT_OF_MEMORY) };
    let mut out = MaybeUninit::uninit();
    assert_eq!(
        [(); 3].map(|()| cuMemAllocAsync(Some(&mut out), SIZE, stream)),
        [SUCCESS, OUT_OF_MEMORY, SUCCESS]
    );
    assert_eq!(cuMemAllocAsync(Some(&mut out), 1 << 40, LEGACY), OUT_OF_MEMORY);
    let log = text(fake_cuda_log);
    let lines: Vec<&str> =
        log.lines().skip(1).map(|line| line.split(" stream=").next().unwrap_or(line)).collect();
    assert_eq!(lines[..3], ["cuMemAllocAsync device=0 bytes=16"; 3]);
    assert!(
        log.lines().nth(2).is_some_and(|line| line.contains("stream=#") && line.ends_with(" -> 2")),
        "{log}"
    );
    assert!(log.ends_with("bytes=1099511627776 stream=legacy -> 2\n"), "{log}");
    fake_cuda_reset(0);
    assert_eq!((cuInit(0), text(fake_cuda_log)), (NO_DEVICE, "cuInit flags=0 -> 100\n".to_owned()));
}

#[test]
fn wrong_contexts_are_faults() {
    let _serial = begin();
    let (stream, event, here) = (stream(NON_BLOCKING), mark(LEGACY), memory());
    let contexts = [0, 1].map(|device| made(|out| cuDevicePrimaryCtxRetain(out, device)));
    assert_eq!((cuCtxPushCurrent_v2(contexts[1]), fake_cuda_current_depth()), (SUCCESS, 2));
    let there = memory();
    assert_eq!(cuMemsetD8Async(here, 1, SIZE, stream), INVALID_HANDLE);
    assert_eq!(cuEventRecord(event, LEGACY), INVALID_HANDLE);
    assert_eq!(cuStreamWaitEvent(LEGACY, event, 0), SUCCESS);
    fill(there, 3, LEGACY);
    copy(there, here, LEGACY);
    assert_eq!(
        cuMemcpyPeerAsync(here, contexts[1], there, contexts[0], SIZE, LEGACY),
        INVALID_VALUE
    );
    assert_eq!(cuMemcpyPeerAsync(here, contexts[0], there, contexts[1], SIZE, LEGACY), SUCCESS);
    assert_eq!(cuCtxSynchronize(), SUCCESS);
    assert_eq!(value(here), 3);
    let attribute_of = |address, attribute| {
        let mut value = 0_usize;
        // SAFETY: room for any attribute.
        let code = unsafe { cuPointerGetAttribute((&raw mut value).cast(), attribute, address) };
        (code, value)
    };
    assert_eq!(
        (attribute_of(there + 15, 1), attribute_of(there, 9)),
        ((SUCCESS, contexts[1]), (SUCCESS, 1))
    );
    assert_eq!(
        (attribute_of(pinned(0) as u64, 2), attribute_of(there, 2)),
        ((SUCCESS, 1), (SUCCESS, 2))
    );
    assert_eq!(attribute_of(contexts.as_ptr().addr() as u64, 2).0, INVALID_VALUE);
    assert_eq!((cuCtxPopCurrent_v2(None), cuCtxSetCurrent(0)), (SUCCESS, SUCCESS));
    assert_eq!(cuCtxSynchronize(), INVALID_CONTEXT);
    let expected = [
        "stream is of device 0",
        "event is of device 0",
        "not of device 0",
        "not of device 1",
        "no context",
    ];
    expect_faults(&expected);
}

fn launch(function: usize, mut from: u64, mut to: u64, dims: &mut KernelDims) {
    let mut parameters: [*mut c_void; 3] =
        [(&raw mut from).cast(), (&raw mut to).cast(), (&raw mut *dims).cast()];
    let (parameters, extra) = (parameters.as_mut_ptr(), std::ptr::null_mut());
    // SAFETY: the kernel's parameters.
    let code = unsafe { cuLaunchKernel(function, 2, 1, 1, 3, 1, 1, 0, LEGACY, parameters, extra) };
    assert_eq!((code, cuStreamSynchronize(LEGACY)), (SUCCESS, SUCCESS));
}

#[test]
fn kernels_copy_strided_elements_within_bounds() {
    let _serial = begin();
    let image = c"// A module.\n.version 7.0\n.visible .entry dlbridge_strided_copy_2(\n";
    // SAFETY: a C string literal ends with a NUL.
    let module = made(|out| unsafe { cuModuleLoadData(out, image.as_ptr()) });
    let mut none = MaybeUninit::uninit();
    // SAFETY: a C string literal ends with a NUL.
    let missing = unsafe {
        cuModuleGetFunction(Some(&mut none), module, c"dlbridge_strided_copy_1".as_ptr())
    };
    assert_eq!(missing, NOT_FOUND);
    // SAFETY: a C string literal ends with a NUL.
    let function = made(|out| unsafe {
        cuModuleGetFunction(out, module, c"dlbridge_strided_copy_2".as_ptr())
    });
    // Two rows of four, the second one first, are written as columns.
    let (mut count, mut from, mut to) = ([0; 64], [0; 64], [0; 64]);
    count[..2].copy_from_slice(&[4, 2]);
    from[..2].copy_from_slice(&[1, -4]);
    to[..2].copy_from_slice(&[2, 1]);
    let mut dims = KernelDims { total: 8, rank: 2, pad: 0, count, from, to };
    let (source, target) = (memory(), memory());
    let numbers: [u16; 8] = [0, 1, 2, 3, 10, 11, 12, 13];
    upload(source, numbers.as_ptr().cast(), LEGACY);
    launch(function, source + 8, target, &mut dims);
    let mut result = [0_u16; 8];
    download(result.as_mut_ptr().cast(), target, LEGACY);
    assert_eq!(result, [10, 0, 11, 1, 12, 2, 13, 3]);
    expect_faults(&[]);
    launch(function, source + 6, target, &mut dims);
    launch(function, source + 8, target + 2, &mut dims);
    launch(function, source + 9, target, &mut dims);
    let read =
        "cuLaunchKernel device=0 name=dlbridge_strided_copy_2 total=8 stream=legacy: reads: ";
    expect_faults(&[read, "writes: ", "is not aligned"]);
}
