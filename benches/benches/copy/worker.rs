//! A contender in a process of its own, whose heap no other contender changes.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use dlbridge_benches::Contender;

/// A process that answers each line of input with one line of output.
pub(crate) struct Worker {
    process: Child,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, answers }
    }

    pub(crate) fn ask(&mut self, line: &str) -> String {
        writeln!(self.process.stdin.as_mut().expect("piped"), "{line}").expect("it listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        assert!(!answer.is_empty(), "{line}: the process is gone");
        answer.trim_end().to_owned()
    }

    /// A contender whose turn is a request with the number of operations. The answer is the time of
    /// one operation in nanoseconds.
    pub(crate) fn contender<'a>(&'a mut self, name: &'static str, what: &'a str) -> Contender<'a> {
        let run = move |count: usize| {
            let time: f64 = self.ask(&format!("{what} {count}")).parse().expect("a number");
            Duration::from_secs_f64(time * count as f64 / 1e9)
        };
        Contender { name, run: Box::new(run) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// A version of NumPy, as the interpreter that has it.
pub(crate) struct NumPy {
    /// Its name as a contender.
    pub(crate) name: &'static str,
    python: String,
}

impl NumPy {
    /// The versions that the environment variables name: `DLBRIDGE_PYTHON`, and
    /// `DLBRIDGE_PYTHON_NEWEST` if it is set.
    pub(crate) fn all() -> Vec<Self> {
        let oldest = env::var("DLBRIDGE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let newest = env::var("DLBRIDGE_PYTHON_NEWEST").ok();
        let newest = newest.map(|python| Self { name: "newest NumPy", python });
        std::iter::once(Self { name: "NumPy", python: oldest }).chain(newest).collect()
    }

    /// Starts a process that measures this version.
    pub(crate) fn start(&self, without_recycling: bool) -> Worker {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/numpy_turns.py");
        let mut command = Command::new(&self.python);
        if without_recycling {
            command.env("MALLOC_MMAP_THRESHOLD_", crate::MMAP_THRESHOLD_BYTES.to_string());
        }
        Worker::start(command.arg(script))
    }
}

/// The request that describes a source to NumPy: shape, strides and offset of a part of memory that
/// has `length` elements.
pub(crate) fn numpy_case(
    dtype: &str,
    length: usize,
    shape: &[usize],
    strides: &[isize],
    offset: usize,
) -> String {
    let list = |numbers: &mut dyn Iterator<Item = String>| numbers.collect::<Vec<_>>().join(",");
    let shape = list(&mut shape.iter().map(usize::to_string));
    let strides = list(&mut strides.iter().map(isize::to_string));
    format!("case {dtype} {length} {shape} {strides} {offset}")
}
