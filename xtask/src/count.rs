//! Runs of tests: shows what they print, and counts what passed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;

use crate::command::text;
use crate::steps::timed;
use crate::{Outcome, show, succeeded};

/// What the runs of cargo and pytest counted.
#[derive(Default)]
pub(crate) struct Count {
    passed: usize,
    failed: usize,
}

impl Count {
    /// Runs tests, shows what they print, and adds up what they say at the end.
    pub(crate) fn run(&mut self, command: &mut Command) -> Outcome {
        show(command);
        let status = timed(text(command), || -> std::io::Result<_> {
            let mut child = command.stdout(Stdio::piped()).spawn()?;
            if let Some(output) = child.stdout.take() {
                for line in BufReader::new(output).lines() {
                    let line = line?;
                    println!("{line}");
                    self.add(&line);
                }
            }
            child.wait()
        });
        succeeded(command, status)
    }

    /// Runs several commands at the same time, and shows what each printed when it has ended.
    pub(crate) fn run_together(&mut self, commands: Vec<Command>) -> Outcome {
        let running: Vec<_> = commands
            .into_iter()
            .map(|mut command| {
                show(&command);
                thread::spawn(move || {
                    let output = timed(text(&command), || {
                        command.stdout(Stdio::piped()).spawn()?.wait_with_output()
                    });
                    (command, output)
                })
            })
            .collect();
        let mut outcome = Ok(());
        for command in running {
            let (command, output) = command.join().map_err(|_| "a thread panicked")?;
            println!("\n$ {}", text(&command));
            let status = output.map(|output| {
                for line in String::from_utf8_lossy(&output.stdout).lines() {
                    println!("{line}");
                    self.add(line);
                }
                output.status
            });
            outcome = outcome.and(succeeded(&command, status));
        }
        outcome
    }

    fn add(&mut self, line: &str) {
        // Cargo's summary, or pytest's.
        let pytest = line.contains(" passed") && line.contains(" in ");
        let Some(result) = line.strip_prefix("test result: ").or(pytest.then_some(line)) else {
            return;
        };
        for part in result.split(['.', ';', ',']) {
            let mut words = part.split_whitespace();
            if let (Some(Ok(number)), Some(what)) =
                (words.next().map(str::parse::<usize>), words.next())
            {
                match what {
                    "passed" => self.passed += number,
                    "failed" => self.failed += number,
                    _ => {}
                }
            }
        }
    }

    pub(crate) fn close(&self) -> Outcome {
        println!("\n{} passed, {} failed", self.passed, self.failed);
        if self.passed > 0 && self.failed == 0 { Ok(()) } else { Err("tests failed".into()) }
    }
}
