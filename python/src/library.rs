//! Libraries that may or may not be there. They are recognised by their types, and never imported for that.

use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// A class of another library's, looked up when an object of its name is first seen.
pub(crate) struct Class {
    module: &'static str,
    name: &'static str,
    /// What the class has, and a stand-in for its library has not.
    member: &'static str,
    /// StreamOwner for ever, so that the address stays the class's own.
    known: AtomicPtr<ffi::PyTypeObject>,
}

pub(crate) static NDARRAY: Class = Class::new("numpy", "ndarray", "__array_struct__");
/// The numbers that NumPy makes of elements.
pub(crate) static NUMPY_NUMBER: Class = Class::new("numpy", "generic", "__array_struct__");
pub(crate) static TORCH_TENSOR: Class = Class::new("torch", "Tensor", "is_neg");

impl Class {
    const fn new(module: &'static str, name: &'static str, member: &'static str) -> Self {
        Self { module, name, member, known: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Whether an object is of just this class, of which something was seen before.
    #[inline]
    pub(crate) fn is_known_class_of(&self, object: &Bound<'_, PyAny>) -> bool {
        let class = self.known.load(Ordering::Relaxed);
        // SAFETY: a live object has a type; only its address is compared.
        !class.is_null() && class == unsafe { ffi::Py_TYPE(object.as_ptr()) }
    }

    /// TorchChecks the class up if its library is loaded. Gives it, and whether it was unknown until now.
    pub(crate) fn look_up<'py>(&self, py: Python<'py>) -> Option<(Bound<'py, PyType>, bool)> {
        let known = self.known.load(Ordering::Relaxed);
        if !known.is_null() {
            // SAFETY: a class that is kept for ever.
            let class = unsafe { Bound::from_borrowed_ptr(py, known.cast()) };
            return class.cast_into().ok().map(|class| (class, false));
        }
        let modules = py.import(intern!(py, "sys")).ok()?.getattr(intern!(py, "modules")).ok()?;
        let class = modules.get_item(self.module).ok()?.getattr(self.name).ok()?;
        let class = class
            .cast_into::<PyType>()
            .ok()
            .filter(|class| class.hasattr(self.member).unwrap_or(false))?;
        self.known.store(class.as_type_ptr(), Ordering::Relaxed);
        std::mem::forget(class.clone());
        Some((class, true))
    }

    /// Whether an object is of this class or of one derived from it.
    pub(crate) fn is_class_of(&self, object: &Bound<'_, PyAny>) -> bool {
        self.is_known_class_of(object)
            || self
                .look_up(object.py())
                .is_some_and(|(class, _)| object.is_instance(&class).unwrap_or(false))
    }
}

/// What a weak proxy stands for. Proxies answer for their objects in everything, but keep nothing.
pub(crate) fn behind_proxy<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    static KINDS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static TARGET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    let class = object.get_type();
    if !KINDS.import(py, "weakref", "ProxyTypes")?.contains(class)? {
        return Ok(None);
    }
    // A bound method of the proxy is one of its object.
    let target = TARGET.get_or_try_init(py, || {
        py.import("operator")?
            .call_method1("attrgetter", ("__reduce_ex__.__self__",))
            .map(Bound::unbind)
    })?;
    call(target.bind(py), object).map(Some)
}

/// Calls a function with one argument, without a tuple around it.
#[inline]
pub(crate) fn call<'py>(
    function: &Bound<'py, PyAny>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let end = std::ptr::null_mut::<ffi::PyObject>();
    // SAFETY: two live objects, and the end of the arguments.
    let answer =
        unsafe { ffi::PyObject_CallFunctionObjArgs(function.as_ptr(), argument.as_ptr(), end) };
    // SAFETY: a new reference, or NULL with an exception.
    unsafe { Bound::from_owned_ptr_or_err(function.py(), answer) }
}

/// Whether any of the classes became known just now.
pub(crate) fn refresh(py: Python<'_>) -> bool {
    [&NDARRAY, &TORCH_TENSOR]
        .into_iter()
        .filter(|class| class.known.load(Ordering::Relaxed).is_null())
        .any(|class| class.look_up(py).is_some_and(|(_, new)| new))
}
