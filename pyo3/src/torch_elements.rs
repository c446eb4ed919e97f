//! Shape, strides, element type and device of an `at::Tensor`, through the C functions that PyTorch
//! keeps stable for compiled models (`torch/csrc/inductor/aoti_torch/c/shim.h`).

use std::ffi::c_void;
use std::mem::transmute;
use std::ptr::null;
use std::slice;

use dlbridge::{DType, Descriptor, Device, Layout};
use pyo3::prelude::*;

/// A C function that writes one property of the `at::Tensor` at an address. It returns 0 on
/// success.
pub(crate) type Query<T> = unsafe extern "C" fn(*const c_void, *mut T) -> i32;

/// The element types whose elements PyTorch and DLPack store in the same way, by PyTorch's names.
const TYPES: [(&str, DType); 15] = [
    ("float32", DType::F32),
    ("float16", DType::F16),
    ("bfloat16", DType::BF16),
    ("int64", DType::I64),
    ("uint8", DType::U8),
    ("bool", DType::BOOL),
    ("float64", DType::F64),
    ("int32", DType::I32),
    ("int8", DType::I8),
    ("int16", DType::I16),
    ("uint16", DType::U16),
    ("uint32", DType::U32),
    ("uint64", DType::U64),
    ("complex64", DType::C64),
    ("complex128", DType::C128),
];

/// Functions of PyTorch that describe the elements of a tensor.
pub(crate) struct TorchElements {
    dim: Query<i64>,
    sizes: Query<*const i64>,
    strides: Query<*const i64>,
    dtype: Query<i32>,
    device_type: Query<i32>,
    /// PyTorch's number of the host.
    cpu: i32,
    /// PyTorch's numbers of the element types.
    types: Vec<(i32, DType)>,
}

impl TorchElements {
    /// Looks up the functions with `function`, which gives the address of the shim's function of a
    /// name.
    pub(crate) fn look_up(function: impl Fn(&str) -> PyResult<*const c_void>) -> PyResult<Self> {
        let constant = |name: &str| -> PyResult<i32> {
            let function = function(name)?;
            // SAFETY: the function must have this type: the shim's header declares it so.
            let get =
                unsafe { transmute::<*const c_void, unsafe extern "C" fn() -> i32>(function) };
            // SAFETY: the function has no precondition: it returns a constant.
            Ok(unsafe { get() })
        };
        let code =
            |&(name, dtype): &(&str, DType)| Ok((constant(&format!("dtype_{name}"))?, dtype));
        let numbers = |name: &str| -> PyResult<Query<*const i64>> {
            // SAFETY: the function must have this type: the shim's header declares those that are
            // looked up below so.
            Ok(unsafe { transmute::<*const c_void, Query<*const i64>>(function(name)?) })
        };
        let number = |name: &str| -> PyResult<Query<i32>> {
            // SAFETY: the function must have this type: the shim's header declares those that are
            // looked up below so.
            Ok(unsafe { transmute::<*const c_void, Query<i32>>(function(name)?) })
        };
        Ok(Self {
            // SAFETY: the function must have this type: the shim's header declares it so.
            dim: unsafe { transmute::<*const c_void, Query<i64>>(function("get_dim")?) },
            sizes: numbers("get_sizes")?,
            strides: numbers("get_strides")?,
            dtype: number("get_dtype")?,
            device_type: number("get_device_type")?,
            cpu: constant("device_type_cpu")?,
            types: TYPES.iter().map(code).collect::<PyResult<_>>()?,
        })
    }

    /// The description of the elements of `tensor`, of which the first is at `data`. `None` if the
    /// tensor is not on the host, if its element type is not in `TYPES`, or if it cannot be
    /// described.
    ///
    /// # Safety
    /// * `tensor` is the address of an `at::Tensor`, and the thread is attached.
    #[inline]
    pub(crate) unsafe fn describe(
        &self,
        tensor: *const c_void,
        data: *mut c_void,
    ) -> Option<Descriptor> {
        // SAFETY: `tensor` must be that of an `at::Tensor`: this function's contract says so.
        if unsafe { ask(self.device_type, tensor, -1) }? != self.cpu {
            return None;
        }
        // SAFETY: `tensor` must be that of an `at::Tensor`: this function's contract says so.
        let code = unsafe { ask(self.dtype, tensor, -1) }?;
        let &(_, dtype) = self.types.iter().find(|(known, _)| *known == code)?;
        // SAFETY: `tensor` must be that of an `at::Tensor`: this function's contract says so.
        let rank = usize::try_from(unsafe { ask(self.dim, tensor, -1) }?).ok()?;
        // SAFETY: `tensor` must be that of an `at::Tensor`: this function's contract says so.
        let sizes = unsafe { ask(self.sizes, tensor, null()) }?;
        // SAFETY: `tensor` must be that of an `at::Tensor`: this function's contract says so.
        let strides = unsafe { ask(self.strides, tensor, null()) }?;
        let numbers = |start: *const i64| match rank {
            0 => &[],
            // SAFETY: there must be `rank` numbers at `start`, which do not change while they are
            // used: the shim says the first of sizes and strides, and no other code runs until the
            // layout below has copied them.
            _ => unsafe { slice::from_raw_parts(start, rank) },
        };
        let layout = Layout::new(numbers(sizes), numbers(strides)).ok()?;
        Descriptor::new(data, layout, dtype, Device::CPU).ok()
    }
}

/// The answer of `query` for the `at::Tensor` at `tensor`; `None` if PyTorch's function fails.
///
/// # Safety
/// * `tensor` is the address of an `at::Tensor`.
#[inline]
unsafe fn ask<T>(query: Query<T>, tensor: *const c_void, mut answer: T) -> Option<T> {
    // SAFETY: the function must be called with the address of an `at::Tensor`, as this function's
    // contract says, and an address to write to, which the reference is.
    (unsafe { query(tensor, &mut answer) } == 0).then_some(answer)
}
