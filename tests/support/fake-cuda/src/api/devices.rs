//! The driver, its version and its devices.

use std::ffi::{c_int, c_uint};

use crate::call::{Out, call_without_context};
use crate::driver::Driver;
use crate::error::{Code, INVALID_DEVICE, INVALID_VALUE, NO_DEVICE};

// Device attributes.
const MULTIPROCESSOR_COUNT: c_int = 16;
const MEMORY_POOLS_SUPPORTED: c_int = 115;

/// The index of a device, if it is one that `cuDeviceGetCount` counts.
pub(super) fn device_index(driver: &Driver, device: c_int) -> Result<usize, Code> {
    let index = usize::try_from(device).ok();
    index.filter(|&index| index < driver.count).ok_or(INVALID_DEVICE)
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuInit(flags: c_uint) -> Code {
    call_without_context("cuInit", format_args!("flags={flags}"), |driver| {
        match (driver.count, flags) {
            (0, _) => Err(NO_DEVICE),
            (_, 0) => {
                driver.initialised = true;
                Ok(())
            }
            _ => Err(INVALID_VALUE),
        }
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuDriverGetVersion(version: Out<c_int>) -> Code {
    call_without_context("cuDriverGetVersion", "", |_| {
        version.ok_or(INVALID_VALUE)?.write(12_040);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuDeviceGetCount(count: Out<c_int>) -> Code {
    call_without_context("cuDeviceGetCount", "", |driver| {
        count.ok_or(INVALID_VALUE)?.write(driver.count as c_int);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuDeviceGet(device: Out<c_int>, ordinal: c_int) -> Code {
    call_without_context("cuDeviceGet", format_args!("device={ordinal}"), |driver| {
        device_index(driver, ordinal)?;
        device.ok_or(INVALID_VALUE)?.write(ordinal);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuDeviceGetAttribute(
    value: Out<c_int>,
    attribute: c_int,
    device: c_int,
) -> Code {
    call_without_context(
        "cuDeviceGetAttribute",
        format_args!("device={device} attribute={attribute}"),
        |driver| {
            device_index(driver, device)?;
            let known = match attribute {
                MULTIPROCESSOR_COUNT => 4,
                MEMORY_POOLS_SUPPORTED => 1,
                _ => 0,
            };
            value.ok_or(INVALID_VALUE)?.write(known);
            Ok(())
        },
    )
}
