//! The goals of copies, and whether they are met.

use std::fmt::Write;

use super::{Copies, OTHERS, Row, mean};
use crate::Outcome;

/// The lowest rate of a family and of a case, divided by the ceiling.
const FAMILY_OF_CEILING: f64 = 0.8;
const CASE_OF_CEILING: f64 = 0.6;

/// A case is behind if another library is faster by more than this factor.
pub(super) const BEHIND: f64 = 1.1;

/// The number of cases that may be behind, of the number that a whole run has.
const MAX_BEHIND: usize = 10;
const WHOLE_RUN: usize = 372;

/// The longest time of a case, divided by that of the fastest other library.
const LONGEST: f64 = 1.3;

/// The rate of all threads divided by that of one.
const THREADS_GAIN: f64 = 1.6;

/// The lowest rate of a clone in a loop, divided by that of a copy into warm memory.
const OF_WARM: f64 = 0.9;

/// A goal, what was measured for it, and whether it is met.
struct Goal {
    goal: String,
    measured: String,
    met: bool,
}

impl Goal {
    fn new(goal: impl Into<String>, measured: String, met: bool) -> Self {
        Self { goal: goal.into(), measured, met }
    }
}

/// A figure and what it is compared with, as text: with two digits after the point, or with more
/// if rounding would make different numbers look equal.
fn apart(figure: f64, other: f64) -> [String; 2] {
    let with_digits = |digits| [figure, other].map(|number| format!("{number:.digits$}"));
    let tells = |texts: &[String; 2]| (texts[0] == texts[1]) == (figure == other);
    (2..=4).map(with_digits).find(tells).unwrap_or_else(|| with_digits(4))
}

/// A figure with enough digits to tell whether it is above or below its goal.
fn figure(figure: f64, goal: f64) -> String {
    let [text, _] = apart(figure, goal);
    text
}

impl Copies {
    /// The table of goals. A goal has no row if the run measured nothing for it.
    pub(super) fn goals(&self) -> Outcome<String> {
        let goals = [
            self.families_goal(),
            self.lowest_goal(),
            self.behind_goal(),
            self.longest_goal(),
            self.threads_goal(),
            self.fresh_goal(),
            self.loops_goal(),
            self.warm_goal(),
            self.small_goal(),
        ];
        let mut text = "| goal | measured | |\n|---|---|---|\n".to_owned();
        for Goal { goal, measured, met } in goals.into_iter().flatten() {
            writeln!(text, "| {goal} | {measured} | {} |", if met { "met" } else { "**missed**" })?;
        }
        Ok(text)
    }

    fn families_goal(&self) -> Option<Goal> {
        let of_family = |family| {
            let rows = self.select(("used", "1"), Some(family));
            (family, mean(rows.iter().map(|row| row.of_ceiling())))
        };
        let means: Vec<_> = self.families().into_iter().map(of_family).collect();
        let cell =
            |(family, mean): &(&str, f64)| format!("{family} {}", figure(*mean, FAMILY_OF_CEILING));
        let cells: Vec<String> = means.iter().map(cell).collect();
        let goal = format!(
            "used memory, one thread: every family at least {FAMILY_OF_CEILING} × the ceiling \
             (geometric mean)"
        );
        let met = means.iter().all(|(_, mean)| *mean >= FAMILY_OF_CEILING);
        (!means.is_empty()).then(|| Goal::new(goal, cells.join(", "), met))
    }

    fn lowest_goal(&self) -> Option<Goal> {
        let rows = self.select(("used", "1"), None);
        let lowest = rows.iter().min_by(|a, b| a.of_ceiling().total_cmp(&b.of_ceiling()))?;
        let below = rows.iter().filter(|row| row.of_ceiling() < CASE_OF_CEILING).count();
        let measured = format!(
            "{below} of {} are; the lowest: {}: {} ×",
            rows.len(),
            lowest.name(),
            figure(lowest.of_ceiling(), CASE_OF_CEILING)
        );
        let goal =
            format!("used memory, one thread: no case below {CASE_OF_CEILING} × the ceiling");
        Some(Goal::new(goal, measured, below == 0))
    }

    fn behind_goal(&self) -> Option<Goal> {
        let behind = self.rows.iter().filter(|row| row.behind().1 > BEHIND).count();
        let goal = format!(
            "at most {MAX_BEHIND} of {WHOLE_RUN} cases more than 10 % slower than the fastest \
             other library"
        );
        let measured = format!("{behind} of {} are", self.rows.len());
        let met = behind * WHOLE_RUN <= MAX_BEHIND * self.rows.len();
        (!self.rows.is_empty()).then(|| Goal::new(goal, measured, met))
    }

    fn longest_goal(&self) -> Option<Goal> {
        let slowest = self.rows.iter().max_by(|a, b| a.behind().1.total_cmp(&b.behind().1))?;
        let longer = self.rows.iter().filter(|row| row.behind().1 > LONGEST).count();
        let measured = format!(
            "{longer} of {} do; the slowest: {}: {} ×",
            self.rows.len(),
            slowest.name(),
            figure(slowest.behind().1, LONGEST)
        );
        let goal = format!(
            "no case takes more than {LONGEST} × as long as with the fastest other library"
        );
        Some(Goal::new(goal, measured, longer == 0))
    }

    fn threads_goal(&self) -> Option<Goal> {
        let gains: Vec<(&str, f64, f64)> = self
            .families()
            .into_iter()
            .filter_map(|family| {
                let gains = self.gains("used", family)?;
                Some((
                    family,
                    gains.gain(|row| row.speeds.of("dlbridge")),
                    gains.gain(Row::ceiling),
                ))
            })
            .collect();
        let cell = |(family, ours, ceiling): &(&str, f64, f64)| {
            let (ours, ceiling) = match *ceiling < THREADS_GAIN {
                true => apart(*ours, *ceiling).into(),
                false => (figure(*ours, THREADS_GAIN), figure(*ceiling, THREADS_GAIN)),
            };
            format!("{family} {ours} (ceiling {ceiling})")
        };
        let cells: Vec<String> = gains.iter().map(cell).collect();
        let goal = format!(
            "used memory: every family at least {THREADS_GAIN} × as fast on all threads as on \
             one, or as much faster as the ceiling"
        );
        let met = gains.iter().all(|(_, ours, ceiling)| *ours >= ceiling.min(THREADS_GAIN));
        (!gains.is_empty()).then(|| Goal::new(goal, cells.join(", "), met))
    }

    fn fresh_goal(&self) -> Option<Goal> {
        let fresh = |row: &&Row| row.memory == "fresh" && row.family == "contiguous";
        let ratios = self.rows.iter().filter(fresh).map(|row| row.ratio("NumPy"));
        let worst = ratios.min_by(f64::total_cmp)?;
        let measured = format!("at worst {} ×", figure(worst, 1.0));
        Some(Goal::new("contiguous, fresh memory: as fast as NumPy", measured, worst >= 1.0))
    }

    fn loops_goal(&self) -> Option<Goal> {
        let of_best = |row: &super::LoopRow| row.of_fastest(&OTHERS);
        let worst = self.loops.iter().min_by(|a, b| of_best(a).total_cmp(&of_best(b)))?;
        let below = |least| self.loops.iter().filter(|row| of_best(row) < least).count();
        let measured = format!(
            "{} of {} are slower, {} by more than 5 %; the slowest: {}: {} ×",
            below(1.0),
            self.loops.len(),
            below(0.95),
            worst.name(),
            figure(of_best(worst), 1.0)
        );
        let goal = "clone and drop: no slower than the fastest other library";
        Some(Goal::new(goal, measured, below(1.0) == 0))
    }

    fn warm_goal(&self) -> Option<Goal> {
        let of_warm = |row: &super::LoopRow| row.of_fastest(&["warm"]);
        let worst = self.loops.iter().min_by(|a, b| of_warm(a).total_cmp(&of_warm(b)))?;
        let below = self.loops.iter().filter(|row| of_warm(row) < OF_WARM).count();
        let measured = format!(
            "{below} of {} are below; the slowest: {}: {} ×",
            self.loops.len(),
            worst.name(),
            figure(of_warm(worst), OF_WARM)
        );
        let goal = format!("clone and drop: at least {OF_WARM} × the rate into warm memory");
        Some(Goal::new(goal, measured, below == 0))
    }

    fn small_goal(&self) -> Option<Goal> {
        let time = |contender: &str| {
            let found = self.small.iter().find(|[_, who, _]| who == contender);
            found.and_then(|[_, _, time]| time.parse::<f64>().ok())
        };
        let (ours, torch) = (time("dlbridge")?, time("libtorch")?);
        let goal = "cloning 12 `f32` takes less time than with libtorch";
        Some(Goal::new(goal, format!("{ours} ns, {torch} ns"), ours < torch))
    }
}

#[cfg(test)]
mod tests {
    use super::apart;

    #[test]
    fn rounding_does_not_hide_a_difference() {
        for (figure, other, texts) in [
            (0.5, 0.8, ["0.50", "0.80"]),
            (0.996, 1.0, ["0.996", "1.000"]),
            (1.302, 1.3, ["1.302", "1.300"]),
            (1.5683, 1.5678, ["1.5683", "1.5678"]),
            (1.0, 1.0, ["1.00", "1.00"]),
            (0.99999, 1.0, ["1.0000", "1.0000"]),
        ] {
            assert_eq!(apart(figure, other), texts);
        }
    }
}
