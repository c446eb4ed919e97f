//! The log of calls, the faults, and the failures that tests inject.

#![forbid(unsafe_code)]

use std::fmt::Display;
use std::mem;

use crate::error::{Code, SUCCESS};

#[derive(Default)]
pub(crate) struct Log {
    /// The line of the call that is being served.
    line: String,
    calls: String,
    faults: String,
    failures: Vec<Failure>,
}

/// A failure that a test injected.
struct Failure {
    call: String,
    /// In how many calls from now the failure comes; 1 is the next call.
    countdown: i32,
    code: Code,
}

impl Log {
    /// Begins the line of a call. Returns the code to fail with, if a failure was injected.
    pub(crate) fn begin(&mut self, call: &str, arguments: impl Display) -> Option<Code> {
        self.line = format!("{call} {arguments}").trim_end().to_owned();
        let mut code = None;
        self.failures.retain_mut(|failure| {
            failure.countdown -= i32::from(failure.call == call);
            if failure.countdown == 0 {
                code = Some(failure.code);
            }
            failure.countdown > 0
        });
        code
    }

    /// Appends to the line of the call.
    pub(crate) fn note(&mut self, more: impl Display) {
        self.line = format!("{} {more}", self.line);
    }

    /// The line of the call so far.
    pub(crate) fn line(&self) -> String {
        self.line.clone()
    }

    /// Ends the line of the call.
    pub(crate) fn end(&mut self, code: Code) {
        self.calls += &mem::take(&mut self.line);
        if code != SUCCESS {
            self.calls += &format!(" -> {code}");
        }
        self.calls.push('\n');
    }

    /// Records a fault of the call that is being served.
    pub(crate) fn fault(&mut self, text: impl Display) {
        let line = self.line();
        self.fault_of(&line, text);
    }

    /// Records a fault of the call that has this line.
    pub(crate) fn fault_of(&mut self, line: &str, text: impl Display) {
        self.faults += &format!("{line}: {text}\n");
    }

    /// Lets the `nth` next call of `call` fail.
    pub(crate) fn fail(&mut self, call: &str, nth: i32, code: Code) {
        let call = call.trim_end_matches("_v2").to_owned();
        self.failures.push(Failure { call, countdown: nth, code });
    }

    pub(crate) fn calls(&self) -> &str {
        &self.calls
    }

    pub(crate) fn faults(&self) -> &str {
        &self.faults
    }
}
