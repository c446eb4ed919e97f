//! Modules, and the kernels that there are: those of `gather.cu`.

use std::ffi::{CStr, c_char, c_uint, c_void};

use crate::driver::{Out, call};
use crate::error::{Code, INVALID_HANDLE, INVALID_IMAGE, INVALID_VALUE, NOT_FOUND};
use crate::handle::{Kind, Named};
use crate::memory::Memory;
use crate::work::Work;

const NAME: &str = "dlbridge_gather_";
const UNITS: [usize; 5] = [1, 2, 4, 8, 16];
const RANK: usize = 64;
const MOST_THREADS: c_uint = 1024;

/// The same struct in `gather.cu`.
#[repr(C)]
#[derive(Clone)]
pub(crate) struct Loops {
    pub(crate) total: u64,
    pub(crate) rank: u32,
    pub(crate) pad: u32,
    pub(crate) count: [u64; RANK],
    pub(crate) from: [i64; RANK],
    pub(crate) to: [i64; RANK],
}

unsafe extern "C" {
    fn fake_cuda_launch(
        unit: c_uint,
        from: *const c_void,
        to: *mut c_void,
        loops: *const Loops,
        grid: c_uint,
        block: c_uint,
    );
}

/// One launch of a kernel.
pub(crate) struct Launch {
    unit: usize,
    from: u64,
    to: u64,
    loops: Loops,
    grid: c_uint,
    block: c_uint,
}

impl Launch {
    pub(crate) fn run(&self, device: usize, memory: &mut Memory) -> Result<(), String> {
        let Loops { total, rank, count, from, to, .. } = &self.loops;
        let rank = *rank as usize;
        let count = count.get(..rank).ok_or_else(|| format!("{rank} loops"))?;
        if count.iter().try_fold(1, |product: u64, &count| product.checked_mul(count)) != Some(*total) {
            return Err(format!("total={total} is not the product of {count:?}"));
        }
        if *total == 0 {
            return Ok(());
        }
        let from =
            self.find(device, memory, self.from, count, from).map_err(|fault| format!("reads: {fault}"))?;
        let to = self.find(device, memory, self.to, count, to).map_err(|fault| format!("writes: {fault}"))?;
        // SAFETY: memory for all units that the loops reach, as just found, and aligned to them.
        unsafe {
            fake_cuda_launch(self.unit as c_uint, from.cast(), to.cast(), &self.loops, self.grid, self.block)
        };
        Ok(())
    }

    /// Where the data at an address is from which steps of units are taken.
    fn find(
        &self,
        device: usize,
        memory: &mut Memory,
        address: u64,
        count: &[u64],
        steps: &[i64],
    ) -> Result<*mut u8, String> {
        let unit = self.unit as i128;
        if i128::from(address) % unit != 0 {
            return Err(format!("{address:#x} is not aligned to {unit} bytes"));
        }
        let reach =
            count.iter().zip(steps).map(|(&count, &step)| i128::from(count - 1) * i128::from(step) * unit);
        let (mut low, mut high) = (0, unit);
        for reach in reach {
            low += reach.min(0);
            high += reach.max(0);
        }
        let first = u64::try_from(i128::from(address) + low).map_err(|_| "beyond all addresses")?;
        let size = usize::try_from(high - low).map_err(|_| "beyond all addresses")?;
        Ok(memory.on_device(device, first, size)?.wrapping_add(-low as usize))
    }
}

/// # Safety
/// * `image` ends with a NUL.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuModuleLoadData(module: Out<usize>, image: *const c_char) -> Code {
    call("cuModuleLoadData", "", |driver, device| {
        let module = module.filter(|_| !image.is_null()).ok_or(INVALID_VALUE)?;
        // SAFETY: the caller's promise.
        let image = unsafe { CStr::from_ptr(image) }.to_str().map_err(|_| INVALID_IMAGE)?;
        if !["//", "/*", ".version"].iter().any(|start| image.trim_start().starts_with(start)) {
            return Err(INVALID_IMAGE);
        }
        let handle = Kind::Module.handle(driver.modules.len());
        driver.modules.push((device, image.to_owned()));
        driver.log.note(format_args!("module={}", Named(Kind::Module, handle)));
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
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    let arguments = format_args!("module={} name={name}", Named(Kind::Module, module));
    call("cuModuleGetFunction", arguments, |driver, _| {
        let function = function.ok_or(INVALID_VALUE)?;
        let index = Kind::Module.index(module).filter(|&index| index < driver.modules.len());
        let index = index.ok_or_else(|| driver.fault(INVALID_HANDLE, "there is no such module"))?;
        let unit = UNITS.iter().position(|unit| name == format!("{NAME}{unit}")).ok_or(NOT_FOUND)?;
        let mut entries = driver.modules[index].1.split(".entry").skip(1);
        let other = |symbol: char| !symbol.is_alphanumeric() && symbol != '_';
        if !entries.any(|entry| entry.trim_start().split(other).next() == Some(&name)) {
            return Err(NOT_FOUND);
        }
        function.write(Kind::Function.handle(index * UNITS.len() + unit));
        Ok(())
    })
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
    let index = Kind::Function.index(function).unwrap_or(usize::MAX);
    let unit = UNITS[index % UNITS.len()];
    if parameters.is_null() || !extra.is_null() {
        return call("cuLaunchKernel", format_args!("name={NAME}{unit}"), |_, _| Err(INVALID_VALUE));
    }
    // SAFETY: the caller's promise: the kernels have three parameters.
    let [from, to, loops] = unsafe { parameters.cast::<[*mut c_void; 3]>().read() };
    // SAFETY: likewise, and the first one is an address.
    let from = unsafe { from.cast::<u64>().read() };
    // SAFETY: likewise.
    let to = unsafe { to.cast::<u64>().read() };
    // SAFETY: likewise.
    let loops = unsafe { loops.cast::<Loops>().read() };
    let (total, on) = (loops.total, Named(Kind::Stream, stream));
    let arguments = format_args!("name={NAME}{unit} total={total} stream={on}");
    call("cuLaunchKernel", arguments, |driver, device| {
        let queue = driver.queue(device, stream)?;
        match driver.modules.get(index / UNITS.len()) {
            Some(&(owner, _)) if owner == device => {}
            _ => return Err(driver.fault(INVALID_HANDLE, "there is no such function in the current context")),
        }
        let flat = [grid_y, grid_z, block_y, block_z] == [1; 4];
        if !flat
            || grid == 0
            || block == 0
            || block > MOST_THREADS
            || parameters.is_null()
            || !extra.is_null()
        {
            return Err(driver
                .fault(INVALID_VALUE, format_args!("a grid of {grid} by {block} threads, or parameters")));
        }
        driver.push(queue, None, Work::Launch(Box::new(Launch { unit, from, to, loops, grid, block })));
        Ok(())
    })
}
