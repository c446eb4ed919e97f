//! Tensors of every kind that libtorch has × every conversion, whole and as a window with an
//! offset: each is refused with its reason, or gives the values that libtorch gives.
//!
//! Every case runs in a process of its own, because a failure here ends the process. The
//! program runs without the test harness, which has threads: the children come from `fork`.
//! Arguments select sources by a part of their names.

mod convert;
mod sources;

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};

use sources::Source;

/// The last line that a child prints.
const RIGHT: &str = "right";
const ABSENT: &str = "this libtorch makes no such tensor";

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let (mut right, mut absent, mut wrong) = (0, Vec::new(), Vec::new());
    for source in sources::all() {
        let selected = |part: &String| source.name.contains(part.as_str());
        if !wanted.is_empty() && !wanted.iter().any(selected) {
            continue;
        }
        let mut made = false;
        for (window, conversion) in
            [false, true].into_iter().flat_map(|w| convert::ALL.iter().map(move |c| (w, *c)))
        {
            match in_child(|| case(&source, window, conversion)).as_str() {
                RIGHT => (made, right) = (true, right + 1),
                ABSENT => {}
                text => {
                    made = true;
                    let part = if window { "a window of it" } else { "whole" };
                    wrong.push(format!("{} ({part}), {conversion}: {text}", source.name));
                }
            }
        }
        if !made {
            absent.push(source.name);
        }
    }
    println!("not made by this libtorch: {}", absent.join(", "));
    wrong.iter().for_each(|line| println!("{line}"));
    // Few are missing from any libtorch, so that a typing mistake in a source is noticed.
    let enough = !wanted.is_empty() || (right > 1800 && absent.len() <= 6);
    let verdict = if wrong.is_empty() && enough { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {right} passed; {} failed", wrong.len());
    std::process::exit(i32::from(verdict != "ok"));
}

/// One source and one conversion; what is wrong, or [`RIGHT`].
fn case(source: &Source, window: bool, conversion: &str) -> String {
    let Some(tensor) = source.make(window) else { return ABSENT.to_owned() };
    let refusal = source.refusal_of(conversion);
    match (convert::apply(conversion, tensor), refusal) {
        (Err(error), Some(reason)) if error.to_string().contains(reason) => RIGHT.to_owned(),
        (Err(error), Some(reason)) => format!("the error does not say {reason:?}: {error}"),
        (Err(error), None) => format!("refused: {error}"),
        (Ok(values), Some(reason)) => format!("not refused as {reason:?}: {values:?}"),
        (Ok(values), None) => {
            let same = source.make(window).map(|tensor| convert::values_of_libtorch(&tensor));
            if same.as_ref() == Some(&values) {
                RIGHT.to_owned()
            } else {
                format!("gives {values:?}, libtorch {same:?}")
            }
        }
    }
}

/// Drops what this process says to its error output: libtorch warns about sparse and quantized
/// tensors, once in each process.
fn silence_stderr() {
    if let Ok(nothing) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        // SAFETY: two open descriptors of this process.
        unsafe { libc::dup2(nothing.as_raw_fd(), 2) };
    }
}

/// Runs `test` in a child of this process and returns its answer, or how the child ended.
fn in_child(test: impl FnOnce() -> String) -> String {
    let mut pipe = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0, "a pipe");
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends the child if it hangs.
        unsafe { libc::alarm(60) };
        silence_stderr();
        let text = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test))
            .unwrap_or_else(|_| "panicked".to_owned());
        // SAFETY: the end of the pipe that the child writes to, which it owns.
        let mut answer = unsafe { std::fs::File::from_raw_fd(pipe[1]) };
        let status = i32::from(answer.write_all(text.as_bytes()).is_err());
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(status) };
    }
    // SAFETY: the parent does not write.
    unsafe { libc::close(pipe[1]) };
    let mut text = String::new();
    // SAFETY: the end of the pipe that the parent reads from, which it owns.
    let read = unsafe { std::fs::File::from_raw_fd(pipe[0]) }.read_to_string(&mut text);
    let mut status = -1;
    // SAFETY: the child from above.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    match read {
        Ok(_) if status == 0 => text,
        _ => format!("the process ended with status {status}"),
    }
}
