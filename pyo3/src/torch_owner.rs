//! The owner of memory that came from a `torch.Tensor`, and whether the tensor still has it.
//!
//! PyTorch can replace the memory of a tensor while other libraries use it. `resize_`,
//! `share_memory_` and sending the tensor to another process move a storage to other memory, and
//! free the first. `set_` and `tensor.data = …` give the tensor another storage; the owner keeps
//! the first storage, and so its memory. Before each use of the memory, the address and the size of
//! the storage are compared with those at the import.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use dlbridge::ffi::DLTensor;
use dlbridge::{Error, MovableOwner, Tensor};
use pyo3::exceptions::PyBufferError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};

use crate::error::buffer_error;
use crate::release::PyOwnerPair;
use crate::torch_objects::{known_torch_objects, torch_objects};
use crate::torch_table::torch_table;

/// Keeps the memory of a `torch.Tensor`.
pub(crate) struct TorchOwner {
    /// The tensor and its storage.
    objects: PyOwnerPair,
    /// Where the memory was when the tensor was imported.
    place: Place,
}

impl MovableOwner for TorchOwner {
    fn check_address(&self) -> Result<(), Error> {
        let now = match known_torch_objects() {
            // SAFETY: the object must be a `torch.Tensor`, or of a derived class: the import
            // checked that, and Python lets no object leave a class with C data of its own.
            Some(objects) => Some(unsafe { objects.place(self.objects.first()) }),
            None => Python::try_attach(|py| {
                self.described_place(py).map_or((0, 0), |place| (place.address, place.size))
            }),
        };
        let refused = |reason| {
            let value = format!("{:#x}", self.place.address);
            Err(Error::InvalidDescriptor { field: "data".to_owned(), value, reason })
        };
        match now {
            Some((address, size)) if self.is_moved(Place { address, size }) => {
                refused("PyTorch moved the memory of this tensor")
            }
            Some(_) => Ok(()),
            // The interpreter has ended, or its garbage collector is running this code. PyTorch may
            // have moved the memory before.
            None => refused("PyTorch can't be asked now whether it moved the memory"),
        }
    }
}

/// Where the memory of a `torch.Tensor` is.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Address of the tensor's first element; 0 if it has no memory.
    pub(crate) address: usize,
    /// Size of its storage in bytes.
    pub(crate) size: u64,
}

impl TorchOwner {
    /// The owner of the memory of `tensor`, which is at `place`, in `storage`.
    #[inline]
    pub(crate) fn new(tensor: Bound<'_, PyAny>, storage: Bound<'_, PyAny>, place: Place) -> Self {
        Self { objects: PyOwnerPair::new(tensor, storage), place }
    }

    /// Shows the objects to the garbage collector.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.objects.traverse(visit)
    }

    /// Where the memory is now; `None` if it has not moved. A storage that has its address again
    /// but is smaller does not hold all elements, so it counts as moved.
    #[inline]
    fn moved_to(&self, py: Python<'_>) -> PyResult<Option<Place>> {
        let now = match torch_objects(py) {
            Some(objects) => {
                // SAFETY: the object must be a `torch.Tensor`, or of a derived class: the import
                // checked that, and Python lets no object leave a class with C data of its own.
                let (address, size) = unsafe { objects.place(self.objects.first()) };
                Place { address, size }
            }
            None => self.described_place(py)?,
        };
        Ok(self.is_moved(now).then_some(now))
    }

    #[inline]
    fn is_moved(&self, now: Place) -> bool {
        now.address != self.place.address || now.size < self.place.size
    }

    /// Where the memory is, as PyTorch's table and the storage describe it.
    #[cold]
    fn described_place(&self, py: Python<'_>) -> PyResult<Place> {
        let table = torch_table(py)?;
        let Some(describe) = table.and_then(|table| table.dltensor_from_py_object_no_sync) else {
            return Ok(self.place);
        };
        let size = self.objects.second().bind(py).call_method0(intern!(py, "nbytes"))?;
        let size = size.extract()?;
        let mut now = MaybeUninit::<DLTensor>::uninit();
        let tensor = self.objects.first().as_ptr().cast::<c_void>();
        // SAFETY: the function must be called attached, with an object of the table's class and an
        // address to write to: `py` proves the first, the import checked the class, which never
        // changes, and `now` is writable.
        if unsafe { describe(tensor, now.as_mut_ptr()) } != 0 {
            drop(PyErr::take(py));
            return Ok(Place { address: 0, size });
        }
        // SAFETY: the struct must be written: the function does so when it returns 0.
        let now = unsafe { now.assume_init_ref() };
        Ok(Place { address: now.data.addr().wrapping_add(now.byte_offset as usize), size })
    }
}

/// Checks that the `torch.Tensor` which owns the memory of `tensor`, if one does, has not moved it
/// since the import, and asks an owner of another crate the same. Every function that reads, writes
/// or exports the memory calls this first, and again after it called Python code.
#[inline]
pub(crate) fn check_owner_address(py: Python<'_>, tensor: &Tensor) -> PyResult<()> {
    let Some(owner) = owner_of(tensor) else { return tensor.check_address().map_err(buffer_error) };
    match owner.moved_to(py)? {
        Some(now) if !tensor.is_empty() => Err(moved_error(owner.place, now)),
        _ => Ok(()),
    }
}

#[inline]
fn owner_of(tensor: &Tensor) -> Option<&TorchOwner> {
    let mut holder = tensor;
    loop {
        // SAFETY: the memory must not be reached through the owner: only its place is asked for.
        let owner = unsafe { holder.owner_unchecked::<TorchOwner>() };
        if owner.is_some() {
            return owner;
        }
        // Another description of the same memory, for example as bytes, is owned by a tensor.
        // SAFETY: the memory must not be reached through the owner: the inner tensor is only asked
        // for its own owner.
        holder = unsafe { holder.owner_unchecked::<Tensor>() }?;
    }
}

#[cold]
fn moved_error(from: Place, to: Place) -> PyErr {
    let how = if from.address == to.address {
        format!(
            "away and back to {:#x}, where its storage has {} bytes, not {}",
            to.address, to.size, from.size
        )
    } else {
        format!("from {:#x} to {:#x}", from.address, to.address)
    };
    PyBufferError::new_err(format!(
        "PyTorch moved the memory of this tensor ({how}): call dlbridge.from_dlpack(x) again"
    ))
}
