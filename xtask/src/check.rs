//! `cargo xtask check`: format, layers, shape of functions, prose, lints, documentation, examples,
//! and generated files.

use crate::{
    Outcome, bindings, cargo, examples, format, layers, prose, python, run, setup, shape,
    unsafe_free,
};

/// Fails at the first thing that is not as it should be.
pub(crate) fn everything() -> Outcome {
    setup::libtorch_ready(None)?;
    format::check()?;
    layers::check()?;
    shape::check()?;
    prose::check()?;
    unsafe_free::check()?;
    for selection in [
        &["--no-default-features"][..],
        &[],
        &["--features", "cuda"],
        &["--features", "torch"],
        &["--features", "cuda,torch"],
        &["--package", "dlbridge-capi"],
        &["--package", "dlbridge-capi", "--no-default-features"],
        &["--package", "dlbridge-benches"],
        &["--package", "dlbridge-fuzz"],
        &["--package", "dlbridge-pyo3"],
        &["--package", "dlbridge-python"],
        &["--package", "dlbridge-fake-cuda"],
        &["--package", "xtask"],
    ] {
        let mut clippy = cargo(&["clippy", "--all-targets"]);
        run(clippy.args(selection).args(["--", "--deny", "warnings"]))?;
    }
    // `doc-only` is how docs.rs builds: no libtorch.
    for features in ["ndarray", "doc-only,cuda"] {
        let mut doc = cargo(&["doc", "--no-deps", "--features", features]);
        run(doc.env("RUSTDOCFLAGS", "--deny warnings"))?;
    }
    examples::check()?;
    python::lint()?;
    bindings::run(true)
}
