//! Modules, and launches of their kernels.

use std::ffi::{CStr, c_char, c_uint, c_void};

use crate::call::{Out, call};
use crate::driver::Module;
use crate::error::{Code, INVALID_HANDLE, INVALID_IMAGE, INVALID_VALUE, NOT_FOUND};
use crate::handle::{HandleKind, Named};
use crate::kernel::{KernelDims, Launch, NAME, UNITS};
use crate::work::Work;

/// The most threads that a thread block may have.
const MAX_BLOCK_THREADS: c_uint = 1024;

/// # Safety
/// * `image` ends with a NUL.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuModuleLoadData(module: Out<usize>, image: *const c_char) -> Code {
    call("cuModuleLoadData", "", |driver, device| {
        let module = module.filter(|_| !image.is_null()).ok_or(INVALID_VALUE)?;
        // SAFETY: the caller guarantees that `image` ends with a NUL.
        let image = unsafe { CStr::from_ptr(image) }.to_str().map_err(|_| INVALID_IMAGE)?;
        if !["//", "/*", ".version"].iter().any(|start| image.trim_start().starts_with(start)) {
            return Err(INVALID_IMAGE);
        }
        let handle = HandleKind::Module.handle(driver.modules.len());
        driver.modules.push(Module { device, image: image.to_owned() });
        driver.log.note(format_args!("module={}", Named(HandleKind::Module, handle)));
        module.write(handle);
        Ok(())
    })
}

/// # Safety
/// * `name` ends with a NUL.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuModuleGetFunction(
    function: Out<usize>,
    module: usize,
    name: *const c_char,
) -> Code {
    if name.is_null() {
        return call("cuModuleGetFunction", "", |_, _| Err(INVALID_VALUE));
    }
    // SAFETY: the caller guarantees that `name` ends with a NUL.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    let arguments = format_args!("module={} name={name}", Named(HandleKind::Module, module));
    call("cuModuleGetFunction", arguments, |driver, _| {
        let function = function.ok_or(INVALID_VALUE)?;
        let index = HandleKind::Module.index(module).filter(|&index| index < driver.modules.len());
        let index = index.ok_or_else(|| driver.fault(INVALID_HANDLE, "there is no such module"))?;
        let unit =
            UNITS.iter().position(|unit| name == format!("{NAME}{unit}")).ok_or(NOT_FOUND)?;
        let mut entries = driver.modules[index].image.split(".entry").skip(1);
        let other = |symbol: char| !symbol.is_alphanumeric() && symbol != '_';
        if !entries.any(|entry| entry.trim_start().split(other).next() == Some(&name)) {
            return Err(NOT_FOUND);
        }
        function.write(HandleKind::Function.handle(index * UNITS.len() + unit));
        Ok(())
    })
}

/// The parameters of a kernel.
struct Parameters {
    from: u64,
    to: u64,
    dims: KernelDims,
}

/// # Safety
/// * `parameters` are those of one of the kernels.
unsafe fn read_parameters(parameters: *const *mut c_void) -> Parameters {
    // SAFETY: the caller guarantees a kernel's parameters, and every kernel has three.
    let [from, to, dims] = unsafe { parameters.cast::<[*mut c_void; 3]>().read() };
    Parameters {
        // SAFETY: every kernel's first parameter is an address.
        from: unsafe { from.cast::<u64>().read() },
        // SAFETY: every kernel's second parameter is an address.
        to: unsafe { to.cast::<u64>().read() },
        // SAFETY: every kernel's third parameter is this struct.
        dims: unsafe { dims.cast::<KernelDims>().read() },
    }
}

/// # Safety
/// * `parameters` are those of the function, which are read now.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuLaunchKernel(
    function: usize,
    grid: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    _shared_bytes: c_uint,
    stream: usize,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Code {
    let index = HandleKind::Function.index(function).unwrap_or(usize::MAX);
    let unit = UNITS[index % UNITS.len()];
    if parameters.is_null() || !extra.is_null() {
        let arguments = format_args!("name={NAME}{unit}");
        return call("cuLaunchKernel", arguments, |_, _| Err(INVALID_VALUE));
    }
    // SAFETY: the caller guarantees that they are the function's parameters.
    let Parameters { from, to, dims } = unsafe { read_parameters(parameters) };
    let (total, on) = (dims.total, Named(HandleKind::Stream, stream));
    let arguments = format_args!("name={NAME}{unit} total={total} stream={on}");
    call("cuLaunchKernel", arguments, |driver, device| {
        let queue = driver.queue_for_work(device, stream)?;
        let module = driver.modules.get(index / UNITS.len());
        if module.is_none_or(|module| module.device != device) {
            let text = "there is no such function in the current context";
            return Err(driver.fault(INVALID_HANDLE, text));
        }
        let is_flat = [grid_y, grid_z, block_y, block_z] == [1; 4];
        if !is_flat || grid == 0 || block == 0 || block > MAX_BLOCK_THREADS {
            let text = format_args!("a grid of {grid} by {block} threads");
            return Err(driver.fault(INVALID_VALUE, text));
        }
        let launch = Launch { unit, from, to, dims, grid, block };
        driver.push(queue, Work::Launch(Box::new(launch)));
        Ok(())
    })
}
