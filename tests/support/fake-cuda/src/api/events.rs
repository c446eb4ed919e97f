//! Events.

use std::ffi::c_uint;

use crate::call::{Out, call};
use crate::driver::Event;
use crate::error::{Code, INVALID_HANDLE, INVALID_VALUE, NOT_READY};
use crate::handle::{HandleKind, Named};
use crate::work::Work;

/// How often `cuEventQuery` returns that an event is not ready. The next query runs the work that
/// the event waits for.
const MAX_NOT_READY: u32 = 3;

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuEventCreate(event: Out<usize>, flags: c_uint) -> Code {
    call("cuEventCreate", format_args!("flags={flags}"), |driver, device| {
        let event = event.ok_or(INVALID_VALUE)?;
        let handle = HandleKind::Event.handle(driver.events.len());
        driver.events.push(Event { device, point: None, queries: 0, destroyed: false });
        driver.log.note(format_args!("event={}", Named(HandleKind::Event, handle)));
        event.write(handle);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuEventDestroy_v2(event: usize) -> Code {
    call(
        "cuEventDestroy",
        format_args!("event={}", Named(HandleKind::Event, event)),
        |driver, _| {
            driver.event(event)?.destroyed = true;
            Ok(())
        },
    )
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuEventRecord(event: usize, stream: usize) -> Code {
    let (of, on) = (Named(HandleKind::Event, event), Named(HandleKind::Stream, stream));
    call("cuEventRecord", format_args!("event={of} stream={on}"), |driver, device| {
        let event_device = driver.event(event)?.device;
        let queue = driver.queue_for_work(device, stream)?;
        if event_device != device {
            return Err(
                driver.fault(INVALID_HANDLE, format_args!("the event is of device {event_device}"))
            );
        }
        let point = driver.push(queue, Work::Nothing);
        let event = driver.event(event)?;
        (event.point, event.queries) = (Some(point), 0);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuEventQuery(event: usize) -> Code {
    call("cuEventQuery", format_args!("event={}", Named(HandleKind::Event, event)), |driver, _| {
        let Some(point) = driver.event(event)?.point else { return Ok(()) };
        if driver.queues.is_past(point) {
            return Ok(());
        }
        let event = driver.event(event)?;
        event.queries += 1;
        if event.queries <= MAX_NOT_READY {
            return Err(NOT_READY);
        }
        driver.finish(point);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuEventSynchronize(event: usize) -> Code {
    call(
        "cuEventSynchronize",
        format_args!("event={}", Named(HandleKind::Event, event)),
        |driver, _| {
            if let Some(point) = driver.event(event)?.point {
                driver.finish(point);
            }
            Ok(())
        },
    )
}
