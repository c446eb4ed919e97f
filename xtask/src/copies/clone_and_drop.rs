//! The family "clone and drop": rates of clones in a loop, by size.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Copies, OTHERS, Speeds};
use crate::Outcome;

/// The contenders of the loop, dlbridge first.
const CONTENDERS: [&str; 5] = ["dlbridge", "warm", "libtorch", "NumPy", "newest NumPy"];

/// The rates of one layout, size and number of threads.
pub(super) struct LoopRow {
    layout: String,
    bytes: usize,
    threads: String,
    speeds: Speeds,
    /// The rate of dlbridge divided by that of each contender.
    ratios: BTreeMap<String, f64>,
}

impl LoopRow {
    /// The last row if it is the one of these fields, otherwise a new one.
    pub(super) fn of<'a>(
        rows: &'a mut Vec<Self>,
        [layout, bytes, threads]: [&str; 3],
    ) -> &'a mut Self {
        let bytes = bytes.parse().unwrap_or(0);
        let same =
            |row: &Self| row.layout == layout && row.bytes == bytes && row.threads == threads;
        if !rows.last().is_some_and(same) {
            rows.push(Self {
                layout: layout.to_owned(),
                bytes,
                threads: threads.to_owned(),
                speeds: Speeds::default(),
                ratios: BTreeMap::new(),
            });
        }
        let last = rows.len() - 1;
        &mut rows[last]
    }

    /// The case in words: layout, size and threads.
    pub(super) fn name(&self) -> String {
        format!("{}, {}, {}", self.layout, size(self.bytes), threads(&self.threads))
    }

    /// Adds a contender's rate (GB/s), and the rate of dlbridge divided by it.
    pub(super) fn insert(&mut self, contender: &str, speed: f64, ratio: f64) {
        self.speeds.0.insert(contender.to_owned(), speed);
        self.ratios.insert(contender.to_owned(), ratio);
    }

    /// The lowest ratio to one of `others`; not a number if none of them was measured.
    pub(super) fn of_fastest(&self, others: &[&str]) -> f64 {
        let ratios = others.iter().filter_map(|&other| self.ratios.get(other).copied());
        ratios.fold(f64::NAN, f64::min)
    }
}

/// A chart's title, the names of its bars, and its groups of bars.
type Chart = (String, Vec<&'static str>, Vec<(String, Vec<f64>)>);

impl Copies {
    /// A table for each layout and number of threads.
    pub(super) fn loop_tables(&self) -> Outcome<String> {
        let names = self.loop_contenders();
        let mut tables = Vec::new();
        for (title, rows) in self.loop_groups() {
            let mut text = format!("{title}, GB/s:\n\n");
            writeln!(text, "| size | {} | ÷ fastest other | ÷ warm |", names.join(" | "))?;
            writeln!(text, "|---|{}---|---|", "---|".repeat(names.len()))?;
            for row in rows {
                let cells: Vec<String> =
                    names.iter().map(|name| format!("{:.2}", row.speeds.of(name))).collect();
                writeln!(
                    text,
                    "| {} | {} | {:.2} | {:.2} |",
                    size(row.bytes),
                    cells.join(" | "),
                    row.of_fastest(&OTHERS),
                    row.of_fastest(&["warm"])
                )?;
            }
            tables.push(text);
        }
        Ok(tables.join("\n"))
    }

    /// A chart for each layout and number of threads.
    pub(super) fn loop_charts(&self) -> Vec<Chart> {
        let names = self.loop_contenders();
        let chart = |(title, rows): (String, Vec<&LoopRow>)| {
            let speeds = |row: &LoopRow| names.iter().map(|name| row.speeds.of(name)).collect();
            let groups = rows.iter().map(|row| (size(row.bytes), speeds(row))).collect();
            (format!("Clone and drop, {title}"), names.clone(), groups)
        };
        self.loop_groups().into_iter().map(chart).collect()
    }

    /// The measured contenders, dlbridge first.
    fn loop_contenders(&self) -> Vec<&'static str> {
        let measured = |name: &&str| self.loops.iter().any(|row| row.speeds.0.contains_key(*name));
        CONTENDERS.into_iter().filter(measured).collect()
    }

    /// The rows of each layout and number of threads, in the order in which they were measured.
    fn loop_groups(&self) -> Vec<(String, Vec<&LoopRow>)> {
        let mut groups: Vec<(String, Vec<&LoopRow>)> = Vec::new();
        for row in &self.loops {
            let title = format!("{}, {}", row.layout, threads(&row.threads));
            match groups.last_mut().filter(|(last, _)| *last == title) {
                Some((_, rows)) => rows.push(row),
                None => groups.push((title, vec![row])),
            }
        }
        groups
    }
}

fn threads(count: &str) -> String {
    format!("{count} {}", if count == "1" { "thread" } else { "threads" })
}

fn size(bytes: usize) -> String {
    match bytes >> 10 {
        kib @ 0..1024 => format!("{kib} KiB"),
        kib => format!("{} MiB", kib >> 10),
    }
}
