//! Classes of an extension module that export tensors.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use dlbridge::Tensor;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{Borrowed, PyClass, ffi, intern};

use crate::dlpack_method::{self, method_of};
use crate::error::set_panic_error;
use crate::export::exchange_table;
use crate::py_tensor::PyTensor;
use crate::release::ensure_ready;
use crate::tensor_object::TensorObject;
use crate::tensor_source::{TensorSource, wrong_class};

/// A class whose objects other libraries take as tensors.
pub trait Producer: PyClass {
    /// The tensor that an object exports.
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

/// Gives the class `T` the methods and the attribute through which other libraries take its
/// objects.
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
