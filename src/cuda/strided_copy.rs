//! Copies between two layouts on one device.
//!
//! A copy becomes a [`LaunchPlan`]: its dimensions, ordered and coalesced, and the largest unit of
//! 1, 2, 4, 8 or 16 bytes that every address and stride is a multiple of. If one dimension of
//! adjacent units is left, the driver's own copy does it; otherwise a kernel of `strided_copy.cu`
//! does, in which each GPU thread copies one unit at a time.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_void};
use std::sync::{Mutex, PoisonError};

use cudarc::driver::sys::CUfunction;

use super::context::Context;
use super::driver::{Launch, address};
use super::elements::Elements;
use super::stream::Stream;
use crate::layout::paired::{PairedDim, PairedDims};
use crate::{Error, Result};

/// The kernels of `strided_copy.cu`, compiled, and a NUL at the end.
const PTX: &str = concat!(include_str!("strided_copy.ptx"), "\0");

/// The number of dimensions that a kernel's parameter has room for: `DLBRIDGE_RANK`.
const MAX_RANK: usize = 64;

/// Number of GPU threads in a thread block.
const THREADS_PER_BLOCK: u64 = 256;

/// Maximum number of thread blocks for each multiprocessor: enough to keep it busy. If there are
/// more units than threads, each thread copies several.
const BLOCKS_PER_MULTIPROCESSOR: u64 = 8;

/// The kernels of one device, for units of 1, 2, 4, 8 and 16 bytes.
#[derive(Clone, Copy)]
struct Kernels([CUfunction; 5]);

// SAFETY: the driver documents that its functions may be called on any thread, and modules are
// never unloaded.
unsafe impl Send for Kernels {}

/// The kernels that were loaded so far, by the index of their device.
static KERNELS: Mutex<BTreeMap<i32, Kernels>> = Mutex::new(BTreeMap::new());

impl Kernels {
    /// The kernels of a device, which are loaded when they are first needed.
    fn of(context: &'static Context) -> Result<Self> {
        let loaded = || KERNELS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernels) = loaded().get(&context.index) {
            return Ok(*kernels);
        }
        let kernels = Self::load(context)?;
        // If another thread loaded the module first, that module is used.
        Ok(*loaded().entry(context.index).or_insert(kernels))
    }

    fn load(context: &'static Context) -> Result<Self> {
        const NAMES: [&CStr; 5] = [
            c"dlbridge_strided_copy_1",
            c"dlbridge_strided_copy_2",
            c"dlbridge_strided_copy_4",
            c"dlbridge_strided_copy_8",
            c"dlbridge_strided_copy_16",
        ];
        let _entered = context.enter()?;
        let mut module = std::ptr::null_mut();
        // SAFETY: `module` is a local variable to write to, `PTX` ends with a NUL, and a context
        // was just entered.
        unsafe { context.driver.load_module(&raw mut module, PTX.as_ptr().cast()) }?;
        let mut functions = [std::ptr::null_mut(); 5];
        for (function, name) in functions.iter_mut().zip(NAMES) {
            // SAFETY: `function` points to a local variable to write to, and `module` was just
            // loaded.
            unsafe { context.driver.module_function(function, module, name.as_ptr()) }?;
        }
        Ok(Self(functions))
    }

    /// The kernel for units of this many bytes.
    fn for_unit(&self, unit: u64) -> CUfunction {
        self.0[unit.trailing_zeros() as usize]
    }
}

/// The parameter that a kernel gets: `KernelDims` of `strided_copy.cu`. Strides are in units.
#[repr(C)]
struct KernelDims {
    total: u64,
    rank: u32,
    pad: u32,
    count: [u64; MAX_RANK],
    from: [i64; MAX_RANK],
    to: [i64; MAX_RANK],
}

const _: () = assert!(size_of::<KernelDims>() == 1552, "as in strided_copy.cu");

/// A copy as a kernel runs it.
#[derive(Debug)]
struct LaunchPlan {
    /// Offsets in bytes, counted from `source` and `target`. The last dimension, if it steps by one
    /// unit on both sides, counts units.
    dims: PairedDims,
    /// Bytes that are copied at once: a power of two that divides all addresses and strides.
    unit: u64,
    /// The address of the first unit.
    source: u64,
    /// The address of the first unit.
    target: u64,
}

impl LaunchPlan {
    fn new(source: Elements<'_>, target: Elements<'_>, itemsize: usize) -> Self {
        let mut dims = PairedDims::default();
        let strides = (source.layout.strides(), target.layout.strides());
        dims.insert_strides(target.layout.shape(), strides.0, strides.1, itemsize);
        // Every element is a dimension of bytes.
        dims.dims.push(PairedDim { count: itemsize, source: 1, target: 1 });
        dims.coalesce();
        let source = address(source.data).wrapping_add_signed(dims.start.source as i64);
        let target = address(target.data).wrapping_add_signed(dims.start.target as i64);
        let mut plan = Self { dims, unit: 1, source, target };
        plan.widen_unit();
        plan
    }

    /// Makes the innermost dimension, which is one of bytes, one of units that are as large as
    /// possible.
    fn widen_unit(&mut self) {
        let Some((bytes, outer)) = self.dims.dims.split_last_mut() else { return };
        let strides = outer.iter().fold(0, |strides, dim| {
            strides | dim.source.unsigned_abs() | dim.target.unsigned_abs()
        });
        // The lowest bit that is set in any of these numbers is the largest power of two that
        // divides them all.
        let combined = self.source | self.target | (strides | bytes.count) as u64;
        self.unit = 1 << combined.trailing_zeros().min(4);
        let unit = self.unit as isize;
        *bytes = PairedDim { count: bytes.count / self.unit as usize, source: unit, target: unit };
        if bytes.count == 1 && !outer.is_empty() {
            self.dims.dims.pop();
        }
    }

    /// The number of bytes, if they are adjacent on both sides.
    fn contiguous_bytes(&self) -> Option<usize> {
        let unit = self.unit as isize;
        match self.dims.dims[..] {
            [dim] if (dim.source, dim.target) == (unit, unit) => {
                Some(dim.count * self.unit as usize)
            }
            _ => None,
        }
    }

    /// The kernel's parameter.
    fn kernel_dims(&self) -> Result<KernelDims> {
        let dims = &self.dims.dims;
        if dims.len() > MAX_RANK {
            let (found, target) = (dims.len(), "a copy on CUDA");
            return Err(Error::TooManyDimensions { found, limit: MAX_RANK, target });
        }
        let mut kernel_dims = KernelDims {
            total: dims.iter().map(|dim| dim.count as u64).product(),
            rank: dims.len() as u32,
            pad: 0,
            count: [1; MAX_RANK],
            from: [0; MAX_RANK],
            to: [0; MAX_RANK],
        };
        let unit = self.unit as i64;
        for (index, dim) in dims.iter().enumerate() {
            kernel_dims.count[index] = dim.count as u64;
            kernel_dims.from[index] = dim.source as i64 / unit;
            kernel_dims.to[index] = dim.target as i64 / unit;
        }
        Ok(kernel_dims)
    }
}

/// Puts a copy on `stream`: every element of `source` to its index in `target`, which has the same
/// shape.
///
/// # Safety
/// * Both are memory of the stream's device. In the order of the stream, every element of `source`
///   may be read and every element of `target` written.
/// * No byte of `target` belongs to two of its elements, or to an element of `source`.
pub(super) unsafe fn strided_copy(
    source: Elements<'_>,
    target: Elements<'_>,
    itemsize: usize,
    stream: &Stream,
) -> Result<()> {
    let context = stream.context;
    let plan = LaunchPlan::new(source, target, itemsize);
    if let Some(bytes) = plan.contiguous_bytes() {
        let _entered = context.enter()?;
        // SAFETY: the bytes are those of the elements on both sides, which the caller guarantees
        // may be read and written in the order of the stream.
        return unsafe {
            context.driver.copy_on_device(plan.target, plan.source, bytes, stream.raw())
        };
    }
    let mut kernel_dims = plan.kernel_dims()?;
    let kernel = Kernels::of(context)?.for_unit(plan.unit);
    let max_blocks = BLOCKS_PER_MULTIPROCESSOR * u64::from(context.multiprocessors);
    let thread_blocks = kernel_dims.total.div_ceil(THREADS_PER_BLOCK).min(max_blocks) as u32;
    let (mut from, mut to) = (plan.source, plan.target);
    let mut parameters: [*mut c_void; 3] =
        [(&raw mut from).cast(), (&raw mut to).cast(), (&raw mut kernel_dims).cast()];
    let launch = Launch {
        kernel,
        thread_blocks,
        threads_per_block: THREADS_PER_BLOCK as u32,
        stream: stream.raw(),
        parameters: &mut parameters,
    };
    let _entered = context.enter()?;
    // SAFETY: the kernel was loaded in this context, and has these three parameters. It reads the
    // elements of `source` and writes those of `target`, as the caller allows in the order of the
    // stream, and reaches nothing else.
    unsafe { context.driver.launch(launch) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layout;

    fn plan(
        shape: &[i64],
        source_strides: &[i64],
        target_strides: &[i64],
        itemsize: usize,
        addresses: (usize, usize),
    ) -> LaunchPlan {
        let layout = |strides| Layout::new(shape, strides).expect("valid");
        let (source_layout, target_layout) = (layout(source_strides), layout(target_strides));
        let data = std::ptr::without_provenance_mut;
        LaunchPlan::new(
            Elements { data: data(addresses.0), layout: &source_layout },
            Elements { data: data(addresses.1), layout: &target_layout },
            itemsize,
        )
    }

    fn dim(count: usize, source: isize, target: isize) -> PairedDim {
        PairedDim { count, source, target }
    }

    #[test]
    fn contiguous_elements_are_one_dimension_of_units() {
        let plan = plan(&[4, 6], &[6, 1], &[6, 1], 4, (4096, 8192));
        assert_eq!((plan.unit, &plan.dims.dims[..]), (16, &[dim(6, 16, 16)][..]));
        assert_eq!(plan.contiguous_bytes(), Some(96));
    }

    #[test]
    fn units_fit_addresses_and_strides() {
        // Every other element of 12 bytes.
        let strided = plan(&[5], &[2], &[1], 12, (4096, 8192));
        let dims = [dim(5, 24, 12), dim(3, 4, 4)];
        assert_eq!((strided.unit, &strided.dims.dims[..]), (4, &dims[..]));
        assert_eq!(plan(&[5], &[2], &[1], 8, (4096 + 2, 8192)).unit, 2);
        // A transpose.
        let transposed = plan(&[3, 2], &[1, 3], &[2, 1], 4, (4096, 8192));
        let dims = [dim(3, 4, 8), dim(2, 12, 4)];
        assert_eq!((transposed.unit, &transposed.dims.dims[..]), (4, &dims[..]));
        assert_eq!(transposed.contiguous_bytes(), None);
    }

    #[test]
    fn negative_target_strides_are_counted_from_the_other_end() {
        let plan = plan(&[3], &[1], &[-1], 2, (4096, 8196));
        assert_eq!((plan.source, plan.target, plan.unit), (4100, 8192, 2));
        assert_eq!(plan.dims.dims[..], [dim(3, -2, 2)]);
    }
}
