//! Two Python objects that own memory together.

use std::mem::ManuallyDrop;

use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};

use super::with_gil::{ReleaseWithGil, release};

/// References to two Python objects, which any thread may drop. They are released together.
pub(crate) struct PyOwnerPair(ManuallyDrop<[Py<PyAny>; 2]>);

impl PyOwnerPair {
    #[inline]
    pub(crate) fn new(first: Bound<'_, PyAny>, second: Bound<'_, PyAny>) -> Self {
        Self(ManuallyDrop::new([first.unbind(), second.unbind()]))
    }

    /// The first of the two objects.
    #[inline]
    pub(crate) fn first(&self) -> &Py<PyAny> {
        &self.0[0]
    }

    /// The second of the two objects.
    #[inline]
    pub(crate) fn second(&self) -> &Py<PyAny> {
        &self.0[1]
    }

    /// Shows the references to the garbage collector.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.iter().try_for_each(|object| visit.call(object))
    }
}

impl Drop for PyOwnerPair {
    fn drop(&mut self) {
        // SAFETY: the value must not be used afterwards: it is private, and this is its drop.
        release(unsafe { ManuallyDrop::take(&mut self.0) });
    }
}

impl ReleaseWithGil for [Py<PyAny>; 2] {
    fn release_with_gil(self, py: Python<'_>) {
        for object in self {
            object.release_with_gil(py);
        }
    }
}
