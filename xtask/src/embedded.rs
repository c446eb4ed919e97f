//! The tests of `dlbridge-pyo3` in Rust, which embed the interpreter of our virtual environment.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::python::cache_bytecode;
use crate::{Outcome, cargo, setup};

/// Prints whether CPython has a shared library, the library's folder, and the folder of packages.
const ASK: &str = "import sysconfig as s; \
                   print(s.get_config_var('Py_ENABLE_SHARED'), s.get_config_var('LIBDIR'), \
                   s.get_path('purelib'), sep='\\n')";

/// The tests and the examples of the library, to be run. None without a shared library of CPython.
pub(crate) fn tests() -> Outcome<Vec<Command>> {
    let python = python();
    let Some([libraries, packages]) = folders(&python)? else {
        eprintln!(
            "\nskipped: the tests of dlbridge-pyo3 need a CPython with a shared library, and {} has \
             none",
            python.display()
        );
        return Ok(Vec::new());
    };
    // The examples import what the tests import.
    let test = |selection: &str| {
        let mut test = cargo(&["test", "--package", "dlbridge-pyo3", selection]);
        test.env("PYO3_PYTHON", &python)
            .env("LD_LIBRARY_PATH", &libraries)
            .env("PYTHONPATH", &packages);
        cache_bytecode(&mut test);
        test
    };
    Ok(vec![test("--tests"), test("--doc")])
}

/// The interpreter of our virtual environment.
pub(crate) fn python() -> PathBuf {
    setup::venv(None).join("bin/python")
}

/// The folders of CPython's shared library and of its packages; `None` without a shared library.
fn folders(python: &Path) -> Outcome<Option<[String; 2]>> {
    let asked = Command::new(python).args(["-c", ASK]).output()?;
    let answer = String::from_utf8(asked.stdout)?;
    let mut lines = answer.lines();
    match (lines.next(), lines.next(), lines.next()) {
        (Some("1"), Some(libraries), Some(packages)) => {
            Ok(Some([libraries.to_owned(), packages.to_owned()]))
        }
        (Some(_), Some(_), Some(_)) => Ok(None),
        _ => Err(format!("{} does not say where its library is", python.display()).into()),
    }
}
