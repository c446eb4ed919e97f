//! `cargo xtask bindings`: the Rust declarations of our C headers, generated and committed, so that
//! users need no libclang.

#[cfg(feature = "bindgen")]
use crate::root;
use crate::{Outcome, setup};

/// Each committed file, the header it comes from, and the names it declares.
#[cfg(feature = "bindgen")]
const BINDINGS: [(&str, &str, &str); 2] = [
    ("src/ffi.rs", "include/dlpack/dlpack.h", "(DL|kDL).*"),
    ("src/torch/bindings.rs", "src/torch/shim.h", "(dlb|DLB)_.*"),
];

/// Writes the bindings or, with `verify`, fails if they would change. Runs itself once more with
/// the feature that brings bindgen, so that the other commands build without it.
pub(crate) fn run(verify: bool) -> Outcome {
    let venv = setup::ensure_package(&setup::venv(None), "libclang==18.1.1")?;
    let clang = setup::site_packages(&venv)?.join("clang/native");
    let mut command = crate::cargo(&["run", "--quiet", "--package", "xtask", "--features", "bindgen", "--"]);
    command.arg(if verify { "bindgen-verify" } else { "bindgen-write" }).env("LIBCLANG_PATH", clang);
    crate::run(&mut command)
}

/// The part that needs bindgen.
#[cfg(feature = "bindgen")]
pub(crate) fn generate(verify: bool) -> Outcome {
    for (output, header, names) in BINDINGS {
        let text = declare(&root().join(header), names)?;
        let path = root().join(output);
        if !verify {
            std::fs::write(&path, text)?;
        } else if std::fs::read_to_string(&path)? != text {
            return Err(format!("{output} is not what {header} says: run `cargo xtask bindings`").into());
        }
    }
    Ok(())
}

#[cfg(not(feature = "bindgen"))]
pub(crate) fn generate(_verify: bool) -> Outcome {
    Err("this build of xtask has no bindgen: use `cargo xtask bindings`".into())
}

#[cfg(feature = "bindgen")]
fn declare(header: &std::path::Path, names: &str) -> Outcome<String> {
    // The libclang wheel has no headers of its own; the compiler's serve.
    let compiler = std::process::Command::new("cc").arg("-print-file-name=include").output()?;
    let builtin = String::from_utf8(compiler.stdout)?;
    let name = header.strip_prefix(root())?.display();
    let own_types = if names.starts_with("(dlb") { "" } else { ".*" };
    let bindings = bindgen::Builder::default()
        .header(header.to_str().ok_or("the path is not UTF-8")?)
        .clang_args(["-isystem", builtin.trim(), "-I", &root().join("include").display().to_string()])
        .allowlist_type(names)
        .allowlist_var(names)
        .allowlist_function(names)
        .blocklist_type(if own_types.is_empty() { "DL.*" } else { "" })
        .raw_line(format!("// Generated from {name} by `cargo xtask bindings`; do not edit."))
        .raw_line(if own_types.is_empty() { "use crate::ffi::*;" } else { "" })
        .layout_tests(true)
        .derive_default(false)
        .prepend_enum_name(false)
        .generate_comments(true)
        .generate()?;
    Ok(bindings.to_string())
}
