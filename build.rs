//! Refuses targets whose addresses are shorter than DLPack's sizes. Builds the libtorch shim
//! (feature `torch`) and says where libtorch is: to the linker of this package's tests and
//! examples, and to the build scripts of dependents.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let bits = std::env::var("CARGO_CFG_TARGET_POINTER_WIDTH").unwrap_or_default();
    match bits.as_str() {
        #[cfg(all(feature = "torch", not(feature = "doc-only")))]
        "64" => torch::build(),
        #[cfg(not(all(feature = "torch", not(feature = "doc-only"))))]
        "64" => {}
        // From the compiler, this sentence would stand among errors of layout assertions.
        _ => println!(
            "cargo::error=dlbridge needs a 64-bit target; addresses of this one have {bits} bits"
        ),
    }
}

#[cfg(all(feature = "torch", not(feature = "doc-only")))]
mod torch {
    use std::env;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Versions of libtorch that tch supports. `dlbridge/torch_plain.h` accepts newer ones, too.
    const MINORS: std::ops::RangeInclusive<u32> = 11..=13;

    pub(super) fn build() {
        // torch-sys found libtorch; it tells its direct dependents where.
        println!("cargo::rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
        let Some(library) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
            panic!("torch-sys does not say where libtorch is; set LIBTORCH to its folder");
        };
        let folder = env::var_os("LIBTORCH_INCLUDE").map(PathBuf::from);
        let folder = folder.or_else(|| library.parent().map(Path::to_path_buf)).unwrap_or_default();
        let include = folder.join("include");
        check_version(&include);

        for file in ["shim.h", "shim.cpp", "bindings.rs"] {
            println!("cargo::rerun-if-changed=src/torch/{file}");
        }
        for file in ["dlpack/dlpack.h", "dlbridge/torch_plain.h"] {
            println!("cargo::rerun-if-changed=include/{file}");
        }
        let mut shim = cc::Build::new();
        shim.cpp(true).std("c++20").opt_level(3).include("include");
        let headers = [include.clone(), include.join("torch/csrc/api/include")];
        let is_msvc = env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|value| value == "msvc");
        if is_msvc {
            shim.includes(&headers);
        } else {
            shim.flag_if_supported("-Wall").flag_if_supported("-Wextra");
            for folder in &headers {
                shim.flag(format!("-isystem{}", folder.display())); // no warnings about libtorch
            }
        }
        shim.file("src/torch/shim.cpp").compile("dlbridge_torch_shim");

        if !is_msvc {
            println!("cargo::rustc-link-arg=-Wl,-rpath,{}", library.display());
        }
        println!("cargo::metadata=libtorch_lib={}", library.display());
    }

    fn check_version(include: &Path) {
        let header = include.join("torch/headeronly/version.h");
        println!("cargo::rerun-if-changed={}", header.display());
        let Ok(text) = fs::read_to_string(&header) else {
            panic!(
                "there is no {}: set LIBTORCH to the folder of a libtorch, install it as \
                 /usr/lib/libtorch.so, or set LIBTORCH_USE_PYTORCH=1 in an active Python \
                 environment that has PyTorch",
                header.display()
            );
        };
        let number = |name: &str| -> Option<u32> {
            let line = text.lines().find(|line| line.starts_with(&format!("#define {name} ")))?;
            line.split_whitespace().nth(2)?.parse().ok()
        };
        let version = (number("TORCH_VERSION_MAJOR"), number("TORCH_VERSION_MINOR"));
        if !matches!(version, (Some(2), Some(minor)) if MINORS.contains(&minor)) {
            panic!(
                "dlbridge supports libtorch 2.{} to 2.{}, but {} says {version:?}; point LIBTORCH to a supported one",
                MINORS.start(),
                MINORS.end(),
                header.display()
            );
        }
    }
}
