//! How long each step of a command took.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Steps that took less time are summed up in one line.
const MIN_LISTED: Duration = Duration::from_secs(3);

struct Step {
    name: String,
    time: Duration,
}

/// The steps that have ended, in this order.
static STEPS: Mutex<Vec<Step>> = Mutex::new(Vec::new());

/// Runs a step, and notes how long it took.
pub(crate) fn timed<T>(name: String, step: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = step();
    let step = Step { name, time: begin.elapsed() };
    STEPS.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    result
}

/// Runs a command of xtask, then prints a table of its steps. Steps may overlap, so their sum may
/// be more than the time that the command took.
pub(crate) fn report<T>(command: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = command();
    let steps = STEPS.lock().unwrap_or_else(PoisonError::into_inner);
    eprintln!("\n{}", table(&steps, begin.elapsed()));
    result
}

fn table(steps: &[Step], total: Duration) -> String {
    let line = |time: Duration, name: &str| format!("{:>7.1} s  {name}\n", time.as_secs_f64());
    let mut text = String::new();
    let mut others = Duration::ZERO;
    for Step { name, time } in steps {
        if *time < MIN_LISTED {
            others += *time;
        } else {
            text += &line(*time, name);
        }
    }
    text + &line(others, "other steps") + line(total, "from begin to end").trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_steps_are_summed_up() {
        let steps = [(1.5, "a"), (12.25, "cargo test"), (2.0, "b")];
        let steps = steps.map(|(seconds, name)| Step {
            name: name.to_owned(),
            time: Duration::from_secs_f64(seconds),
        });
        let expected =
            "   12.2 s  cargo test\n    3.5 s  other steps\n   16.0 s  from begin to end";
        assert_eq!(table(&steps, Duration::from_secs(16)), expected);
    }
}
