//! The owner of memory that came from a `torch.Tensor`, and whether the tensor still has it.
//!
//! PyTorch replaces the memory of a tensor while other libraries see it: `resize_` and
//! `share_memory_` move a storage, as sending the tensor to another process does, and `set_` and
//! `tensor.data = …` give the tensor another storage. The owner keeps the storage, so that the
//! memory outlives the last two; the first two free it, whoever holds the storage. So the address is
//! compared before the memory is used.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use dlbridge::Tensor;
use dlbridge::ffi::DLTensor;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};

use crate::release::PyOwnerPair;
use crate::torch_objects::torch_objects;
use crate::torch_table::torch_table;

/// Keeps the memory of a `torch.Tensor`.
pub(crate) struct TorchOwner {
    /// The tensor and its storage.
    objects: PyOwnerPair,
    /// Address of the tensor's first element when it was imported.
    address: usize,
}

impl TorchOwner {
    /// The owner of the memory of `tensor`, whose first element is at `address`, in `storage`.
    #[inline]
    pub(crate) fn new(tensor: Bound<'_, PyAny>, storage: Bound<'_, PyAny>, address: usize) -> Self {
        Self { objects: PyOwnerPair::new(tensor, storage), address }
    }

    /// Shows the objects to the garbage collector.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.objects.traverse(visit)
    }

    /// Whether the tensor's first element is where it was; where it is otherwise.
    #[inline]
    fn moved_to(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        if let Some(objects) = torch_objects(py) {
            // SAFETY: the object must be a `torch.Tensor`, or of a derived class: the import
            // checked that, and Python lets no object leave a class with C data of its own.
            let address = unsafe { objects.data_ptr(self.objects.first()) };
            return Ok((address != self.address).then_some(address));
        }
        let table = torch_table(py)?;
        let Some(describe) = table.and_then(|table| table.dltensor_from_py_object_no_sync) else {
            return Ok(None);
        };
        let mut now = MaybeUninit::<DLTensor>::uninit();
        let tensor = self.objects.first().as_ptr().cast::<c_void>();
        // SAFETY: the function must be called attached, with an object of the table's class and an
        // address to write to: `py` proves the first, the import checked the class, which never
        // changes, and `now` is writable.
        if unsafe { describe(tensor, now.as_mut_ptr()) } != 0 {
            drop(PyErr::take(py));
            return Ok(Some(0));
        }
        // SAFETY: the struct must be written: the function does so when it returns 0.
        let now = unsafe { now.assume_init_ref() };
        let address = now.data.addr().wrapping_add(now.byte_offset as usize);
        Ok((address != self.address).then_some(address))
    }
}

/// Checks that the `torch.Tensor` which owns the memory of `tensor`, if one does, has not moved it
/// since the import. Every function that reads, writes or exports the memory calls this first.
#[inline]
pub(crate) fn check_owner_address(py: Python<'_>, tensor: &Tensor) -> PyResult<()> {
    // SAFETY: the memory must not be reached through the owner: only its address is asked for.
    let Some(owner) = (unsafe { tensor.owner_unchecked::<TorchOwner>() }) else { return Ok(()) };
    match owner.moved_to(py)? {
        Some(address) if !tensor.is_empty() => Err(moved_error(owner.address, address)),
        _ => Ok(()),
    }
}

#[cold]
fn moved_error(from: usize, to: usize) -> PyErr {
    PyBufferError::new_err(format!(
        "PyTorch moved the memory of the torch.Tensor from {from:#x} to {to:#x} since it was \
         shared, as resize_(), share_memory_(), set_(), tensor.data = ... and sending it to \
         another process do: share the tensor again"
    ))
}
