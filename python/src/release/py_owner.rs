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
/// The collector clears what it takes for garbage while other garbage still refers to it, and a
/// finalizer may get hold of that. So it is shown only an owner that keeps its memory until it is
/// freed. An array does: it is cleared of its attributes at most. Any other object may lose what
/// its memory depends on, and a memoryview that is cleared while it is exported breaks (CPython
/// 3.11). Such owners are hidden: a cycle through them is not found, which is safe.
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
        // As a `Bound`: PyO3 may put off the release of a `Py` until it is called again.
        drop(self.into_bound(py));
    }
}
