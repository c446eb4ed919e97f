//! Strict reading of one argument, with its name in every message.

#![forbid(unsafe_code)]

use dlbridge::{DType, Device, Tensor};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;

use crate::copyto_errors::named;
use crate::dtype;
use crate::error::{dimensions, tuple};
use crate::import;
use crate::py_tensor::PyTensor;

/// What a function expects of one array argument.
///
/// [`get`](Self::get) shares the memory of an object that is as expected. Its exceptions name the
/// argument:
///
/// | expectation | exception | text |
/// |---|---|---|
/// | an array | TypeError | `images: expected an array of any library, got 'list': numpy.array() makes one` |
/// | memory that can be shared | as [`from_dlpack`](crate::from_dlpack) | `images: ` and the text of `from_dlpack` |
/// | [`dtype`](Self::dtype) | TypeError | `images: expected uint8, got float32: use x.astype('uint8') or x.to(torch.uint8)` |
/// | several types | TypeError | `images: expected float32 or float64, got int64: use x.astype('float32') or x.to(torch.float32)` |
/// | [`ndim`](Self::ndim) | ValueError | `images: expected 4 dimensions, got 2 (shape (2, 3))` |
/// | [`shape`](Self::shape) | ValueError | `images: expected shape (*, 3), got (2, 4)` |
/// | [`on_host`](Self::on_host) | ValueError | `images: expected host memory, got memory on cuda:0` |
/// | [`on`](Self::on) | ValueError | `images: expected memory on cuda:0, got memory on cpu` |
/// | [`contiguous`](Self::contiguous) | ValueError | `images: expected row-major elements without gaps, got strides (1, 3) for shape (3, 2): …` |
/// | [`writable`](Self::writable) | ValueError | `images: expected writable memory, got read-only memory: pass a writable copy` |
///
/// The expectations are checked in this order. What is not expected is not checked: without
/// [`on_host`](Self::on_host), for example, memory of every device is accepted. An exception of the
/// producer's own is passed on, with the note `while processing 'images'`.
///
/// ```
/// use dlbridge::DType;
/// use dlbridge_pyo3::Argument;
/// use pyo3::prelude::*;
///
/// #[pyfunction]
/// fn brightest(py: Python<'_>, images: &Bound<'_, PyAny>) -> PyResult<Option<u8>> {
///     let images = Argument::named("images")
///         .dtype(DType::U8)
///         .ndim(4)
///         .contiguous()
///         .on_host()
///         .get(images)?;
///     Ok(images.to_vec(py)?.into_iter().max())
/// }
/// # fn main() -> PyResult<()> {
/// # Python::attach(|py| {
/// # let brightest = wrap_pyfunction!(brightest, py)?;
/// # let numpy = py.import("numpy")?;
/// # let error = brightest.call1((numpy.call_method1("ones", (3,))?,)).unwrap_err();
/// # let text = "TypeError: images: expected uint8, got float64: use x.astype('uint8') or \
/// #             x.to(torch.uint8)";
/// # assert_eq!(error.to_string(), text);
/// # let images = numpy.call_method1("ones", ((1, 2, 2, 3), "uint8"))?;
/// # assert_eq!(brightest.call1((images,))?.extract::<u8>()?, 1);
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Argument<'a> {
    name: &'a str,
    dtypes: Vec<DType>,
    ndim: Option<usize>,
    shape: Option<&'a [i64]>,
    contiguous: bool,
    writable: bool,
    device: Option<Device>,
}

impl<'a> Argument<'a> {
    /// An argument of this name, which may be any array.
    ///
    /// ```
    /// use dlbridge_pyo3::{Argument, PyTensor};
    /// # use pyo3::prelude::*;
    /// # fn main() -> PyResult<()> {
    /// # Python::attach(|py| {
    /// # let x = PyTensor::from_vec(vec![0_u8; 6], [2, 3])?.into_pyobject(py)?;
    /// let x = Argument::named("x").get(&x)?; // any array
    /// assert_eq!(x.shape(), [2, 3]);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn named(name: &'a str) -> Self {
        Self {
            name,
            dtypes: Vec::new(),
            ndim: None,
            shape: None,
            contiguous: false,
            writable: false,
            device: None,
        }
    }

    /// Accepts elements of this type. Called several times, it accepts each of the types.
    ///
    /// ```
    /// use dlbridge_pyo3::{Argument, PyTensor};
    /// # use pyo3::prelude::*;
    /// # fn main() -> PyResult<()> {
    /// # Python::attach(|py| {
    /// # let x = PyTensor::from_vec(vec![0_u8; 6], [2, 3])?.into_pyobject(py)?;
    /// let floats = Argument::named("x").dtype(dlbridge::DType::F32).dtype(dlbridge::DType::F64);
    /// let error = floats.get(&x).map(drop).unwrap_err();
    /// let text = "TypeError: x: expected float32 or float64, got uint8: ";
    /// assert!(error.to_string().starts_with(text));
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtypes.push(dtype);
        self
    }

    /// Accepts only arrays of this number of dimensions.
    ///
    /// ```
    /// use dlbridge_pyo3::{Argument, PyTensor};
    /// # use pyo3::prelude::*;
    /// # fn main() -> PyResult<()> {
    /// # Python::attach(|py| {
    /// # let x = PyTensor::from_vec(vec![0_u8; 6], [2, 3])?.into_pyobject(py)?;
    /// assert!(Argument::named("x").ndim(2).get(&x).is_ok());
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[must_use]
    pub fn ndim(mut self, ndim: usize) -> Self {
        self.ndim = Some(ndim);
        self
    }

    /// Accepts only arrays of this shape; -1 stands for any size.
    ///
    /// ```
    /// use dlbridge_pyo3::{Argument, PyTensor};
    /// # use pyo3::prelude::*;
    /// # fn main() -> PyResult<()> {
    /// # Python::attach(|py| {
    /// # let x = PyTensor::from_vec(vec![0_u8; 6], [2, 3])?.into_pyobject(py)?;
    /// assert!(Argument::named("x").shape(&[-1, 3]).get(&x).is_ok());
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[must_use]
    pub fn shape(mut self, shape: &'a [i64]) -> Self {
        self.shape = Some(shape);
        self
    }

    /// Accepts only arrays whose elements lie one after the other in row-major order.
    ///
    /// ```
    /// use dlbridge_pyo3::{Argument, PyTensor};
    /// # use pyo3::prelude::*;
    /// # fn main() -> PyResult<()> {
    /// # Python::attach(|py| {
    /// # let x = PyTensor::from_vec(vec![0_u8; 6], [2, 3])?.into_pyobject(py)?;
    /// let transposed = py.import("numpy")?.call_method1("transpose", (x,))?;
    /// assert!(Argument::named("x").contiguous().get(&transposed).is_err());
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[must_use]
    pub fn contiguous(mut self) -> Self {
        self.contiguous = true;
        self
    }

    /// Accepts only arrays whose memory may be written.
    ///
    /// The memory of an array that its `__dlpack__` would copy is not accepted: writes to the copy
    /// would be lost.
    ///
    /// ```
    /// use dlbridge_pyo3::{Argument, PyTensor};
    /// # use pyo3::prelude::*;
    /// # fn main() -> PyResult<()> {
    /// # Python::attach(|py| {
    /// # let x = PyTensor::from_vec(vec![0_u8; 6], [2, 3])?.into_pyobject(py)?;
    /// let bytes = pyo3::types::PyBytes::new(py, b"constant");
    /// assert!(Argument::named("x").writable().get(&bytes).is_err());
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[must_use]
    pub fn writable(mut self) -> Self {
        self.writable = true;
        self
    }

    /// Accepts only memory that the host can read.
    ///
    /// ```
    /// use dlbridge_pyo3::{Argument, PyTensor};
    /// # use pyo3::prelude::*;
    /// # fn main() -> PyResult<()> {
    /// # Python::attach(|py| {
    /// # let x = PyTensor::from_vec(vec![0_u8; 6], [2, 3])?.into_pyobject(py)?;
    /// assert!(Argument::named("x").on_host().get(&x).is_ok());
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[must_use]
    pub fn on_host(self) -> Self {
        self.on(Device::CPU)
    }

    /// Accepts only memory of this device.
    ///
    /// ```
    /// use dlbridge_pyo3::{Argument, PyTensor};
    /// # use pyo3::prelude::*;
    /// # fn main() -> PyResult<()> {
    /// # Python::attach(|py| {
    /// # let x = PyTensor::from_vec(vec![0_u8; 6], [2, 3])?.into_pyobject(py)?;
    /// let on_device = Argument::named("x").on(dlbridge::Device::cuda(0));
    /// let text = on_device.get(&x).map(drop).unwrap_err().to_string();
    /// assert_eq!(text, "ValueError: x: expected memory on cuda:0, got memory on cpu");
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[must_use]
    pub fn on(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// Shares the memory of `object`, if it is as expected.
    ///
    /// Nothing is copied. The type documents what is raised.
    ///
    /// ```
    /// use dlbridge_pyo3::{Argument, PyTensor};
    /// # use pyo3::prelude::*;
    /// # fn main() -> PyResult<()> {
    /// # Python::attach(|py| {
    /// # let x = PyTensor::from_vec(vec![0_u8; 6], [2, 3])?.into_pyobject(py)?;
    /// let x = Argument::named("x").ndim(2).on_host().get(&x)?;
    /// assert_eq!(x.to_vec::<u8>(py)?, [0; 6]);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn get(&self, object: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
        let shared = if self.writable {
            import::share_argument_to_write(object)
        } else {
            import::share_argument(object)
        };
        let tensor = shared.map_err(|error| self.named_error(object.py(), error))?;
        match self.mismatch(&tensor) {
            None => Ok(PyTensor::from_python(tensor)),
            Some(mismatch) => Err(self.error(mismatch)),
        }
    }

    /// The first of the expectations that `tensor` does not meet.
    fn mismatch(&self, tensor: &Tensor) -> Option<Mismatch> {
        let wrong_shape = |shape: &[i64]| {
            shape.len() != tensor.ndim()
                || shape
                    .iter()
                    .zip(tensor.shape())
                    .any(|(&size, found)| size >= 0 && size != *found)
        };
        let on = |device: Device| {
            device == tensor.device() || (device.is_host() && tensor.device().is_host())
        };
        if !self.dtypes.is_empty() && !self.dtypes.contains(&tensor.dtype()) {
            return Some(Mismatch::dtype(&self.dtypes, tensor.dtype()));
        }
        if let Some(ndim) = self.ndim.filter(|&ndim| ndim != tensor.ndim()) {
            return Some(Mismatch::ndim(ndim, tensor.shape()));
        }
        if let Some(shape) = self.shape.filter(|shape| wrong_shape(shape)) {
            return Some(Mismatch::shape(shape, tensor.shape()));
        }
        if let Some(device) = self.device.filter(|&device| !on(device)) {
            return Some(Mismatch::device(device, tensor.device()));
        }
        if self.contiguous && !tensor.is_contiguous() {
            return Some(Mismatch::strides(tensor.strides(), tensor.shape()));
        }
        (self.writable && tensor.is_shared_read_only()).then(Mismatch::read_only)
    }

    #[cold]
    fn error(&self, mismatch: Mismatch) -> PyErr {
        let Mismatch { is_type, text } = mismatch;
        let text = format!("{}: {text}", self.name);
        if is_type { PyTypeError::new_err(text) } else { PyValueError::new_err(text) }
    }

    /// `error` with the name of the argument: in its text, or, if it is the exception of a
    /// producer, as a note.
    #[cold]
    fn named_error(&self, py: Python<'_>, error: PyErr) -> PyErr {
        let before = error.value(py).as_ptr();
        let error = named(py, self.name, error);
        if error.value(py).as_ptr() == before {
            let note = format!("while processing '{}'", self.name);
            // A class may refuse notes; its exception is passed on without one.
            let _refused = error.value(py).call_method1(intern!(py, "add_note"), (note,));
        }
        error
    }
}

/// An expectation that an array does not meet.
struct Mismatch {
    /// Whether it is about the element type.
    is_type: bool,
    text: String,
}

impl Mismatch {
    fn new(text: String) -> Self {
        Self { is_type: false, text }
    }

    fn dtype(expected: &[DType], found: DType) -> Self {
        let names: Vec<String> = expected.iter().map(DType::to_string).collect();
        // Only the types that both NumPy and PyTorch have get a remedy.
        let castable = expected.iter().find(|&&dtype| dtype::format(dtype).is_some());
        let remedy =
            castable.map(|dtype| format!(": use x.astype('{dtype}') or x.to(torch.{dtype})"));
        let remedy = remedy.unwrap_or_default();
        let text = format!("expected {}, got {found}{remedy}", names.join(" or "));
        Self { is_type: true, text }
    }

    fn ndim(expected: usize, found: &[i64]) -> Self {
        Self::new(format!(
            "expected {}, got {} (shape {})",
            dimensions(expected),
            found.len(),
            tuple(found)
        ))
    }

    fn shape(expected: &[i64], found: &[i64]) -> Self {
        let sizes: Vec<String> = expected
            .iter()
            .map(|&size| if size < 0 { "*".to_owned() } else { size.to_string() })
            .collect();
        let comma = if sizes.len() == 1 { "," } else { "" };
        Self::new(format!("expected shape ({}{comma}), got {}", sizes.join(", "), tuple(found)))
    }

    fn device(expected: Device, found: Device) -> Self {
        let expected = if expected.is_host() {
            "host memory".to_owned()
        } else {
            format!("memory on {expected}")
        };
        Self::new(format!("expected {expected}, got memory on {found}"))
    }

    fn strides(strides: &[i64], shape: &[i64]) -> Self {
        Self::new(format!(
            "expected row-major elements without gaps, got strides {} for shape {}: pass \
             dlbridge.contiguous(x), x.contiguous() or numpy.ascontiguousarray(x)",
            tuple(strides),
            tuple(shape)
        ))
    }

    fn read_only() -> Self {
        Self::new("expected writable memory, got read-only memory: pass a writable copy".to_owned())
    }
}
