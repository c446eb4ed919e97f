//! Events.

use std::ffi::c_uint;

use crate::driver::{Driver, Out, call};
use crate::error::{Code, INVALID_HANDLE, INVALID_VALUE, NOT_READY};
use crate::handle::{Kind, Named};
use crate::queue::Point;
use crate::work::Work;

/// How often a query finds an event not ready before it makes it so.
const PATIENCE: u32 = 3;

pub(crate) struct Event {
    device: usize,
    /// What it was recorded for last.
    pub(crate) point: Option<Point>,
    /// How often it was not ready when it was asked for.
    queries: u32,
    pub(crate) destroyed: bool,
}

impl Driver {
    /// An event that was not destroyed.
    pub(crate) fn event(&mut self, event: usize) -> Result<&mut Event, Code> {
        let index = Kind::Event.index(event);
        match index.filter(|&index| self.events.get(index).is_some_and(|event| !event.destroyed)) {
            Some(index) => Ok(&mut self.events[index]),
            None => Err(self.fault(INVALID_HANDLE, "there is no such event")),
        }
    }
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuEventCreate(event: Out<usize>, flags: c_uint) -> Code {
    call("cuEventCreate", format_args!("flags={flags}"), |driver, device| {
        let event = event.ok_or(INVALID_VALUE)?;
        let handle = Kind::Event.handle(driver.events.len());
        driver.events.push(Event { device, point: None, queries: 0, destroyed: false });
        driver.log.note(format_args!("event={}", Named(Kind::Event, handle)));
        event.write(handle);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuEventDestroy_v2(event: usize) -> Code {
    call("cuEventDestroy", format_args!("event={}", Named(Kind::Event, event)), |driver, _| {
        driver.event(event)?.destroyed = true;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuEventRecord(event: usize, stream: usize) -> Code {
    let (of, on) = (Named(Kind::Event, event), Named(Kind::Stream, stream));
    call("cuEventRecord", format_args!("event={of} stream={on}"), |driver, device| {
        let owner = driver.event(event)?.device;
        let queue = driver.queue(device, stream)?;
        if owner != device {
            return Err(driver.fault(INVALID_HANDLE, format_args!("the event is of device {owner}")));
        }
        let point = driver.push(queue, None, Work::Nothing);
        let event = driver.event(event)?;
        (event.point, event.queries) = (Some(point), 0);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuEventQuery(event: usize) -> Code {
    call("cuEventQuery", format_args!("event={}", Named(Kind::Event, event)), |driver, _| {
        let Some(point) = driver.event(event)?.point else { return Ok(()) };
        if driver.queues.is_past(point) {
            return Ok(());
        }
        let event = driver.event(event)?;
        event.queries += 1;
        if event.queries <= PATIENCE {
            return Err(NOT_READY);
        }
        driver.finish(point);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuEventSynchronize(event: usize) -> Code {
    call("cuEventSynchronize", format_args!("event={}", Named(Kind::Event, event)), |driver, _| {
        if let Some(point) = driver.event(event)?.point {
            driver.finish(point);
        }
        Ok(())
    })
}
