//! The kernels, which copy strided elements on a device, and what one launch of them does.
//!
//! The kernels are those of the library, which `build.rs` compiles for the host.

use std::ffi::{c_uint, c_void};

use crate::memory::Memory;

/// A kernel's name without the size of its unit.
pub(crate) const NAME: &str = "dlbridge_strided_copy_";
/// The units, in bytes, that there are kernels for.
pub(crate) const UNITS: [usize; 5] = [1, 2, 4, 8, 16];
const MAX_RANK: usize = 64;

/// The kernels' parameter. The same struct is in their source.
#[repr(C)]
#[derive(Clone)]
pub(crate) struct KernelDims {
    pub(crate) total: u64,
    pub(crate) rank: u32,
    pub(crate) pad: u32,
    pub(crate) count: [u64; MAX_RANK],
    pub(crate) from: [i64; MAX_RANK],
    pub(crate) to: [i64; MAX_RANK],
}

/// A launch with addresses of the host. The same struct is in `kernels.cpp`.
#[repr(C)]
struct HostLaunch<'a> {
    from: *const c_void,
    to: *mut c_void,
    dims: &'a KernelDims,
    unit: c_uint,
    grid: c_uint,
    block: c_uint,
}

unsafe extern "C" {
    /// Runs a kernel.
    fn fake_cuda_launch(launch: *const HostLaunch<'_>);
}

/// One launch of a kernel.
pub(crate) struct Launch {
    /// The bytes of the unit that the kernel copies.
    pub(crate) unit: usize,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) dims: KernelDims,
    /// How many thread blocks there are.
    pub(crate) grid: c_uint,
    /// How many threads a thread block has.
    pub(crate) block: c_uint,
}

/// The bytes that strided elements reach, from the first byte of the first element.
struct Reach {
    low: i128,
    high: i128,
}

impl Launch {
    /// Runs on a device. An error says which rule that would break; nothing was touched then.
    pub(crate) fn run(&self, device: usize, memory: &mut Memory) -> Result<(), String> {
        let KernelDims { total, rank, count, from, to, .. } = &self.dims;
        let rank = *rank as usize;
        let count = count.get(..rank).ok_or_else(|| format!("{rank} dims"))?;
        let product = count.iter().try_fold(1, |product: u64, &count| product.checked_mul(count));
        if product != Some(*total) {
            return Err(format!("total={total} is not the product of {count:?}"));
        }
        if *total == 0 {
            return Ok(());
        }
        let mut find = |address, steps| {
            self.check_alignment(address)?;
            self.reach(count, steps).find(device, memory, address)
        };
        let from =
            find(self.from, from).map_err(|fault| format!("reads: {fault}"))?.cast::<c_void>();
        let to = find(self.to, to).map_err(|fault| format!("writes: {fault}"))?.cast::<c_void>();
        let (unit, dims) = (self.unit as c_uint, &self.dims);
        let launch = HostLaunch { from, to, dims, unit, grid: self.grid, block: self.block };
        // SAFETY: `find` checked that both ends are aligned to the unit and that live memory holds
        // every unit that the dims reach.
        unsafe { fake_cuda_launch(&launch) };
        Ok(())
    }

    fn check_alignment(&self, address: u64) -> Result<(), String> {
        if address.is_multiple_of(self.unit as u64) {
            Ok(())
        } else {
            Err(format!("{address:#x} is not aligned to {} bytes", self.unit))
        }
    }

    fn reach(&self, count: &[u64], steps: &[i64]) -> Reach {
        let unit = self.unit as i128;
        let mut reach = Reach { low: 0, high: unit };
        for (&count, &step) in count.iter().zip(steps) {
            let distance = i128::from(count - 1) * i128::from(step) * unit;
            reach.low += distance.min(0);
            reach.high += distance.max(0);
        }
        reach
    }
}

impl Reach {
    /// The host's address of the first element, which has this address on the device.
    fn find(&self, device: usize, memory: &mut Memory, address: u64) -> Result<*mut u8, String> {
        let out_of_range = |_| "beyond all addresses";
        let lowest = u64::try_from(i128::from(address) + self.low).map_err(out_of_range)?;
        let size = usize::try_from(self.high - self.low).map_err(out_of_range)?;
        Ok(memory.device_ptr(device, lowest, size)?.wrapping_add(-self.low as usize))
    }
}
