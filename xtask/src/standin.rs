//! The stand-in for CUDA's driver, where tests find it.

use std::fs;
use std::path::PathBuf;

use crate::{Outcome, cargo, root, run};

/// Builds it, and gives the folder that goes on `LD_LIBRARY_PATH`.
pub(crate) fn folder() -> Outcome<PathBuf> {
    run(&mut cargo(&["build", "--package", "dlbridge-standin"]))?;
    let target = root().join("target");
    let folder = target.join("standin");
    fs::create_dir_all(&folder)?;
    fs::copy(target.join("debug/libdlbridge_standin.so"), folder.join("libcuda.so.1"))?;
    Ok(folder)
}
