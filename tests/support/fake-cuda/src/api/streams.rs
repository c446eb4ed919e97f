//! Streams.

use std::cell::Cell;
use std::ffi::{c_int, c_uint};

use crate::call::{Out, call, call_without_context};
use crate::driver::Stream;
use crate::error::{CAPTURE_UNSUPPORTED, Code, INVALID_VALUE, NOT_READY};
use crate::handle::{HandleKind, Named};
use crate::queue::QueueKind;
use crate::work::Work;

/// The flag of a stream that does not wait for the legacy default stream.
const NON_BLOCKING: c_uint = 1;

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamCreate(stream: Out<usize>, flags: c_uint) -> Code {
    call("cuStreamCreate", format_args!("flags={flags}"), |driver, device| {
        let stream = stream.ok_or(INVALID_VALUE)?;
        let kind = match flags {
            0 => QueueKind::Blocking,
            NON_BLOCKING => QueueKind::NonBlocking,
            _ => return Err(INVALID_VALUE),
        };
        let handle = HandleKind::Stream.handle(driver.streams.len());
        let queue = driver.queues.add(device, kind);
        driver.streams.push(Stream { queue, destroyed: false, captures: false });
        driver.log.note(format_args!("stream={}", Named(HandleKind::Stream, handle)));
        stream.write(handle);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamDestroy_v2(stream: usize) -> Code {
    call(
        "cuStreamDestroy",
        format_args!("stream={}", Named(HandleKind::Stream, stream)),
        |driver, _| {
            driver.stream(stream)?.destroyed = true;
            Ok(())
        },
    )
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamSynchronize(stream: usize) -> Code {
    call(
        "cuStreamSynchronize",
        format_args!("stream={}", Named(HandleKind::Stream, stream)),
        |driver, device| {
            let queue = driver.queue_of(device, stream)?;
            if driver.captures(stream) {
                return Err(
                    driver.fault(CAPTURE_UNSUPPORTED, "a graph is being captured on the stream")
                );
            }
            driver.finish(driver.queues.end(queue));
            Ok(())
        },
    )
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamQuery(stream: usize) -> Code {
    call(
        "cuStreamQuery",
        format_args!("stream={}", Named(HandleKind::Stream, stream)),
        |driver, device| {
            let queue = driver.queue_of(device, stream)?;
            if driver.queues.is_past(driver.queues.end(queue)) { Ok(()) } else { Err(NOT_READY) }
        },
    )
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamIsCapturing(stream: usize, status: Out<c_int>) -> Code {
    call(
        "cuStreamIsCapturing",
        format_args!("stream={}", Named(HandleKind::Stream, stream)),
        |driver, device| {
            driver.queue_of(device, stream)?;
            status.ok_or(INVALID_VALUE)?.write(driver.captures(stream).into());
            Ok(())
        },
    )
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuThreadExchangeStreamCaptureMode(mode: Option<&mut c_int>) -> Code {
    call_without_context("cuThreadExchangeStreamCaptureMode", "", |_| {
        thread_local!(static MODE: Cell<c_int> = const { Cell::new(0) });
        let mode = mode.ok_or(INVALID_VALUE)?;
        *mode = MODE.replace(*mode);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamWaitEvent(stream: usize, event: usize, _flags: c_uint) -> Code {
    let (to, of) = (Named(HandleKind::Stream, stream), Named(HandleKind::Event, event));
    call("cuStreamWaitEvent", format_args!("stream={to} event={of}"), |driver, device| {
        let queue = driver.queue_for_work(device, stream)?;
        if let Some(point) = driver.event(event)?.point {
            driver.push_after(queue, Some(point), Work::Nothing);
        }
        Ok(())
    })
}
