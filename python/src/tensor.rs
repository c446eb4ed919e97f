//! `dlbridge.Tensor`.

use std::ffi::c_int;
use std::mem::ManuallyDrop;

use dlbridge::{Access, DType, Descriptor, Device, MemoryFormat, Tensor};
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use crate::device::Place;
use crate::error::buffer_error;
use crate::exchange::is_read_only;
use crate::owner::Pending;
use crate::{buffer, copies, exchange, list, numpy, pickle, torch};

/// A strided buffer on one device, shared or owned.
///
/// Made by `from_dlpack`, `from_numpy` and `tensor`. It is handed on to NumPy, PyTorch, JAX and all others
/// through `__dlpack__`, the buffer protocol, `numpy()` and `torch()`, and nothing is copied unless a name
/// says so. The memory is released when the last object that holds it is gone.
#[pyclass(frozen, name = "Tensor", module = "dlbridge")]
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
            Access::Foreign { .. } => tensor,
            // Nobody else has a handle; if somebody had, the memory would stay read-only.
            _ => tensor.into_foreign().unwrap_or_else(|rejected| rejected.source),
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
        let descriptor = Descriptor::new(this.data_ptr(), this.layout().clone(), dtype, this.device());
        let descriptor = descriptor.map_err(buffer_error)?;
        // SAFETY: the tensor's own memory, which it keeps.
        Ok(Self::new(unsafe { Tensor::from_raw_parts(descriptor, !is_read_only(this), this.share()) }))
    }
}

/// Reads `memory_format=`: PyTorch's names for how a copy is laid out.
fn memory_format(name: &str) -> PyResult<MemoryFormat> {
    Ok(match name {
        "preserve_format" => MemoryFormat::Preserve,
        "contiguous_format" => MemoryFormat::Contiguous,
        "channels_last" => MemoryFormat::ChannelsLast,
        "channels_last_3d" => MemoryFormat::ChannelsLast3d,
        _ => {
            return Err(PyValueError::new_err(format!(
                "'{name}' is none of 'preserve_format', 'contiguous_format', 'channels_last', 'channels_last_3d'"
            )));
        }
    })
}

#[pymethods]
impl PyTensor {
    /// Sizes of the dimensions.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.tensor().shape())
    }

    /// Steps between neighbours in each dimension, in elements; possibly negative or zero.
    fn stride<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.tensor().strides())
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

    /// Element type by the name that NumPy and PyTorch use, e.g. 'float32'.
    #[getter]
    fn dtype(&self) -> String {
        self.tensor().dtype().to_string()
    }

    /// Where the memory is, e.g. 'cpu' or 'cuda:0'.
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
    /// Refuses memory of another device, and types that NumPy has not. (Those of ml_dtypes it has when that
    /// package is installed.) With `force`, memory of another device is copied to the host first.
    #[pyo3(signature = (*, force = false))]
    fn numpy<'py>(slf: &Bound<'py, Self>, force: bool) -> PyResult<Bound<'py, PyAny>> {
        if force && !slf.get().tensor().device().is_host() {
            return numpy::to_numpy(&Self::cpu(slf)?);
        }
        numpy::to_numpy(slf)
    }

    /// The elements as a PyTorch tensor that shares the memory.
    ///
    /// Refuses read-only memory, which PyTorch would write (`clone()` it first), and what PyTorch does not
    /// survive: negative strides.
    fn torch<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        torch::to_torch(slf)
    }

    /// The elements as nested lists of numbers; of a tensor without dimensions, the number.
    fn tolist<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        list::to_list(py, self.tensor())
    }

    /// The only element, as a number.
    fn item<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        list::item(py, self.tensor())
    }

    /// A copy in new memory that may be written, laid out as `torch.Tensor.clone` does: 'preserve_format'
    /// keeps the order of the strides and closes gaps; 'contiguous_format' is row-major.
    #[pyo3(signature = (*, memory_format = "preserve_format"))]
    fn clone(&self, py: Python<'_>, memory_format: &str) -> PyResult<Self> {
        let format = self::memory_format(memory_format)?;
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

    /// The tensor itself when it is on the host; otherwise a copy there.
    fn cpu<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        Self::moved(slf, Place::HOST)
    }

    /// The tensor itself when it is on a CUDA device, the one of this index if one is given; otherwise a
    /// copy there.
    #[pyo3(signature = (index = None))]
    fn cuda<'py>(slf: &Bound<'py, Self>, index: Option<i32>) -> PyResult<Bound<'py, Self>> {
        Self::moved(slf, Place::cuda(index))
    }

    /// The tensor itself when it is on a device, 'cpu' or 'cuda:0' for example; otherwise a copy there. With
    /// `copy=True` a copy in any case.
    #[pyo3(signature = (device, *, copy = false))]
    fn to<'py>(slf: &Bound<'py, Self>, device: &Bound<'py, PyAny>, copy: bool) -> PyResult<Bound<'py, Self>> {
        let moved = Self::moved(slf, Place::parse(device)?)?;
        if !copy || !moved.is(slf) {
            return Ok(moved);
        }
        Self::new(copies::clone(slf.py(), slf.get().tensor())?).into_bound(slf.py())
    }

    /// Type and index of the device, as DLPack numbers them.
    fn __dlpack_device__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        static HOST: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
        let pair = |device: Device| (device.kind, device.index).into_pyobject(py);
        if self.tensor().device() != Device::CPU {
            return pair(self.tensor().device());
        }
        HOST.get_or_try_init(py, || pair(Device::CPU).map(Bound::unbind)).map(|host| host.bind(py).clone())
    }

    /// How C code of other libraries takes a tensor without a capsule.
    #[classattr]
    fn __dlpack_c_exchange_api__(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        exchange::capsule(py)
    }

    #[pyo3(signature = (dtype = None, copy = None))]
    fn __array__<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        numpy::array(slf, dtype, copy)
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
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

    fn __deepcopy__(&self, py: Python<'_>, _memo: &Bound<'_, PyDict>) -> PyResult<Self> {
        copies::clone(py, self.tensor()).map(Self::new)
    }

    fn __repr__(&self) -> String {
        const START: &str = "dlbridge.Tensor(";
        let elements = list::text(self.tensor(), START.len()).unwrap_or_else(|| "...".to_owned());
        let shape = if elements == "..." || self.tensor().is_empty() {
            format!(", shape={:?}", self.tensor().shape())
        } else {
            String::new()
        };
        let (dtype, device) = (self.tensor().dtype(), self.tensor().device());
        format!("{START}{elements}{shape}, dtype={dtype}, device={device})")
    }
}

impl PyTensor {
    fn moved<'py>(slf: &Bound<'py, Self>, place: Place) -> PyResult<Bound<'py, Self>> {
        let this = slf.get().tensor();
        if place.holds(this.device()) {
            return Ok(slf.clone());
        }
        Self::new(place.receive(slf.py(), this.share())?).into_bound(slf.py())
    }
}
