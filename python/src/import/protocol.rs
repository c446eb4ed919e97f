//! `__dlpack__`: asking for it, old and new, and taking the capsule over.

use std::ffi::CStr;
use std::ptr::NonNull;

use dlbridge::ffi::{DLManagedTensor, DLManagedTensorVersioned, DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
use dlbridge::{Device, Exported, Managed, Rejected, Tensor};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::device::{self, Place};
use crate::error::{buffer_error, caused_by};

/// What a caller of `from_dlpack` wants of the producer.
#[derive(Clone, Copy, Default)]
pub(crate) struct Request {
    pub(crate) place: Option<Place>,
    pub(crate) copy: Option<bool>,
}

/// Shares the memory of an object that has `__dlpack__`.
pub(super) fn share(object: &Bound<'_, PyAny>, request: Request) -> PyResult<Tensor> {
    let py = object.py();
    let home = match object.getattr_opt(intern!(py, "__dlpack_device__"))? {
        Some(query) => Some(device::from_pair(&query.call0()?)?),
        None => None, // producers of the first protocol
    };
    let away = home.filter(|home| !home.is_host());
    let fetched = away.is_some() && request.place.is_some_and(Place::is_host);
    let wants = PyDict::new(py);
    if fetched {
        wants.set_item(intern!(py, "dl_device"), (Device::CPU.kind, Device::CPU.index))?;
    }
    // A copy on the host is ours to make: faster, and without trust.
    if request.copy == Some(false) || (request.copy == Some(true) && away.is_some()) {
        wants.set_item(intern!(py, "copy"), request.copy)?;
    }
    // What is fetched to the host is complete when it arrives.
    let stream = away.filter(|_| !fetched).and_then(device::default_stream);
    let tensor = from_capsule(&ask(object, &wants, stream)?)?;
    let found = tensor.device();
    match home {
        // Pinned memory may be called plain host memory, and the other way round.
        Some(home) if found != home && !(found.is_host() && (home.is_host() || fetched)) => {
            Err(PyBufferError::new_err(format!("the producer said {home} and gave memory on {found}")))
        }
        _ => Ok(tensor),
    }
}

/// Calls `__dlpack__` as DLPack 1 has it, and again as it was before if the producer does not take that.
fn ask<'py>(
    object: &Bound<'py, PyAny>,
    wants: &Bound<'py, PyDict>,
    stream: Option<i64>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    let method = object.getattr(intern!(py, "__dlpack__"))?;
    let options = wants.copy()?;
    if let Some(stream) = stream {
        options.set_item(intern!(py, "stream"), stream)?;
    }
    options.set_item(intern!(py, "max_version"), (DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION))?;
    let first = match method.call((), Some(&options)) {
        Err(error) if error.is_instance_of::<PyTypeError>(py) => error,
        answer => return answer,
    };
    if !wants.is_empty() {
        // The first protocol has no word for it, and may do otherwise.
        let error = PyValueError::new_err(format!(
            "the producer's __dlpack__ does not take {}: leave copy and device out",
            wants.keys()
        ));
        return Err(caused_by(py, error, first));
    }
    let old = PyDict::new(py);
    if let Some(stream) = stream {
        old.set_item(intern!(py, "stream"), stream)?;
    }
    method.call((), Some(&old)).map_err(|second| match second.is_instance_of::<PyTypeError>(py) {
        true => caused_by(py, second, first),
        false => second,
    })
}

/// Names of a capsule before and after it was taken over. They live as long as the capsule may.
trait Named: Managed {
    const NEW: &'static CStr;
    const USED: &'static CStr;

    /// # Safety
    /// * As for `Tensor::from_dlpack`.
    unsafe fn take(raw: NonNull<Self>) -> Result<Tensor, Rejected<Exported<Self>>>;
}

impl Named for DLManagedTensorVersioned {
    const NEW: &'static CStr = c"dltensor_versioned";
    const USED: &'static CStr = c"used_dltensor_versioned";

    unsafe fn take(raw: NonNull<Self>) -> Result<Tensor, Rejected<Exported<Self>>> {
        // SAFETY: the caller's promise.
        unsafe { Tensor::from_dlpack(raw) }
    }
}

impl Named for DLManagedTensor {
    const NEW: &'static CStr = c"dltensor";
    const USED: &'static CStr = c"used_dltensor";

    unsafe fn take(raw: NonNull<Self>) -> Result<Tensor, Rejected<Exported<Self>>> {
        // SAFETY: the caller's promise.
        unsafe { Tensor::from_dlpack_legacy(raw) }
    }
}

/// Takes over what is in a capsule. The struct is released when it is refused, because then nobody else
/// would: the capsule has given it up by then.
pub(crate) fn from_capsule(capsule: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    if let Some(tensor) = take::<DLManagedTensorVersioned>(capsule)? {
        return Ok(tensor);
    }
    if let Some(tensor) = take::<DLManagedTensor>(capsule)? {
        return Ok(tensor);
    }
    // SAFETY: a live object.
    if unsafe { ffi::PyCapsule_CheckExact(capsule.as_ptr()) } == 0 {
        let class = capsule.get_type().fully_qualified_name()?;
        return Err(PyTypeError::new_err(format!("__dlpack__ gave '{class}', not a capsule")));
    }
    // SAFETY: a capsule; the name may be NULL.
    let name = unsafe { ffi::PyCapsule_GetName(capsule.as_ptr()) };
    let name = match NonNull::new(name.cast_mut()) {
        // SAFETY: a capsule's name is a string that lives as long as the capsule.
        Some(name) => unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy(),
        None => "NULL".into(),
    };
    if name == <DLManagedTensor as Named>::USED.to_string_lossy()
        || name == <DLManagedTensorVersioned as Named>::USED.to_string_lossy()
    {
        return Err(PyValueError::new_err(
            "the capsule was taken over already: ask the producer's __dlpack__ for another",
        ));
    }
    Err(PyValueError::new_err(format!("a capsule of name '{name}' holds no DLPack tensor")))
}

fn take<M: Named>(capsule: &Bound<'_, PyAny>) -> PyResult<Option<Tensor>> {
    // SAFETY: a live object of any type.
    if unsafe { ffi::PyCapsule_IsValid(capsule.as_ptr(), M::NEW.as_ptr()) } == 0 {
        return Ok(None);
    }
    // SAFETY: a capsule of this name.
    let raw = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), M::NEW.as_ptr()) };
    let Some(raw) = NonNull::new(raw.cast::<M>()) else { return Err(PyErr::fetch(capsule.py())) };
    if !raw.is_aligned() {
        return Err(PyBufferError::new_err("the capsule's struct is misaligned"));
    }
    // Renamed before anything else: at every moment one of us is to release the struct.
    // SAFETY: a capsule, and a name that lives for ever.
    if unsafe { ffi::PyCapsule_SetName(capsule.as_ptr(), M::USED.as_ptr()) } != 0 {
        return Err(PyErr::fetch(capsule.py()));
    }
    // SAFETY: a capsule of this name holds such a struct, which is ours now; whoever made it answers for what it
    // says. No Rust view is ever made here.
    let tensor = unsafe { M::take(raw) }.map_err(buffer_error)?;
    let (device, dtype) = (tensor.device(), tensor.dtype());
    if !device::is_known(device) {
        return Err(PyBufferError::new_err(format!("DLPack has no device of type {}", device.kind)));
    }
    if !dtype.is_known() {
        return Err(PyBufferError::new_err(format!("DLPack has no elements of type {dtype}")));
    }
    Ok(Some(tensor))
}
