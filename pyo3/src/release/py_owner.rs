//! A Python object that owns memory.

use std::mem::ManuallyDrop;

use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};

use super::with_gil::{ReleaseWithGil, release};

/// A reference to a Python object, which any thread may drop.
pub(crate) struct PyOwner(ManuallyDrop<Py<PyAny>>);

impl PyOwner {
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> Self {
        Self(ManuallyDrop::new(object.clone().unbind()))
    }
}

/// A reference to a NumPy array, which any thread may drop and the garbage collector may see.
///
/// The collector clears garbage while other garbage still refers to it, and a finalizer may reach
/// the cleared object. So only an owner that keeps its memory until it is freed may be shown to the
/// collector. An array is such an owner: the collector clears at most its attributes. Another
/// object may lose what its memory depends on, and clearing a memoryview that is exported breaks it
/// (CPython 3.11). These owners are not shown: the collector does not find cycles through them,
/// which is safe.
pub(crate) struct ArrayOwner(PyOwner);

impl ArrayOwner {
    /// Holds `array`, which must be an `ndarray`.
    pub(crate) fn new(array: &Bound<'_, PyAny>) -> Self {
        Self(PyOwner::new(array))
    }

    /// Shows the reference to the garbage collector.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&*self.0.0)
    }
}

impl Drop for PyOwner {
    fn drop(&mut self) {
        // SAFETY: the value must not be used afterwards: it is private, and this is its drop.
        release(unsafe { ManuallyDrop::take(&mut self.0) });
    }
}

impl ReleaseWithGil for Py<PyAny> {
    fn release_with_gil(self, py: Python<'_>) {
        // Released as a `Bound`, because PyO3 may defer the release of a `Py`.
        drop(self.into_bound(py));
    }
}
