//! Memory: allocating it, freeing it, and asking about it.

use std::ffi::{c_int, c_uint, c_void};

use crate::call::{Out, call, call_without_context};
use crate::error::{Code, INVALID_VALUE};
use crate::handle::{HandleKind, Named};
use crate::memory::Location;
use crate::work::Work;

// Attributes of pointers, and values of `MEMORY_TYPE`.
const CONTEXT: c_int = 1;
const MEMORY_TYPE: c_int = 2;
const DEVICE_ORDINAL: c_int = 9;
const HOST_MEMORY: c_uint = 1;
const DEVICE_MEMORY: c_uint = 2;

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemAlloc_v2(out: Out<u64>, bytes: usize) -> Code {
    call("cuMemAlloc", format_args!("bytes={bytes}"), |driver, device| {
        let out = out.ok_or(INVALID_VALUE)?;
        let address = driver.memory.allocate(device, bytes)?;
        driver.memory.make_live(address).map_err(|fault| driver.fault(INVALID_VALUE, fault))?;
        out.write(address);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemFree_v2(address: u64) -> Code {
    call("cuMemFree", "", |driver, _| {
        driver.memory.can_free(address).map_err(|fault| driver.fault(INVALID_VALUE, fault))?;
        let device = driver.memory.device_at(address).ok_or(INVALID_VALUE)?;
        driver.finish_device(device);
        driver.memory.free(address, device).map_err(|fault| driver.fault(INVALID_VALUE, fault))
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemAllocAsync(out: Out<u64>, bytes: usize, stream: usize) -> Code {
    let on = Named(HandleKind::Stream, stream);
    call("cuMemAllocAsync", format_args!("bytes={bytes} stream={on}"), |driver, device| {
        let out = out.ok_or(INVALID_VALUE)?;
        let queue = driver.queue_for_work(device, stream)?;
        let address = driver.memory.allocate(device, bytes)?;
        driver.push(queue, Work::Allocate(address));
        out.write(address);
        Ok(())
    })
}

/// Runs at once, after the work that it waits for, because a GPU may be that fast.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemFreeAsync(address: u64, stream: usize) -> Code {
    call(
        "cuMemFreeAsync",
        format_args!("stream={}", Named(HandleKind::Stream, stream)),
        |driver, device| {
            let queue = driver.queue_for_work(device, stream)?;
            driver.memory.can_free(address).map_err(|fault| driver.fault(INVALID_VALUE, fault))?;
            let point = driver.push(queue, Work::Free(address));
            driver.finish(point);
            Ok(())
        },
    )
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemHostAlloc(out: Out<usize>, bytes: usize, flags: c_uint) -> Code {
    call("cuMemHostAlloc", format_args!("bytes={bytes} flags={flags}"), |driver, device| {
        let out = out.ok_or(INVALID_VALUE)?;
        out.write(driver.memory.allocate_pinned(device, bytes)?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemFreeHost(address: *mut c_void) -> Code {
    call("cuMemFreeHost", "", |driver, _| {
        let start = address.addr();
        let Some(size) = driver.memory.pinned_size(start) else {
            return Err(driver.fault(INVALID_VALUE, "not the start of page-locked memory"));
        };
        if driver.queues.waiting().any(|work| work.touches_pinned(start, size)) {
            driver.log.fault("pinned memory freed while in use");
        }
        driver.memory.free_pinned(start);
        Ok(())
    })
}

/// # Safety
/// * `data` has room for the attribute.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuPointerGetAttribute(
    data: *mut c_void,
    attribute: c_int,
    address: u64,
) -> Code {
    call_without_context("cuPointerGetAttribute", format_args!("attribute={attribute}"), |driver| {
        let location = driver.memory.location(address).filter(|_| !data.is_null());
        let (memory_type, device) = match location.ok_or(INVALID_VALUE)? {
            Location::Device(device) => (DEVICE_MEMORY, device),
            Location::Pinned(device) => (HOST_MEMORY, device),
        };
        match attribute {
            // SAFETY: the caller guarantees that `data` has room for this attribute, a pointer.
            CONTEXT => unsafe { data.cast::<usize>().write(HandleKind::Context.handle(device)) },
            // SAFETY: the caller guarantees that `data` has room for this attribute, an `unsigned`.
            MEMORY_TYPE => unsafe { data.cast::<c_uint>().write(memory_type) },
            // SAFETY: the caller guarantees that `data` has room for this attribute, an `int`.
            DEVICE_ORDINAL => unsafe { data.cast::<c_int>().write(device as c_int) },
            _ => return Err(INVALID_VALUE),
        }
        Ok(())
    })
}
