//! Classes of an extension module that export tensors.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use dlbridge::Tensor;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyTuple};
use pyo3::{Borrowed, PyClass, ffi, intern};

use crate::dlpack_method::{self, method_of};
use crate::error::set_panic_error;
use crate::export::exchange_table;
use crate::py_tensor::PyTensor;
use crate::release::ensure_ready;
use crate::tensor_object::TensorObject;
use crate::tensor_source::{TensorSource, wrong_class};

/// A class of an extension module whose objects other libraries take as tensors.
///
/// [`add_class`] and [`add_dlpack`] give the class `__dlpack__`, with all keywords of DLPack 1.3,
/// `__dlpack_device__`, and the exchange table for C code, `__dlpack_c_exchange_api__`. So
/// `numpy.from_dlpack(frame)`, `torch.from_dlpack(frame)` and every function that takes a
/// [`PyTensor`] share the memory. Derived classes are producers, too.
///
/// ```
/// use dlbridge::Tensor;
/// use dlbridge_pyo3::{OrRaise, Producer};
/// use pyo3::prelude::*;
///
/// /// An image of a camera.
/// #[pyclass]
/// struct Frame {
///     pixels: Tensor,
/// }
///
/// #[pymethods]
/// impl Frame {
///     #[new]
///     fn new() -> PyResult<Self> {
///         let pixels = Tensor::from_vec(vec![0_u8; 12], [2, 2, 3]).or_raise()?;
///         // Python code may write the pixels, so Rust views them no more.
///         Ok(Self { pixels: pixels.into_aliased().or_raise()? })
///     }
/// }
///
/// impl Producer for Frame {
///     fn tensor(slf: &Bound<'_, Self>) -> PyResult<Tensor> {
///         Ok(slf.try_borrow()?.pixels.share())
///     }
/// }
///
/// #[pymodule]
/// mod camera {
///     use pyo3::prelude::*;
///
///     #[pymodule_init]
///     fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
///         dlbridge_pyo3::add_class::<super::Frame>(module)
///     }
/// }
/// # fn main() -> PyResult<()> {
/// # Python::attach(|py| {
/// # let frame = pyo3::wrap_pymodule!(camera)(py).getattr(py, "Frame")?.call0(py)?;
/// # let numpy = py.import("numpy")?.call_method1("from_dlpack", (&frame,))?;
/// # let torch = py.import("torch")?.call_method1("from_dlpack", (&frame,))?;
/// # numpy.set_item((1, 1, 2), 7)?;
/// # assert_eq!(torch.get_item((1, 1, 2))?.extract::<u8>()?, 7);
/// # Ok(())
/// # })
/// # }
/// ```
///
/// # Who may write
///
/// The rule is that of `From<Tensor>` for [`PyTensor`]: a consumer shares, and may write, a tensor
/// that is the only handle, and aliased memory. Of other memory it gets a copy, because safe Rust
/// code may have a view, and PyTorch writes memory that is marked as read-only. Such an export with
/// `copy=False` raises BufferError, and so does one through the exchange table. So a class that
/// keeps its tensor either
///
/// * calls [`Tensor::into_aliased`] before the first export: consumers share the memory, and safe
///   code makes no views of it; or
/// * keeps the tensor as it is: safe code makes views, and **each consumer gets a copy**.
///
/// JAX before 0.12 refuses memory that is read-only itself, such as that of a read-only array of
/// NumPy, with BufferError.
///
/// The garbage collector does not see what a tensor of the class keeps. So if the tensor shares
/// memory of a Python object which refers to the object of the class, the cycle is never freed.
pub trait Producer: PyClass {
    /// The tensor that an object exports, for example a [`share`](Tensor::share) of a field.
    ///
    /// It is called for each export and for each `__dlpack_device__`, on a thread that is attached
    /// to the interpreter. An exception is passed on to the consumer; a panic becomes RuntimeError.
    ///
    /// ```
    /// use dlbridge::Tensor;
    /// use dlbridge_pyo3::{OrRaise, Producer};
    /// use pyo3::prelude::*;
    ///
    /// #[pyclass]
    /// struct Zeros(i64);
    ///
    /// impl Producer for Zeros {
    ///     /// New memory for each consumer.
    ///     fn tensor(slf: &Bound<'_, Self>) -> PyResult<Tensor> {
    ///         Tensor::zeros::<f32>([slf.try_borrow()?.0]).or_raise()
    ///     }
    /// }
    /// # fn main() -> PyResult<()> {
    /// # Python::attach(|py| {
    /// # dlbridge_pyo3::add_dlpack::<Zeros>(py)?;
    /// # let zeros = Bound::new(py, Zeros(3))?;
    /// # let zeros = py.import("torch")?.call_method1("from_dlpack", (zeros,))?;
    /// # assert_eq!(zeros.call_method0("tolist")?.extract::<Vec<f32>>()?, [0.0; 3]);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    fn tensor(slf: &Bound<'_, Self>) -> PyResult<Tensor>;
}

/// The tensors of the objects of `T`.
struct Of<T>(PhantomData<T>);

impl<T: Producer> TensorSource for Of<T> {
    // `Producer::tensor` returns a handle, which the caller drops.
    const OWNS: bool = false;

    fn with_tensor<R>(
        object: Borrowed<'_, '_, PyAny>,
        work: impl FnOnce(&Tensor) -> PyResult<R>,
    ) -> PyResult<R> {
        let object = object.cast::<T>().map_err(|_| wrong_class(T::NAME, &object))?;
        let tensor = PyTensor::from(T::tensor(&object)?).into_tensor(object.py())?;
        work(TensorObject::new(tensor).tensor())
    }
}

/// Adds the class `T` to `module`, with the methods that [`add_dlpack`] gives it.
///
/// It replaces `module.add_class::<T>()`, so that no class is added without the methods.
///
/// Raises as [`add_dlpack`]. [`Producer`] has an example.
pub fn add_class<T: Producer>(module: &Bound<'_, PyModule>) -> PyResult<()> {
    add_dlpack::<T>(module.py())?;
    module.add_class::<T>()
}

/// Gives the class `T` the methods and the attribute through which other libraries take its
/// objects.
///
/// It sets `__dlpack__`, `__dlpack_device__` and `__dlpack_c_exchange_api__` of the class, and
/// replaces those that the class has. It may be called several times.
///
/// Raises TypeError for a class that is immutable (`#[pyclass(immutable_type)]`), and ImportError
/// in a subinterpreter.
///
/// ```
/// use dlbridge::Tensor;
/// use dlbridge_pyo3::{OrRaise, Producer, PyTensor, add_dlpack};
/// use pyo3::prelude::*;
///
/// #[pyclass]
/// struct Answer;
///
/// impl Producer for Answer {
///     fn tensor(_: &Bound<'_, Self>) -> PyResult<Tensor> {
///         Tensor::from_vec(vec![42_i64], [1]).or_raise()
///     }
/// }
/// # fn main() -> PyResult<()> {
/// Python::attach(|py| {
///     add_dlpack::<Answer>(py)?;
///     let answer: PyTensor = Bound::new(py, Answer)?.extract()?;
///     assert_eq!(answer.to_vec::<i64>(py)?, [42]);
///     Ok(())
/// })
/// # }
/// ```
pub fn add_dlpack<T: Producer>(py: Python<'_>) -> PyResult<()> {
    ensure_ready(py)?;
    let class = py.get_type::<T>();
    class.setattr(intern!(py, "__dlpack__"), dlpack_method::descriptor::<Of<T>>(&class)?)?;
    let device = method_of(&class, const { &device_definition::<T>() })?;
    class.setattr(intern!(py, "__dlpack_device__"), device)?;
    class.setattr(intern!(py, "__dlpack_c_exchange_api__"), exchange_table::capsule::<Of<T>>(py)?)
}

const fn device_definition<T: Producer>() -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: c"__dlpack_device__".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: dlpack_device::<T> },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: c"__dlpack_device__($self, /)
--

Returns type and index of the device, in DLPack's numbers."
            .as_ptr(),
    }
}

/// `__dlpack_device__`, as a C function of the interpreter.
unsafe extern "C" fn dlpack_device<T: Producer>(
    slf: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let called = catch_unwind(AssertUnwindSafe(|| {
        let device = |py: Python<'_>| {
            // SAFETY: the object must be alive during the call: the interpreter keeps it.
            let device = unsafe { device_pair::<T>(py, slf) };
            device.map(Bound::into_ptr).unwrap_or_else(|error| {
                error.restore(py);
                null_mut()
            })
        };
        // PyO3 defers releases unless it knows that the thread is attached.
        // SAFETY: the thread must be attached: the interpreter calls methods attached.
        unsafe { Python::attach_unchecked(device) }
    }));
    called.unwrap_or_else(|payload| {
        // Dropping the payload may panic again.
        std::mem::forget(payload);
        set_panic_error();
        null_mut()
    })
}

/// # Safety
/// * `object` points to a live object.
unsafe fn device_pair<'py, T: Producer>(
    py: Python<'py>,
    object: *mut ffi::PyObject,
) -> PyResult<Bound<'py, PyTuple>> {
    // SAFETY: the object must be alive during the call: this function's contract says so.
    let object = unsafe { Borrowed::from_ptr(py, object) };
    let device = Of::<T>::with_tensor(object, |tensor| Ok(tensor.device()))?;
    (device.device_type, device.index).into_pyobject(py)
}
