//! The tables of copies into used and fresh memory.

use std::fmt::Write;

use super::goals::BEHIND;
use super::{Copies, Row, mean};
use crate::Outcome;

impl Row {
    /// The case in words: layout, type, memory and threads.
    pub(super) fn name(&self) -> String {
        let Self { layout, dtype, memory, threads, .. } = self;
        format!("{layout}, {dtype}, {memory}, {threads}")
    }
}

/// The cases of a family for one kind of memory, on one thread and on all.
pub(super) struct Gains<'a> {
    one: Vec<&'a Row>,
    all: Vec<&'a Row>,
}

impl Gains<'_> {
    /// The rate on all threads divided by that on one, as a geometric mean.
    pub(super) fn gain(&self, speed: impl Fn(&Row) -> f64) -> f64 {
        let mean = |rows: &[&Row]| mean(rows.iter().map(|row| speed(row)));
        mean(&self.all) / mean(&self.one)
    }
}

impl Copies {
    /// Ratios to each contender, by memory, threads and family.
    pub(super) fn summary(&self) -> Outcome<String> {
        let others = &self.others();
        let mut text = String::new();
        writeln!(text, "| memory, threads | family | {} |", others.join(" | "))?;
        writeln!(text, "|---|---|{}", "---|".repeat(others.len()))?;
        for group in self.groups() {
            for family in self.families().into_iter().map(Some).chain([None]) {
                let rows = self.select(group, family);
                let cells: Vec<String> = others
                    .iter()
                    .map(|other| format!("{:.2}", mean(rows.iter().map(|row| row.ratio(other)))))
                    .collect();
                let name = family.unwrap_or("**all**");
                writeln!(text, "| {}, {} | {name} | {} |", group.0, group.1, cells.join(" | "))?;
            }
        }
        Ok(text)
    }

    /// The ratios of each family to the ceiling: the mean and the lowest.
    pub(super) fn ceilings(&self) -> Outcome<String> {
        let mut text = "| memory, threads | family | mean | lowest | the case of the lowest |\n\
                        |---|---|---|---|---|\n"
            .to_owned();
        for group in self.groups() {
            for family in self.families() {
                let rows = self.select(group, Some(family));
                let mean = mean(rows.iter().map(|row| row.of_ceiling()));
                let lowest = rows.iter().min_by(|a, b| a.of_ceiling().total_cmp(&b.of_ceiling()));
                let Some(lowest) = lowest else { continue };
                writeln!(
                    text,
                    "| {}, {} | {family} | {mean:.2} | {:.2} | {}, {} |",
                    group.0,
                    group.1,
                    lowest.of_ceiling(),
                    lowest.layout,
                    lowest.dtype
                )?;
            }
        }
        Ok(text)
    }

    /// The rates on all threads divided by those on one.
    pub(super) fn thread_gains(&self) -> Outcome<String> {
        let mut text = "| memory | family | dlbridge | memcpy | non-temporal |\n\
                        |---|---|---|---|---|\n"
            .to_owned();
        for memory in ["used", "fresh"] {
            for family in self.families() {
                let Some(gains) = self.gains(memory, family) else { continue };
                let gain = |contender: &str| gains.gain(|row| row.speeds.of(contender));
                writeln!(
                    text,
                    "| {memory} | {family} | {:.2} | {:.2} | {:.2} |",
                    gain("dlbridge"),
                    gain("memcpy"),
                    gain("non-temporal")
                )?;
            }
        }
        Ok(text)
    }

    /// The cases of a family on one thread and on all, if both were measured.
    pub(super) fn gains(&self, memory: &str, family: &str) -> Option<Gains<'_>> {
        let mut groups = self.groups().into_iter();
        let all = groups.find(|(place, threads)| *place == memory && *threads != "1")?;
        let one = self.select((memory, "1"), Some(family));
        let all = self.select(all, Some(family));
        (!one.is_empty() && !all.is_empty()).then_some(Gains { one, all })
    }

    /// The cases in which another library is faster by more than 10 %.
    pub(super) fn behind(&self) -> Outcome<String> {
        let mut behind: Vec<&Row> =
            self.rows.iter().filter(|row| row.behind().1 > BEHIND).collect();
        behind.sort_by(|a, b| b.behind().1.total_cmp(&a.behind().1));
        let mut text = "| case | time ÷ that of the fastest other library | which |\n\
                        |---|---|---|\n"
            .to_owned();
        for row in behind {
            let (library, factor) = row.behind();
            writeln!(text, "| {} | {factor:.2} × | {library} |", row.name())?;
        }
        Ok(text)
    }

    /// The times of small clones.
    pub(super) fn small(&self) -> Outcome<String> {
        let mut text = "| case | library | time |\n|---|---|---|\n".to_owned();
        for [case, contender, time] in &self.small {
            writeln!(text, "| {case} | {contender} | {time} ns |")?;
        }
        Ok(text)
    }

    /// The figures of every case.
    pub(super) fn tables(&self) -> Outcome<String> {
        let tables = self.groups().into_iter().map(|group| self.table(group));
        Ok(tables.collect::<Outcome<Vec<_>>>()?.join("\n").trim_end().to_owned())
    }

    fn table(&self, group: (&str, &str)) -> Outcome<String> {
        let (memory, threads) = group;
        let unit = if threads == "1" { "thread" } else { "threads" };
        let others = &self.others();
        let mut text = String::new();
        writeln!(text, "<details><summary>{memory} memory, {threads} {unit}</summary>\n")?;
        writeln!(text, "| layout | type | dlbridge, GB/s | {} |", others.join(" | "))?;
        writeln!(text, "|---|---|---|{}", "---|".repeat(others.len()))?;
        for row in self.select(group, None) {
            let ratios: Vec<String> =
                others.iter().map(|other| format!("{:.2} ×", row.ratio(other))).collect();
            let speed = row.speeds.of("dlbridge");
            writeln!(
                text,
                "| {} | {} | {speed:.2} | {} |",
                row.layout,
                row.dtype,
                ratios.join(" | ")
            )?;
        }
        writeln!(text, "\n</details>")?;
        Ok(text)
    }

    /// The measured contenders but dlbridge.
    fn others(&self) -> Vec<&'static str> {
        self.contenders().into_iter().filter(|name| *name != "dlbridge").collect()
    }
}
