//! `cargo xtask check`: format, layers, shape of functions, prose, lints, documentation, other
//! targets, examples, workflows, and generated files.

use crate::{
    Outcome, bindings, cargo, examples, format, layers, notes, packages, prose, python, run, setup,
    shape, site, targets, torch, unsafe_free, workflows,
};

/// The extension modules for Python.
const MODULES: [&str; 3] = ["dlbridge-python", "image-batches", "dlbridge-bench-extension"];

/// Fails at the first thing that is not as it should be.
pub(crate) fn everything() -> Outcome {
    setup::libtorch_ready(None)?;
    format::check()?;
    layers::check()?;
    shape::check()?;
    prose::check()?;
    notes::check()?;
    packages::check()?;
    unsafe_free::check()?;
    clippy()?;
    let mut doc = cargo(&["doc", "--no-deps"]);
    run(doc.env("RUSTDOCFLAGS", "--deny warnings"))?;
    site::rustdoc::build()?;
    targets::in_check()?;
    examples::check()?;
    python::lint()?;
    workflows::check()?;
    bindings::run(true)
}

/// Runs clippy over every package, and over the core crate with each of its features. `doc-only` is
/// `torch` without libtorch.
fn clippy() -> Outcome {
    let only_0_16 = ["--no-default-features", "--features", "ndarray-0_16,serde"];
    let core = [&["--no-default-features"][..], &only_0_16, &[], &["--features", "cuda,dlpark"]];
    let without_libtorch = ["--features", "doc-only"];
    // Packages that are linted together need not build their dependencies in several variants.
    let others = ["capi", "fuzz", "pyo3", "fake-cuda", "ui"]
        .map(|name| format!("--package=dlbridge-{name}"));
    let mut others: Vec<_> = others.iter().map(String::as_str).collect();
    others.push("--package=xtask");
    // These need the limited API of CPython, with which the tests of `pyo3` cannot be built.
    let modules = MODULES.map(|name| format!("--package={name}"));
    let modules: Vec<_> = modules.iter().map(String::as_str).collect();
    let capi = ["--package", "dlbridge-capi", "--no-default-features"];
    let selections = core.into_iter().chain([&without_libtorch[..], &others, &modules, &capi]);
    let commands = selections.map(|selection| {
        let mut clippy = cargo(&["clippy"]);
        clippy.args(selection);
        clippy
    });
    for mut clippy in commands.chain([torch::packages("clippy")]) {
        run(clippy.args(["--all-targets", "--", "--deny", "warnings"]))?;
    }
    Ok(())
}
