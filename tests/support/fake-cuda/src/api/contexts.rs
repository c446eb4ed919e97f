//! The devices' primary contexts, and each thread's stack of contexts.

use std::ffi::c_int;

use super::devices::device_index;
use crate::call::{Out, call, call_without_context};
use crate::error::{Code, INVALID_CONTEXT, INVALID_VALUE};
use crate::handle::{HandleKind, Named};

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuDevicePrimaryCtxRetain(context: Out<usize>, device: c_int) -> Code {
    call_without_context("cuDevicePrimaryCtxRetain", format_args!("device={device}"), |driver| {
        let device = device_index(driver, device)?;
        context.ok_or(INVALID_VALUE)?.write(HandleKind::Context.handle(device));
        driver.devices[device].retained += 1;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> Code {
    call_without_context("cuDevicePrimaryCtxRelease", format_args!("device={device}"), |driver| {
        let device = device_index(driver, device)?;
        if driver.devices[device].retained == 0 {
            return Err(driver.fault(INVALID_CONTEXT, "the primary context is not retained"));
        }
        driver.devices[device].retained -= 1;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuCtxPushCurrent_v2(context: usize) -> Code {
    call_without_context(
        "cuCtxPushCurrent",
        format_args!("context={}", Named(HandleKind::Context, context)),
        |driver| {
            let device = driver.device_of_context(context)?;
            driver.stack().push(device);
            Ok(())
        },
    )
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuCtxPopCurrent_v2(context: Out<usize>) -> Code {
    call_without_context("cuCtxPopCurrent", "", |driver| match driver.stack().pop() {
        Some(device) => {
            context.map(|context| context.write(HandleKind::Context.handle(device)));
            Ok(())
        }
        None => Err(driver.fault(INVALID_CONTEXT, "no context is current")),
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuCtxGetCurrent(context: Out<usize>) -> Code {
    call_without_context("cuCtxGetCurrent", "", |driver| {
        let device = driver.stack().last().copied();
        context
            .ok_or(INVALID_VALUE)?
            .write(device.map_or(0, |device| HandleKind::Context.handle(device)));
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
    call_without_context(
        "cuCtxSetCurrent",
        format_args!("context={}", Named(HandleKind::Context, context)),
        |driver| {
            let device = if context == 0 { None } else { Some(driver.device_of_context(context)?) };
            driver.stack().pop();
            driver.stack().extend(device);
            Ok(())
        },
    )
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuCtxSynchronize() -> Code {
    call("cuCtxSynchronize", "", |driver, device| {
        driver.finish_device(device);
        Ok(())
    })
}
