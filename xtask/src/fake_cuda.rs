//! Builds the fake CUDA driver of `tests/support/fake-cuda` for the tests.

use std::fs;
use std::path::PathBuf;

use crate::{Outcome, cargo, root, run};

/// Builds the fake driver, and returns the folder that tests put on `LD_LIBRARY_PATH`.
pub(crate) fn folder() -> Outcome<PathBuf> {
    run(&mut cargo(&["build", "--package", "dlbridge-fake-cuda"]))?;
    let target = root().join("target");
    let folder = target.join("fake-cuda");
    fs::create_dir_all(&folder)?;
    fs::copy(target.join("debug/libdlbridge_fake_cuda.so"), folder.join("libcuda.so.1"))?;
    Ok(folder)
}
