//! How a function of cuda.h is served: it is logged, fails if a failure was injected, and needs a
//! driver that is initialised and, for most functions, a current context.

#![forbid(unsafe_code)]

use std::fmt::Display;
use std::mem::MaybeUninit;

use crate::driver::{Driver, driver};
use crate::error::{Code, INVALID_CONTEXT, NOT_INITIALIZED, SUCCESS};

/// Where a call writes a result. NULL is an invalid value.
pub(crate) type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;

/// The functions that may be called before `cuInit`.
const BEFORE_INIT: [&str; 4] =
    ["cuInit", "cuDriverGetVersion", "cuGetErrorName", "cuGetErrorString"];

/// Serves a call that needs a context. `body` is given the current context's device.
pub(crate) fn call(
    name: &str,
    arguments: impl Display,
    body: impl FnOnce(&mut Driver, usize) -> Result<(), Code>,
) -> Code {
    let mut driver = driver();
    let current = driver.stack().last().copied();
    let device = current.map_or_else(|| "none".to_owned(), |device| device.to_string());
    let arguments = format_args!("device={device} {arguments}");
    serve(&mut driver, name, arguments, |driver| match current {
        Some(device) if driver.devices[device].retained > 0 => body(driver, device),
        Some(_) => Err(driver.fault(INVALID_CONTEXT, "the current context was released")),
        None => Err(driver.fault(INVALID_CONTEXT, "no context is current")),
    })
}

/// Serves a call that needs no context.
pub(crate) fn call_without_context(
    name: &str,
    arguments: impl Display,
    body: impl FnOnce(&mut Driver) -> Result<(), Code>,
) -> Code {
    serve(&mut driver(), name, arguments, body)
}

fn serve(
    driver: &mut Driver,
    name: &str,
    arguments: impl Display,
    body: impl FnOnce(&mut Driver) -> Result<(), Code>,
) -> Code {
    let result = match driver.log.begin(name, arguments) {
        Some(code) => Err(code),
        None if !driver.initialised && !BEFORE_INIT.contains(&name) => Err(NOT_INITIALIZED),
        None => body(driver),
    };
    let code = result.err().unwrap_or(SUCCESS);
    driver.log.end(code);
    code
}
