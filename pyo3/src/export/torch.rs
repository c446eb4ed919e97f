//! Exports a tensor as a `torch.Tensor`, without linking libtorch.

use std::ffi::c_void;
use std::ptr::null_mut;

use dlbridge::DType;
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;

use crate::export_policy::StrideClass;
use crate::known_types::TORCH_TENSOR;
use crate::tensor_object::TensorObject;
use crate::torch_owner::check_owner_address;
use crate::torch_table::{torch_error, torch_table};

/// Whether PyTorch has this element type.
fn has_dtype(dtype: DType) -> bool {
    let DType { code, bits, lanes } = dtype;
    match (code, lanes) {
        (0 | 1, 1) => matches!(bits, 8 | 16 | 32 | 64),
        (2, 1) => matches!(bits, 16 | 32 | 64),
        (4, 1) => bits == 16,
        (5, 1) => matches!(bits, 32 | 64 | 128),
        (6, 1) => bits == 8,
        (10..=14, 1) => bits == 8,
        (17, 2) => bits == 4,
        _ => false,
    }
}

/// Makes a `torch.Tensor` that shares the memory of `tensor`.
pub(crate) fn to_torch<'py>(tensor: &Bound<'py, TensorObject>) -> PyResult<Bound<'py, PyAny>> {
    let py = tensor.py();
    let this = tensor.get().tensor();
    check_owner_address(py, this)?;
    if this.is_shared_read_only() {
        return Err(PyBufferError::new_err(
            "the memory is read-only, and PyTorch would write it: use clone().torch()",
        ));
    }
    if StrideClass::of(this) == StrideClass::Negative {
        return Err(PyValueError::new_err(
            "at least one stride is negative, and PyTorch does not support that: use \
             clone().torch()",
        ));
    }
    if !has_dtype(this.dtype()) {
        return Err(PyTypeError::new_err(format!(
            "PyTorch has no elements of type {}",
            this.dtype()
        )));
    }
    let known = TORCH_TENSOR.look_up(py).is_some();
    if !known {
        py.import(intern!(py, "torch"))?;
    }
    let import = torch_table(py)?.and_then(|table| table.managed_tensor_to_py_object_no_sync);
    let Some(import) = import.filter(|_| this.device().is_host()) else {
        return py
            .import(intern!(py, "torch"))?
            .call_method1(intern!(py, "from_dlpack"), (tensor,));
    };
    let exported = this.share_dlpack();
    let mut object = null_mut::<c_void>();
    // SAFETY: the function must be called with a struct that it may consume, whose strides are not
    // negative, and an address to write to: the struct is exported here for it, the strides were
    // checked above, and `object` is writable. If PyTorch refuses the struct, it does not release
    // it (tried with 2.13). Nor does this function: a leak is better than a double free.
    let status = unsafe { import(exported.into_raw().as_ptr(), &mut object) };
    if status != 0 {
        return Err(torch_error(py));
    }
    // SAFETY: the pointer must be a new reference: the table's contract says so on success.
    unsafe { Bound::from_owned_ptr_or_err(py, object.cast()) }
}
