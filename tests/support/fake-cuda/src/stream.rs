//! Streams.

use std::cell::Cell;
use std::ffi::{c_int, c_uint};

use crate::driver::{Driver, Out, call, free_call, thread};
use crate::error::{CAPTURE_UNSUPPORTED, Code, INVALID_HANDLE, INVALID_VALUE, NOT_READY};
use crate::handle::{Kind, Named};
use crate::queue;
use crate::work::Work;

const NON_BLOCKING: c_uint = 1;

/// A stream that was made.
pub(crate) struct Stream {
    queue: usize,
    pub(crate) destroyed: bool,
    /// Whether a graph is being captured on it. That takes nothing in here, but refuses what would spoil it.
    captures: bool,
}

impl Driver {
    /// A stream that was made and not destroyed.
    fn made(&mut self, stream: usize) -> Result<&mut Stream, Code> {
        let index = Kind::Stream.index(stream);
        match index.filter(|&index| self.streams.get(index).is_some_and(|stream| !stream.destroyed)) {
            Some(index) => Ok(&mut self.streams[index]),
            None => Err(self.fault(INVALID_HANDLE, "there is no such stream")),
        }
    }

    /// The queue of a stream, which need not be of the current context's device.
    fn any_queue(&mut self, device: usize, stream: usize) -> Result<usize, Code> {
        match stream {
            0 | 1 => Ok(self.devices[device].legacy),
            2 => {
                let queues = &mut self.queues;
                let new = || queues.add(device, queue::Kind::Blocking);
                Ok(*self.devices[device].per_thread.entry(thread()).or_insert_with(new))
            }
            _ => self.made(stream).map(|made| made.queue),
        }
    }

    fn captures(&self, stream: usize) -> bool {
        Kind::Stream
            .index(stream)
            .and_then(|index| self.streams.get(index))
            .is_some_and(|stream| stream.captures)
    }

    /// Begins to capture a graph on a stream that was made, or ends it.
    pub(crate) fn capture(&mut self, stream: usize, captures: bool) -> Result<(), Code> {
        self.made(stream)?.captures = captures;
        Ok(())
    }

    /// The queue of a stream that something is to be put on in the context of a device.
    pub(crate) fn queue(&mut self, device: usize, stream: usize) -> Result<usize, Code> {
        let queue = self.any_queue(device, stream)?;
        if self.captures(stream) {
            return Err(
                self.fault(CAPTURE_UNSUPPORTED, "this would go into the graph that is being captured")
            );
        }
        match self.queues.device(queue) {
            other if other == device => Ok(queue),
            other => Err(self.fault(INVALID_HANDLE, format_args!("the stream is of device {other}"))),
        }
    }
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamCreate(stream: Out<usize>, flags: c_uint) -> Code {
    call("cuStreamCreate", format_args!("flags={flags}"), |driver, device| {
        let stream = stream.ok_or(INVALID_VALUE)?;
        let kind = match flags {
            0 => queue::Kind::Blocking,
            NON_BLOCKING => queue::Kind::NonBlocking,
            _ => return Err(INVALID_VALUE),
        };
        let handle = Kind::Stream.handle(driver.streams.len());
        let queue = driver.queues.add(device, kind);
        driver.streams.push(Stream { queue, destroyed: false, captures: false });
        driver.log.note(format_args!("stream={}", Named(Kind::Stream, handle)));
        stream.write(handle);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamDestroy_v2(stream: usize) -> Code {
    call("cuStreamDestroy", format_args!("stream={}", Named(Kind::Stream, stream)), |driver, _| {
        driver.made(stream)?.destroyed = true;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamSynchronize(stream: usize) -> Code {
    call("cuStreamSynchronize", format_args!("stream={}", Named(Kind::Stream, stream)), |driver, device| {
        let queue = driver.any_queue(device, stream)?;
        if driver.captures(stream) {
            return Err(driver.fault(CAPTURE_UNSUPPORTED, "a graph is being captured on the stream"));
        }
        driver.finish(driver.queues.end(queue));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamQuery(stream: usize) -> Code {
    call("cuStreamQuery", format_args!("stream={}", Named(Kind::Stream, stream)), |driver, device| {
        let queue = driver.any_queue(device, stream)?;
        if driver.queues.is_past(driver.queues.end(queue)) { Ok(()) } else { Err(NOT_READY) }
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamIsCapturing(stream: usize, status: Out<c_int>) -> Code {
    call("cuStreamIsCapturing", format_args!("stream={}", Named(Kind::Stream, stream)), |driver, device| {
        driver.any_queue(device, stream)?;
        status.ok_or(INVALID_VALUE)?.write(driver.captures(stream).into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuThreadExchangeStreamCaptureMode(mode: Option<&mut c_int>) -> Code {
    free_call("cuThreadExchangeStreamCaptureMode", "", |_| {
        thread_local!(static MODE: Cell<c_int> = const { Cell::new(0) });
        let mode = mode.ok_or(INVALID_VALUE)?;
        *mode = MODE.replace(*mode);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamWaitEvent(stream: usize, event: usize, _flags: c_uint) -> Code {
    let (to, of) = (Named(Kind::Stream, stream), Named(Kind::Event, event));
    call("cuStreamWaitEvent", format_args!("stream={to} event={of}"), |driver, device| {
        let queue = driver.queue(device, stream)?;
        if let Some(point) = driver.event(event)?.point {
            driver.push(queue, Some(point), Work::Nothing);
        }
        Ok(())
    })
}
