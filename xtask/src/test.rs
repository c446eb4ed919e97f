//! `cargo xtask test`: runs every test, and prints how many passed.

use std::path::Path;
use std::process::Command;

use crate::command::nightly_is_new_enough;
use crate::count::Count;
use crate::environment::Environment;
use crate::python::Environments;
use crate::tools::Tools;
use crate::{
    Outcome, cargo, concurrency, cross, embedded, fake_cuda, fuzz, python, root, setup, tools,
    torch,
};

/// Runs the whole suite; ends with the sum of what the runs of cargo and pytest counted.
pub(crate) fn everything() -> Outcome {
    setup::libtorch_ready(None)?;
    // Installing is reading and writing: it takes place while compilers run.
    let environments = Environments::begin(None)?;
    let tools = Tools::begin();
    let mut count = Count::default();
    let fake_cuda = fake_cuda::folder()?;
    // Without libtorch: no Python, no C++.
    count.run(&mut cargo(&["test"]))?;
    count.run(&mut cargo(&["test", "--package", "dlbridge-ui"]))?;
    // The kernels of the copy engine are the same without threads: their tests ran just above.
    let without_features = ["test", "--no-default-features", "--lib", "--tests"];
    count.run(cargo(&without_features).args(["--", "--skip", torch::COPY_TESTS]))?;
    count.run(&mut cargo(&["test", "--features", "ndarray-0_16,serde", "--test", "ndarray"]))?;
    let only_0_16 = ["test", "--no-default-features", "--features", "ndarray-0_16,serde"];
    count.run(cargo(&only_0_16).args(["--test", "ndarray_0_16"]))?;
    count.run(&mut cargo(&["test", "--release", "--tests"]))?;
    sanitized(&mut count, &fake_cuda)?;
    count.run(&mut cargo(&["test", "--package", "dlbridge-fuzz"]))?;
    fuzz::in_tests()?;
    torch::test(&mut count)?;
    cuda(&mut count, &fake_cuda)?;
    threads(&mut count, &fake_cuda)?;
    let environments = environments.ready()?;
    documentation(&mut count, &fake_cuda, &environments)?;
    tools.ready()?;
    c_library(&mut count, &fake_cuda, &environments)?;
    cross::in_tests(&mut count)?;
    python_suites(&mut count, &environments, &fake_cuda)?;
    for mut test in embedded::tests()? {
        count.run(&mut test)?;
    }
    count.close()
}

/// Runs the Python suite in the environment of one version of CPython.
pub(crate) fn on_python(version: &str) -> Outcome {
    let environments = Environments::begin(Some(version))?;
    let mut count = Count::default();
    python_suites(&mut count, &environments.ready()?, &fake_cuda::folder()?)?;
    count.close()
}

fn python_suites(count: &mut Count, environments: &[&Environment], fake_cuda: &Path) -> Outcome {
    for mut suites in python::tests(environments)? {
        for tests in &mut suites {
            tests.env("DLBRIDGE_FAKE_CUDA", fake_cuda);
        }
        count.run_together(suites)?;
    }
    Ok(())
}

/// The CUDA tests: on the fake driver, and without a driver, as most machines are.
fn cuda(count: &mut Count, fake_cuda: &Path) -> Outcome {
    count.run(&mut cargo(&["test", "--package", "dlbridge-fake-cuda"]))?;
    for profile in [&[][..], &["--release"]] {
        let mut test = cargo(&["test", "--features", "cuda", "--lib", "--test", "cuda"]);
        test.args(profile).args(["--", "--skip", torch::COPY_TESTS]);
        count.run(test.env("LD_LIBRARY_PATH", fake_cuda))?;
    }
    let without_driver = ["test", "--features", "cuda", "--test", "dlpack", "--test", "tensor"];
    count.run(&mut cargo(&without_driver))
}

/// The examples in the documentation. One of them runs a model in ONNX Runtime.
fn documentation(count: &mut Count, fake_cuda: &Path, environments: &[&Environment]) -> Outcome {
    let mut test = torch::packages("test");
    test.arg("--doc").env("LD_LIBRARY_PATH", fake_cuda);
    let onnx_runtime = environments.iter().find_map(|environment| environment.onnx_runtime());
    if onnx_runtime.is_none() {
        eprintln!("\nskipped: ort's example needs PyPI's onnxruntime, and is only compiled");
    }
    count.run(test.envs(onnx_runtime.map(|library| ("ORT_DYLIB_PATH", library))))
}

/// The tests of threads: every order of their steps, and ThreadSanitizer.
fn threads(count: &mut Count, fake_cuda: &Path) -> Outcome {
    count.run(&mut concurrency::under_loom(fake_cuda))?;
    match concurrency::under_thread_sanitizer()? {
        Some(mut test) => count.run(&mut test),
        None => {
            eprintln!(
                "\nskipped: ThreadSanitizer needs a C compiler and a nightly toolchain that is as \
                 new as the stable one"
            );
            Ok(())
        }
    }
}

/// The C library: in debug all there is, optimised what programs see of it. C++ programs are tested
/// with the libtorch of the newest environment, too.
fn c_library(count: &mut Count, fake_cuda: &Path, environments: &[&Environment]) -> Outcome {
    let newest = environments.iter().filter(|environment| environment.torch != setup::TORCH);
    let newest = newest.filter_map(|environment| environment.libtorch()).next_back();
    for selection in [&[][..], &["--release", "--test", "suite", "programs::"]] {
        let mut test = cargo(&["test", "--package", "dlbridge-capi"]);
        test.args(selection).env("DLBRIDGE_FAKE_CUDA", fake_cuda);
        test.envs(newest.as_ref().map(|folder| ("DLBRIDGE_NEWEST_LIBTORCH", folder)));
        count.run(tools::found_by(&mut test))?;
    }
    Ok(())
}

/// Everything that does not link libtorch, under AddressSanitizer with its leak check.
fn sanitized(count: &mut Count, fake_cuda: &Path) -> Outcome {
    let Some(mut test) = under_address_sanitizer() else {
        eprintln!(
            "\nskipped: AddressSanitizer needs a nightly toolchain that is as new as the stable one"
        );
        return Ok(());
    };
    test.arg("--lib");
    for name in ["display", "dlpack", "dlpark", "ffi", "ndarray", "owners", "tensor", "views"] {
        test.args(["--test", name]);
    }
    count.run(&mut test)?;
    if let Some(mut test) = under_address_sanitizer() {
        test.args(["--lib", "--test", "cuda", "--", "--skip", torch::COPY_TESTS]);
        // Some tests leak memory on purpose.
        test.env("ASAN_OPTIONS", "allocator_may_return_null=1:detect_leaks=0");
        count.run(test.env("LD_LIBRARY_PATH", fake_cuda))?;
    }
    Ok(())
}

/// The command that runs tests of the core crate with CUDA, and of the C library, under
/// AddressSanitizer; `None` without a toolchain that has it.
fn under_address_sanitizer() -> Option<Command> {
    if !nightly_is_new_enough() {
        return None;
    }
    let mut test = Command::new("rustup");
    test.args(["run", "nightly", "cargo", "test", "--target", env!("TARGET")]);
    test.args(["--package", "dlbridge", "--package", "dlbridge-capi"]);
    test.args(["--features", "dlbridge/cuda,dlbridge/safetensors"]);
    // Without optimisation, the tests of the copy engine take four times as long. Debug assertions
    // stay.
    test.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
    test.env("RUSTFLAGS", "-Zsanitizer=address")
        .env("CARGO_TARGET_DIR", root().join("target/sanitized"));
    // A block in the cache is not freed memory, so its use would not be found.
    test.env("DLBRIDGE_CACHE_LIMIT", "0");
    // Tests ask for more memory than there is, to see the error.
    test.env("ASAN_OPTIONS", "allocator_may_return_null=1").env_remove("CARGO").current_dir(root());
    Some(test)
}
