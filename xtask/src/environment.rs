//! The virtual environments of the Python suite: an interpreter, and versions of the libraries.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, root, setup};

/// Its wheel carries upstream's `dlpack.h`, too.
pub(crate) const TVM_FFI: &str = "apache-tvm-ffi==0.1.15.post2";

/// Tools and libraries that both environments have.
const COMMON: [&str; 6] = [
    "pytest==9.2.0",
    TVM_FFI,
    "ml_dtypes==0.6.0",
    "array-api-strict==2.6.1",
    "nanobind==3.1.0",
    "pybind11==3.1.0",
];

/// An interpreter, and the libraries that the package exchanges tensors with.
pub(crate) struct Environment {
    /// The folder in the workspace.
    folder: &'static str,
    /// Versions of CPython, the preferred one first.
    interpreters: &'static [&'static str],
    /// PyTorch, and thus libtorch.
    pub(crate) torch: &'static str,
    numpy: &'static str,
    others: &'static [&'static str],
}

/// The oldest supported libraries. It holds the tools of the other commands, too.
pub(crate) const OLDEST: Environment = Environment {
    folder: ".venv",
    interpreters: &["3.11", "3.12", "3.13", "3.14"],
    torch: setup::TORCH,
    numpy: setup::NUMPY,
    others: &[
        "jax[cpu]==0.10.2",
        "mypy==2.4.1",
        "ray==2.60.0",
        "joblib==1.6.0",
        "greenlet==3.5.6",
        "distributed==2026.8.0",
    ],
};

/// The newest libraries.
pub(crate) const NEWEST: Environment = Environment {
    folder: ".venv-3.13",
    interpreters: &["3.13", "3.12"],
    torch: "2.15.0",
    numpy: "numpy==2.5.5",
    others: &[
        "jax[cpu]==0.12.0.1",
        "greenlet==3.5.6",
        "pyarrow==26.0.1",
        "pillow==13.0.0",
        "pandas==3.1.1",
        "polars==2.1.0",
        "xarray==2026.9.0",
        "awkward==2.14.0",
        "onnxruntime==1.32.0",
    ],
};

/// Where a search for an interpreter ended.
pub(crate) enum Found {
    Interpreter(PathBuf),
    /// There is none, and the reason.
    Missing(String),
}

impl Environment {
    pub(crate) fn path(&self) -> PathBuf {
        root().join(self.folder)
    }

    /// The environments that can have this version of CPython, the preferred one first.
    pub(crate) fn for_version(version: &str) -> Option<&'static Self> {
        let all = [&OLDEST, &NEWEST];
        let preferred = all.into_iter().find(|environment| environment.interpreters[0] == version);
        preferred
            .or_else(|| all.into_iter().rev().find(|other| other.interpreters.contains(&version)))
    }

    /// An interpreter for this environment, of a version of CPython or of any of its versions: the
    /// one that it has, one on the search path, or one of pyenv.
    pub(crate) fn find(&self, version: Option<&str>) -> Found {
        let own = self.path().join("bin/python");
        let has = version_of(&own);
        if has.is_some() && version.is_some() && has.as_deref() != version {
            let has = has.unwrap_or_default();
            return Found::Missing(format!("{} is of CPython {has}: remove it", self.folder));
        }
        let accepted = version.as_ref().map_or(self.interpreters, std::slice::from_ref);
        let on_path = accepted.iter().map(|version| PathBuf::from(format!("python{version}")));
        let mut candidates = std::iter::once(own).chain(on_path).chain(of_pyenv(self.interpreters));
        let accepts = |python: &PathBuf| {
            version_of(python).is_some_and(|version| accepted.contains(&version.as_str()))
        };
        match candidates.find(accepts) {
            Some(found) => Found::Interpreter(found),
            None => Found::Missing(format!(
                "there is no CPython {} with its venv and ensurepip modules, neither on the search \
                 path nor in pyenv",
                accepted.join(" or ")
            )),
        }
    }

    /// Whether the suite may leave this environment out because `find` found no interpreter. It may
    /// not where pyenv has one in CI: then the search has a fault.
    pub(crate) fn may_be_skipped(&self) -> bool {
        env::var("CI").as_deref() != Ok("true") || of_pyenv(self.interpreters).is_empty()
    }

    /// Makes the environment if need be, and installs what it lacks.
    pub(crate) fn ready(&self, interpreter: &Path) -> Outcome<PathBuf> {
        let venv = self.path();
        setup::ensure_venv(&venv, || Ok(interpreter.to_path_buf()))?;
        let torch = format!("torch=={}", self.torch);
        let mut packages = vec![torch.as_str(), self.numpy];
        packages.extend(COMMON.iter().chain(self.others));
        setup::ensure_packages(&venv, &packages)
    }

    /// The folder of its libtorch, if PyTorch is installed in it.
    pub(crate) fn libtorch(&self) -> Option<PathBuf> {
        let folder = setup::site_packages(&self.path()).ok()?.join("torch");
        (setup::installed(&folder)?.as_str() == self.torch).then_some(folder)
    }

    /// ONNX Runtime's library, if its wheel is installed in it.
    pub(crate) fn onnx_runtime(&self) -> Option<PathBuf> {
        let folder = setup::site_packages(&self.path()).ok()?.join("onnxruntime/capi");
        let mut files = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        files.find(|file| file.to_string_lossy().contains("/libonnxruntime.so."))
    }
}

/// An interpreter of a version of CPython that can make environments: one on the search path, or
/// one of pyenv.
pub(crate) fn interpreter(version: &str) -> Option<PathBuf> {
    let on_path = PathBuf::from(format!("python{version}"));
    let mut candidates = std::iter::once(on_path).chain(of_pyenv(&[version]));
    candidates.find(|python| version_of(python).as_deref() == Some(version))
}

/// The interpreters that pyenv installed, of these versions.
fn of_pyenv(versions: &[&str]) -> Vec<PathBuf> {
    let home = || env::home_dir().map(|home| home.join(".pyenv"));
    let Some(pyenv) = env::var_os("PYENV_ROOT").map(PathBuf::from).or_else(home) else {
        return Vec::new();
    };
    let entries = fs::read_dir(pyenv.join("versions")).into_iter().flatten().flatten();
    let installed: Vec<_> = entries.map(|entry| entry.path()).collect();
    let of_version = |version: &&str| {
        let begin = format!("{version}.");
        let of_version = move |folder: &&PathBuf| {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            // The name of a free-threaded build ends with a `t`.
            name.starts_with(&begin) && !name.ends_with('t')
        };
        installed.iter().filter(of_version).map(|folder| folder.join("bin/python")).collect()
    };
    versions.iter().flat_map(|version| -> Vec<_> { of_version(version) }).collect()
}

/// The version of an interpreter that can make environments, for example `3.13`.
fn version_of(python: &Path) -> Option<String> {
    let print = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])";
    let printed = Command::new(python).args(["-c", print]).output().ok()?;
    let version = String::from_utf8(printed.stdout).ok()?.trim().to_owned();
    printed.status.success().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_choose_an_environment() {
        let folder = |version| Environment::for_version(version).map(|found| found.folder);
        assert_eq!(folder("3.11"), Some(".venv"));
        assert_eq!(folder("3.13"), Some(".venv-3.13"));
        assert_eq!(folder("3.12"), Some(".venv-3.13"));
        assert_eq!(folder("3.10"), None);
    }
}
