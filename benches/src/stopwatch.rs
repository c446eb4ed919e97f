//! Measures contenders one after another in each round, so that noise of the machine affects all of
//! them equally.

use std::time::{Duration, Instant};

/// One way to do the measured operation.
pub struct Contender<'a> {
    /// Its name in the tables.
    pub name: &'static str,
    /// Runs the given number of operations; returns how long they took, without their preparation.
    pub run: Box<dyn FnMut(usize) -> Duration + 'a>,
}

impl<'a> Contender<'a> {
    /// Measures `operation` on inputs from `prepare`. Preparing inputs and dropping results is not
    /// measured.
    pub fn batched<I, O>(
        name: &'static str,
        mut prepare: impl FnMut() -> I + 'a,
        mut operation: impl FnMut(I) -> O + 'a,
    ) -> Self {
        let run = move |count| {
            let inputs: Vec<I> = std::iter::repeat_with(&mut prepare).take(count).collect();
            let mut outputs = Vec::with_capacity(count);
            let start = Instant::now();
            outputs.extend(inputs.into_iter().map(&mut operation));
            let elapsed = start.elapsed();
            drop(outputs);
            elapsed
        };
        Self { name, run: Box::new(run) }
    }

    /// Measures repeated calls of `operation`, including the drop of their results.
    pub fn repeated<O>(name: &'static str, mut operation: impl FnMut() -> O + 'a) -> Self {
        let run = move |count| {
            let start = Instant::now();
            for _ in 0..count {
                std::hint::black_box(operation());
            }
            start.elapsed()
        };
        Self { name, run: Box::new(run) }
    }
}

/// Runs `rounds` rounds; in each round, each contender makes `count` operations. Returns the median
/// time of one operation for each contender, in nanoseconds.
pub fn race(contenders: &mut [Contender<'_>], rounds: usize, count: usize) -> Vec<f64> {
    let mut times = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..=rounds {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let elapsed = (contender.run)(count);
            // The first round warms up.
            if round > 0 {
                times.push(elapsed.as_secs_f64() * 1e9 / count as f64);
            }
        }
    }
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    times.iter().map(|times| times[times.len() / 2]).collect()
}
