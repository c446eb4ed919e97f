//! The methods of `dlbridge.Tensor`, but for `__dlpack__`.

use std::ffi::c_int;

use dlbridge::{Device, MemoryFormat};
use pyo3::exceptions::{PyBufferError, PyIndexError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyComplex, PyDict, PyFloat, PyInt, PyIterator, PyTuple};

use crate::class::PyTensor;
use crate::clone::{clone, clone_as};
use crate::error::tuple;
use crate::export::{
    array_interface, buffer, bytes, cuda_array_interface, exchange_table, list, numpy, text, torch,
};
use crate::memory_format::parse_memory_format;
use crate::target_device::TargetDevice;
use crate::torch_owner::check_owner_address;
use crate::{pickle, transfer};

#[pymethods]
impl PyTensor {
    /// Sizes of the dimensions.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.tensor().shape())
    }

    /// Strides of all dimensions, or of one, in elements; they may be negative or zero.
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
    #[getter]
    fn ndim(&self) -> usize {
        self.tensor().ndim()
    }

    /// Number of elements.
    fn numel(&self) -> usize {
        self.tensor().len()
    }

    /// Size of all elements in bytes, without the gaps between them.
    #[getter]
    fn nbytes(&self) -> usize {
        self.tensor().nbytes()
    }

    /// Element type, by the name that NumPy and PyTorch use: 'float32' for example.
    ///
    /// A `str`, which does not equal either library's object: `numpy.dtype(t.dtype)` and
    /// `getattr(torch, t.dtype)` are those.
    #[getter]
    fn dtype(&self) -> String {
        self.tensor().dtype().to_string()
    }

    /// Where the memory is: 'cpu' or 'cuda:0' for example.
    ///
    /// A `str`, which `torch.device` takes.
    #[getter]
    fn device(&self) -> String {
        self.tensor().device().to_string()
    }

    /// Whether the memory may not be written.
    #[getter]
    fn readonly(&self) -> bool {
        self.tensor().is_shared_read_only()
    }

    /// Address of the first element; it has no meaning if there are no elements.
    fn data_ptr(&self) -> usize {
        self.tensor().data_ptr().addr()
    }

    /// Whether the elements lie one after the other in row-major order.
    fn is_contiguous(&self) -> bool {
        self.tensor().is_contiguous()
    }

    /// The elements as a NumPy array that shares the memory, read-only if the memory is.
    ///
    /// Negative strides are fine. Types that NumPy has only with the package ml_dtypes (bfloat16
    /// for example) need it. With `force`, memory of another device is copied to the host first.
    ///
    /// Raises TypeError for memory of another device, and for types that NumPy does not have.
    #[pyo3(signature = (*, force = false))]
    fn numpy<'py>(slf: &Bound<'py, Self>, force: bool) -> PyResult<Bound<'py, PyAny>> {
        if force && !slf.get().tensor().device().is_host() {
            return numpy::to_numpy(&Self::cpu(slf)?);
        }
        numpy::to_numpy(slf)
    }

    /// The elements as a PyTorch tensor that shares the memory.
    ///
    /// Raises BufferError for read-only memory, which PyTorch would write, ValueError for negative
    /// strides, which it does not support, and TypeError for types that it does not have.
    /// `clone().torch()` copies.
    fn torch<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        torch::to_torch(slf)
    }

    /// The elements as nested lists of numbers; without dimensions, the number itself.
    ///
    /// Raises TypeError for memory of another device, and for types that Python does not have.
    fn tolist<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        list::to_list(py, self.tensor())
    }

    /// The only element, as a number.
    ///
    /// Raises ValueError when there are none or several, and TypeError as `tolist` does.
    fn item<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        list::item(py, self.tensor())
    }

    /// A copy in new memory that may be written, laid out as `torch.Tensor.clone` does it.
    ///
    /// 'preserve_format' keeps the order of the strides and closes gaps, 'contiguous_format' is
    /// row-major, 'channels_last' and 'channels_last_3d' are for four and five dimensions. The
    /// memory is aligned to 256 bytes, so that JAX can share it.
    ///
    /// Memory of a CUDA device is copied there. Raises ValueError for a format that does not fit,
    /// and BufferError for devices that can't be reached from here.
    #[pyo3(signature = (*, memory_format = None), text_signature = "($self, *, memory_format='preserve_format')")]
    fn clone(&self, py: Python<'_>, memory_format: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let format = match memory_format {
            Some(format) => parse_memory_format(self.tensor(), format)?,
            None => MemoryFormat::Preserve,
        };
        clone_as(py, self.tensor(), format).map(Self::new)
    }

    /// The tensor itself if its elements lie in row-major order; otherwise a copy that does.
    fn contiguous<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        if slf.get().tensor().is_contiguous() {
            return Ok(slf.clone());
        }
        Self::new(clone_as(slf.py(), slf.get().tensor(), MemoryFormat::Contiguous)?)
            .into_bound(slf.py())
    }

    /// The tensor itself when it is on the host; otherwise a copy there.
    ///
    /// The copy is complete when this returns.
    ///
    /// Raises BufferError for devices that can't be reached from here, and RuntimeError where CUDA
    /// fails.
    fn cpu<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        Self::moved(slf, TargetDevice::HOST)
    }

    /// The tensor itself when it is on that CUDA device; otherwise a copy there.
    ///
    /// Without `device`, it may be on any CUDA device, and a copy is on the current one. The copy
    /// is ready on the device's legacy default stream, and is made ready on the stream that a
    /// consumer passes to `__dlpack__(stream=...)`. Raises BufferError where there is no CUDA, and
    /// RuntimeError where CUDA fails.
    #[pyo3(signature = (device = None))]
    fn cuda<'py>(
        slf: &Bound<'py, Self>,
        device: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        Self::moved(slf, device.map_or(Ok(TargetDevice::cuda(None)), TargetDevice::parse_cuda)?)
    }

    /// The tensor itself when it is on that device; otherwise a copy there.
    ///
    /// The copy is as `cpu` and `cuda` make it. With `copy=True` it is always a copy. Raises
    /// ValueError for names other than 'cpu', 'cuda' and 'cuda:N', and BufferError for other
    /// devices of DLPack.
    #[pyo3(signature = (device, *, copy = false))]
    fn to<'py>(
        slf: &Bound<'py, Self>,
        device: &Bound<'py, PyAny>,
        copy: bool,
    ) -> PyResult<Bound<'py, Self>> {
        let moved = Self::moved(slf, TargetDevice::parse(device)?)?;
        if !copy || !moved.is(slf) {
            return Ok(moved);
        }
        Self::new(clone(slf.py(), slf.get().tensor())?).into_bound(slf.py())
    }

    /// The tensor itself when it is in page-locked host memory; otherwise a copy there.
    ///
    /// CUDA devices read and write such memory directly, so that copies to and from it are faster.
    /// It is expensive to allocate: allocate little of it and use it again, with `copyto` for
    /// example. Raises BufferError where there is no CUDA.
    fn pin_memory<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let this = slf.get().tensor();
        if this.is_pinned() {
            return Ok(slf.clone());
        }
        Self::new(transfer::to_pinned(slf.py(), this)?).into_bound(slf.py())
    }

    /// Whether the memory is page-locked host memory, whichever library locked it.
    fn is_pinned(&self) -> bool {
        self.tensor().is_pinned()
    }

    /// Describes CUDA memory for Numba and others; an AttributeError for memory elsewhere.
    ///
    /// The memory is ready on the legacy default stream. The consumer must keep the tensor as long
    /// as it uses the memory.
    ///
    /// <https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html>
    #[getter]
    fn __cuda_array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        cuda_array_interface::describe(py, self.tensor())
    }

    /// Describes host memory for NumPy and others, read-only if the memory is.
    ///
    /// An AttributeError for memory elsewhere, and for types that NumPy does not have. The consumer
    /// must keep the tensor as long as it uses the memory, as NumPy does.
    ///
    /// <https://numpy.org/doc/stable/reference/arrays.interface.html>
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        array_interface::describe(py, self.tensor())
    }

    /// Type and index of the device, as DLPack numbers them.
    fn __dlpack_device__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        static HOST: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
        let pair = |device: Device| (device.device_type, device.index).into_pyobject(py);
        if self.tensor().device() != Device::CPU {
            return pair(self.tensor().device());
        }
        HOST.get_or_try_init(py, || pair(Device::CPU).map(Bound::unbind))
            .map(|host| host.bind(py).clone())
    }

    /// How C code of other libraries takes a tensor without a capsule.
    #[classattr]
    fn __dlpack_c_exchange_api__(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        exchange_table::capsule(py)
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

    /// Iterates over what `tolist` gives.
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        if self.tensor().ndim() == 0 {
            return Err(PyTypeError::new_err(
                "a tensor of 0 dimensions has no elements in a row: use item()",
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

    /// What JAX calls where it takes any array, in `jax.numpy.asarray` for example.
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

    /// What `numpy.asarray` and `numpy.array` call if the buffer protocol is not enough.
    ///
    /// Shares the memory, unless `copy` is True or another `dtype` needs a copy. Raises ValueError
    /// where `copy` is False and a copy is needed.
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

    fn __copy__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    #[pyo3(signature = (memo, /))]
    fn __deepcopy__(&self, py: Python<'_>, memo: &Bound<'_, PyDict>) -> PyResult<Self> {
        let _unused = memo;
        clone(py, self.tensor()).map(Self::new)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        const START: &str = "dlbridge.Tensor(";
        let this = self.tensor();
        let elements = check_owner_address(py, this).ok();
        let elements = elements.and_then(|()| text::elements(this, START.len()));
        let elements = elements.unwrap_or_else(|| "...".to_owned());
        let mut repr = format!("{START}{elements}");
        if elements == "..." || this.is_empty() {
            repr += &format!(", shape={}", tuple(this.shape()));
        }
        repr += &format!(", dtype={}, device={}", this.dtype(), this.device());
        repr + if this.is_shared_read_only() { ", readonly)" } else { ")" }
    }
}

impl PyTensor {
    /// The tensor itself if it is on `target`; otherwise a copy there.
    fn moved<'py>(slf: &Bound<'py, Self>, target: TargetDevice) -> PyResult<Bound<'py, Self>> {
        let this = slf.get().tensor();
        if target.includes(this.device()) {
            return Ok(slf.clone());
        }
        Self::new(transfer::to_target(slf.py(), this.share(), target)?).into_bound(slf.py())
    }
}
