//! The devices and their primary contexts.

use std::ffi::{c_int, c_uint};

use crate::driver::{Driver, Out, call, free_call};
use crate::error::{Code, INVALID_CONTEXT, INVALID_DEVICE, INVALID_VALUE, NO_DEVICE};
use crate::handle::{Kind, Named};

const MULTIPROCESSORS: c_int = 16;
const MEMORY_POOLS: c_int = 115;

impl Driver {
    fn known(&self, device: c_int) -> Result<usize, Code> {
        usize::try_from(device).ok().filter(|&device| device < self.count).ok_or(INVALID_DEVICE)
    }

    /// The device of a context.
    pub(crate) fn device_of(&mut self, context: usize) -> Result<usize, Code> {
        let device = Kind::Context.index(context);
        match device.filter(|&device| self.devices.get(device).is_some_and(|device| device.retained > 0)) {
            Some(device) => Ok(device),
            None => Err(self.fault(INVALID_CONTEXT, format_args!("{context:#x} is not a retained context"))),
        }
    }
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuInit(flags: c_uint) -> Code {
    free_call("cuInit", format_args!("flags={flags}"), |driver| match (driver.count, flags) {
        (0, _) => Err(NO_DEVICE),
        (_, 0) => {
            driver.initialised = true;
            Ok(())
        }
        _ => Err(INVALID_VALUE),
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuDriverGetVersion(version: Out<c_int>) -> Code {
    free_call("cuDriverGetVersion", "", |_| {
        version.ok_or(INVALID_VALUE)?.write(12_040);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuDeviceGetCount(count: Out<c_int>) -> Code {
    free_call("cuDeviceGetCount", "", |driver| {
        count.ok_or(INVALID_VALUE)?.write(driver.count as c_int);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuDeviceGet(device: Out<c_int>, ordinal: c_int) -> Code {
    free_call("cuDeviceGet", format_args!("device={ordinal}"), |driver| {
        driver.known(ordinal)?;
        device.ok_or(INVALID_VALUE)?.write(ordinal);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuDeviceGetAttribute(value: Out<c_int>, attribute: c_int, device: c_int) -> Code {
    free_call("cuDeviceGetAttribute", format_args!("device={device} attribute={attribute}"), |driver| {
        driver.known(device)?;
        let known = match attribute {
            MULTIPROCESSORS => 4,
            MEMORY_POOLS => 1,
            _ => 0,
        };
        value.ok_or(INVALID_VALUE)?.write(known);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuDevicePrimaryCtxRetain(context: Out<usize>, device: c_int) -> Code {
    free_call("cuDevicePrimaryCtxRetain", format_args!("device={device}"), |driver| {
        let device = driver.known(device)?;
        context.ok_or(INVALID_VALUE)?.write(Kind::Context.handle(device));
        driver.devices[device].retained += 1;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> Code {
    free_call("cuDevicePrimaryCtxRelease", format_args!("device={device}"), |driver| {
        let device = driver.known(device)?;
        if driver.devices[device].retained == 0 {
            return Err(driver.fault(INVALID_CONTEXT, "the primary context is not retained"));
        }
        driver.devices[device].retained -= 1;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuCtxPushCurrent_v2(context: usize) -> Code {
    free_call("cuCtxPushCurrent", format_args!("context={}", Named(Kind::Context, context)), |driver| {
        let device = driver.device_of(context)?;
        driver.stack().push(device);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuCtxPopCurrent_v2(context: Out<usize>) -> Code {
    free_call("cuCtxPopCurrent", "", |driver| match driver.stack().pop() {
        Some(device) => {
            context.map(|context| context.write(Kind::Context.handle(device)));
            Ok(())
        }
        None => Err(driver.fault(INVALID_CONTEXT, "no context is current")),
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuCtxGetCurrent(context: Out<usize>) -> Code {
    free_call("cuCtxGetCurrent", "", |driver| {
        let device = driver.stack().last().copied();
        context.ok_or(INVALID_VALUE)?.write(device.map_or(0, |device| Kind::Context.handle(device)));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuCtxGetDevice(device: Out<c_int>) -> Code {
    call("cuCtxGetDevice", "", |_, current| {
        device.ok_or(INVALID_VALUE)?.write(current as c_int);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuCtxSetCurrent(context: usize) -> Code {
    free_call("cuCtxSetCurrent", format_args!("context={}", Named(Kind::Context, context)), |driver| {
        let device = if context == 0 { None } else { Some(driver.device_of(context)?) };
        driver.stack().pop();
        driver.stack().extend(device);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuCtxSynchronize() -> Code {
    call("cuCtxSynchronize", "", |driver, device| {
        driver.finish_device(device);
        Ok(())
    })
}

impl Driver {
    /// Runs everything that is queued on a device.
    pub(crate) fn finish_device(&mut self, device: usize) {
        for point in self.queues.ends(device) {
            self.finish(point);
        }
    }
}
