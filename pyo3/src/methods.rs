//! The methods of `dlbridge.Tensor` except `__dlpack__`, which is in `dlpack_method`.

use std::ffi::c_int;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyComplex, PyDict, PyFloat, PyInt, PyIterator, PyString, PyTuple, PyType};

use crate::clone::clone;
use crate::export::{
    array_interface, buffer, bytes, cuda_array_interface, exchange_table, jax, list, numpy, torch,
    torch_function,
};
use crate::target_device::TargetDevice;
use crate::tensor_object::TensorObject;
use crate::torch_owner::check_owner_address;
use crate::{dlpack_method, dtype_object, element_protocols, pickle};
use crate::{tensor_copies, tensor_queries, transfer};

#[pymethods]
impl TensorObject {
    /// Sizes of the dimensions.
    ///
    /// >>> dl.tensor(np.zeros((2, 3))).shape
    /// (2, 3)
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.tensor().shape())
    }

    /// Strides of all dimensions, or of dimension `dim`, in elements.
    ///
    /// A stride may be negative or zero. Raises IndexError if there is no dimension `dim`.
    ///
    /// >>> tensor = dl.from_numpy(np.zeros((2, 3))[::-1])
    /// >>> tensor.stride(), tensor.stride(0)
    /// ((-3, 1), -3)
    #[pyo3(signature = (dim = None))]
    fn stride<'py>(&self, py: Python<'py>, dim: Option<isize>) -> PyResult<Bound<'py, PyAny>> {
        tensor_queries::stride(py, self.tensor(), dim)
    }

    /// Number of dimensions.
    ///
    /// >>> dl.tensor(np.zeros((2, 3))).ndim
    /// 2
    #[getter]
    fn ndim(&self) -> usize {
        self.tensor().ndim()
    }

    /// Number of elements.
    ///
    /// >>> dl.tensor(np.zeros((2, 3))).numel()
    /// 6
    fn numel(&self) -> usize {
        self.tensor().len()
    }

    /// Size of all elements in bytes, without the gaps between them.
    ///
    /// >>> dl.from_numpy(np.zeros(10, np.float32)[::2]).nbytes
    /// 20
    #[getter]
    fn nbytes(&self) -> usize {
        self.tensor().nbytes()
    }

    /// The element type: a `str`, which also equals the types of NumPy, PyTorch and JAX.
    ///
    /// The text is the name as NumPy and PyTorch spell it. `numpy.dtype(t.dtype)` and
    /// `getattr(torch, t.dtype)` give the objects of these libraries. The hash is that of the text,
    /// so sets and dicts find a `str`, but not `torch.float32`.
    ///
    /// >>> tensor = dl.from_dlpack(torch.zeros(3))
    /// >>> tensor.dtype, np.dtype(tensor.dtype), getattr(torch, tensor.dtype)
    /// ('float32', dtype('float32'), torch.float32)
    /// >>> tensor.dtype == "float32", tensor.dtype == np.float32, tensor.dtype == torch.float32
    /// (True, True, True)
    #[getter]
    fn dtype(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        dtype_object::of(py, self.tensor().dtype())
    }

    /// Name of the device that the memory is on, for example 'cpu' or 'cuda:0'.
    ///
    /// It is a `str`, which `torch.device` takes.
    ///
    /// >>> tensor = dl.from_dlpack(torch.zeros(3))
    /// >>> tensor.device, torch.device(tensor.device)
    /// ('cpu', device(type='cpu'))
    #[getter]
    fn device(&self) -> String {
        self.tensor().device().to_string()
    }

    /// Whether the memory must not be written.
    ///
    /// >>> dl.from_dlpack(b"abc").readonly, dl.from_dlpack(bytearray(b"abc")).readonly
    /// (True, False)
    #[getter]
    fn readonly(&self) -> bool {
        self.tensor().is_shared_read_only()
    }

    /// Address of the first element; an arbitrary number if there are no elements.
    ///
    /// Raises BufferError if PyTorch moved the memory since it was shared.
    ///
    /// >>> array = np.arange(6.0)
    /// >>> dl.from_numpy(array[1:]).data_ptr() - array.ctypes.data
    /// 8
    fn data_ptr(&self, py: Python<'_>) -> PyResult<usize> {
        check_owner_address(py, self.tensor())?;
        Ok(self.tensor().data_ptr().addr())
    }

    /// Whether the elements lie one after the other in row-major order.
    ///
    /// >>> array = np.zeros((2, 3))
    /// >>> dl.from_numpy(array).is_contiguous(), dl.from_numpy(array.T).is_contiguous()
    /// (True, False)
    fn is_contiguous(&self) -> bool {
        self.tensor().is_contiguous()
    }

    /// Returns a NumPy array that shares the memory; the array is read-only if the memory is.
    ///
    /// NumPy has some types, for example bfloat16, only if the package ml_dtypes is installed. With
    /// `force=True`, memory of another device is copied to the host first.
    ///
    /// Raises TypeError for memory of another device, and for types that NumPy does not have.
    ///
    /// >>> source = torch.zeros(2)
    /// >>> dl.from_dlpack(source).numpy()[0] = 5.0
    /// >>> source
    /// tensor([5., 0.])
    #[pyo3(signature = (*, force = false))]
    fn numpy<'py>(slf: &Bound<'py, Self>, force: bool) -> PyResult<Bound<'py, PyAny>> {
        if force && !slf.get().tensor().device().is_host() {
            return numpy::to_numpy(&Self::cpu(slf)?);
        }
        numpy::to_numpy(slf)
    }

    /// Returns a PyTorch tensor that shares the memory.
    ///
    /// Raises BufferError for read-only memory, because PyTorch would allow writes to it;
    /// ValueError for negative strides, which PyTorch does not support; and TypeError for types
    /// that PyTorch does not have. `clone().torch()` copies.
    ///
    /// >>> array = np.zeros(2)
    /// >>> dl.from_numpy(array).torch()[0] = 5.0
    /// >>> array
    /// array([5., 0.])
    fn torch<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        torch::to_torch(slf)
    }

    /// Returns the elements as nested lists of numbers; without dimensions, one number.
    ///
    /// Raises TypeError for memory of another device, and for types that Python has no numbers for.
    ///
    /// >>> dl.tensor(np.arange(4).reshape(2, 2)).tolist()
    /// [[0, 1], [2, 3]]
    fn tolist<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        list::to_list(py, self.tensor())
    }

    /// Returns the only element as a number.
    ///
    /// Raises ValueError if the tensor does not have exactly one element, and TypeError as `tolist`
    /// does.
    ///
    /// >>> dl.tensor(np.array([[2.5]])).item()
    /// 2.5
    fn item<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        list::item(py, self.tensor())
    }

    /// Returns a copy of the bytes of all elements in row-major order, as `bytes(t)` does.
    ///
    /// Raises BufferError for memory of another device.
    ///
    /// >>> dl.tensor([104, 105], dtype="uint8").tobytes()
    /// b'hi'
    fn tobytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        bytes::to_bytes(py, self.tensor())
    }

    /// Raises AttributeError: in NumPy, `size` is the number of elements, in PyTorch a method.
    #[getter]
    fn size(&self) -> PyResult<usize> {
        Err(tensor_queries::no_size())
    }

    /// Returns a copy in new, writable memory, laid out as `torch.Tensor.clone` lays it out.
    ///
    /// 'preserve_format' keeps the order of the strides and closes gaps, 'contiguous_format' is
    /// row-major, 'channels_last' and 'channels_last_3d' are for four and five dimensions. The
    /// memory is aligned to 256 bytes, so that JAX can share it. Memory of a CUDA device is copied
    /// on that device.
    ///
    /// Raises ValueError if the format does not fit the number of dimensions, and BufferError for
    /// devices that dlbridge cannot copy from.
    ///
    /// >>> tensor = dl.from_numpy(np.zeros((2, 3)).T)
    /// >>> tensor.clone().stride(), tensor.clone(memory_format="contiguous_format").stride()
    /// ((1, 3), (2, 1))
    #[pyo3(signature = (*, memory_format = None), text_signature = "($self, *, memory_format='preserve_format')")]
    fn clone(&self, py: Python<'_>, memory_format: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        tensor_copies::cloned(py, self, memory_format)
    }

    /// Returns this tensor if its elements lie in this order, and a copy in this order otherwise.
    ///
    /// The formats are those of `clone`, except for 'preserve_format'; 'contiguous_format' is
    /// row-major.
    ///
    /// Raises ValueError if the format does not fit the number of dimensions.
    ///
    /// >>> tensor = dl.from_numpy(np.zeros((2, 3)))
    /// >>> tensor.contiguous() is tensor, dl.from_numpy(np.zeros((2, 3)).T).contiguous().stride()
    /// (True, (2, 1))
    #[pyo3(signature = (*, memory_format = None), text_signature = "($self, *, memory_format='contiguous_format')")]
    fn contiguous<'py>(
        slf: &Bound<'py, Self>,
        memory_format: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        tensor_copies::contiguous(slf, memory_format)
    }

    /// Returns this tensor if it is on the host, and a copy on the host otherwise.
    ///
    /// The copy is complete when this method returns.
    ///
    /// Raises BufferError for devices that dlbridge cannot copy from, and RuntimeError if CUDA
    /// reports a failure.
    ///
    /// >>> tensor = dl.tensor(np.zeros(3))
    /// >>> tensor.cpu() is tensor
    /// True
    fn cpu<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        transfer::moved(slf, TargetDevice::HOST)
    }

    /// Returns this tensor if it is on CUDA device `device`, and a copy there otherwise.
    ///
    /// If `device` is None, the tensor may be on any CUDA device, and a copy is made on the current
    /// one. The copy is ready on the device's legacy default stream; the export to a consumer that
    /// passes another stream to `__dlpack__(stream=...)` makes that stream wait for it.
    ///
    /// Raises BufferError if the CUDA driver or the device is missing, and RuntimeError if CUDA
    /// reports a failure.
    ///
    /// >>> moved = dl.tensor(np.arange(3)).cuda()
    /// >>> moved.device, moved.cpu().tolist()
    /// ('cuda:0', [0, 1, 2])
    #[pyo3(signature = (device = None))]
    fn cuda<'py>(
        slf: &Bound<'py, Self>,
        device: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        transfer::moved(slf, device.map_or(Ok(TargetDevice::cuda(None)), TargetDevice::parse_cuda)?)
    }

    /// Returns this tensor if it is on `device`, and a copy there otherwise.
    ///
    /// `cpu` and `cuda` describe the copy. With `copy=True`, the result is always a copy. The
    /// element type does not change: `t.torch().to(torch.float16)` and
    /// `t.numpy().astype("float16")` cast.
    ///
    /// Raises ValueError for names other than 'cpu', 'cuda' and 'cuda:N', TypeError for element
    /// types, and BufferError for other devices of DLPack.
    ///
    /// >>> tensor = dl.tensor(np.zeros(3))
    /// >>> tensor.to("cpu") is tensor, tensor.to("cpu", copy=True) is tensor
    /// (True, False)
    #[pyo3(signature = (device, *, copy = false))]
    fn to<'py>(
        slf: &Bound<'py, Self>,
        device: &Bound<'py, PyAny>,
        copy: bool,
    ) -> PyResult<Bound<'py, Self>> {
        tensor_copies::to_device(slf, device, copy)
    }

    /// Returns this tensor if it is in page-locked host memory, and a copy there otherwise.
    ///
    /// CUDA devices access such memory directly, so that copies between it and a device are faster.
    /// Its allocation is expensive: allocate it once and fill it again, for example with `copyto`.
    ///
    /// Raises BufferError if the CUDA driver or a device is missing.
    ///
    /// >>> pinned = dl.tensor(np.arange(3)).pin_memory()
    /// >>> pinned.device, pinned.is_pinned(), pinned.tolist()
    /// ('cpu', True, [0, 1, 2])
    fn pin_memory<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        tensor_copies::pinned(slf)
    }

    /// Whether the memory is page-locked host memory, whichever library locked it.
    ///
    /// >>> dl.tensor(np.zeros(3)).is_pinned()
    /// False
    fn is_pinned(&self) -> bool {
        self.tensor().is_pinned()
    }

    /// Description of CUDA memory for Numba and others; AttributeError for memory elsewhere.
    ///
    /// The memory is ready on the legacy default stream. The consumer must keep the tensor as long
    /// as it uses the memory.
    ///
    /// <https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html>
    ///
    /// >>> moved = dl.tensor(np.zeros((2, 3))).cuda()
    /// >>> moved.__cuda_array_interface__["shape"]
    /// (2, 3)
    /// >>> hasattr(moved.cpu(), "__cuda_array_interface__")
    /// False
    #[getter]
    fn __cuda_array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        cuda_array_interface::describe(py, self.tensor())
    }

    /// Description of host memory for NumPy and others, read-only if the memory is.
    ///
    /// The attribute raises AttributeError for memory elsewhere, and for types that NumPy does not
    /// have. The consumer must keep the tensor as long as it uses the memory, as NumPy does.
    ///
    /// <https://numpy.org/doc/stable/reference/arrays.interface.html>
    ///
    /// >>> dl.from_dlpack(b"abc").__array_interface__["typestr"]
    /// '|u1'
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        array_interface::describe(py, self.tensor())
    }

    /// Returns type and index of the device, in DLPack's numbers.
    ///
    /// >>> dl.tensor(np.zeros(3)).__dlpack_device__()
    /// (1, 0)
    fn __dlpack_device__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        tensor_queries::dlpack_device(py, self.tensor())
    }

    #[classattr]
    fn __dlpack__(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        dlpack_method::descriptor::<Self>(&py.get_type::<Self>())
    }

    /// The table of functions through which C code of other libraries exchanges tensors without a
    /// capsule.
    #[classattr]
    fn __dlpack_c_exchange_api__(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        exchange_table::capsule::<Self>(py)
    }

    fn __bool__(&self, py: Python<'_>) -> PyResult<bool> {
        element_protocols::truth(py, self.tensor())
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        bytes::to_bytes(py, self.tensor())
    }

    fn __len__(&self) -> PyResult<usize> {
        element_protocols::length(self.tensor())
    }

    fn __getitem__(&self, _index: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(tensor_queries::no_indexing())
    }

    /// Iterates over the items of `tolist()`.
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        element_protocols::iterate(py, self.tensor())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(&visit)
    }

    fn __int__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        element_protocols::as_number(self.tensor(), &py.get_type::<PyInt>())
    }

    fn __float__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        element_protocols::as_number(self.tensor(), &py.get_type::<PyFloat>())
    }

    fn __complex__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        element_protocols::as_number(self.tensor(), &py.get_type::<PyComplex>())
    }

    fn __index__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        element_protocols::index(py, self.tensor())
    }

    /// Formats the only element; without a format, gives what `str` gives.
    #[pyo3(signature = (format_spec, /))]
    fn __format__<'py>(
        &self,
        py: Python<'py>,
        format_spec: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if format_spec.is_empty()? {
            return Ok(self.__repr__(py)?.into_pyobject(py)?.into_any());
        }
        element_protocols::format(self.tensor(), format_spec)
    }

    /// Called by functions of PyTorch that get a Tensor: they share its memory, as `torch()` does.
    ///
    /// >>> torch.stack([dl.tensor([1, 2]), dl.tensor([3, 4])])
    /// tensor([[1, 2],
    ///         [3, 4]])
    #[classmethod]
    #[pyo3(signature = (func, _types, args, kwargs = None, /))]
    fn __torch_function__<'py>(
        _class: &Bound<'py, PyType>,
        func: &Bound<'py, PyAny>,
        _types: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        torch_function::call(func, args, kwargs)
    }

    /// Called by JAX functions that take any array, for example `jax.numpy.asarray`.
    ///
    /// >>> import jax.numpy as jnp
    /// >>> jnp.asarray(dl.tensor(np.arange(3, dtype=np.float32)))
    /// Array([0., 1., 2.], dtype=float32)
    fn __jax_array__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        jax::to_jax(slf)
    }

    /// Called by `numpy.asarray` and `numpy.array` if the buffer protocol is not enough.
    ///
    /// The array shares the memory, unless `copy` is True or another `dtype` needs a copy. Raises
    /// ValueError if `copy` is False and a copy is needed.
    ///
    /// >>> np.asarray(dl.from_dlpack(torch.ones(2)), dtype=np.float64)
    /// array([1., 1.])
    #[pyo3(signature = (dtype = None, copy = None))]
    fn __array__<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        numpy::array(slf, dtype, copy)
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        // SAFETY: `view` must be NULL or point to a view: the interpreter passes one.
        unsafe { buffer::fill_view(&slf, view, flags) }
    }

    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: the view must come from `fill_view` and be released once: the interpreter
        // releases each view that `__getbuffer__` filled in once.
        unsafe { buffer::release_view(view) }
    }

    fn __reduce_ex__<'py>(slf: &Bound<'py, Self>, protocol: i32) -> PyResult<Bound<'py, PyTuple>> {
        pickle::reduce(slf, protocol)
    }

    #[classmethod]
    fn _rebuild(
        _class: &Bound<'_, PyType>,
        bytes: &Bound<'_, PyAny>,
        description: pickle::Description,
    ) -> PyResult<Self> {
        pickle::rebuild(bytes, description)
    }

    fn __copy__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    #[pyo3(signature = (_memo, /))]
    fn __deepcopy__(&self, py: Python<'_>, _memo: &Bound<'_, PyDict>) -> PyResult<Self> {
        clone(py, self.tensor()).map(Self::new)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let class = py.get_type::<Self>().fully_qualified_name()?;
        Ok(element_protocols::repr(py, self.tensor(), &class.to_string()))
    }
}
