//! Copying and filling memory.

use std::ffi::c_void;

use crate::call::call;
use crate::driver::Driver;
use crate::error::{Code, INVALID_VALUE};
use crate::handle::{HandleKind, Named};
use crate::memory::HostMemory;
use crate::work::{Endpoint, Work};

/// The host's end of a copy.
fn host_endpoint(driver: &mut Driver, address: usize, bytes: usize) -> Result<Endpoint, Code> {
    match driver.memory.host_memory(address, bytes) {
        Ok(HostMemory::Pinned) => Ok(Endpoint::Pinned(address)),
        Ok(HostMemory::Pageable) => Ok(Endpoint::Pageable(address)),
        Err(fault) => Err(driver.fault(INVALID_VALUE, fault)),
    }
}

/// The end of a copy between devices, in a context of the device that has the memory.
fn device_endpoint(driver: &mut Driver, address: u64, context: usize) -> Result<Endpoint, Code> {
    let device = driver.device_of_context(context)?;
    if driver.memory.device_at(address) == Some(device) {
        Ok(Endpoint::Device { device, address })
    } else {
        let text = format_args!("{address:#x} is not of device {device}");
        Err(driver.fault(INVALID_VALUE, text))
    }
}

/// Queues work, unless it touches 0 bytes.
fn push_unless_empty(driver: &mut Driver, queue: usize, work: Work) {
    if !work.is_empty() {
        driver.push(queue, work);
    }
}

/// # Safety
/// * `from` has `bytes` bytes. Pageable memory is read now, page-locked memory when the copy runs.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemcpyHtoDAsync_v2(
    to: u64,
    from: *const c_void,
    bytes: usize,
    stream: usize,
) -> Code {
    let on = Named(HandleKind::Stream, stream);
    call("cuMemcpyHtoDAsync", format_args!("stream={on} bytes={bytes}"), |driver, device| {
        let queue = driver.queue_for_work(device, stream)?;
        let from = match host_endpoint(driver, from.expose_provenance(), bytes)? {
            Endpoint::Pageable(_) if bytes > 0 => {
                // SAFETY: the caller guarantees that `from` has `bytes` bytes.
                let data = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), bytes) };
                Endpoint::Captured(data.to_vec())
            }
            pinned => pinned,
        };
        let to = Endpoint::Device { device, address: to };
        push_unless_empty(driver, queue, Work::Memcpy { from, to, bytes });
        Ok(())
    })
}

/// # Safety
/// * `to` has room for `bytes` bytes. Pageable memory is written now, page-locked memory when the
///   copy runs.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: u64,
    bytes: usize,
    stream: usize,
) -> Code {
    let on = Named(HandleKind::Stream, stream);
    call("cuMemcpyDtoHAsync", format_args!("stream={on} bytes={bytes}"), |driver, device| {
        let queue = driver.queue_for_work(device, stream)?;
        let to = host_endpoint(driver, to.expose_provenance(), bytes)?;
        let waits = bytes > 0 && matches!(to, Endpoint::Pageable(_));
        let from = Endpoint::Device { device, address: from };
        push_unless_empty(driver, queue, Work::Memcpy { from, to, bytes });
        if waits {
            driver.finish(driver.queues.end(queue));
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemcpyDtoDAsync_v2(
    to: u64,
    from: u64,
    bytes: usize,
    stream: usize,
) -> Code {
    let on = Named(HandleKind::Stream, stream);
    call("cuMemcpyDtoDAsync", format_args!("stream={on} bytes={bytes}"), |driver, device| {
        let queue = driver.queue_for_work(device, stream)?;
        let [from, to] = [from, to].map(|address| Endpoint::Device { device, address });
        push_unless_empty(driver, queue, Work::Memcpy { from, to, bytes });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemcpyPeerAsync(
    to: u64,
    to_context: usize,
    from: u64,
    from_context: usize,
    bytes: usize,
    stream: usize,
) -> Code {
    let on = Named(HandleKind::Stream, stream);
    let source = Named(HandleKind::Context, from_context);
    let target = Named(HandleKind::Context, to_context);
    let arguments = format_args!("stream={on} bytes={bytes} from={source} to={target}");
    call("cuMemcpyPeerAsync", arguments, |driver, device| {
        let queue = driver.queue_for_work(device, stream)?;
        let from = device_endpoint(driver, from, from_context)?;
        let to = device_endpoint(driver, to, to_context)?;
        push_unless_empty(driver, queue, Work::Memcpy { from, to, bytes });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemsetD8Async(to: u64, value: u8, bytes: usize, stream: usize) -> Code {
    let on = Named(HandleKind::Stream, stream);
    call(
        "cuMemsetD8Async",
        format_args!("stream={on} bytes={bytes} value={value}"),
        |driver, device| {
            let queue = driver.queue_for_work(device, stream)?;
            push_unless_empty(driver, queue, Work::Fill { to, value, bytes });
            Ok(())
        },
    )
}
