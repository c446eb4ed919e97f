//! The Python class `Tensor`, without its methods.

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
/// `torch.asarray(t)` silently gives wrong numbers, because PyTorch reads the bytes of `t` without
/// its shape and element type; `torch.frombuffer(t, dtype=...)` loses the shape. Use `t.torch()`,
/// `torch.from_dlpack(t)` or `torch.as_tensor(t)`.
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
#[pyclass(frozen, weakref, mapping, name = "Tensor", module = "dlbridge")] // no sequence for C code
pub(crate) struct TensorObject {
    /// `Access::Aliased` from the start, because any Python code that has this object may share
    /// its memory with other libraries.
    tensor: ManuallyDrop<Tensor>,
}

impl Drop for TensorObject {
    fn drop(&mut self) {
        // SAFETY: the thread must be attached: the interpreter is when it frees an object, and each
        // caller of `new` holds a `Python` or `Bound` token until the value is in an object.
        let py = unsafe { Python::assume_attached() };
        // An exception may be pending, which a deleter of another library could clear.
        let _pending = PendingException::set_aside(py);
        // SAFETY: the value must not be used afterwards: it is private, and this is its drop.
        unsafe { ManuallyDrop::drop(&mut self.tensor) };
    }
}

impl TensorObject {
    #[inline]
    pub(crate) fn new(tensor: Tensor) -> Self {
        let aliased = match tensor.access() {
            Access::Aliased { trusted: false, .. } => tensor,
            // If another handle prevents it, the tensor keeps its access, which is read-only.
            _ => tensor.into_aliased().unwrap_or_else(|rejected| rejected.into_value()),
        };
        Self { tensor: ManuallyDrop::new(aliased) }
    }

    #[inline]
    pub(crate) fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// `tp_traverse`: shows the garbage collector the object that keeps the memory, if the
    /// collector may clear that object and this handle is the only one that keeps it.
    ///
    /// A collection subtracts the references that it is shown from each object's reference count.
    /// An object whose count reaches 0 is garbage, unless the collection later reaches it from an
    /// object in use. So two handles must not show the same reference, and a reference that was
    /// shown once must be shown again until the collection ends. Both hold, because the number of
    /// handles does not grow from one during a collection: the collection holds the GIL, only
    /// attached threads reach the only handle, through its object, and a thread that detached holds
    /// a second handle. In this crate, `detached` keeps one. Code of other crates never borrows the
    /// handle of an object: a `PyTensor` is a handle of its own (`extract` shares, `into_pyobject`
    /// moves it into the object), and this class is not public. The number may fall during a
    /// collection. Then a reference is shown that was not shown before; the collector regards its
    /// object as in use, which is safe.
    ///
    /// There is no `tp_clear`, so that a tensor never loses its memory while it can be reached.
    /// Like a tuple, a tensor does not change after it was made. So each cycle contains another
    /// object, which was changed later, and the collector clears that object.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut tensor = self.tensor();
        while tensor.is_unique() {
            // SAFETY: the memory must not be reached through the owner: it is only shown.
            if let Some(owner) = unsafe { tensor.owner_unchecked::<ArrayOwner>() } {
                return owner.traverse(visit);
            }
            // A storage of PyTorch keeps its memory until it is freed, as an array does.
            // SAFETY: the memory must not be reached through the owner: it is only shown.
            if let Some(owner) = unsafe { tensor.owner_unchecked::<TorchOwner>() } {
                return owner.traverse(visit);
            }
            // SAFETY: the memory must not be reached through the owner: the inner tensor is only
            // asked for its own owner.
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
