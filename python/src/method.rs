//! `Tensor.__dlpack__` as a plain C function of the interpreter's.
//!
//! Consumers call it with up to four keywords for every tensor that they take. PyO3 compares keywords letter by
//! letter; these are interned, so that addresses do.

use std::ffi::{CStr, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use pyo3::Borrowed;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple, PyType};

use crate::export::{self, ExportArgs};
use crate::owner::raise_panic;
use crate::tensor::PyTensor;

const DOC: &CStr = c"__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None, copy=None)
--

Makes a DLPack capsule, which shares the memory.

Of version 1.3 if `max_version` is (1, 0) or higher, otherwise of the older kind, which can't say that memory is
read-only. Copies with `copy=True`, and negative strides when `copy` is None.

`stream` is where the consumer works, a number (1 and 2 are CUDA's default streams) or an object with
`__cuda_stream__`: there the memory is ready, and it is not used again before the work is done that is on the stream
when the capsule's struct is released. None is the legacy default stream, -1 as well.

Raises BufferError for what can't be exported so, ValueError for a stream that the device does not have.

<https://data-apis.org/array-api/latest/API_specification/generated/array_api.array.__dlpack__.html>";

const KEYWORDS: [&str; 4] = ["stream", "max_version", "dl_device", "copy"];

static INTERNED: PyOnceLock<[Py<PyString>; 4]> = PyOnceLock::new();

fn interned(py: Python<'_>) -> &[Py<PyString>; 4] {
    INTERNED.get_or_init(py, || KEYWORDS.map(|keyword| PyString::intern(py, keyword).unbind()))
}

/// Which keyword it is.
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

/// The interpreter's function. See <https://docs.python.org/3/c-api/structures.html#c.METH_FASTCALL>.
///
/// # Safety
/// * The interpreter calls it, attached, as a method of a tensor: after `count` arguments come as many as `names`
///   has.
unsafe extern "C" fn dlpack(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter's promise.
    let py = unsafe { Python::assume_attached() };
    let call = || -> PyResult<*mut ffi::PyObject> {
        if count != 0 {
            return Err(PyTypeError::new_err(format!(
                "__dlpack__() takes keyword arguments only, got {count} others"
            )));
        }
        // SAFETY: an object that lives during the call.
        let slf = unsafe { Borrowed::from_ptr(py, slf) };
        let tensor = slf.cast::<PyTensor>()?;
        // SAFETY: an object that lives during the call, or NULL.
        let names = unsafe { Borrowed::from_ptr_or_opt(py, names) };
        let mut given = [null_mut::<ffi::PyObject>(); KEYWORDS.len()];
        if let Some(names) = names {
            for (at, name) in names.cast::<PyTuple>()?.iter_borrowed().enumerate() {
                let argument = arguments.wrapping_add(at);
                // SAFETY: there are as many arguments as names.
                given[keyword(py, &name)?] = unsafe { *argument };
            }
        }
        let [stream, max_version, dl_device, copy] = given;
        let wish = |given| {
            // SAFETY: an argument, which lives during the call, or NULL where none was given.
            let given = unsafe { Borrowed::from_ptr_or_opt(py, given) };
            given.filter(|given| !given.is_none())
        };
        let args = ExportArgs {
            stream: wish(stream),
            max_version: wish(max_version),
            dl_device: wish(dl_device),
            copy: wish(copy),
        };
        let capsule = || export::dlpack(py, tensor.get().tensor(), &args);
        let plain = args.stream.is_none() && args.dl_device.is_none() && args.copy.is_none();
        // PyO3 does not know yet that it is attached, and would put off what it releases; but most calls release
        // nothing.
        // SAFETY: attached.
        if plain { capsule() } else { unsafe { Python::attach_unchecked(|_| capsule()) } }
            .map(Bound::into_ptr)
    };
    let called = catch_unwind(AssertUnwindSafe(|| {
        call().unwrap_or_else(|error| {
            // SAFETY: attached.
            unsafe { Python::attach_unchecked(|py| error.restore(py)) };
            null_mut()
        })
    }));
    called.unwrap_or_else(|payload| {
        std::mem::forget(payload);
        raise_panic();
        null_mut()
    })
}

struct Definition(ffi::PyMethodDef);

// SAFETY: constant addresses.
unsafe impl Sync for Definition {}

static DEFINITION: Definition = Definition(ffi::PyMethodDef {
    ml_name: c"__dlpack__".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: dlpack },
    ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS as c_int,
    ml_doc: DOC.as_ptr(),
});

/// Gives the class its method.
pub(crate) fn install(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    // SAFETY: a live class, and a definition that lives for ever, which nobody writes.
    let method = unsafe {
        ffi::PyDescr_NewMethod(class.as_type_ptr(), (&raw const DEFINITION.0).cast_mut())
    };
    // SAFETY: a new reference, or NULL with an exception.
    class.setattr("__dlpack__", unsafe { Bound::from_owned_ptr_or_err(py, method) }?)
}
