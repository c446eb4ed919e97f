//! How long each step of a command took.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Steps that took less time are summed up in one line.
const MIN_LISTED: Duration = Duration::from_secs(3);

struct Step {
    name: String,
    time: Duration,
    /// The time that processors spent on it.
    processor_time: Duration,
}

/// The steps that have ended, in this order.
static STEPS: Mutex<Vec<Step>> = Mutex::new(Vec::new());

/// Runs a step, and notes how long it took.
pub(crate) fn timed<T>(name: String, step: impl FnOnce() -> T) -> T {
    let (begin, spent) = (Instant::now(), processor_time());
    let result = step();
    let processor_time = processor_time().saturating_sub(spent);
    let step = Step { name, time: begin.elapsed(), processor_time };
    STEPS.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    result
}

/// The time that processors spent on the processes that this one has started and that have ended.
/// Zero where the system does not say.
fn processor_time() -> Duration {
    /// Per second, on every Linux.
    const TICKS: f64 = 100.0;
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may hold spaces.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(13).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Duration::from_secs_f64(ticks / TICKS)
}

/// Runs a command of xtask, then prints a table of its steps: the time of each, and the time that
/// processors spent on it. Steps may overlap: then their sum may be more than the time that the
/// command took, and processors' time may be counted for the wrong one.
pub(crate) fn report<T>(command: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = command();
    let steps = STEPS.lock().unwrap_or_else(PoisonError::into_inner);
    eprintln!("\n{}", table(&steps, begin.elapsed(), processor_time()));
    result
}

fn table(steps: &[Step], total: Duration, processor_time: Duration) -> String {
    let line = |time: Duration, processor_time: Duration, name: &str| {
        format!("{:>8.1} {:>10.1}  {name}\n", time.as_secs_f64(), processor_time.as_secs_f64())
    };
    let mut text = "       s  processors\n".to_owned();
    let mut others = (Duration::ZERO, Duration::ZERO);
    for Step { name, time, processor_time } in steps {
        if *time < MIN_LISTED {
            others = (others.0 + *time, others.1 + *processor_time);
        } else {
            text += &line(*time, *processor_time, name);
        }
    }
    text += &line(others.0, others.1, "other steps");
    text + line(total, processor_time, "from begin to end").trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_steps_are_summed_up() {
        let step = |(seconds, processor_time, name): (f64, f64, &str)| Step {
            name: name.to_owned(),
            time: Duration::from_secs_f64(seconds),
            processor_time: Duration::from_secs_f64(processor_time),
        };
        let steps = [(1.5, 1.0, "a"), (12.25, 20.0, "cargo test"), (2.0, 0.5, "b")].map(step);
        let expected = "       s  processors\n    12.2       20.0  cargo test\n     \
                        3.5        1.5  other steps\n    16.0       22.0  from begin to end";
        assert_eq!(table(&steps, Duration::from_secs(16), Duration::from_secs(22)), expected);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_time_of_a_child_is_counted() {
        let before = processor_time();
        let spin = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let status = std::process::Command::new("sh").args(["-c", spin]).status();
        assert!(status.is_ok_and(|status| status.success()));
        assert!(processor_time() > before);
    }
}
