//! Copies between two layouts on one device.

use std::ffi::{CStr, c_void};

use cudarc::driver::sys::CUfunction;
use smallvec::SmallVec;

use super::context::Context;
use super::stream::{Stream, address};
use crate::{Error, Layout, Result};

/// What `gather.cu` became.
const PTX: &str = concat!(include_str!("gather.ptx"), "\0");

/// As many loops as a kernel can be given: `DLBRIDGE_RANK`.
const RANK: usize = 64;

/// Threads of a block.
const BLOCK: u64 = 256;

/// Blocks that a multiprocessor has at work at once.
const BLOCKS: u64 = 8;

/// The kernels, for units of 1, 2, 4, 8 and 16 bytes.
pub(super) struct Kernels([CUfunction; 5]);

impl Kernels {
    fn of(context: &'static Context) -> Result<&'static Self> {
        if let Some(kernels) = context.kernels.get() {
            return Ok(kernels);
        }
        let _entered = context.enter()?;
        let mut module = std::ptr::null_mut();
        // SAFETY: room for the handle; PTX as a C string, and a current context.
        unsafe { context.driver.load_module(&raw mut module, PTX.as_ptr().cast()) }?;
        let mut functions = [std::ptr::null_mut(); 5];
        const NAMES: [&CStr; 5] = [
            c"dlbridge_gather_1",
            c"dlbridge_gather_2",
            c"dlbridge_gather_4",
            c"dlbridge_gather_8",
            c"dlbridge_gather_16",
        ];
        for (function, name) in functions.iter_mut().zip(NAMES) {
            // SAFETY: room for the handle; a module of this context, which stays loaded.
            unsafe { context.driver.module_function(function, module, name.as_ptr()) }?;
        }
        // Should another thread have been quicker, its module serves both.
        Ok(context.kernels.get_or_init(|| Self(functions)))
    }
}

/// What a kernel is given: `Loops` of `gather.cu`.
#[repr(C)]
struct Loops {
    total: u64,
    rank: u32,
    pad: u32,
    count: [u64; RANK],
    from: [i64; RANK],
    to: [i64; RANK],
}

/// One loop over both sides. Steps are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loop {
    count: u64,
    from: i64,
    to: i64,
}

/// A copy as a kernel runs it.
#[derive(Debug)]
struct LaunchPlan {
    /// The outermost first: by the steps of the target, which are positive.
    loops: SmallVec<[Loop; 8]>,
    /// Bytes that are copied at once: a power of two, by which addresses and steps can be divided.
    unit: u64,
    from: u64,
    to: u64,
}

impl LaunchPlan {
    fn new(
        (from, from_layout): (u64, &Layout),
        (to, to_layout): (u64, &Layout),
        itemsize: usize,
    ) -> Self {
        let item = itemsize as i64;
        let mut plan = Self { loops: SmallVec::new(), unit: 1, from, to };
        let steps = from_layout.strides().iter().zip(to_layout.strides());
        for (&size, (&from, &to)) in to_layout.shape().iter().zip(steps) {
            if size != 1 {
                plan.push(Loop { count: size.unsigned_abs(), from: from * item, to: to * item });
            }
        }
        // Every element is a loop over its bytes to begin with.
        plan.loops.push(Loop { count: itemsize as u64, from: 1, to: 1 });
        plan.loops.dedup_by(|inner, outer| {
            let one = [(inner.from, outer.from), (inner.to, outer.to)].iter().all(
                |&(inner_step, outer_step)| {
                    i64::try_from(inner.count)
                        .is_ok_and(|count| inner_step.checked_mul(count) == Some(outer_step))
                },
            );
            if one {
                *outer = Loop { count: outer.count * inner.count, ..*inner };
            }
            one
        });
        plan.widen();
        plan
    }

    /// Adds a loop in its place, from the end that makes the target's step positive.
    fn push(&mut self, dim: Loop) {
        let last = dim.count as i64 - 1;
        let dim = if dim.to < 0 {
            self.from = self.from.wrapping_add_signed(last * dim.from);
            self.to = self.to.wrapping_add_signed(last * dim.to);
            Loop { count: dim.count, from: -dim.from, to: -dim.to }
        } else {
            dim
        };
        let place =
            self.loops.iter().rposition(|other| other.to >= dim.to).map_or(0, |place| place + 1);
        self.loops.insert(place, dim);
    }

    /// Makes the innermost loop, which is over bytes, one over units as large as they can be.
    fn widen(&mut self) {
        let Some((bytes, outer)) = self.loops.split_last_mut() else { return };
        let steps = outer
            .iter()
            .fold(0, |steps, dim| steps | dim.from.unsigned_abs() | dim.to.unsigned_abs());
        let odd = self.from | self.to | steps | bytes.count;
        self.unit = 1 << odd.trailing_zeros().min(4);
        let unit = self.unit as i64;
        *bytes = Loop { count: bytes.count / self.unit, from: unit, to: unit };
        if bytes.count == 1 && !outer.is_empty() {
            self.loops.pop();
        }
    }
}

/// Copies elements to their places in another layout of the same shape.
///
/// # Safety
/// * Both are memory of the stream's device, there in the stream's order: every element of `from` may be read,
///   every element of `to` written; none of `to` is reached twice, nor is it an element of `from`.
pub(super) unsafe fn strided_copy(
    from: (*const u8, &Layout),
    to: (*const u8, &Layout),
    itemsize: usize,
    stream: &Stream,
) -> Result<()> {
    let context = stream.context;
    let plan = LaunchPlan::new((address(from.0), from.1), (address(to.0), to.1), itemsize);
    if let [Loop { count, from, to }] = plan.loops[..]
        && (from, to) == (plan.unit as i64, plan.unit as i64)
    {
        let bytes = count * plan.unit;
        let _entered = context.enter()?;
        // SAFETY: one run on both sides; the caller's promise.
        return unsafe {
            context.driver.copy_on_device(plan.to, plan.from, bytes as usize, stream.raw())
        };
    }
    if plan.loops.len() > RANK {
        return Err(Error::TooManyDimensions {
            found: plan.loops.len(),
            limit: RANK,
            target: "a copy on CUDA",
        });
    }
    let mut loops = Loops {
        total: plan.loops.iter().map(|dim| dim.count).product(),
        rank: plan.loops.len() as u32,
        pad: 0,
        count: [1; RANK],
        from: [0; RANK],
        to: [0; RANK],
    };
    let unit = plan.unit as i64;
    for (place, dim) in plan.loops.iter().enumerate() {
        (loops.count[place], loops.from[place], loops.to[place]) =
            (dim.count, dim.from / unit, dim.to / unit);
    }
    let Kernels(functions) = Kernels::of(context)?;
    let function = functions[plan.unit.trailing_zeros() as usize];
    let grid = loops.total.div_ceil(BLOCK).min(BLOCKS * u64::from(context.multiprocessors)) as u32;
    let (mut from, mut to) = (plan.from, plan.to);
    let mut parameters: [*mut c_void; 3] =
        [(&raw mut from).cast(), (&raw mut to).cast(), (&raw mut loops).cast()];
    let _entered = context.enter()?;
    // SAFETY: the parameters are those of the kernel, which reaches the caller's elements and nothing else; the
    // driver reads them before it returns.
    unsafe {
        context.driver.launch(
            function,
            grid,
            1,
            1,
            BLOCK as u32,
            1,
            1,
            0,
            stream.raw(),
            parameters.as_mut_ptr(),
            std::ptr::null_mut(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(
        shape: &[i64],
        from: &[i64],
        to: &[i64],
        itemsize: usize,
        at: (u64, u64),
    ) -> LaunchPlan {
        let layout = |strides| Layout::new(shape, strides).expect("valid");
        LaunchPlan::new((at.0, &layout(from)), (at.1, &layout(to)), itemsize)
    }

    #[test]
    fn loops_that_step_as_one_are_one() {
        let plan = plan(&[4, 6], &[6, 1], &[6, 1], 4, (4096, 8192));
        assert_eq!((plan.unit, &plan.loops[..]), (16, &[Loop { count: 6, from: 16, to: 16 }][..]));
    }

    #[test]
    fn units_fit_addresses_and_steps() {
        // Every other element of 12 bytes.
        let strided = plan(&[5], &[2], &[1], 12, (4096, 8192));
        let loops = [Loop { count: 5, from: 24, to: 12 }, Loop { count: 3, from: 4, to: 4 }];
        assert_eq!((strided.unit, &strided.loops[..]), (4, &loops[..]));
        assert_eq!(plan(&[5], &[2], &[1], 8, (4096 + 2, 8192)).unit, 2);
        // A transpose.
        let transposed = plan(&[3, 2], &[1, 3], &[2, 1], 4, (4096, 8192));
        let loops = [Loop { count: 3, from: 4, to: 8 }, Loop { count: 2, from: 12, to: 4 }];
        assert_eq!((transposed.unit, &transposed.loops[..]), (4, &loops[..]));
    }

    #[test]
    fn targets_are_walked_upwards() {
        let plan = plan(&[3], &[1], &[-1], 2, (4096, 8196));
        assert_eq!((plan.from, plan.to, plan.unit), (4100, 8192, 2));
        assert_eq!(plan.loops[..], [Loop { count: 3, from: -2, to: 2 }]);
    }
}
