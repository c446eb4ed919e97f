//! The functions of the module.

#![forbid(unsafe_code)]

use dlbridge_pyo3::PyTensor;
use pyo3::prelude::*;

/// Returns a Tensor that shares the memory of `x`, an array of any library.
///
/// `x` may be an object with `__dlpack__`, of any DLPack version; with the buffer protocol (bytes,
/// memoryview, array.array, mmap); with `__array_interface__` or `__cuda_array_interface__`; or a
/// DLPack capsule. Read-only memory stays read-only.
///
/// If `device` is given and the memory is elsewhere, the producer or dlbridge copies it there.
/// `copy=True` always copies. `copy=False` raises ValueError if a copy is needed. A NumPy scalar,
/// for example `numpy.float32(1)`, is copied, because its memory cannot be shared.
///
/// Raises BufferError for data that cannot be shared: for example a PyTorch tensor that requires
/// gradient or reaches beyond its storage, elements of a type that DLPack does not have or of
/// another byte order, or strides that are no multiple of the element size. `tensor` and `clone`
/// copy elements of another byte order and of any strides. Raises AttributeError for objects that
/// are not arrays. Exceptions of the producer are passed on.
///
/// PyTorch can move the memory of a tensor after it was shared. Each later use of the Tensor raises
/// BufferError. Arrays that were made from the Tensor before the move are not checked: they keep
/// the old address, where the memory may be freed.
///
/// >>> source = torch.zeros(2, 3)
/// >>> tensor = dl.from_dlpack(source.t())
/// >>> tensor.shape, tensor.stride(), tensor.data_ptr() == source.data_ptr()
/// ((3, 2), (1, 3), True)
#[pyfunction]
#[pyo3(signature = (x, /, *, device = None, copy = None))]
pub(crate) fn from_dlpack(
    x: &Bound<'_, PyAny>,
    device: Option<&Bound<'_, PyAny>>,
    copy: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTensor> {
    dlbridge_pyo3::from_dlpack(x, device, copy)
}

/// Returns a Tensor that shares the memory of a NumPy array, read-only if the array is.
///
/// Strides may be negative or zero. An array over a buffer that can be released, such as
/// `numpy.ndarray(shape, buffer=shared_memory.buf)`, exports the buffer as long as the tensor
/// lives, so that closing or resizing it raises BufferError. If the buffer was released before,
/// `from_numpy` raises BufferError.
///
/// Raises TypeError if `array` is not a NumPy array, and for element types that DLPack does not
/// have; ValueError for strides that are no multiple of the element size, and for a byte order that
/// is not the machine's; and BufferError for a masked array with masked elements.
///
/// >>> array = np.arange(3.0)
/// >>> tensor = dl.from_numpy(array[::-1])
/// >>> array[0] = 7.0
/// >>> tensor.tolist()
/// [2.0, 1.0, 7.0]
#[pyfunction]
#[pyo3(signature = (array, /))]
pub(crate) fn from_numpy(array: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    dlbridge_pyo3::from_numpy(array)
}

/// Copies `x` into new, writable memory: an array, a number, or nested lists and tuples of numbers.
///
/// An array may be any that `from_dlpack` takes. NumPy arrays, buffers and objects with an array
/// interface may have another byte order than the machine's (the copy has the machine's), and
/// strides that are no multiple of the element size, as fields of packed records have. The copy
/// keeps the order of the strides and closes gaps. A NumPy scalar becomes a tensor without
/// dimensions. The element type of an array does not change: `dtype` must be its own.
///
/// Numbers get the type that NumPy gives them, which holds them exactly: bool, int64, float64 or
/// complex128. (PyTorch gives float32 and complex64.) A mixture gets the last of its types in this
/// order, no numbers get float64, and NumPy scalars that all have one type keep it. With `dtype`,
/// numbers are converted: floats are rounded, and integers must be in range.
///
/// `dtype` is a name such as 'float32', or a type of NumPy, PyTorch or Python. `device` is 'cpu',
/// 'cuda', 'cuda:N' or a `torch.device`; without it, the copy is on the device of `x`.
///
/// Raises ValueError for ragged lists, and for lists that are nested more than 64 deep;
/// OverflowError for numbers that are out of range; TypeError for objects that are not arrays or
/// numbers, for an array of another type than `dtype`, and for numbers that `dtype` has not, such
/// as 1.5 in int64; and BufferError as `from_dlpack` does.
///
/// >>> dl.tensor([[1, 2], [3, 4]], dtype=torch.float32)
/// dlbridge.Tensor([[1.0, 2.0],
///                  [3.0, 4.0]], dtype=float32, device=cpu)
/// >>> array = np.array([1, 2], dtype=">i4")
/// >>> tensor = dl.tensor(array)
/// >>> tensor.dtype, tensor.tolist(), tensor.data_ptr() == array.ctypes.data
/// ('int32', [1, 2], False)
#[pyfunction]
#[pyo3(signature = (x, /, *, dtype = None, device = None))]
pub(crate) fn tensor(
    x: &Bound<'_, PyAny>,
    dtype: Option<&Bound<'_, PyAny>>,
    device: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTensor> {
    dlbridge_pyo3::tensor(x, dtype, device)
}

/// Returns a copy of `x` as a new array of the same library.
///
/// The copy keeps the order of the strides and closes gaps; `memory_format` is another order, as
/// for `Tensor.clone`. NumPy and PyTorch own the memory of the copy. The copy of an array of a
/// derived class is a plain array. NumPy arrays may have the byte order and the strides that
/// `tensor` takes; their copies have the machine's byte order. An array of another library is made
/// by that library's own `from_dlpack`, from memory of dlbridge. The copy of an object that has
/// only the buffer protocol is a memoryview, and the copy of any other object is a Tensor.
///
/// Raises BufferError as `from_dlpack` does, TypeError for objects that are not arrays, and
/// ValueError if the format does not fit the number of dimensions.
///
/// >>> dl.clone(np.arange(3))
/// array([0, 1, 2])
/// >>> dl.clone(torch.arange(3))
/// tensor([0, 1, 2])
/// >>> dl.clone(np.zeros((2, 3, 4, 5), np.uint8), memory_format="channels_last").strides
/// (60, 1, 15, 3)
#[pyfunction]
#[pyo3(signature = (x, /, *, memory_format = None), text_signature = "(x, /, *, memory_format='preserve_format')")]
pub(crate) fn clone<'py>(
    x: &Bound<'py, PyAny>,
    memory_format: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    dlbridge_pyo3::clone(x, memory_format)
}

/// Returns `x` if its elements lie in row-major order, and a row-major copy otherwise.
///
/// `memory_format` is another order: 'channels_last' for four dimensions, 'channels_last_3d' for
/// five. The copy is a new array of the same library, as `clone` makes it, and the errors are the
/// same.
///
/// >>> array = np.zeros((2, 3))
/// >>> dl.contiguous(array) is array, dl.contiguous(array.T).flags.c_contiguous
/// (True, True)
/// >>> images = torch.zeros(2, 3, 4, 5)
/// >>> dl.contiguous(images, memory_format=torch.channels_last).stride()
/// (60, 1, 15, 3)
#[pyfunction]
#[pyo3(signature = (x, /, *, memory_format = None), text_signature = "(x, /, *, memory_format='contiguous_format')")]
pub(crate) fn contiguous<'py>(
    x: &Bound<'py, PyAny>,
    memory_format: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    dlbridge_pyo3::contiguous(x, memory_format)
}

/// Copies the elements of `src` into `dst`, an array of the same shape and element type.
///
/// The arrays may be of different libraries, have any strides, share memory, and be on different
/// devices. `src` may be any array that `tensor` takes. Elements are neither broadcast nor cast,
/// and the bytes between the elements of `dst` are not written. A copy to a CUDA device is complete
/// in the order of its legacy default stream.
///
/// Raises ValueError if shapes or element types differ, if `dst` is read-only or a NumPy scalar,
/// and if elements of `dst` share memory; TypeError if an argument is not an array; and BufferError
/// if an argument cannot be shared: for example a PyTorch tensor that requires gradient, is sparse,
/// or was moved by PyTorch. The text names the argument. MemoryError, RuntimeError and exceptions
/// of a producer are passed on.
///
/// >>> target = torch.zeros(3, 2)
/// >>> dl.copyto(target, np.arange(6, dtype=np.float32).reshape(2, 3).T)
/// >>> target
/// tensor([[0., 3.],
///         [1., 4.],
///         [2., 5.]])
#[pyfunction]
#[pyo3(signature = (dst, src, /))]
pub(crate) fn copyto(dst: &Bound<'_, PyAny>, src: &Bound<'_, PyAny>) -> PyResult<()> {
    dlbridge_pyo3::copyto(dst, src)
}

/// Gives all memory that is cached for later copies back, and returns its size in bytes.
///
/// Memory of 2 MiB or more that dlbridge allocated for a copy is cached when its last user is gone,
/// and a later copy of about the same size takes it, which is several times as fast as new memory.
/// `set_cache_limit` says how much is kept, and for how long.
///
/// >>> tensor = dl.tensor(np.zeros((1024, 1024), np.float32))
/// >>> copy = tensor.clone()
/// >>> del copy
/// >>> dl.trim() >= 4 << 20, dl.cached_bytes()
/// (True, 0)
#[pyfunction]
pub(crate) fn trim() -> usize {
    dlbridge_pyo3::trim()
}

/// Returns the size in bytes of the memory that is cached for later copies.
///
/// The system may already have taken some of its pages.
///
/// >>> released = dl.trim()
/// >>> dl.cached_bytes()
/// 0
#[pyfunction]
pub(crate) fn cached_bytes() -> usize {
    dlbridge_pyo3::cached_bytes()
}

/// Sets the maximum size in bytes of the cached memory, and returns the one from before.
///
/// With `bytes` = 0 the cache is off. Memory above the new maximum is given back at once. The
/// maximum is one number for the process. It begins with the environment variable
/// `DLBRIDGE_CACHE_LIMIT`, a number of bytes; without it, the maximum is 512 MiB on Linux and 0 on
/// other systems.
///
/// On Linux, the system takes cached pages when it runs short of memory, except for the 32 MiB that
/// were freed last and less than 2 MiB of each block; until then, tools count them as resident.
/// Memory that no copy used for 10 seconds is given back the next time that dlbridge allocates or
/// frees 2 MiB or more for a copy. Memory from before a fork is not used again.
///
/// Raises OverflowError if `bytes` is negative or does not fit 64 bits, and TypeError if it is not
/// an integer.
///
/// >>> before = dl.set_cache_limit(64 << 20)
/// >>> dl.set_cache_limit(before)
/// 67108864
#[pyfunction]
#[pyo3(signature = (bytes, /))]
pub(crate) fn set_cache_limit(bytes: usize) -> usize {
    dlbridge_pyo3::set_cache_limit(bytes)
}
