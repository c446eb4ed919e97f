//! What was made, what was tried with it, and the table of both.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Outcome;

/// Everything that was made and tried so far.
pub(super) struct Report {
    begin: Instant,
    entries: Vec<Entry>,
}

/// A file, or what was to become one.
struct Entry {
    name: String,
    /// How large the file is, in bytes; `None` if it was not made.
    size: Option<u64>,
    lines: Vec<Line>,
}

/// A step with a file: how it ended, and how long it took.
struct Line {
    state: State,
    time: Duration,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Ok,
    Failed,
    /// It needs a tool that this machine lacks.
    Skipped,
}

impl Report {
    pub(super) fn new() -> Self {
        Self { begin: Instant::now(), entries: Vec::new() }
    }

    /// Begins the lines of a file that was made before.
    pub(super) fn found(&mut self, file: &Path) {
        let size = fs::metadata(file).map(|metadata| metadata.len()).ok();
        self.entries.push(Entry { name: file_name(file), size, lines: Vec::new() });
    }

    /// Makes a file; if that fails, notes it as a failure.
    pub(super) fn make(
        &mut self,
        name: &str,
        make: impl FnOnce() -> Outcome<PathBuf>,
    ) -> Option<PathBuf> {
        let begin = Instant::now();
        let made = make();
        let size = made.as_ref().ok().and_then(|path| Some(fs::metadata(path).ok()?.len()));
        let (line, path) = match made {
            Ok(path) => (Line::ok(begin, "made"), Some(path)),
            Err(error) => (Line::failed(begin, &format!("not made: {error}")), None),
        };
        let name = path.as_deref().map_or_else(|| name.to_owned(), file_name);
        self.entries.push(Entry { name, size, lines: vec![line] });
        path
    }

    /// Notes that something was not made, because this machine lacks something.
    pub(super) fn skip(&mut self, name: &str, reason: &str) {
        let line = Line {
            state: State::Skipped,
            time: Duration::ZERO,
            text: format!("not made: {reason}"),
        };
        self.entries.push(Entry { name: name.to_owned(), size: None, lines: vec![line] });
    }

    /// Tries the file that was made last; the try says what it did.
    pub(super) fn attempt(&mut self, what: &str, attempt: impl FnOnce() -> Outcome<String>) {
        let begin = Instant::now();
        let line = match attempt() {
            Ok(said) if said.is_empty() => Line::ok(begin, what),
            Ok(said) => Line::ok(begin, &format!("{what}: {said}")),
            Err(error) => Line::failed(begin, &format!("{what}: {error}")),
        };
        self.note(line);
    }

    /// Notes that something was not tried with the file that was made last.
    pub(super) fn not_tried(&mut self, what: &str, reason: &str) {
        let text = format!("{what}: not tried, {reason}");
        self.note(Line { state: State::Skipped, time: Duration::ZERO, text });
    }

    fn note(&mut self, line: Line) {
        if let Some(entry) = self.entries.last_mut() {
            entry.lines.push(line);
        }
    }

    /// The table, with the total time.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        for Entry { name, size, lines } in &self.entries {
            text += &match size {
                Some(size) => format!("{name}  {}\n", of_size(*size)),
                None => format!("{name}\n"),
            };
            for Line { state, time, text: what } in lines {
                let state = match state {
                    State::Ok => "ok",
                    State::Failed => "FAILED",
                    State::Skipped => "-",
                };
                text += &format!("  {state:<6} {:>6.1} s  {what}\n", time.as_secs_f64());
            }
        }
        let sizes = self.entries.iter().filter_map(|entry| entry.size);
        let (files, size) = (sizes.clone().count(), of_size(sizes.sum()));
        let seconds = self.begin.elapsed().as_secs_f64();
        text + &format!(
            "{files} files of {size}, {} ok, {} failed, {} skipped, in {seconds:.0} s",
            self.count(State::Ok),
            self.count(State::Failed),
            self.count(State::Skipped),
        )
    }

    fn count(&self, state: State) -> usize {
        let lines = self.entries.iter().flat_map(|entry| &entry.lines);
        lines.filter(|line| line.state == state).count()
    }

    /// Fails if a step failed, or if nothing was made.
    pub(super) fn close(&self) -> Outcome {
        match self.count(State::Failed) {
            0 if self.count(State::Ok) > 0 => Ok(()),
            0 => Err("nothing was made".into()),
            failed => Err(format!("{failed} steps failed").into()),
        }
    }
}

impl Line {
    fn ok(begin: Instant, text: &str) -> Self {
        Self { state: State::Ok, time: begin.elapsed(), text: text.to_owned() }
    }

    fn failed(begin: Instant, text: &str) -> Self {
        Self { state: State::Failed, time: begin.elapsed(), text: text.to_owned() }
    }
}

/// The name of a file, without its folder.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn of_size(bytes: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = KIB * KIB;
    if bytes < MIB {
        format!("{} KiB", bytes.div_ceil(KIB))
    } else {
        let tenths = (bytes * 10).div_ceil(MIB);
        format!("{}.{} MiB", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_shown_and_fails_the_command() -> Outcome {
        let mut report = Report::new();
        assert!(report.close().is_err(), "nothing was made");
        let file = Path::new(file!()).file_name().unwrap_or_default();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dist").join(file);
        assert!(report.make("a", || Ok(path)).is_some());
        report.attempt("first", || Ok("it says so".to_owned()));
        report.skip("b", "there is no tool");
        report.close()?;
        assert!(report.make("c", || Err("no space".into())).is_none());
        report.attempt("second", || Err("it ended with 1".into()));
        assert_eq!(report.close().map_err(|error| error.to_string()), Err("2 steps failed".into()));
        let table = report.table();
        for text in [
            "report.rs  ",
            "ok        0.0 s  first: it says so\n",
            "-         0.0 s  not made: there is no tool\n",
            "FAILED    0.0 s  not made: no space\n",
            "FAILED    0.0 s  second: it ended with 1\n",
            "1 files of",
            "2 ok, 2 failed, 1 skipped",
        ] {
            assert!(table.contains(text), "{text}\n{table}");
        }
        Ok(())
    }

    #[test]
    fn sizes_are_rounded_up() {
        for (bytes, text) in [(1, "1 KiB"), (1024, "1 KiB"), (1 << 20, "1.0 MiB")] {
            assert_eq!(of_size(bytes), text);
        }
        assert_eq!(of_size((1 << 20) + 1), "1.1 MiB");
    }
}
