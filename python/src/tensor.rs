//! `dlbridge.Tensor`.

use std::ffi::c_int;
use std::mem::ManuallyDrop;

use dlbridge::{Access, DType, Descriptor, Device, MemoryFormat, Tensor};
use pyo3::exceptions::{PyBufferError, PyIndexError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyComplex, PyDict, PyFloat, PyInt, PyTuple};

use crate::device::TargetDevice;
use crate::error::{buffer_error, tuple};
use crate::export::is_read_only;
use crate::owner::Pending;
use crate::{buffer, copies, cuda_array_interface, exchange, list, numpy, pickle, torch};

/// A strided buffer on one device, shared or owned.
///
/// Made by `from_dlpack`, `from_numpy` and `tensor`. The memory is released when the last object that holds it
/// is gone, whichever library's that is.
///
/// Tensors compare and hash by identity, and have no arithmetic, no indexing and no length: use `numpy()` or
/// `torch()` for that, which cost nothing. One of a single element converts to a number, as `item()` does.
/// `copy.copy` gives the same tensor, `copy.deepcopy` copies. Pickled with protocol 5, the elements go out of
/// band and are not copied.
///
/// `torch.asarray(t)` and `torch.frombuffer(t)` see bytes, without shape or type, as they do of every buffer: use
/// `t.torch()`, `torch.from_dlpack(t)` or `torch.as_tensor(t)`.
///
/// >>> import numpy as np, dlbridge as dl
/// >>> array = np.array([[1.0, 2.0], [3.0, 4.0]])
/// >>> tensor = dl.from_numpy(array)
/// >>> tensor
/// dlbridge.Tensor([[1.0, 2.0],
///                  [3.0, 4.0]], dtype=float64, device=cpu)
/// >>> array[0, 0] = 9.0
/// >>> tensor.tolist()
/// [[9.0, 2.0], [3.0, 4.0]]
#[pyclass(frozen, weakref, name = "Tensor", module = "dlbridge")]
pub(crate) struct PyTensor {
    /// Foreign from birth: whoever holds an object of Python's may hand its memory to anybody.
    tensor: ManuallyDrop<Tensor>,
}

impl Drop for PyTensor {
    fn drop(&mut self) {
        // SAFETY: an object of the interpreter's, which drops it attached; so does whoever made it.
        let py = unsafe { Python::assume_attached() };
        // This may run while an exception is on its way, which somebody's deleter could lose.
        let _pending = Pending::put_aside(py);
        // SAFETY: dropped once, here.
        unsafe { ManuallyDrop::drop(&mut self.tensor) };
    }
}

impl PyTensor {
    #[inline]
    pub(crate) fn new(tensor: Tensor) -> Self {
        let foreign = match tensor.access() {
            Access::Aliased { .. } => tensor,
            // Nobody else has a handle; if somebody had, the memory would stay read-only.
            _ => tensor.into_aliased().unwrap_or_else(|rejected| rejected.into_value()),
        };
        Self { tensor: ManuallyDrop::new(foreign) }
    }

    #[inline]
    pub(crate) fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    pub(crate) fn into_bound(self, py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        Bound::new(py, self)
    }

    /// The same memory as elements of another type of the same size.
    pub(crate) fn seen_as(&self, dtype: DType) -> PyResult<Self> {
        let this = self.tensor();
        let descriptor =
            Descriptor::new(this.data_ptr(), this.layout().clone(), dtype, this.device());
        let descriptor = descriptor.map_err(buffer_error)?;
        // SAFETY: the tensor's own memory, which it keeps.
        Ok(Self::new(unsafe {
            this.share_as_unchecked(descriptor, !is_read_only(this), this.share())
        }))
    }
}

/// Reads `memory_format=`: PyTorch's names for how a copy is laid out, or PyTorch's own objects.
fn memory_format(tensor: &Tensor, format: &Bound<'_, PyAny>) -> PyResult<MemoryFormat> {
    let name = format.str()?;
    let name = name.to_str()?.trim_start_matches("torch.");
    let (format, rank) = match name {
        "preserve_format" => (MemoryFormat::Preserve, None),
        "contiguous_format" => (MemoryFormat::Contiguous, None),
        "channels_last" => (MemoryFormat::ChannelsLast, Some(4)),
        "channels_last_3d" => (MemoryFormat::ChannelsLast3d, Some(5)),
        _ => {
            return Err(PyValueError::new_err(format!(
                "memory format '{name}' is not supported: expected 'preserve_format', 'contiguous_format', \
                 'channels_last' or 'channels_last_3d'"
            )));
        }
    };
    match rank {
        Some(rank) if rank != tensor.ndim() => Err(PyValueError::new_err(format!(
            "'{name}' is for {rank} dimensions, and the tensor has {}",
            tensor.ndim()
        ))),
        _ => Ok(format),
    }
}

#[pymethods]
impl PyTensor {
    /// Sizes of the dimensions.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.tensor().shape())
    }

    /// Steps between neighbours in each dimension, or in one, in elements; possibly negative or zero.
    #[pyo3(signature = (dim = None))]
    fn stride<'py>(&self, py: Python<'py>, dim: Option<isize>) -> PyResult<Bound<'py, PyAny>> {
        let strides = self.tensor().strides();
        let Some(dim) = dim else { return Ok(PyTuple::new(py, strides)?.into_any()) };
        let rank = isize::try_from(strides.len()).unwrap_or(isize::MAX);
        let at = usize::try_from(if dim < 0 { dim + rank } else { dim }).ok();
        let stride = at.and_then(|at| strides.get(at)).ok_or_else(|| {
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

    /// Bytes of all elements, gaps between them left out.
    #[getter]
    fn nbytes(&self) -> usize {
        self.tensor().nbytes()
    }

    /// Element type, by the name that NumPy and PyTorch use: 'float32' for example.
    ///
    /// A `str`, which equals neither library's object; `numpy.dtype(t.dtype)` and `getattr(torch, t.dtype)` make theirs.
    #[getter]
    fn dtype(&self) -> String {
        self.tensor().dtype().to_string()
    }

    /// Where the memory is: 'cpu' or 'cuda:0' for example. `torch.device(t.device)` makes PyTorch's object.
    #[getter]
    fn device(&self) -> String {
        self.tensor().device().to_string()
    }

    /// Whether the memory may not be written.
    #[getter]
    fn readonly(&self) -> bool {
        is_read_only(self.tensor())
    }

    /// Address of the first element; of no meaning when there are no elements.
    fn data_ptr(&self) -> usize {
        self.tensor().data_ptr().addr()
    }

    /// Whether the elements lie one after the other in row-major order.
    fn is_contiguous(&self) -> bool {
        self.tensor().is_contiguous()
    }

    /// The elements as a NumPy array that shares the memory, read-only if the memory is.
    ///
    /// Negative strides are fine. Types that NumPy has only with the package ml_dtypes (bfloat16 for example)
    /// need it. With `force`, memory of another device is copied to the host first.
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
    /// Raises BufferError for read-only memory, which PyTorch would write, ValueError for negative strides, which
    /// it does not support, and TypeError for types that it does not have. `clone().torch()` copies.
    fn torch<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        torch::to_torch(slf)
    }

    /// The elements as nested lists of Python's numbers; of a tensor without dimensions, the number.
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
    /// 'preserve_format' keeps the order of the strides and closes gaps, 'contiguous_format' is row-major,
    /// 'channels_last' and 'channels_last_3d' are for four and five dimensions. The memory is aligned to 256
    /// bytes, so that JAX can share it.
    ///
    /// Memory of a CUDA device is copied there. Raises ValueError for a format that does not fit, and BufferError for
    /// devices that can't be reached from here.
    #[pyo3(signature = (*, memory_format = None), text_signature = "($self, *, memory_format='preserve_format')")]
    fn clone(&self, py: Python<'_>, memory_format: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let format = match memory_format {
            Some(format) => self::memory_format(self.tensor(), format)?,
            None => MemoryFormat::Preserve,
        };
        copies::clone_as(py, self.tensor(), format).map(Self::new)
    }

    /// The tensor itself when its elements lie in row-major order; otherwise a copy that does.
    fn contiguous<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        if slf.get().tensor().is_contiguous() {
            return Ok(slf.clone());
        }
        Self::new(copies::clone_as(slf.py(), slf.get().tensor(), MemoryFormat::Contiguous)?)
            .into_bound(slf.py())
    }

    /// The tensor itself when it is on the host; otherwise a copy there, which is complete when this returns.
    ///
    /// Raises BufferError for devices that can't be reached from here, and RuntimeError where CUDA fails.
    fn cpu<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        Self::moved(slf, TargetDevice::HOST)
    }

    /// The tensor itself when it is on a CUDA device, the one that is named if one is; otherwise a copy on that device,
    /// or on the current one.
    ///
    /// The copy is ready on the device's legacy default stream, and made ready on the stream of whoever asks for it with
    /// `__dlpack__(stream=...)`. Raises BufferError where there is no CUDA, and RuntimeError where it fails.
    #[pyo3(signature = (device = None))]
    fn cuda<'py>(
        slf: &Bound<'py, Self>,
        device: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        Self::moved(slf, device.map_or(Ok(TargetDevice::cuda(None)), TargetDevice::parse_cuda)?)
    }

    /// The tensor itself when it is on that device; otherwise a copy there, as `cpu` and `cuda` make it.
    ///
    /// With `copy=True` a copy in any case. Raises ValueError for names but 'cpu', 'cuda' and 'cuda:N', and BufferError for
    /// other devices of DLPack's.
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
        Self::new(copies::clone(slf.py(), slf.get().tensor())?).into_bound(slf.py())
    }

    /// The tensor itself when it is in page-locked host memory; otherwise a copy there.
    ///
    /// CUDA devices read and write such memory by themselves, so that copies to and from it are faster. It is expensive to
    /// make: make little of it, and use it again, with `copyto` for example. Raises BufferError where there is no CUDA.
    fn pin_memory<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let this = slf.get().tensor();
        if this.is_pinned() {
            return Ok(slf.clone());
        }
        if !this.device().is_host() {
            return Self::cpu(slf)?
                .call_method0(intern!(slf.py(), "pin_memory"))?
                .cast_into()
                .map_err(PyErr::from);
        }
        let pinned = slf.py().detach(|| this.to_device(Device::CUDA_HOST)).map_err(buffer_error)?;
        // For other libraries it is ordinary host memory.
        let (at, layout) = (pinned.data_ptr(), pinned.layout().clone());
        let descriptor =
            Descriptor::new(at, layout, pinned.dtype(), Device::CPU).map_err(buffer_error)?;
        // SAFETY: new memory, which the tensor keeps. No Rust view is ever made here.
        Self::new(unsafe { Tensor::from_raw_parts(descriptor, true, pinned) }).into_bound(slf.py())
    }

    /// Whether the memory is page-locked host memory, whoever locked it.
    fn is_pinned(&self) -> bool {
        self.tensor().is_pinned()
    }

    /// The memory as Numba and others take it; an AttributeError for memory that is not on a CUDA device.
    ///
    /// It is ready on the legacy default stream. The object is to be kept as long as the memory is used.
    ///
    /// <https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html>
    #[getter]
    fn __cuda_array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        cuda_array_interface::of(py, self.tensor())
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
        exchange::capsule(py)
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

    fn __bytes__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        buffer::view(slf.as_any())?.call_method0(intern!(slf.py(), "tobytes"))
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

    /// How JAX takes it where it takes any array, in `jax.numpy.asarray` for example.
    fn __jax_array__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let jax = slf.py().import(intern!(slf.py(), "jax.numpy"))?;
        // JAX before 0.12 can't be told that memory is read-only.
        match jax.call_method1(intern!(slf.py(), "from_dlpack"), (slf,)) {
            Err(error)
                if error.is_instance_of::<PyBufferError>(slf.py())
                    && is_read_only(slf.get().tensor()) =>
            {
                jax.call_method1(intern!(slf.py(), "asarray"), (numpy::to_numpy(slf)?,))
            }
            shared => shared,
        }
    }

    /// What `numpy.asarray` and `numpy.array` call where the buffer protocol does not do.
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
        // SAFETY: the interpreter has room for a view there.
        unsafe { buffer::lend(&slf, view, flags) }
    }

    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: the interpreter gives back what it was lent, once.
        unsafe { buffer::take_back(view) }
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
        copies::clone(py, self.tensor()).map(Self::new)
    }

    fn __repr__(&self) -> String {
        const START: &str = "dlbridge.Tensor(";
        let this = self.tensor();
        let elements = list::text(this, START.len()).unwrap_or_else(|| "...".to_owned());
        let mut text = format!("{START}{elements}");
        if elements == "..." || this.is_empty() {
            text += &format!(", shape={}", tuple(this.shape()));
        }
        text += &format!(", dtype={}, device={}", this.dtype(), this.device());
        text + if is_read_only(this) { ", readonly)" } else { ")" }
    }
}

impl PyTensor {
    fn moved<'py>(slf: &Bound<'py, Self>, target: TargetDevice) -> PyResult<Bound<'py, Self>> {
        let this = slf.get().tensor();
        if target.holds(this.device()) {
            return Ok(slf.clone());
        }
        Self::new(target.receive(slf.py(), this.share())?).into_bound(slf.py())
    }
}
