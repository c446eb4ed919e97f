//! The methods of `dlbridge.Tensor` except `__dlpack__`, which is in `dlpack_method`.

use std::ffi::c_int;

use dlbridge::{Device, MemoryFormat};
use pyo3::exceptions::{PyBufferError, PyIndexError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyComplex, PyDict, PyFloat, PyInt, PyIterator, PyTuple, PyType};

use crate::clone::{clone, clone_as};
use crate::error::tuple;
use crate::export::{
    array_interface, buffer, bytes, cuda_array_interface, exchange_table, list, numpy, text, torch,
};
use crate::memory_format::parse_memory_format;
use crate::target_device::TargetDevice;
use crate::tensor_object::TensorObject;
use crate::torch_owner::check_owner_address;
use crate::{dlpack_method, dtype_object, pickle, transfer};

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
        let strides = self.tensor().strides();
        let Some(dim) = dim else { return Ok(PyTuple::new(py, strides)?.into_any()) };
        let rank = isize::try_from(strides.len()).unwrap_or(isize::MAX);
        let index = usize::try_from(if dim < 0 { dim + rank } else { dim }).ok();
        let stride = index.and_then(|index| strides.get(index)).ok_or_else(|| {
            PyIndexError::new_err(format!("dimension {dim} is out of range: the tensor has {rank}"))
        })?;
        Ok(stride.into_pyobject(py)?.into_any())
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
        let format = match memory_format {
            Some(format) => parse_memory_format(self.tensor(), format)?,
            None => MemoryFormat::Preserve,
        };
        clone_as(py, self.tensor(), format).map(Self::new)
    }

    /// Returns this tensor if it is row-major, and a row-major copy otherwise.
    ///
    /// >>> tensor = dl.from_numpy(np.zeros((2, 3)))
    /// >>> tensor.contiguous() is tensor, dl.from_numpy(np.zeros((2, 3)).T).contiguous().stride()
    /// (True, (2, 1))
    fn contiguous<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        if slf.get().tensor().is_contiguous() {
            return Ok(slf.clone());
        }
        Self::new(clone_as(slf.py(), slf.get().tensor(), MemoryFormat::Contiguous)?)
            .into_bound(slf.py())
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
        let moved = transfer::moved(slf, TargetDevice::parse(device, "to()")?)?;
        if !copy || !moved.is(slf) {
            return Ok(moved);
        }
        Self::new(clone(slf.py(), slf.get().tensor())?).into_bound(slf.py())
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
        let this = slf.get().tensor();
        if this.is_pinned() {
            return Ok(slf.clone());
        }
        Self::new(transfer::to_pinned(slf.py(), this)?).into_bound(slf.py())
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
        static HOST: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
        let pair = |device: Device| (device.device_type, device.index).into_pyobject(py);
        if self.tensor().device() != Device::CPU {
            return pair(self.tensor().device());
        }
        HOST.get_or_try_init(py, || pair(Device::CPU).map(Bound::unbind))
            .map(|host| host.bind(py).clone())
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
        if self.tensor().len() != 1 {
            return Err(PyValueError::new_err(format!(
                "the truth value of a tensor of {} elements is ambiguous: use numpy()",
                self.tensor().len()
            )));
        }
        list::item(py, self.tensor())?.is_truthy()
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        bytes::to_bytes(py, self.tensor())
    }

    fn __len__(&self) -> PyResult<usize> {
        let size = self.tensor().shape().first().and_then(|&size| usize::try_from(size).ok());
        size.ok_or_else(|| {
            PyTypeError::new_err("a tensor of 0 dimensions has no length: use item()")
        })
    }

    /// Iterates over the items of `tolist()`.
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        if self.tensor().ndim() == 0 {
            return Err(PyTypeError::new_err(
                "can't iterate over a tensor of 0 dimensions: use item()",
            ));
        }
        list::to_list(py, self.tensor())?.try_iter()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(&visit)
    }

    fn __int__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.get_type::<PyInt>().call1((list::item(py, self.tensor())?,))
    }

    fn __float__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.get_type::<PyFloat>().call1((list::item(py, self.tensor())?,))
    }

    fn __complex__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.get_type::<PyComplex>().call1((list::item(py, self.tensor())?,))
    }

    fn __index__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match list::item(py, self.tensor()) {
            Ok(number) if number.is_exact_instance_of::<PyInt>() && self.tensor().ndim() == 0 => {
                Ok(number)
            }
            _ => Err(PyTypeError::new_err(
                "only an integer tensor without dimensions can be an index",
            )),
        }
    }

    /// Called by JAX functions that take any array, for example `jax.numpy.asarray`.
    ///
    /// >>> import jax.numpy as jnp
    /// >>> jnp.asarray(dl.tensor(np.arange(3, dtype=np.float32)))
    /// Array([0., 1., 2.], dtype=float32)
    fn __jax_array__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let jax = slf.py().import(intern!(slf.py(), "jax.numpy"))?;
        // JAX before 0.12 can't be told that memory is read-only.
        match jax.call_method1(intern!(slf.py(), "from_dlpack"), (slf,)) {
            Err(error)
                if error.is_instance_of::<PyBufferError>(slf.py())
                    && slf.get().tensor().is_shared_read_only() =>
            {
                jax.call_method1(intern!(slf.py(), "asarray"), (numpy::to_numpy(slf)?,))
            }
            shared => shared,
        }
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

    #[pyo3(signature = (memo, /))]
    fn __deepcopy__(&self, py: Python<'_>, memo: &Bound<'_, PyDict>) -> PyResult<Self> {
        let _unused = memo;
        clone(py, self.tensor()).map(Self::new)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let start = format!("{}(", py.get_type::<Self>().fully_qualified_name()?);
        let this = self.tensor();
        let elements = check_owner_address(py, this).ok();
        let elements = elements.and_then(|()| text::elements(this, start.len()));
        let elements = elements.unwrap_or_else(|| "...".to_owned());
        let mut repr = format!("{start}{elements}");
        if elements == "..." || this.is_empty() {
            repr += &format!(", shape={}", tuple(this.shape()));
        }
        repr += &format!(", dtype={}, device={}", this.dtype(), this.device());
        Ok(repr + if this.is_shared_read_only() { ", readonly)" } else { ")" })
    }
}
