//! `cargo xtask gpu-check`: a folder with all that a machine with a GPU and PyTorch needs to test and to measure
//! dlbridge. Nothing is built or fetched there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Outcome, cargo, python, root, run, show, succeeded, test};

/// The libtorch that the Rust tests are built for: the oldest one. With another PyTorch they are skipped.
const LIBTORCH: &str = "2.11";

/// pytest and what it needs, for any Python from 3.11 on.
const PYTEST: [&str; 5] =
    ["pytest==9.2.0", "pluggy==1.7.0", "iniconfig==2.3.1", "packaging==26.4", "pygments==2.21.0"];

/// Makes the folder and an archive of it; runs what is in it if this is such a machine.
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
    fs::write(&script, RUN.replace("@LIBTORCH@", LIBTORCH))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let mut tar = Command::new("tar");
    run(tar.arg("-czf").arg(&archive).arg("-C").arg(&target).arg("gpu-check"))?;
    if has_device() {
        return run(&mut Command::new(script));
    }
    println!("packed: {}, for a machine with a GPU, PyTorch {LIBTORCH} and CuPy", archive.display());
    println!(
        "there: tar -xzf gpu-check.tar.gz && gpu-check/run    # writes gpu-check/results, or $DLBRIDGE_RESULTS"
    );
    Ok(())
}

fn has_device() -> bool {
    let listed = Command::new("nvidia-smi").arg("-L").output();
    listed.is_ok_and(|listed| listed.status.success() && listed.stdout.starts_with(b"GPU "))
}

/// The package's wheel, and those of pytest.
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

/// `tests/torch.rs` as a program, without what only debuggers want.
fn rust_tests(program: &Path) -> Outcome {
    let (workspace, libtorch, target) = test::workspace_on(LIBTORCH)?;
    let mut build = cargo(&["rustc", "--release", "--features", "cuda,torch", "--test", "torch"]);
    build.arg("--message-format=json-render-diagnostics").current_dir(workspace);
    // Nothing calls libtorch's part for CUDA by name: without this it is left out, and libtorch finds no device.
    build.args(["--", "-Clink-arg=-Wl,--no-as-needed,-ltorch_cuda"]);
    build.env_remove("LIBTORCH_USE_PYTORCH").env("LIBTORCH", libtorch).env("CARGO_TARGET_DIR", target);
    show(&build);
    let output = build.stderr(Stdio::inherit()).output()?;
    let built = executable(&String::from_utf8_lossy(&output.stdout));
    succeeded(&build, Ok(output.status))?;
    let built = built.ok_or("cargo names no program that it built")?;
    run(Command::new("strip").arg("-o").arg(program).arg(built))
}

/// The program that cargo's messages name.
fn executable(messages: &str) -> Option<PathBuf> {
    let named = |line: &str| Some(line.split_once("\"executable\":\"")?.1.split_once('"')?.0.into());
    messages.lines().find_map(named)
}

/// What the machine runs.
const RUN: &str = r#"#!/usr/bin/env bash
# Tests dlbridge on this machine's GPU, and measures it. Needs python3 with pip, PyTorch, NumPy and CuPy; what needs
# JAX is skipped where that is missing. Writes to results/, or to $DLBRIDGE_RESULTS.
#
# `run pytest`, `run rust` and `run bandwidth` do one part. Fails if a part does; the others run all the same.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit
results=${DLBRIDGE_RESULTS:-$PWD/results}
site=$(mktemp -d) || exit
trap 'rm -rf "$site"' EXIT
mkdir -p "$results" || exit

python3 -m pip install --quiet --disable-pip-version-check --no-index --no-deps --target "$site" wheels/*.whl || exit
export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
# Plugins that happen to be there may not be for this pytest.
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 PYTHONDONTWRITEBYTECODE=1
# JAX would take most of the device's memory for itself.
export XLA_PYTHON_CLIENT_PREALLOCATE=false

machine() {
  nvidia-smi
  nvidia-smi --query-gpu=name,driver_version,memory.total,pcie.link.gen.current,pcie.link.width.current --format=csv
  uname -srm
  grep -m 1 "model name" /proc/cpuinfo
  echo "$(nproc) cores"
  python3 --version
  python3 - <<'END'
from importlib.metadata import PackageNotFoundError, version

for name in "dlbridge torch numpy cupy-cuda13x cupy-cuda12x jax jaxlib jax-cuda13-plugin jax-cuda12-plugin".split():
    try:
        print(name, version(name))
    except PackageNotFoundError:
        pass
END
}

pytest() {
  python3 -m pytest tests -q -rs --durations=10 -p no:cacheprovider -o faulthandler_timeout=120
}

rust() {
  local libraries
  libraries=$(python3 - <<'END'
import glob
import os

import torch

folder = os.path.dirname(torch.__file__)
if torch.__version__.startswith("@LIBTORCH@."):
    print(":".join([f"{folder}/lib", *glob.glob(f"{os.path.dirname(folder)}/nvidia/*/lib")]))
END
  ) || return
  if [ -z "$libraries" ]; then
    echo "skipped: the program is for PyTorch @LIBTORCH@"
    return
  fi
  DLBRIDGE_EXPECTS_CUDA=1 LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} ./torch
}

bandwidth() {
  python3 bandwidth.py
}

failed=
# Runs a part, shows what it prints, and keeps it.
part() {
  echo "== $1"
  "$1" 2>&1 | tee "$results/$2" || failed+=" $1"
}

parts=" ${*:-pytest rust bandwidth} "
part machine machine.txt
for name in pytest rust bandwidth; do
  case $parts in *" $name "*) ;; *) continue ;; esac
  case $name in bandwidth) part bandwidth bandwidth.md ;; *) part "$name" "$name.txt" ;; esac
done
if [ -n "$failed" ]; then
  echo "failed:$failed"
  exit 1
fi
"#;
