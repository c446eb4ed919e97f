//! What the tests share: Python code in the interpreter of the test process.

use std::ffi::CString;
use std::sync::OnceLock;

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The variables of a piece of Python code, with NumPy as `np`.
pub(crate) struct Code<'py>(pub(crate) Bound<'py, PyDict>);

impl<'py> Code<'py> {
    pub(crate) fn new(py: Python<'py>) -> Self {
        // Two threads that import NumPy or PyTorch at the same time may see half a module.
        static IMPORTED: OnceLock<()> = OnceLock::new();
        if IMPORTED.get().is_none() {
            run_in(&PyDict::new(py), "import numpy, torch, jax.numpy, array_api_strict");
            let _ = IMPORTED.set(());
        }
        let code = Self(PyDict::new(py));
        code.run("import gc, weakref, numpy as np, torch");
        code
    }

    /// Makes `value` a variable.
    pub(crate) fn with(self, name: &str, value: impl IntoPyObject<'py>) -> Self {
        self.0.set_item(name, value).expect("a dictionary takes all names");
        self
    }

    pub(crate) fn run(&self, code: &str) {
        run_in(&self.0, code);
    }

    pub(crate) fn eval(&self, expression: &str) -> Bound<'py, PyAny> {
        self.try_eval(expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    pub(crate) fn try_eval(&self, expression: &str) -> PyResult<Bound<'py, PyAny>> {
        let expression = CString::new(expression).expect("no NUL");
        self.0.py().eval(&expression, Some(&self.0), None)
    }

    /// Fails unless the expression is true.
    pub(crate) fn check(&self, expression: &str) {
        assert!(self.eval(expression).is_truthy().expect("a truth value"), "{expression}");
    }
}

fn run_in(variables: &Bound<'_, PyDict>, code: &str) {
    let py = variables.py();
    let text = CString::new(code).expect("no NUL");
    py.run(&text, Some(variables), None).unwrap_or_else(|error| {
        error.print(py);
        panic!("{code}");
    });
}

/// The class and the text of an exception.
pub(crate) fn described(py: Python<'_>, error: &PyErr) -> String {
    format!("{}: {}", error.get_type(py).name().expect("a name"), error.value(py))
}
