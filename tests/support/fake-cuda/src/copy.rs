//! Memory: making it, freeing it, copying and filling it, and asking about it.

use std::ffi::{c_int, c_uint, c_void};

use crate::driver::{Driver, Out, call, free_call};
use crate::error::{Code, INVALID_VALUE};
use crate::handle::{Kind, Named};
use crate::memory::{Host, Owner};
use crate::work::{Place, Work};

const CONTEXT: c_int = 1;
const MEMORY_TYPE: c_int = 2;
const DEVICE_ORDINAL: c_int = 9;
const HOST_MEMORY: c_uint = 1;
const DEVICE_MEMORY: c_uint = 2;

impl Driver {
    /// The host's end of a copy.
    fn host_place(&mut self, address: usize, bytes: usize) -> Result<Place, Code> {
        match self.memory.on_host(address, bytes) {
            Ok(Host::Pinned) => Ok(Place::Pinned(address)),
            Ok(Host::Pageable) => Ok(Place::Pageable(address)),
            Err(fault) => Err(self.fault(INVALID_VALUE, fault)),
        }
    }

    /// Queues work that touches this many bytes; for none there is nothing to do.
    fn touch(&mut self, queue: usize, bytes: usize, work: Work) {
        if bytes > 0 {
            self.push(queue, None, work);
        }
    }
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemAlloc_v2(out: Out<u64>, bytes: usize) -> Code {
    call("cuMemAlloc", format_args!("bytes={bytes}"), |driver, device| {
        let out = out.ok_or(INVALID_VALUE)?;
        let address = driver.memory.promise(device, bytes)?;
        driver.memory.begin(address).map_err(|fault| driver.fault(INVALID_VALUE, fault))?;
        out.write(address);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemFree_v2(address: u64) -> Code {
    call("cuMemFree", "", |driver, _| {
        driver.memory.can_free(address).map_err(|fault| driver.fault(INVALID_VALUE, fault))?;
        let owner = driver.memory.region_of(address).ok_or(INVALID_VALUE)?;
        driver.finish_device(owner);
        driver.memory.free(address, owner).map_err(|fault| driver.fault(INVALID_VALUE, fault))
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemAllocAsync(out: Out<u64>, bytes: usize, stream: usize) -> Code {
    let on = Named(Kind::Stream, stream);
    call("cuMemAllocAsync", format_args!("bytes={bytes} stream={on}"), |driver, device| {
        let out = out.ok_or(INVALID_VALUE)?;
        let queue = driver.queue(device, stream)?;
        let address = driver.memory.promise(device, bytes)?;
        driver.push(queue, None, Work::Allocate(address));
        out.write(address);
        Ok(())
    })
}

/// Runs at once, and what it waits for: a GPU may be that quick.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemFreeAsync(address: u64, stream: usize) -> Code {
    call("cuMemFreeAsync", format_args!("stream={}", Named(Kind::Stream, stream)), |driver, device| {
        let queue = driver.queue(device, stream)?;
        driver.memory.can_free(address).map_err(|fault| driver.fault(INVALID_VALUE, fault))?;
        let point = driver.push(queue, None, Work::Free(address));
        driver.finish(point);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemHostAlloc(out: Out<usize>, bytes: usize, flags: c_uint) -> Code {
    call("cuMemHostAlloc", format_args!("bytes={bytes} flags={flags}"), |driver, device| {
        let out = out.ok_or(INVALID_VALUE)?;
        out.write(driver.memory.pin(device, bytes)?);
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
        driver.memory.unpin(start);
        Ok(())
    })
}

/// # Safety
/// * `from` has that many bytes: pageable ones are read now, page-locked ones when the copy runs.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemcpyHtoDAsync_v2(
    to: u64,
    from: *const c_void,
    bytes: usize,
    stream: usize,
) -> Code {
    let on = Named(Kind::Stream, stream);
    call("cuMemcpyHtoDAsync", format_args!("stream={on} bytes={bytes}"), |driver, device| {
        let queue = driver.queue(device, stream)?;
        let from = match driver.host_place(from.expose_provenance(), bytes)? {
            Place::Pageable(_) if bytes > 0 => {
                // SAFETY: the caller's promise.
                Place::Captured(unsafe { std::slice::from_raw_parts(from.cast::<u8>(), bytes) }.to_vec())
            }
            place => place,
        };
        let to = Place::Device { device, address: to };
        driver.touch(queue, bytes, Work::Copy { from, to, bytes });
        Ok(())
    })
}

/// # Safety
/// * `to` has room for that many bytes: pageable ones are written now, page-locked ones when the copy runs.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: u64,
    bytes: usize,
    stream: usize,
) -> Code {
    let on = Named(Kind::Stream, stream);
    call("cuMemcpyDtoHAsync", format_args!("stream={on} bytes={bytes}"), |driver, device| {
        let queue = driver.queue(device, stream)?;
        let to = driver.host_place(to.expose_provenance(), bytes)?;
        let waits = bytes > 0 && matches!(to, Place::Pageable(_));
        let from = Place::Device { device, address: from };
        driver.touch(queue, bytes, Work::Copy { from, to, bytes });
        if waits {
            driver.finish(driver.queues.end(queue));
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: usize) -> Code {
    let on = Named(Kind::Stream, stream);
    call("cuMemcpyDtoDAsync", format_args!("stream={on} bytes={bytes}"), |driver, device| {
        let queue = driver.queue(device, stream)?;
        let [from, to] = [from, to].map(|address| Place::Device { device, address });
        driver.touch(queue, bytes, Work::Copy { from, to, bytes });
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
    let on = Named(Kind::Stream, stream);
    let contexts = [Named(Kind::Context, from_context), Named(Kind::Context, to_context)];
    let arguments = format_args!("stream={on} bytes={bytes} from={} to={}", contexts[0], contexts[1]);
    call("cuMemcpyPeerAsync", arguments, |driver, device| {
        let queue = driver.queue(device, stream)?;
        let mut end = |address, context| match driver.device_of(context)? {
            device if driver.memory.region_of(address) == Some(device) => {
                Ok(Place::Device { device, address })
            }
            device => {
                Err(driver.fault(INVALID_VALUE, format_args!("{address:#x} is not of device {device}")))
            }
        };
        let (from, to) = (end(from, from_context)?, end(to, to_context)?);
        driver.touch(queue, bytes, Work::Copy { from, to, bytes });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemsetD8Async(to: u64, value: u8, bytes: usize, stream: usize) -> Code {
    let on = Named(Kind::Stream, stream);
    call("cuMemsetD8Async", format_args!("stream={on} bytes={bytes} value={value}"), |driver, device| {
        let queue = driver.queue(device, stream)?;
        driver.touch(queue, bytes, Work::Fill { to, value, bytes });
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
    free_call("cuPointerGetAttribute", format_args!("attribute={attribute}"), |driver| {
        let owner = driver.memory.owner(address).filter(|_| !data.is_null()).ok_or(INVALID_VALUE)?;
        let (kind, device) = match owner {
            Owner::Device(device) => (DEVICE_MEMORY, device),
            Owner::Pinned(device) => (HOST_MEMORY, device),
        };
        match attribute {
            // SAFETY: the caller's promise.
            CONTEXT => unsafe { data.cast::<usize>().write(Kind::Context.handle(device)) },
            // SAFETY: likewise.
            MEMORY_TYPE => unsafe { data.cast::<c_uint>().write(kind) },
            // SAFETY: likewise.
            DEVICE_ORDINAL => unsafe { data.cast::<c_int>().write(device as c_int) },
            _ => return Err(INVALID_VALUE),
        }
        Ok(())
    })
}
