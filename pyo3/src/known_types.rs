//! Types of other libraries, which may or may not be loaded. An object is recognised by its type;
//! no library is imported for that.

use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// A class of another library, which is looked up once its library is loaded.
pub(crate) struct KnownType {
    module: &'static str,
    name: &'static str,
    /// An attribute that the class has, but a mock of its library does not.
    member: &'static str,
    /// The class, or NULL. A reference to it is leaked, so that its address is never reused.
    known: AtomicPtr<ffi::PyTypeObject>,
}

pub(crate) static NDARRAY: KnownType = KnownType::new("numpy", "ndarray", "__array_struct__");
/// Base of the types of single elements, such as `numpy.float32`.
pub(crate) static NUMPY_NUMBER: KnownType = KnownType::new("numpy", "generic", "__array_struct__");
/// Base of the types of `numpy.dtype("float32")` and others.
pub(crate) static NUMPY_DTYPE: KnownType = KnownType::new("numpy", "dtype", "newbyteorder");
pub(crate) static TORCH_DTYPE: KnownType = KnownType::new("torch", "dtype", "is_floating_point");
pub(crate) static TORCH_TENSOR: KnownType = KnownType::new("torch", "Tensor", "is_neg");
/// PyTorch's class of tensors that consumers of DLPack must not write (PyTorch 2.14).
pub(crate) static TORCH_READ_ONLY: KnownType =
    KnownType::new("torch.utils.dlpack", "ReadOnlyTensorWrapper", "__dlpack_c_exchange_api__");

impl KnownType {
    const fn new(module: &'static str, name: &'static str, member: &'static str) -> Self {
        Self { module, name, member, known: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Whether the class is known and is exactly the type of `object`.
    #[inline]
    pub(crate) fn is_exact_type_of(&self, object: &Bound<'_, PyAny>) -> bool {
        let class = self.known.load(Ordering::Acquire);
        // SAFETY: the object must be alive, as a `Bound` is.
        !class.is_null() && class == unsafe { ffi::Py_TYPE(object.as_ptr()) }
    }

    /// The class, if its library is loaded, and whether it was unknown until now.
    pub(crate) fn look_up<'py>(&self, py: Python<'py>) -> Option<(Bound<'py, PyType>, bool)> {
        let known = self.known.load(Ordering::Acquire);
        if !known.is_null() {
            // SAFETY: the pointer must be that of a live object: a reference to the class was
            // leaked.
            let class = unsafe { Bound::from_borrowed_ptr(py, known.cast()) };
            return class.cast_into().ok().map(|class| (class, false));
        }
        let modules = py.import(intern!(py, "sys")).ok()?.getattr(intern!(py, "modules")).ok()?;
        let class = modules.get_item(self.module).ok()?.getattr(self.name).ok()?;
        let class = class
            .cast_into::<PyType>()
            .ok()
            .filter(|class| class.hasattr(self.member).unwrap_or(false))?;
        self.known.store(class.as_type_ptr(), Ordering::Release);
        std::mem::forget(class.clone());
        Some((class, true))
    }

    /// Whether `object` is of this class or of a derived one. Its `__class__` is not read, because
    /// C code of the library relies on the result.
    pub(crate) fn is_type_of(&self, object: &Bound<'_, PyAny>) -> bool {
        let derived_from = |class: Bound<'_, PyType>| {
            // SAFETY: both must be live types, as those of a `Bound` are.
            unsafe { ffi::PyObject_TypeCheck(object.as_ptr(), class.as_type_ptr()) != 0 }
        };
        self.is_exact_type_of(object)
            || self.look_up(object.py()).is_some_and(|(class, _)| derived_from(class))
    }
}

/// Looks for the classes that are not known yet. True if one became known now.
pub(crate) fn refresh(py: Python<'_>) -> bool {
    [&NDARRAY, &TORCH_TENSOR]
        .into_iter()
        .filter(|class| class.known.load(Ordering::Acquire).is_null())
        .any(|class| class.look_up(py).is_some_and(|(_, new)| new))
}
