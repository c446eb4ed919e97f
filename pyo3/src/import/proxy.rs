//! Weak proxies (`weakref.proxy`).

#![forbid(unsafe_code)]

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::call::call_one;

/// The object that a weak proxy refers to; `None` if `object` is no proxy. A proxy forwards every
/// attribute to its object, but does not keep it alive.
pub(super) fn target_of<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    static PROXY_TYPES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static GET_TARGET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    let class = object.get_type();
    if !PROXY_TYPES.import(py, "weakref", "ProxyTypes")?.contains(class)? {
        return Ok(None);
    }
    // A bound method that is read from the proxy has the proxy's object as its `__self__`.
    let get_target = GET_TARGET.get_or_try_init(py, || {
        py.import("operator")?
            .call_method1("attrgetter", ("__reduce_ex__.__self__",))
            .map(Bound::unbind)
    })?;
    call_one(get_target.bind(py), object).map(Some)
}
