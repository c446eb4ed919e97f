//! `cargo xtask fuzz`: builds the fuzz targets with libFuzzer and AddressSanitizer, runs them, and
//! says how many inputs they executed.
//!
//! The targets are built as cargo-fuzz builds them, by nightly's cargo, so that cargo-fuzz need not
//! be installed. What they find out about inputs is kept in `target/fuzz/corpus`; the committed
//! inputs in `fuzz/seeds` are read as well.

use std::fs::{self, File};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::command::{nightly_is_new_enough, text};
use crate::steps::timed;
use crate::{Outcome, root, run as run_command, show};

/// The fuzz targets, named as their files in `fuzz/fuzz_targets`.
const TARGETS: [&str; 4] = ["c_calls", "copies", "dlpack", "handles"];

/// What the compiler adds for libFuzzer and AddressSanitizer. Comparisons are not traced: that
/// takes twice the time, and the harnesses take the numbers that matter from tables.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Zsanitizer=address -Cdebug-assertions \
    -Ccodegen-units=1";

/// The harnesses ask for more memory than there is, to see the error. The other two options save
/// time.
const ASAN_OPTIONS: &str =
    "allocator_may_return_null=1:detect_stack_use_after_return=0:malloc_context_size=5";

/// How long each target runs in `cargo xtask test`.
const IN_TESTS: Duration = Duration::from_secs(10);

/// How long the targets run in all when the command line does not say.
const BY_DEFAULT: Duration = Duration::from_secs(600);

/// Runs every target for [`IN_TESTS`]. Says what it skips where the toolchain is missing.
pub(crate) fn in_tests() -> Outcome {
    if !nightly_is_new_enough() {
        eprintln!("\nskipped: fuzzing needs a nightly toolchain that is as new as the stable one");
        return Ok(());
    }
    // A target uses one core.
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    fuzz(&TARGETS, IN_TESTS, cores.min(2))
}

/// `cargo xtask fuzz [TARGET] [--hours N | --minutes N]` and `cargo xtask fuzz TARGET FILE`.
pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let (targets, rest) = match arguments {
        [target, rest @ ..] if !target.starts_with("--") => (vec![known(target)?], rest),
        rest => (TARGETS.to_vec(), rest),
    };
    let time = match *rest {
        [] => BY_DEFAULT,
        ["--hours", number] => duration(number, 3600)?,
        ["--minutes", number] => duration(number, 60)?,
        [file] if targets.len() == 1 => return replay(targets[0], file),
        _ => {
            return Err(
                "usage: fuzz [TARGET] [--hours N | --minutes N], or fuzz TARGET FILE".into()
            );
        }
    };
    fuzz(&targets, time / targets.len() as u32, 1)
}

/// The target of this name.
fn known(name: &str) -> Outcome<&'static str> {
    let found = TARGETS.into_iter().find(|target| *target == name);
    found.ok_or_else(|| format!("no fuzz target {name}; there are {}", TARGETS.join(", ")).into())
}

fn duration(number: &str, unit: u64) -> Outcome<Duration> {
    let seconds = number.parse::<f64>()? * unit as f64;
    Ok(Duration::try_from_secs_f64(seconds)?)
}

/// Runs one input, which libFuzzer wrote or a user.
fn replay(target: &str, file: &str) -> Outcome {
    build()?;
    run_command(program(target).arg(file))
}

/// Runs targets, `at_once` of them at a time, each for the same time, and sums up.
fn fuzz(targets: &[&str], time: Duration, at_once: usize) -> Outcome {
    build()?;
    let mut report = String::new();
    let mut failures = Vec::new();
    for some in targets.chunks(at_once) {
        let sessions = thread::scope(|scope| {
            let begin =
                |target| scope.spawn(move || session(target, time).map_err(|e| e.to_string()));
            let running: Vec<_> = some.iter().map(|target| begin(*target)).collect();
            running.into_iter().map(|session| session.join()).collect::<Vec<_>>()
        });
        for (target, session) in some.iter().zip(sessions) {
            let Session { executions, failure } = session.map_err(|_| "a thread panicked")??;
            let per_second = executions as f64 / time.as_secs_f64().max(1.0);
            report +=
                &format!("{target:>10}: {executions:>12} executions, {per_second:.0} per second\n");
            failures.extend(failure);
        }
    }
    print!("\n{report}");
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

/// Builds all targets.
fn build() -> Outcome {
    if !nightly_is_new_enough() {
        return Err("fuzzing needs a nightly toolchain: `rustup toolchain install nightly`".into());
    }
    let mut build = Command::new("rustup");
    build
        .args(["run", "nightly", "cargo", "build", "--release", "--target", env!("TARGET")])
        .args(["--package", "dlbridge-fuzz", "--bins"])
        .env("RUSTFLAGS", RUSTFLAGS)
        .env("CARGO_TARGET_DIR", folder());
    run_command(build.env_remove("CARGO").current_dir(root()))
}

fn folder() -> PathBuf {
    root().join("target/fuzz")
}

fn program(target: &str) -> Command {
    let program = folder().join(env!("TARGET")).join("release").join(target);
    let mut command = Command::new(program);
    // A block in the cache is not freed memory, so its use would not be found.
    command.env("DLBRIDGE_CACHE_LIMIT", "0");
    command.env("ASAN_OPTIONS", ASAN_OPTIONS).current_dir(root());
    command
}

/// What became of one run of a target.
struct Session {
    executions: u64,
    failure: Option<String>,
}

/// Runs a target for some time. What it prints goes into a file.
fn session(target: &str, time: Duration) -> Outcome<Session> {
    let corpus = folder().join("corpus").join(target);
    let artifacts = folder().join("artifacts").join(target);
    let log = folder().join(format!("{target}.log"));
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    let mut command = program(target);
    command
        .arg(format!("-max_total_time={}", time.as_secs()))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-print_final_stats=1", "-max_len=160", "-len_control=0"])
        // Both cost more time than they save with harnesses as fast as these.
        .args(["-entropic=0", "-reduce_inputs=0"])
        .args(["-timeout=600", "-report_slow_units=600", "-rss_limit_mb=4096"])
        .args([corpus, root().join("fuzz/seeds").join(target)]);
    show(&command);
    let status = timed(text(&command), || -> std::io::Result<_> {
        command.stderr(File::create(&log)?).status()
    })?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let failure = (!status.success()).then(|| describe(target, &text, &log.display().to_string()));
    Ok(Session { executions: executions(&text), failure })
}

/// What libFuzzer says at the end, or said last.
fn executions(log: &str) -> u64 {
    let total = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let last = || log.lines().rev().find_map(|line| line.strip_prefix('#')?.split('\t').next());
    total.or_else(last).and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

/// What a run found, and how to see it again.
fn describe(target: &str, log: &str, path: &str) -> String {
    let mut text = format!("{target} failed, see {path}");
    let mut lines = log.lines();
    let is_cause = |line: &&str| line.contains("panicked at") || line.contains("ERROR: ");
    if let Some(cause) = lines.by_ref().find(is_cause) {
        text += &format!("\n  {cause}\n  {}", lines.next().unwrap_or_default());
    }
    let written = "Test unit written to ";
    if let Some((_, file)) = log.lines().find_map(|line| line.split_once(written)) {
        text += &format!("\n  to run this input again: cargo xtask fuzz {target} {file}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_read_from_what_libfuzzer_prints() {
        let log =
            "#2\tINITED cov: 1\n#4096\tpulse  cov: 1\nDone\nstat::number_of_executed_units: 5000\n";
        assert_eq!(executions(log), 5000);
        assert_eq!(executions("#2\tINITED cov: 1\n#4096\tpulse  cov: 1\n==1== ERROR: x\n"), 4096);
        assert_eq!(executions(""), 0);
    }

    #[test]
    fn failures_name_the_cause_and_the_input() {
        let log = "thread panicked at fuzz/src/a.rs:1:2:\nwrong elements\n\
            artifact_prefix='x/'; Test unit written to x/crash-1\n";
        let text = describe("copies", log, "copies.log");
        assert!(text.contains("fuzz/src/a.rs:1:2") && text.contains("wrong elements"));
        assert!(text.contains("cargo xtask fuzz copies x/crash-1"));
    }

    #[test]
    fn every_target_has_a_file() {
        for target in TARGETS {
            assert!(root().join(format!("fuzz/fuzz_targets/{target}.rs")).is_file(), "{target}");
        }
        assert!(known("nothing").is_err());
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("1.5", 60).expect("a number"), Duration::from_secs(90));
        assert!(duration("-1", 60).is_err() && duration("x", 60).is_err());
    }
}
