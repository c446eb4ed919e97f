//! `cargo xtask loom` and `cargo xtask tsan`: tests of threads whose outcome may depend
//! on timing.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{answers, nightly_is_new_enough};
use crate::{Outcome, cargo, fake_cuda, root, run};

/// Relative to the workspace, which is where cargo runs the tests of its root package.
const SUPPRESSIONS: &str = "tests/support/thread_sanitizer.supp";

/// Runs the tests of loom.
pub(crate) fn loom() -> Outcome {
    run(&mut under_loom(&fake_cuda::folder()?))
}

/// Runs the tests of threads under ThreadSanitizer.
pub(crate) fn tsan() -> Outcome {
    match under_thread_sanitizer()? {
        Some(mut test) => run(&mut test),
        None => Err("ThreadSanitizer needs a C compiler and a nightly toolchain as new as the \
                     stable one"
            .into()),
    }
}

/// The unit tests in which loom tries every order of the threads' steps. They are named after it,
/// because all others fail in a build in which loom's types replace std's.
pub(crate) fn under_loom(fake_cuda: &Path) -> Command {
    let mut test = cargo(&["test", "--features", "cuda", "--lib", "loom_"]);
    test.env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", root().join("target/loom"))
        .env("LD_LIBRARY_PATH", fake_cuda)
        .env("RUST_BACKTRACE", "0"); // Most of these tests panic, as they should.
    test
}

/// The command that runs the tests of threads under ThreadSanitizer; `None` without its tools.
pub(crate) fn under_thread_sanitizer() -> Outcome<Option<Command>> {
    if !nightly_is_new_enough() || !answers(Command::new("cc").arg("--version")) {
        return Ok(None);
    }
    let target = root().join("target/tsan");
    std::fs::create_dir_all(&target)?;
    let wraps = wraps()?;
    let object = target.join("thread_sanitizer.o");
    let mut compile = Command::new("cc");
    compile.args(["-O1", "-fPIC", "-c", "tests/support/thread_sanitizer.c", "-o"]).arg(&object);
    compile.args(wraps.iter().map(|(name, symbol)| format!("-D{name}={symbol}")));
    run(compile.current_dir(root()))?;
    let mut flags = vec![
        "-Zsanitizer=thread".to_owned(),
        // std is not compiled with ThreadSanitizer; `thread_sanitizer.c` makes up for it.
        "-Cunsafe-allow-abi-mismatch=sanitizer".to_owned(),
        format!("-Clink-arg={}", object.display()),
        "-Clink-arg=-Wl,--wrap=__tsan_atomic64_fetch_sub".to_owned(),
    ];
    flags.extend(wraps.iter().map(|(_, symbol)| format!("-Clink-arg=-Wl,--wrap={symbol}")));
    let mut test = Command::new("rustup");
    test.args(["run", "nightly", "cargo", "test", "--target", env!("TARGET")])
        .args(["--test", "concurrency", "--test", "threads", "--test", "tensor"])
        // One test at a time: their threads are enough, and a report names one of them.
        .args(["--", "--test-threads=1"]);
    test.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CARGO_TARGET_DIR", target)
        .env("TSAN_OPTIONS", format!("allocator_may_return_null=1 suppressions={SUPPRESSIONS}"))
        .env_remove("CARGO")
        .current_dir(root());
    Ok(Some(test))
}

/// The functions of std that `thread_sanitizer.c` wraps: its names for them, and the linker's.
fn wraps() -> Outcome<Vec<(&'static str, String)>> {
    const WRAPPED: [(&str, &str); 3] = [
        ("LOCK_CONTENDED", "std::sys::sync::mutex::futex::Mutex::lock_contended"),
        ("CONDVAR_WAIT", "std::sys::sync::condvar::futex::Condvar::wait"),
        ("ONCE_CALL", "std::sys::sync::once::futex::Once::call"),
    ];
    let listed = Command::new("nm").args(["-D", "--defined-only"]).arg(shared_std()?).output()?;
    let listed = String::from_utf8(listed.stdout)?;
    let symbols = || listed.lines().filter_map(|line| line.split_whitespace().nth(2));
    let find = |(name, path): &(&'static str, &str)| {
        let found = symbols().find(|symbol| is_mangled(symbol, path));
        let found = found.ok_or_else(|| format!("nightly's std has no {path}"))?;
        Ok((*name, found.to_owned()))
    };
    WRAPPED.iter().map(find).collect()
}

/// Whether a symbol is the mangled path of a method: each part follows in order, with its length.
fn is_mangled(symbol: &str, path: &str) -> bool {
    let mut rest = symbol;
    for part in path.split("::") {
        let part = format!("{}{part}", part.len());
        let Some(at) = rest.find(&part) else { return false };
        rest = &rest[at + part.len()..];
    }
    // No further part follows: a closure within the function, say.
    rest.is_empty()
}

/// std as a shared library, whose list of symbols `nm` can read in every version.
fn shared_std() -> Outcome<PathBuf> {
    let output = Command::new("rustup")
        .args(["run", "nightly", "rustc", "--print", "target-libdir"])
        .output()?;
    let folder = String::from_utf8(output.stdout)?;
    for entry in std::fs::read_dir(folder.trim())? {
        let path = entry?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if name.starts_with("libstd-") && name.ends_with(".so") {
            return Ok(path);
        }
    }
    Err("nightly has no shared std".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mangled_paths_are_recognised() {
        let symbol = "_RNvMNtNtNtNtCsi4_3std3sys4sync5mutex5futexNtB2_5Mutex14lock_contended";
        let path = "std::sys::sync::mutex::futex::Mutex::lock_contended";
        assert!(is_mangled(symbol, path));
        assert!(!is_mangled(&format!("{symbol}0s_0B5_"), path));
        assert!(!is_mangled(symbol, "std::sys::sync::condvar::futex::Condvar::wait"));
    }
}
