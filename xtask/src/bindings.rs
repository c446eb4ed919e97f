//! `cargo xtask bindings`: generates the C header of the library, the Rust declarations of our C
//! headers, and the PTX of our kernels. They are committed, so that users need neither cbindgen nor
//! libclang nor CUDA.

#[cfg(feature = "bindgen")]
use std::path::{Path, PathBuf};

#[cfg(feature = "bindgen")]
use crate::root;
use crate::{Outcome, setup};

/// Writes the generated files or, with `verify`, fails if one would change. Runs this program once
/// more with the feature that brings the generators, so that the other commands build without them.
pub(crate) fn run(verify: bool) -> Outcome {
    let venv = setup::ensure_package(&setup::venv(None), "libclang==18.1.1")?;
    // With PyTorch from PyPI they are there: its compiler for kernels, and the assembler in Triton.
    let others = [crate::environment::TVM_FFI, "nvidia-cuda-nvrtc==13.0.88", "triton==3.7.1"];
    setup::ensure_packages(&venv, &others)?;
    let clang = setup::site_packages(&venv)?.join("clang/native");
    let mut command =
        crate::cargo(&["run", "--quiet", "--package", "xtask", "--features", "bindgen", "--"]);
    command
        .arg(if verify { "bindgen-verify" } else { "bindgen-write" })
        .env("LIBCLANG_PATH", clang);
    // NVIDIA's compiler finds its own parts there.
    command.env("LD_LIBRARY_PATH", setup::site_packages(&venv)?.join("nvidia/cu13/lib"));
    crate::run(&mut command)
}

#[cfg(not(feature = "bindgen"))]
pub(crate) fn generate(_verify: bool) -> Outcome {
    Err("this build of xtask has no bindgen: use `cargo xtask bindings`".into())
}

/// The part that needs the generators.
#[cfg(feature = "bindgen")]
pub(crate) fn generate(verify: bool) -> Outcome {
    let dlpack = root().join("include/dlpack/dlpack.h");
    put("include/dlbridge.h", &library_header()?, verify)?;
    put("src/ffi.rs", &declare(&dlpack, DLPACK, &[])?, verify)?;
    put(
        "src/torch/bindings.rs",
        &declare(&root().join("src/torch/shim.h"), OURS, OF_DLPACK)?,
        verify,
    )?;
    let header = declare(&root().join("include/dlbridge.h"), OURS, OF_DLPACK)?;
    put("capi/src/header.rs", &header.replace("use crate::ffi", "use dlbridge::ffi"), verify)?;
    put("src/cuda/strided_copy.ptx", &crate::kernel::ptx()?, verify)?;
    crate::kernel::assembles()?;
    same_as_upstream(&dlpack)
}

/// Writes a generated file or compares it.
#[cfg(feature = "bindgen")]
fn put(path: &str, text: &str, verify: bool) -> Outcome {
    let file = root().join(path);
    if !verify {
        std::fs::write(file, text)?;
    } else if std::fs::read_to_string(file)? != text {
        return Err(
            format!("{path} is not what its source says: run `cargo xtask bindings`").into()
        );
    }
    Ok(())
}

/// `dlbridge.h`, from the functions of `capi`.
#[cfg(feature = "bindgen")]
fn library_header() -> Outcome<String> {
    let capi = root().join("capi");
    let mut config = cbindgen::Config::from_file(capi.join("cbindgen.toml"))?;
    // Packages of the workspace share a version.
    let version = format!(
        "\n\n/* Version of the library. */\n#define DLB_VERSION \"{}\"",
        env!("CARGO_PKG_VERSION")
    );
    config.after_includes.get_or_insert_default().push_str(&version);
    let mut header = Vec::new();
    cbindgen::Builder::new().with_crate(capi).with_config(config).generate()?.write(&mut header);
    Ok(String::from_utf8(header)?)
}

#[cfg(feature = "bindgen")]
const DLPACK: &str = "(DL|kDL).*";
#[cfg(feature = "bindgen")]
const OURS: &str = "(dlb|DLB)_.*";
/// Lines that bring DLPack's types instead of declaring them again.
#[cfg(feature = "bindgen")]
const OF_DLPACK: &[&str] = &["use crate::ffi::*;"];

/// The declarations of a header of ours.
#[cfg(feature = "bindgen")]
fn declare(header: &Path, names: &str, imports: &[&str]) -> Outcome<String> {
    let name = header.strip_prefix(root())?.display();
    let mut bindings = builder(header, names)?
        .raw_line(format!("// Generated from {name} by `cargo xtask bindings`; do not edit."))
        .generate_comments(true);
    if !imports.is_empty() {
        bindings = bindings.blocklist_type("DL.*");
    }
    for line in imports {
        bindings = bindings.raw_line(*line);
    }
    Ok(bindings.generate()?.to_string())
}

#[cfg(feature = "bindgen")]
fn builder(header: &Path, names: &str) -> Outcome<bindgen::Builder> {
    // The libclang wheel has no headers of its own; the compiler's serve.
    let compiler = std::process::Command::new("cc").arg("-print-file-name=include").output()?;
    let builtin = String::from_utf8(compiler.stdout)?;
    Ok(bindgen::Builder::default()
        .header(header.to_str().ok_or("the path is not UTF-8")?)
        .clang_args([
            "-isystem",
            builtin.trim(),
            "-I",
            &root().join("include").display().to_string(),
        ])
        .allowlist_type(names)
        .allowlist_var(names)
        .allowlist_function(names)
        .layout_tests(true)
        .derive_default(false)
        .prepend_enum_name(false))
}

/// Fails unless our `dlpack.h` declares what upstream's declares: names, values, types, layouts.
#[cfg(feature = "bindgen")]
fn same_as_upstream(ours: &Path) -> Outcome {
    let plain = |header: &Path| -> Outcome<String> {
        Ok(builder(header, DLPACK)?.generate_comments(false).generate()?.to_string())
    };
    let upstream = upstream()?;
    if plain(ours)? == plain(&upstream)? {
        return Ok(());
    }
    Err(format!("{} does not declare what upstream's {} does", ours.display(), upstream.display())
        .into())
}

/// Upstream's `dlpack.h`, which the apache-tvm-ffi wheel carries.
#[cfg(feature = "bindgen")]
fn upstream() -> Outcome<PathBuf> {
    let wheel = setup::site_packages(&setup::venv(None))?.join("tvm_ffi");
    let header = wheel.join("include/dlpack/dlpack.h");
    if header.is_file() {
        Ok(header)
    } else {
        Err(format!("there is no {}", header.display()).into())
    }
}
