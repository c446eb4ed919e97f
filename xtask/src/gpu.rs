//! `cargo xtask gpu-check`: packs a folder with everything that a machine with a GPU and PyTorch
//! needs to test and to measure dlbridge. That machine builds and downloads nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::has_gpu;
use crate::{Outcome, cargo, python, root, run, show, succeeded, template, torch};

/// The script that runs on the machine with the GPU.
const RUN: &str = include_str!("../templates/gpu-check.sh");

/// The libtorch that the Rust tests are built for: the oldest supported one. A machine with another
/// PyTorch skips them.
const LIBTORCH: &str = "2.11";

/// pytest and its dependencies, for any Python from 3.11 on.
const PYTEST: [&str; 5] =
    ["pytest==9.2.0", "pluggy==1.7.0", "iniconfig==2.3.1", "packaging==26.4", "pygments==2.21.0"];

/// Makes the folder and an archive of it; runs its script if this machine has a GPU.
pub(crate) fn check() -> Outcome {
    let target = root().join("target");
    let (pack, archive) = (target.join("gpu-check"), target.join("gpu-check.tar.gz"));
    if pack.exists() {
        fs::remove_dir_all(&pack)?;
    }
    for folder in ["tests", "wheels"] {
        fs::create_dir_all(pack.join(folder))?;
    }
    wheels(&pack.join("wheels"))?;
    python_tests(&pack.join("tests"))?;
    rust_tests(&pack.join("torch"))?;
    fs::copy(root().join("benches/python/gpu.py"), pack.join("bandwidth.py"))?;
    let script = pack.join("run");
    fs::write(&script, template::fill(RUN, &[("libtorch", LIBTORCH)]))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let mut tar = Command::new("tar");
    run(tar.arg("-czf").arg(&archive).arg("-C").arg(&target).arg("gpu-check"))?;
    if has_gpu() {
        return run(&mut Command::new(script));
    }
    println!(
        "packed: {}, for a machine with a GPU, PyTorch {LIBTORCH} and CuPy",
        archive.display()
    );
    println!(
        "there: tar -xzf gpu-check.tar.gz && gpu-check/run    # writes gpu-check/results, or $DLBRIDGE_RESULTS"
    );
    Ok(())
}

/// Copies the package's wheel and downloads those of pytest.
fn wheels(folder: &Path) -> Outcome {
    let python = python::installed()?.join("python");
    for entry in fs::read_dir(root().join("target/wheels"))? {
        let wheel = entry?.path();
        fs::copy(&wheel, folder.join(wheel.file_name().unwrap_or_default()))?;
    }
    let mut download = Command::new(python);
    download.args(["-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]);
    download.args(["--only-binary=:all:", "--python-version", "3.12", "--platform", "any"]);
    run(download.arg("--dest").arg(folder).args(PYTEST))
}

fn python_tests(folder: &Path) -> Outcome {
    for entry in fs::read_dir(root().join("python/tests/gpu"))? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "py") {
            fs::copy(&file, folder.join(file.file_name().unwrap_or_default()))?;
        }
    }
    Ok(())
}

/// Builds `tests/torch` as a program, and strips its debug information.
fn rust_tests(program: &Path) -> Outcome {
    let (workspace, libtorch, target) = torch::workspace_on(LIBTORCH)?;
    let mut build = cargo(&["rustc", "--release", "--features", "cuda,torch", "--test", "torch"]);
    build.arg("--message-format=json-render-diagnostics").current_dir(workspace);
    // No code refers to a symbol of libtorch_cuda.so, so the linker would drop it, and libtorch
    // would find no device.
    build.args(["--", "-Clink-arg=-Wl,--no-as-needed,-ltorch_cuda"]);
    build
        .env_remove("LIBTORCH_USE_PYTORCH")
        .env("LIBTORCH", libtorch)
        .env("CARGO_TARGET_DIR", target);
    show(&build);
    let output = build.stderr(Stdio::inherit()).output()?;
    let built = executable(&String::from_utf8_lossy(&output.stdout));
    succeeded(&build, Ok(output.status))?;
    let built = built.ok_or("cargo names no program that it built")?;
    run(Command::new("strip").arg("-o").arg(program).arg(built))
}

/// The path of the program in cargo's JSON messages.
fn executable(messages: &str) -> Option<PathBuf> {
    let named =
        |line: &str| Some(line.split_once("\"executable\":\"")?.1.split_once('"')?.0.into());
    messages.lines().find_map(named)
}
