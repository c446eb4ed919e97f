//! The class `DType` of `Tensor.dtype`: a `str` that also equals the element types of NumPy,
//! PyTorch and JAX.
//!
//! PyO3 cannot derive a class from `str` with the limited API of Python 3.11, so the class is made
//! with the functions of the C API.

use std::ffi::{CStr, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use dlbridge::DType;
use pyo3::Borrowed;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyString, PyTuple, PyType};

use crate::dtype;
use crate::dtype_names::{of_library, parse_dtype};
use crate::error::set_panic_error;

const DOC: &CStr = c"DType(dtype, /)
--

An element type: a `str`, which also equals the types of NumPy, PyTorch and JAX.

`Tensor.dtype` is a DType. `dtype` is a name such as 'float32', or an object such as
`torch.float32`, `numpy.float32`, `numpy.dtype('float32')` or `float`, which NumPy takes as
float64. A type equals its name and the objects of all libraries; `numpy.dtype` objects of
another byte order are not equal.

The hash is that of the name. So a set or dict whose keys are `torch.float32` or `numpy.float32`
does not find a DType: look for `getattr(torch, dtype)` or `numpy.dtype(dtype)`.

Pickles contain a reference to this class. `torch.load` accepts it only after
`torch.serialization.add_safe_globals([dlbridge.DType])`; `str(dtype)` is a plain `str`.

Raises TypeError if `dtype` is not an element type that DLPack has.

>>> dtype = dl.DType(torch.float32)
>>> dtype, dtype == np.float32, dtype == torch.float32, dtype == torch.float64
('float32', True, True, False)
>>> {\"float32\": 4}[dtype]
4";

/// The class.
pub(crate) fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.get_or_try_init(py, || make_class(py)).map(|class| class.bind(py))
}

/// The object for `dtype`. That of an ordinary type is made once.
pub(crate) fn of(py: Python<'_>, dtype: DType) -> PyResult<Py<PyAny>> {
    /// Number of type codes that have an object which is kept.
    const CODES: usize = 19;
    /// Number of widths that have one: the powers of two from 1 to 128 bits.
    const WIDTHS: usize = 8;
    static KNOWN: [PyOnceLock<Py<PyAny>>; CODES * WIDTHS] =
        [const { PyOnceLock::new() }; CODES * WIDTHS];
    let make = || with_name(class(py)?, &dtype.to_string()).map(Bound::unbind);
    if dtype.lanes != 1 || usize::from(dtype.code) >= CODES || !dtype.bits.is_power_of_two() {
        return make();
    }
    let index = usize::from(dtype.code) * WIDTHS + dtype.bits.trailing_zeros() as usize;
    KNOWN[index].get_or_try_init(py, make).map(|object| object.clone_ref(py))
}

fn make_class(py: Python<'_>) -> PyResult<Py<PyType>> {
    let hash = slot_of_str(py, ffi::Py_tp_hash);
    let mut slots = [
        ffi::PyType_Slot { slot: ffi::Py_tp_new, pfunc: new as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_tp_richcompare, pfunc: compare as *mut c_void },
        // A class with its own comparison does not inherit the hash.
        ffi::PyType_Slot { slot: ffi::Py_tp_hash, pfunc: hash },
        ffi::PyType_Slot {
            slot: ffi::Py_tp_methods,
            pfunc: (&raw const METHODS.0).cast_mut().cast::<c_void>(),
        },
        ffi::PyType_Slot { slot: ffi::Py_tp_doc, pfunc: DOC.as_ptr().cast_mut().cast::<c_void>() },
        ffi::PyType_Slot { slot: 0, pfunc: null_mut() },
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"dlbridge.DType".as_ptr(),
        basicsize: 0, // that of `str`
        itemsize: 0,
        flags: ffi::Py_TPFLAGS_DEFAULT as _,
        slots: slots.as_mut_ptr(),
    };
    let bases = PyTuple::new(py, [py.get_type::<PyString>()])?;
    // SAFETY: the specification must be valid: each slot has a function of its type or a static
    // text, the list ends with 0, and the interpreter copies what it keeps, except for the methods
    // and the name, which are statics. The functions keep to the contracts of their slots.
    let class = unsafe { ffi::PyType_FromSpecWithBases(&raw mut spec, bases.as_ptr()) };
    // SAFETY: the pointer must be a new reference, or NULL with an exception set: the function
    // returns that.
    let class = unsafe { Bound::from_owned_ptr_or_err(py, class) }?;
    Ok(class.cast_into::<PyType>()?.unbind())
}

/// What the class `str` has in a slot.
fn slot_of_str(py: Python<'_>, slot: c_int) -> *mut c_void {
    let class = py.get_type::<PyString>();
    // SAFETY: the class must be alive and the thread attached: a `Bound` of it shows both. The
    // address in the slot is only copied.
    unsafe { ffi::PyType_GetSlot(class.as_type_ptr(), slot) }
}

/// A new object of `class`, which is derived from `str`.
fn with_name<'py>(class: &Bound<'py, PyType>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let slot = slot_of_str(py, ffi::Py_tp_new);
    if slot.is_null() {
        return Err(PyRuntimeError::new_err("str has no constructor"));
    }
    // SAFETY: the address must be that of a `newfunc`: it is what the interpreter keeps in this
    // slot, and it is not NULL.
    let new_str = unsafe { std::mem::transmute::<*mut c_void, ffi::newfunc>(slot) };
    let arguments = PyTuple::new(py, [name])?;
    // SAFETY: the constructor must be called with a class derived from `str`, a tuple, and a dict
    // or NULL: each caller passes `DType`, whose base is `str`.
    let object = unsafe { new_str(class.as_type_ptr(), arguments.as_ptr(), null_mut()) };
    // SAFETY: the pointer must be a new reference, or NULL with an exception set: a constructor
    // returns that.
    unsafe { Bound::from_owned_ptr_or_err(py, object) }
}

/// Runs `work` for the interpreter: an error becomes the exception, and a panic ends here.
///
/// # Safety
/// * The thread is attached.
unsafe fn contained(work: impl FnOnce(Python<'_>) -> PyResult<Py<PyAny>>) -> *mut ffi::PyObject {
    let called = catch_unwind(AssertUnwindSafe(|| {
        let called = |py: Python<'_>| {
            work(py).map(Py::into_ptr).unwrap_or_else(|error| {
                error.restore(py);
                null_mut()
            })
        };
        // SAFETY: the thread must be attached: this function's contract says so.
        unsafe { Python::attach_unchecked(called) }
    }));
    called.unwrap_or_else(|payload| {
        // Dropping the payload may panic again.
        std::mem::forget(payload);
        set_panic_error();
        null_mut()
    })
}

/// `DType(dtype)`. See <https://docs.python.org/3/c-api/typeobj.html#c.PyTypeObject.tp_new>.
///
/// # Safety
/// * The interpreter calls it, attached, with `DType`, a tuple, and a dict or NULL.
unsafe extern "C" fn new(
    class: *mut ffi::PyTypeObject,
    arguments: *mut ffi::PyObject,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let made = |py: Python<'_>| {
        // SAFETY: the class must be alive during the call: the interpreter keeps its arguments.
        let class = unsafe { Borrowed::from_ptr(py, class.cast::<ffi::PyObject>()) };
        // SAFETY: the tuple must be alive during the call: the interpreter keeps its arguments.
        let arguments = unsafe { Borrowed::from_ptr(py, arguments) };
        // SAFETY: the dict must be alive during the call, or NULL: the interpreter keeps its
        // arguments.
        let keywords = unsafe { Borrowed::from_ptr_or_opt(py, keywords) };
        let arguments = arguments.cast::<PyTuple>()?;
        let named = keywords.is_some_and(|keywords| keywords.len().unwrap_or(1) > 0);
        if named || arguments.len() != 1 {
            return Err(PyTypeError::new_err("DType() takes one positional argument, dtype"));
        }
        let dtype = parse_dtype(&arguments.get_item(0)?)?;
        let class = class.cast::<PyType>()?;
        with_name(&class, &dtype.to_string()).map(Bound::unbind)
    };
    // SAFETY: the thread must be attached: this function's contract says so.
    unsafe { contained(made) }
}

/// `==` and the other comparisons.
///
/// # Safety
/// * The interpreter calls it, attached, with an object of `DType` and another object.
unsafe extern "C" fn compare(
    slf: *mut ffi::PyObject,
    other: *mut ffi::PyObject,
    operator: c_int,
) -> *mut ffi::PyObject {
    // SAFETY: the object must be alive: the interpreter keeps its arguments.
    if unsafe { ffi::PyUnicode_Check(other) } != 0 {
        // SAFETY: the objects must be alive, as the interpreter's arguments are, and `str`s: `slf`
        // is a `DType`, as this function's contract says, and `other` was checked.
        return unsafe { ffi::PyUnicode_RichCompare(slf, other, operator) };
    }
    let compared = |py: Python<'_>| {
        // SAFETY: the object must be alive during the call: the interpreter keeps its arguments.
        let slf = unsafe { Borrowed::from_ptr(py, slf) };
        // SAFETY: the object must be alive during the call: the interpreter keeps its arguments.
        let other = unsafe { Borrowed::from_ptr(py, other) };
        if operator != ffi::Py_EQ && operator != ffi::Py_NE {
            return Ok(py.NotImplemented());
        }
        let Some(dtype) = of_library(&other)? else {
            return Ok(py.NotImplemented());
        };
        let equal = slf.cast::<PyString>()?.to_str()? == dtype.to_string();
        let answer = equal == (operator == ffi::Py_EQ);
        Ok(PyBool::new(py, answer).to_owned().into_any().unbind())
    };
    // SAFETY: the thread must be attached: this function's contract says so.
    unsafe { contained(compared) }
}

/// `__reduce__`: pickles refer to the class by its name.
///
/// # Safety
/// * The interpreter calls it, attached, as a method of a `DType`.
unsafe extern "C" fn reduce(
    slf: *mut ffi::PyObject,
    _unused: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let reduced = |py: Python<'_>| {
        // SAFETY: the object must be alive during the call: the interpreter keeps it.
        let slf = unsafe { Borrowed::from_ptr(py, slf) };
        let name = slf.cast::<PyString>()?;
        let text = name.to_str()?;
        // The constructor does not take the name of a type that DLPack does not define.
        let class = match dtype::from_name(text) {
            Some(_) => slf.get_type(),
            None => py.get_type::<PyString>(),
        };
        Ok((class, (text,)).into_pyobject(py)?.into_any().unbind())
    };
    // SAFETY: the thread must be attached: this function's contract says so.
    unsafe { contained(reduced) }
}

struct Methods([ffi::PyMethodDef; 2]);

// SAFETY: shared references must be usable from several threads: the definitions hold addresses of
// statics, and are never written.
unsafe impl Sync for Methods {}

static METHODS: Methods = Methods([
    ffi::PyMethodDef {
        ml_name: c"__reduce__".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: reduce },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: std::ptr::null(),
    },
    ffi::PyMethodDef::zeroed(),
]);
