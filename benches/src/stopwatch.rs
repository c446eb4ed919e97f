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
    race_in_rounds(contenders, rounds, count).into_iter().map(median).collect()
}

/// Same as [`race`], but returns the times of all rounds for each contender.
pub fn race_in_rounds(
    contenders: &mut [Contender<'_>],
    rounds: usize,
    count: usize,
) -> Vec<Vec<f64>> {
    let mut times = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..=rounds {
        for index in order(contenders.len(), round) {
            let elapsed = (contenders[index].run)(count);
            // The first round warms up.
            if round > 0 {
                times[index].push(elapsed.as_secs_f64() * 1e9 / count as f64);
            }
        }
    }
    times
}

/// The order of the contenders in a round. A contender may get pages that the one before it has
/// just released, and may find caches as that one left them. So each contender comes after a
/// different one in each round: in `count` rounds, once directly after each of the others if
/// `count` is even (a Williams design), and in twice as many rounds twice if it is odd.
fn order(count: usize, round: usize) -> impl Iterator<Item = usize> {
    let backwards = count % 2 == 1 && round % 2 == 1;
    (0..count).map(move |turn| {
        let turn = if backwards { count - 1 - turn } else { turn };
        // 0, 1, count - 1, 2, count - 2 …
        let zigzag = if turn % 2 == 1 { turn.div_ceil(2) } else { count - turn / 2 };
        (zigzag + round) % count
    })
}

/// The median; the higher of the two in the middle of an even number of values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn each_contender_follows_each_other_one_equally_often() {
        for count in 1..=9 {
            let (rounds, expected) = if count % 2 == 0 { (count, 1) } else { (2 * count, 2) };
            let mut follows = vec![vec![0; count]; count];
            for round in 0..rounds {
                let turns: Vec<_> = order(count, round).collect();
                let mut sorted = turns.clone();
                sorted.sort_unstable();
                assert!(sorted.into_iter().eq(0..count), "round {round} is {turns:?}");
                turns.windows(2).for_each(|pair| follows[pair[0]][pair[1]] += 1);
            }
            for (before, follows) in follows.into_iter().enumerate() {
                for (after, times) in follows.into_iter().enumerate() {
                    let expected = if before == after { 0 } else { expected };
                    assert_eq!(times, expected, "{after} after {before}, of {count}");
                }
            }
        }
    }
}
