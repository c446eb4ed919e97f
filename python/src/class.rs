//! The class `dlbridge.Tensor`, without its methods.

use std::mem::ManuallyDrop;

use dlbridge::{Access, DType, Tensor};
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};

use crate::error::buffer_error;
use crate::release::{ArrayOwner, PendingException};
use crate::torch_owner::TorchOwner;

/// A strided buffer on one device, whose memory may be shared with other libraries.
///
/// `from_dlpack`, `from_numpy` and `tensor` make a Tensor. The memory is released when the last
/// object that shares it is released, in whichever library that object is.
///
/// A Tensor has no arithmetic and no indexing: use `numpy()` or `torch()`, which share its memory.
/// Tensors compare and hash by identity. `len(t)` is the size of the first dimension, and iteration
/// gives the items of `tolist()`. A Tensor of one element converts to a number, as `item()` does.
/// `copy.copy(t)` returns `t`, and `copy.deepcopy(t)` copies the elements. With pickle protocol 5
/// and a `buffer_callback`, the elements are an out-of-band buffer and are not copied.
///
/// `bytes(t)` copies the bytes of all elements in row-major order, whatever their type.
/// `memoryview(t)` and `bytearray(t)` refuse element types for which the buffer protocol has no
/// format, for example bfloat16.
///
/// The garbage collector finds a cycle through a Tensor and the array that it was made from if
/// nothing else holds that memory.
///
/// `torch.asarray(t)` and `torch.frombuffer(t)` silently give wrong numbers, because they read the
/// bytes of `t` without its shape and element type. Use `t.torch()`, `torch.from_dlpack(t)` or
/// `torch.as_tensor(t)`.
///
/// >>> array = np.array([[1.0, 2.0], [3.0, 4.0]])
/// >>> tensor = dl.from_numpy(array)
/// >>> tensor
/// dlbridge.Tensor([[1.0, 2.0],
///                  [3.0, 4.0]], dtype=float64, device=cpu)
/// >>> array[0, 0] = 9.0
/// >>> tensor.tolist()
/// [[9.0, 2.0], [3.0, 4.0]]
/// >>> len(tensor), bytes(tensor) == array.tobytes()
/// (2, True)
#[pyclass(frozen, weakref, name = "Tensor", module = "dlbridge")]
pub(crate) struct PyTensor {
    /// Aliased from the start: any Python code that has this object may hand its memory on.
    tensor: ManuallyDrop<Tensor>,
}

impl Drop for PyTensor {
    fn drop(&mut self) {
        // SAFETY: the thread must be attached: the interpreter is when it frees an object, and each
        // caller of `new` holds a `Python` or `Bound` token.
        let py = unsafe { Python::assume_attached() };
        // An exception may be pending, which a deleter of another library could clear.
        let _pending = PendingException::set_aside(py);
        // SAFETY: the value must not be used afterwards: it is private, and this is its drop.
        unsafe { ManuallyDrop::drop(&mut self.tensor) };
    }
}

impl PyTensor {
    #[inline]
    pub(crate) fn new(tensor: Tensor) -> Self {
        let aliased = match tensor.access() {
            Access::Aliased { .. } => tensor,
            // Only another handle could prevent it, and then the memory would stay read-only.
            _ => tensor.into_aliased().unwrap_or_else(|rejected| rejected.into_value()),
        };
        Self { tensor: ManuallyDrop::new(aliased) }
    }

    #[inline]
    pub(crate) fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Shows the garbage collector the object that keeps the memory, if the collector may clear that
    /// object, and this handle is the only one that keeps it: `tp_traverse`.
    ///
    /// A collection subtracts what it is shown from each object's count of references, and takes an
    /// object of which nothing is left for garbage, unless it is shown again on the way from an
    /// object in use. So a reference must not be shown by two handles, and one that was shown must
    /// be shown again until the collection ends. Both hold, because the number of handles does not
    /// grow from one while a collection looks: it holds the interpreter's lock, a handle that is
    /// the only one is reached through its object by attached threads only, and a thread that
    /// detached holds a second handle (`detached`). The number may fall meanwhile: what was not
    /// shown first and is shown later is taken for in use, which is safe.
    ///
    /// There is no `tp_clear`, so that a tensor never loses its memory while it can be reached. A
    /// tuple has none for the same reason: neither changes once it is made, so a cycle needs
    /// another object, which was changed later, and that one is cleared.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut tensor = self.tensor();
        while tensor.is_unique() {
            // SAFETY: the memory must not be reached through the owner: it is only shown.
            if let Some(owner) = unsafe { tensor.owner_unchecked::<ArrayOwner>() } {
                return owner.traverse(visit);
            }
            // A storage of PyTorch keeps its memory until it is freed, as an array does.
            // SAFETY: as above.
            if let Some(owner) = unsafe { tensor.owner_unchecked::<TorchOwner>() } {
                return owner.traverse(visit);
            }
            // SAFETY: as above: the inner tensor is only asked for its own owner.
            let Some(inner) = (unsafe { tensor.owner_unchecked::<Tensor>() }) else { break };
            tensor = inner;
        }
        Ok(())
    }

    pub(crate) fn into_bound(self, py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        Bound::new(py, self)
    }

    /// The same memory as elements of another type of the same size.
    pub(crate) fn with_dtype(&self, dtype: DType) -> PyResult<Self> {
        let this = self.tensor();
        let descriptor = this.descriptor().clone().with_dtype(dtype).map_err(buffer_error)?;
        let writable = !this.is_shared_read_only();
        // SAFETY: the descriptor must describe initialised memory that the owner keeps: it is the
        // tensor's own, element for element, and the owner is another handle of the tensor.
        Ok(Self::new(unsafe { this.share_as_unchecked(descriptor, writable, this.share()) }))
    }
}
