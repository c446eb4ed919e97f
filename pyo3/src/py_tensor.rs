//! [`PyTensor`], a tensor that crosses between Rust and Python.

#![forbid(unsafe_code)]

use dlbridge::{Access, DType, Device, Element, Shape, Tensor};
use pyo3::Borrowed;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::dtype_object;
use crate::error::buffer_error;
use crate::export_policy::share_read_only;
use crate::import;
use crate::release::ensure_ready;
use crate::tensor_object::TensorObject;
use crate::torch_owner::check_owner_address;

/// A tensor as an argument or a result of a Python function.
///
/// As an argument it shares the memory of whatever array the caller passes: of NumPy, PyTorch, JAX
/// or any other library that [`from_dlpack`](crate::from_dlpack) takes. As a result it becomes an
/// object of the class `Tensor`, which all of these libraries take. No element is copied.
///
/// ```
/// use dlbridge_pyo3::PyTensor;
/// use ndarray::Ix2;
/// use pyo3::prelude::*;
///
/// /// The rows in reverse order, as a new tensor.
/// #[pyfunction]
/// fn flip(py: Python<'_>, x: PyTensor) -> PyResult<PyTensor> {
///     let mut x = x.to_ndarray::<f32, Ix2>(py)?; // one copy, which only Rust reaches
///     x.invert_axis(ndarray::Axis(0));
///     Ok(x.into()) // moved, not copied
/// }
/// # fn main() -> PyResult<()> {
/// # Python::attach(|py| {
/// # let torch = py.import("torch")?;
/// # let x = torch.call_method1("ones", ((2, 3),))?;
/// # let flipped = wrap_pyfunction!(flip, py)?.call1((x,))?;
/// # assert_eq!(flipped.getattr("shape")?.extract::<(i64, i64)>()?, (2, 3));
/// # Ok(())
/// # })
/// # }
/// ```
///
/// # Who owns the memory
///
/// A `PyTensor` is one handle to memory that it keeps alive. The memory is released when the last
/// handle is dropped, on any thread, attached to the interpreter or not; a Python object that owns
/// the memory is then released on that thread, which attaches for it. If the interpreter has ended,
/// the object is leaked.
///
/// While Rust uses a tensor of Python, other Python threads may write its memory. So safe code gets
/// no view of it: [`to_vec`](Self::to_vec), [`to_ndarray`](Self::to_ndarray) and
/// [`deep_clone`](Self::deep_clone) copy, and [`assume_read_only`](Self::assume_read_only) and
/// [`assume_exclusive`](Self::assume_exclusive), which are `unsafe`, do not. What a Python thread
/// writes during a copy may be in the copy in part, as with every other library.
///
/// # Limits
///
/// PyTorch can move and free the memory of a tensor that others share: `resize_`, `share_memory_`,
/// `set_` and sending the tensor to another process do so.
///
/// | use of the memory after a move | what happens |
/// |---|---|
/// | a method of `PyTensor`, an export to Python | BufferError |
/// | a copy by a `Tensor` that Rust keeps, also on a detached thread | [`Error::InvalidDescriptor`](dlbridge::Error::InvalidDescriptor) about `data` |
/// | a view of a `Tensor` from `assume_read_only` or `assume_exclusive` | undefined behaviour: the caller of the `unsafe` function promised that there is no move |
/// | an array that another library made of the memory before the move | that library reads freed memory |
/// | a move on another thread *during* a copy | a data race, as with every other library: do not move a tensor that a function is using |
///
/// NumPy moves memory only if a program tells it not to check for other users
/// (`resize(..., refcheck=False)`). That is not detected.
pub struct PyTensor(Tensor);

impl PyTensor {
    /// Wraps a tensor whose memory came from Python. Python code may write the memory at any time,
    /// so safe code gets no Rust view of it.
    #[inline]
    pub(crate) fn from_python(tensor: Tensor) -> Self {
        match tensor.access() {
            // The memory is aliased for good, so this cannot fail.
            Access::Aliased { trusted: true, .. } => {
                Self(tensor.into_aliased().unwrap_or_else(|rejected| rejected.into_value()))
            }
            _ => Self(tensor),
        }
    }

    /// Moves a `Vec` into a row-major tensor of this shape. Nothing is copied.
    ///
    /// Raises BufferError if the shape has another number of elements.
    ///
    /// ```
    /// use dlbridge_pyo3::PyTensor;
    /// use pyo3::prelude::*;
    ///
    /// #[pyfunction]
    /// fn identity() -> PyResult<PyTensor> {
    ///     PyTensor::from_vec(vec![1.0_f32, 0.0, 0.0, 1.0], [2, 2])
    /// }
    /// # Python::attach(|_| assert_eq!(identity().unwrap().shape(), [2, 2]));
    /// ```
    pub fn from_vec<T: Element>(data: Vec<T>, shape: impl Shape) -> PyResult<Self> {
        Tensor::from_vec(data, shape).map(Self).map_err(buffer_error)
    }

    /// The tensor of the crate `dlbridge`.
    ///
    /// If the memory came from Python, the tensor is [`Access::Aliased`] and not trusted: its safe
    /// methods copy the elements, or fail with [`Error::Aliased`](dlbridge::Error::Aliased).
    ///
    /// Raises BufferError if PyTorch moved the memory since it was shared.
    ///
    /// ```
    /// use dlbridge::Error;
    /// use dlbridge_pyo3::PyTensor;
    /// use pyo3::prelude::*;
    ///
    /// # fn main() -> PyResult<()> {
    /// Python::attach(|py| {
    ///     let array = py.import("numpy")?.call_method1("arange", (3,))?;
    ///     let x: PyTensor = array.extract()?;
    ///     let x = x.tensor(py)?;
    ///     assert_eq!(x.strides(), [1]);
    ///     assert_eq!(x.to_vec::<i64>(), Ok(vec![0, 1, 2])); // a copy
    ///     assert_eq!(x.as_slice::<i64>(), Err(Error::Aliased)); // a view
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn tensor(&self, py: Python<'_>) -> PyResult<&Tensor> {
        check_owner_address(py, &self.0)?;
        Ok(&self.0)
    }

    /// Moves the tensor of the crate `dlbridge` out, for example to keep it or to send it to a
    /// thread. Nothing is copied.
    ///
    /// Raises BufferError if PyTorch moved the memory since it was shared.
    ///
    /// ```
    /// use dlbridge_pyo3::PyTensor;
    /// use pyo3::prelude::*;
    ///
    /// # fn main() -> PyResult<()> {
    /// Python::attach(|py| {
    ///     let array = py.import("numpy")?.call_method1("arange", (3,))?;
    ///     let kept = array.extract::<PyTensor>()?.into_tensor(py)?;
    ///     let worker = std::thread::spawn(move || kept.to_vec::<i64>()); // not attached
    ///     let copied = py.detach(|| worker.join().expect("no panic"));
    ///     assert_eq!(copied, Ok(vec![0, 1, 2]));
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn into_tensor(self, py: Python<'_>) -> PyResult<Tensor> {
        check_owner_address(py, &self.0)?;
        Ok(self.0)
    }

    /// Sizes of the dimensions.
    ///
    /// ```
    /// # pyo3::Python::attach(|_| {
    /// let x = dlbridge_pyo3::PyTensor::from_vec(vec![0_u8; 6], [2, 3])?;
    /// assert_eq!(x.shape(), [2, 3]);
    /// # Ok::<(), pyo3::PyErr>(())
    /// # }).unwrap();
    /// ```
    #[inline]
    pub fn shape(&self) -> &[i64] {
        self.0.shape()
    }

    /// Element type.
    ///
    /// ```
    /// # pyo3::Python::attach(|_| {
    /// let x = dlbridge_pyo3::PyTensor::from_vec(vec![0_u8; 6], [2, 3])?;
    /// assert_eq!(x.dtype(), dlbridge::DType::U8);
    /// # Ok::<(), pyo3::PyErr>(())
    /// # }).unwrap();
    /// ```
    #[inline]
    pub fn dtype(&self) -> DType {
        self.0.dtype()
    }

    /// Device that the memory is on.
    ///
    /// ```
    /// # pyo3::Python::attach(|_| {
    /// let x = dlbridge_pyo3::PyTensor::from_vec(vec![0_u8; 6], [2, 3])?;
    /// assert!(x.device().is_host());
    /// # Ok::<(), pyo3::PyErr>(())
    /// # }).unwrap();
    /// ```
    #[inline]
    pub fn device(&self) -> Device {
        self.0.device()
    }

    /// Adds the class of the objects that a [`PyTensor`] becomes to `module`, as `Tensor`, and the
    /// class of their element types, as `DType`.
    ///
    /// The first module that adds the class names it: in `repr`, and in pickles, which find the
    /// class by this name. Further calls add the same class under the name that it has. A package
    /// that shows the class under another name sets the attribute `__module__` of the class.
    ///
    /// Without this call, objects of the class work and call themselves `dlbridge.Tensor`, but
    /// cannot be pickled, and Python code cannot name the class. Each extension module has a class
    /// of its own, and the package dlbridge, too. They take each other's objects without a copy.
    ///
    /// Raises ImportError in a subinterpreter.
    ///
    /// ```
    /// use pyo3::prelude::*;
    ///
    /// #[pymodule]
    /// mod filters {
    ///     use dlbridge_pyo3::PyTensor;
    ///     use pyo3::prelude::*;
    ///
    ///     #[pymodule_init]
    ///     fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
    ///         PyTensor::add_to(module)
    ///     }
    /// }
    /// # fn main() -> PyResult<()> {
    /// # Python::attach(|py| {
    /// # let module = pyo3::wrap_pymodule!(filters)(py);
    /// # let class = module.getattr(py, "Tensor")?;
    /// # assert_eq!(class.getattr(py, "__module__")?.extract::<String>(py)?, "filters");
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
        static NAMED: PyOnceLock<()> = PyOnceLock::new();
        let py = module.py();
        ensure_ready(py)?;
        module.add_class::<TensorObject>()?;
        let dtypes = dtype_object::class(py)?;
        module.add("DType", dtypes)?;
        NAMED
            .get_or_try_init(py, || {
                let name = module.name()?;
                py.get_type::<TensorObject>().setattr(intern!(py, "__module__"), &name)?;
                dtypes.setattr(intern!(py, "__module__"), name)
            })
            .copied()
    }
}

/// Nothing is copied.
///
/// Python code may write the memory if no other handle of Rust may have a view of it: if the tensor
/// is the only handle, or if it is [`Access::Aliased`] and not trusted. Otherwise the memory is
/// read-only for Python: the buffer protocol shares it (`numpy.asarray`), and a consumer of DLPack
/// gets a copy, because PyTorch writes memory that is marked as read-only.
/// [`Tensor::into_aliased`] lets several handles share writable memory with Python.
impl From<Tensor> for PyTensor {
    fn from(tensor: Tensor) -> Self {
        match tensor.access() {
            // Another handle may have safe views of the memory, so Python code must not write it.
            Access::Aliased { writable: true, trusted: true } if !tensor.is_unique() => {
                Self(share_read_only(&tensor))
            }
            _ => Self::from_python(tensor),
        }
    }
}

#[cfg(feature = "ndarray")]
mod ndarray_conversions {
    use dlbridge::{ArrayDimension, ArrayExt, Element, NdArray};
    use ndarray::{Array, Dimension};

    use super::PyTensor;

    /// Nothing is copied.
    impl<T: Element, D: ArrayDimension> From<NdArray<T, D>> for PyTensor {
        fn from(array: NdArray<T, D>) -> Self {
            Self::from(array.into_tensor())
        }
    }

    /// Nothing is copied, and the strides are kept.
    impl<T: Element, D: Dimension + 'static> From<Array<T, D>> for PyTensor {
        fn from(array: Array<T, D>) -> Self {
            Self::from(array.into_tensor())
        }
    }
}

/// Shares the memory of an array of any library. Nothing is copied, except a NumPy scalar.
///
/// Raises TypeError for an object that is not an array, and otherwise as
/// [`from_dlpack`](crate::from_dlpack). PyO3 adds the note `while processing 'x'` with the name of
/// the argument. [`Argument`](crate::Argument) has the name in the text, and checks more.
impl<'py> FromPyObject<'_, 'py> for PyTensor {
    type Error = PyErr;

    #[inline]
    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        import::share_argument(&object).map(Self::from_python)
    }
}

/// Makes an object of the class `Tensor`. Nothing is copied. [`like`](crate::like) makes an array
/// of the caller's library instead.
impl<'py> IntoPyObject<'py> for PyTensor {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    #[inline]
    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(TensorObject::new(self.0).into_bound(py)?.into_any())
    }
}
