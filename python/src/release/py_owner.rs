//! A Python object that owns memory.

use std::mem::ManuallyDrop;

use pyo3::prelude::*;

use super::with_gil::{ReleaseWithGil, release};

/// A reference to a Python object, which any thread may drop.
pub(crate) struct PyOwner(ManuallyDrop<Py<PyAny>>);

impl PyOwner {
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> Self {
        Self(ManuallyDrop::new(object.clone().unbind()))
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
