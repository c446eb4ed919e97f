//! `Tensor.__dlpack__` as a C function of the interpreter, and that of other classes.
//!
//! Consumers call it for every tensor, with up to four keyword arguments. A method of PyO3 compares
//! keywords as strings; here they are interned, so that it is enough to compare addresses.

use std::ffi::{CStr, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use pyo3::Borrowed;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple, PyType};

use crate::dlpack_export::{ExportArgs, to_capsule};
use crate::error::set_panic_error;
use crate::tensor_source::TensorSource;

const DOC: &CStr =
    c"__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None, copy=None)
--

Returns a DLPack capsule that shares the memory.

The capsule holds a versioned struct (DLPack 1.3) if `max_version` is (1, 0) or higher, and
a legacy struct otherwise. A legacy struct cannot mark memory as read-only. `copy=True`
copies the elements; so does `copy=None` if a stride is negative.

`stream` is the stream on which the consumer works: a number (1 and 2 are CUDA's default
streams) or an object with `__cuda_stream__`; None and -1 mean the legacy default stream.
The memory is ready on that stream. dlbridge does not use it for other work until the work
that is on the stream when the consumer releases the struct is done.

Raises BufferError for a tensor that cannot be exported with these arguments, and ValueError
for a stream that the device does not have.

<https://data-apis.org/array-api/latest/API_specification/generated/array_api.array.__dlpack__.html>

>>> array = np.from_dlpack(dl.from_dlpack(torch.ones(2)))
>>> array
array([1., 1.], dtype=float32)";

const KEYWORDS: [&str; 4] = ["stream", "max_version", "dl_device", "copy"];

static INTERNED: PyOnceLock<[Py<PyString>; 4]> = PyOnceLock::new();

fn interned(py: Python<'_>) -> &[Py<PyString>; 4] {
    INTERNED.get_or_init(py, || KEYWORDS.map(|keyword| PyString::intern(py, keyword).unbind()))
}

/// The index in `KEYWORDS` of a keyword.
#[inline]
fn keyword(py: Python<'_>, name: &Bound<'_, PyAny>) -> PyResult<usize> {
    if let Some(known) = interned(py).iter().position(|keyword| keyword.as_ptr() == name.as_ptr()) {
        return Ok(known);
    }
    let text: String = name.extract()?;
    KEYWORDS.iter().position(|keyword| *keyword == text).ok_or_else(|| {
        PyTypeError::new_err(format!("__dlpack__() got an unexpected keyword argument '{text}'"))
    })
}

/// The C function. See <https://docs.python.org/3/c-api/structures.html#c.METH_FASTCALL>.
///
/// # Safety
/// * The interpreter calls it, attached, as a method of an object. `arguments` points to `count`
///   positional arguments, followed by one argument for each name in `names`.
unsafe extern "C" fn dlpack<S: TensorSource>(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the thread must be attached: this function's contract says so.
    let py = unsafe { Python::assume_attached() };
    let called = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the arguments must be those of the interpreter: this function's contract says so.
        let capsule = unsafe { call::<S>(py, slf, arguments, count, names) };
        capsule.map(Bound::into_ptr).unwrap_or_else(|error| {
            // SAFETY: the thread must be attached: this function's contract says so.
            unsafe { Python::attach_unchecked(|py| error.restore(py)) };
            null_mut()
        })
    }));
    called.unwrap_or_else(|payload| {
        // Dropping the payload may panic again.
        std::mem::forget(payload);
        set_panic_error();
        null_mut()
    })
}

/// # Safety
/// * `arguments`, `count` and `names` are those of a call of [`dlpack`], which the interpreter
///   made.
#[inline]
unsafe fn call<'py, S: TensorSource>(
    py: Python<'py>,
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> PyResult<Bound<'py, PyAny>> {
    if count != 0 {
        return Err(PyTypeError::new_err(format!(
            "__dlpack__() takes keyword arguments only, got {count} others"
        )));
    }
    // SAFETY: the object must be alive during the call: the interpreter keeps it.
    let slf = unsafe { Borrowed::from_ptr(py, slf) };
    // SAFETY: the object must be alive during the call, or NULL: the interpreter keeps it.
    let names = unsafe { Borrowed::from_ptr_or_opt(py, names) };
    let mut given = [null_mut::<ffi::PyObject>(); KEYWORDS.len()];
    if let Some(names) = names {
        for (index, name) in names.cast::<PyTuple>()?.iter_borrowed().enumerate() {
            let argument = arguments.wrapping_add(index);
            // SAFETY: there must be as many arguments as names, as this function's contract says.
            given[keyword(py, &name)?] = unsafe { *argument };
        }
    }
    let [stream, max_version, dl_device, copy] = given;
    let argument = |given| {
        // SAFETY: the object must be alive during the call, or NULL: the interpreter keeps its
        // arguments.
        let given = unsafe { Borrowed::from_ptr_or_opt(py, given) };
        given.filter(|given| !given.is_none())
    };
    let args = ExportArgs {
        stream: argument(stream),
        max_version: argument(max_version),
        dl_device: argument(dl_device),
        copy: argument(copy),
    };
    let capsule = || S::with_tensor(slf, |tensor| to_capsule(py, tensor, &args));
    if S::OWNS && args.stream.is_none() && args.dl_device.is_none() && args.copy.is_none() {
        // Such an export releases nothing.
        return capsule();
    }
    // PyO3 defers releases unless it knows that the thread is attached.
    // SAFETY: the thread must be attached: this function's contract says so.
    unsafe { Python::attach_unchecked(|_| capsule()) }
}

/// The definition of the method for a class.
const fn definition<S: TensorSource>() -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: c"__dlpack__".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: dlpack::<S> },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS as c_int,
        ml_doc: DOC.as_ptr(),
    }
}

/// The method as an attribute of `class`, whose objects `S` is for.
pub(crate) fn descriptor<'py, S: TensorSource>(
    class: &Bound<'py, PyType>,
) -> PyResult<Bound<'py, PyAny>> {
    method_of(class, const { &definition::<S>() })
}

/// A method as an attribute of `class`.
pub(crate) fn method_of<'py>(
    class: &Bound<'py, PyType>,
    definition: &'static ffi::PyMethodDef,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the class must be alive, as a `Bound` is, and the definition must outlive it, as a
    // static does. The interpreter only reads it.
    let method = unsafe {
        ffi::PyDescr_NewMethod(class.as_type_ptr(), std::ptr::from_ref(definition).cast_mut())
    };
    // SAFETY: the pointer must be a new reference, or NULL with an exception set:
    // `PyDescr_NewMethod` returns that.
    unsafe { Bound::from_owned_ptr_or_err(class.py(), method) }
}
