//! Prints the measurements of `benches/benches/copy` as tables, goals and charts.

mod clone_and_drop;
mod goals;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::chart;
use crate::template::fill;
use clone_and_drop::LoopRow;

const COPIES: &str = include_str!("../../templates/copies.md");

/// Contenders by the benchmark's names, dlbridge first.
const CONTENDERS: [&str; 8] = [
    "dlbridge",
    "memcpy",
    "non-temporal",
    "libtorch",
    "NumPy",
    "newest NumPy",
    "ndarray",
    "strided-perm",
];

/// The copies of plain bytes: the faster one is the ceiling.
const PLAIN: [&str; 2] = ["memcpy", "non-temporal"];

/// The other libraries that copy any layout.
const OTHERS: [&str; 5] = ["libtorch", "NumPy", "newest NumPy", "ndarray", "strided-perm"];

/// GB/s by contender.
#[derive(Default)]
struct Speeds(BTreeMap<String, f64>);

impl Speeds {
    fn of(&self, contender: &str) -> f64 {
        self.0.get(contender).copied().unwrap_or(f64::NAN)
    }

    /// The contender with the highest rate, and the rate; a rate that is not a number if none of
    /// them was measured.
    fn fastest<'a>(&self, contenders: &[&'a str]) -> (&'a str, f64) {
        let rates = contenders.iter().map(|&contender| (contender, self.of(contender)));
        let measured = rates.filter(|(_, speed)| !speed.is_nan());
        measured.max_by(|one, other| one.1.total_cmp(&other.1)).unwrap_or(("none", f64::NAN))
    }
}

/// The rates of one layout and element type, for one kind of memory and number of threads.
struct Row {
    family: String,
    layout: String,
    dtype: String,
    memory: String,
    threads: String,
    speeds: Speeds,
}

impl Row {
    /// The rate of dlbridge divided by that of `other`.
    fn ratio(&self, other: &str) -> f64 {
        self.speeds.of("dlbridge") / self.speeds.of(other)
    }

    /// The rate of the faster copy of plain bytes.
    fn ceiling(&self) -> f64 {
        self.speeds.fastest(&PLAIN).1
    }

    /// The rate of dlbridge divided by the ceiling.
    fn of_ceiling(&self) -> f64 {
        self.speeds.of("dlbridge") / self.ceiling()
    }

    /// The fastest other library, and its rate divided by that of dlbridge.
    fn behind(&self) -> (&'static str, f64) {
        let (library, speed) = self.speeds.fastest(&OTHERS);
        (library, speed / self.speeds.of("dlbridge"))
    }

    fn is(&self, memory: &str, threads: &str) -> bool {
        self.memory == memory && self.threads == threads
    }
}

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Copies {
    rows: Vec<Row>,
    /// Clones in a loop.
    loops: Vec<LoopRow>,
    /// Case, contender, nanoseconds.
    small: Vec<[String; 3]>,
    /// Versions of contenders.
    versions: Vec<String>,
}

impl Copies {
    /// Reads what the benchmark printed.
    pub(crate) fn parse(output: &str) -> Self {
        let mut copies = Self::default();
        for line in output.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let number = |text: &str| text.parse().unwrap_or(f64::NAN);
            match fields[..] {
                ["copy", family, layout, dtype, memory, threads, contender, speed] => {
                    let row = copies.row_of([family, layout, dtype, memory, threads]);
                    row.speeds.0.insert(contender.to_owned(), number(speed));
                }
                ["loop", layout, bytes, threads, contender, speed, ratio] => {
                    let row = LoopRow::of(&mut copies.loops, [layout, bytes, threads]);
                    row.insert(contender, number(speed), number(ratio));
                }
                ["small", case, contender, time] => {
                    copies.small.push([case, contender, time].map(str::to_owned))
                }
                ["version", contender, version] => {
                    copies.versions.push(format!("{contender} has version {version}."));
                }
                _ => {}
            }
        }
        copies
    }

    /// The last row if it is the one of these fields, otherwise a new one.
    fn row_of(&mut self, [family, layout, dtype, memory, threads]: [&str; 5]) -> &mut Row {
        let same =
            |row: &Row| row.layout == layout && row.dtype == dtype && row.is(memory, threads);
        if !self.rows.last().is_some_and(same) {
            self.rows.push(Row {
                family: family.to_owned(),
                layout: layout.to_owned(),
                dtype: dtype.to_owned(),
                memory: memory.to_owned(),
                threads: threads.to_owned(),
                speeds: Speeds::default(),
            });
        }
        let last = self.rows.len() - 1;
        &mut self.rows[last]
    }

    /// The text of the part. Its charts go to the folder `charts`, whose name is the machine's.
    pub(crate) fn text(&self, charts: &Path) -> Outcome<String> {
        let values = [
            ("versions", self.versions.join(" ")),
            ("summary", self.summary()?),
            ("ceiling", self.ceilings()?),
            ("threads", self.thread_gains()?),
            ("behind", self.behind()?),
            ("loops", self.loop_tables()?),
            ("goals", self.goals()?),
            ("charts", self.charts(charts)?),
            ("small", self.small()?),
            ("tables", self.tables()?),
        ];
        let values: Vec<(&str, &str)> =
            values.iter().map(|(name, value)| (*name, &**value)).collect();
        Ok(fill(COPIES, &values))
    }

    /// The tables without explanations, charts and the figures of single cases.
    pub(crate) fn short_text(&self) -> Outcome<String> {
        let tables = [
            ("Ratios", self.summary()?),
            ("Ceiling", self.ceilings()?),
            ("Threads", self.thread_gains()?),
            ("Cases that are behind", self.behind()?),
            ("Clone and drop in a loop", self.loop_tables()?),
            ("Small tensors", self.small()?),
            ("Goals", self.goals()?),
        ];
        // A table without rows has a heading of two lines.
        let measured = tables.iter().filter(|(_, table)| table.lines().count() > 2);
        let parts: Vec<_> =
            measured.map(|(title, table)| format!("### {title}\n\n{table}")).collect();
        Ok(parts.join("\n"))
    }

    /// Memory and threads, in the order in which they were measured.
    fn groups(&self) -> Vec<(&str, &str)> {
        let mut groups = Vec::new();
        for row in &self.rows {
            if !groups.contains(&(&*row.memory, &*row.threads)) {
                groups.push((&row.memory, &row.threads));
            }
        }
        groups
    }

    fn families(&self) -> Vec<&str> {
        sorted(self.rows.iter().map(|row| &*row.family))
    }

    /// The contenders that were measured, dlbridge first.
    fn contenders(&self) -> Vec<&'static str> {
        let measured =
            |contender: &&str| self.rows.iter().any(|row| row.speeds.0.contains_key(*contender));
        CONTENDERS.into_iter().filter(measured).collect()
    }

    fn select(&self, (memory, threads): (&str, &str), family: Option<&str>) -> Vec<&Row> {
        let wanted = |row: &&Row| {
            row.is(memory, threads) && family.is_none_or(|family| row.family == family)
        };
        self.rows.iter().filter(wanted).collect()
    }

    /// Writes the charts to `folder`; returns the links to them from the folder of the pages.
    fn charts(&self, folder: &Path) -> Outcome<String> {
        let machine = folder.file_name().unwrap_or_default().display();
        fs::create_dir_all(folder)?;
        let contenders = self.contenders();
        let mut text = String::new();
        let mut draw = |title: &str, names: &[&str], groups: &[(String, Vec<f64>)]| -> Outcome {
            let file = format!("{}.svg", title.to_lowercase().replace([' ', ','], "-"));
            let file = file.replace("--", "-");
            fs::write(folder.join(&file), chart::bars(title, names, groups))?;
            writeln!(text, "![{title}](charts/{machine}/{file})\n")?;
            Ok(())
        };
        for family in self.families() {
            let rows = self.select(("used", "1"), Some(family));
            let groups: Vec<(String, Vec<f64>)> = sorted(rows.iter().map(|row| &*row.layout))
                .into_iter()
                .map(|layout| (layout.to_owned(), mean_speeds(&rows, layout, &contenders)))
                .collect();
            draw(family, &contenders, &groups)?;
        }
        for (title, names, groups) in self.loop_charts() {
            draw(&title, &names, &groups)?;
        }
        Ok(text.trim_end().to_owned() + "\n")
    }
}

/// Names in alphabetical order, each once.
fn sorted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The rates of contenders for a layout, as geometric means over the element types.
fn mean_speeds(rows: &[&Row], layout: &str, contenders: &[&str]) -> Vec<f64> {
    let of_layout = |contender: &&str| {
        let rows = rows.iter().filter(|row| row.layout == layout);
        mean(rows.map(|row| row.speeds.of(contender)))
    };
    contenders.iter().map(of_layout).collect()
}

/// The geometric mean.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) =
        values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value.ln()));
    (sum / count).exp()
}

#[cfg(test)]
mod tests {
    use super::Copies;

    /// What the benchmark prints for a few cases, whose rates are easy to compute with.
    fn output() -> String {
        let mut output = "version\tNumPy\t2.4.6\n".to_owned();
        for (library, time) in [("dlbridge", 200), ("libtorch", 700)] {
            output.push_str(&format!("small\tcontiguous\t{library}\t{time}\n"));
        }
        for (memory, speed) in [("used", 8.0), ("fresh", 4.0)] {
            for (threads, gain) in [(1, 1.0), (2, 1.5)] {
                let shares =
                    [("dlbridge", gain), ("memcpy", 0.5), ("non-temporal", 2.0), ("NumPy", 1.25)];
                for (library, share) in shares {
                    let line = format!("copy\tcontiguous\tcontiguous\tu8\t{memory}\t{threads}");
                    output.push_str(&format!("{line}\t{library}\t{:.3}\n", speed * share));
                }
            }
        }
        for (bytes, ours) in [(65536, 10.0), (1048576, 5.0)] {
            for (library, speed, ratio) in [
                ("dlbridge", ours, 1.0),
                ("warm", 10.0, ours / 10.0),
                ("libtorch", 8.0, ours / 8.0 - 0.01),
                ("NumPy", 4.0, ours / 4.0),
            ] {
                let line = format!("loop\tcontiguous\t{bytes}\t1\t{library}\t{speed}\t{ratio}");
                output.push_str(&line);
                output.push('\n');
            }
        }
        output
    }

    fn contains_lines(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|found| found == *line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn the_part_has_tables_and_charts() {
        let folder = std::env::temp_dir().join(format!("dlbridge-charts-{}", std::process::id()));
        let text = Copies::parse(&output()).text(&folder).expect("written");
        for chart in ["contiguous.svg", "clone-and-drop-contiguous-1-thread.svg"] {
            assert!(text.contains(&format!("/{chart})")), "no {chart} in\n{text}");
            let chart = std::fs::read_to_string(folder.join(chart)).expect("a chart");
            assert!(chart.starts_with("<svg") && !chart.contains("NaN"), "{chart}");
        }
        std::fs::remove_dir_all(&folder).expect("removed");
        contains_lines(
            &text,
            &[
                "NumPy has version 2.4.6.",
                "| memory, threads | family | memcpy | non-temporal | NumPy |",
                "| used, 1 | contiguous | 2.00 | 0.50 | 0.80 |",
                "| used, 1 | contiguous | 0.50 | 0.50 | contiguous, u8 |",
                "| used | contiguous | 1.50 | 1.00 | 1.00 |",
                "| contiguous, u8, fresh, 1 | 1.25 × | NumPy |",
                "| 64 KiB | 10.00 | 10.00 | 8.00 | 4.00 | 1.24 | 1.00 |",
                "| 1 MiB | 5.00 | 10.00 | 8.00 | 4.00 | 0.61 | 0.50 |",
                "<details><summary>fresh memory, 1 thread</summary>",
                "| contiguous | u8 | 8.00 | 2.00 × | 0.50 × | 0.80 × |",
            ],
        );
        assert!(text.ends_with("</details>\n"));
    }

    #[test]
    fn goals_are_met_or_missed() {
        let goals = Copies::parse(&output()).goals().expect("written");
        contains_lines(
            &goals,
            &[
                "| used memory, one thread: every family at least 0.8 × the ceiling (geometric mean) | contiguous 0.50 | **missed** |",
                "| used memory, one thread: no case below 0.6 × the ceiling | 1 of 1 are; the lowest: contiguous, u8, used, 1: 0.50 × | **missed** |",
                "| at most 10 of 372 cases more than 10 % slower than the fastest other library | 2 of 4 are | **missed** |",
                "| no case takes more than 1.3 × as long as with the fastest other library | 0 of 4 do; the slowest: contiguous, u8, fresh, 1: 1.25 × | met |",
                "| used memory: every family at least 1.6 × as fast on all threads as on one, or as much faster as the ceiling | contiguous 1.50 (ceiling 1.00) | met |",
                "| contiguous, fresh memory: as fast as NumPy | at worst 0.80 × | **missed** |",
                "| clone and drop: no slower than the fastest other library | 1 of 2 are slower, 1 by more than 5 %; the slowest: contiguous, 1 MiB, 1 thread: 0.61 × | **missed** |",
                "| clone and drop: at least 0.9 × the rate into warm memory | 1 of 2 are below; the slowest: contiguous, 1 MiB, 1 thread: 0.50 × | **missed** |",
                "| cloning 12 `f32` takes less time than with libtorch | 200 ns, 700 ns | met |",
            ],
        );
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        let output = output();
        let loops: Vec<_> = output.lines().filter(|line| line.starts_with("loop")).collect();
        let copies = Copies::parse(&loops.join("\n"));
        let goals = copies.goals().expect("written");
        assert_eq!(goals.lines().count(), 4, "{goals}");
        let text = copies.short_text().expect("written");
        let headings: Vec<_> = text.lines().filter(|line| line.starts_with('#')).collect();
        assert_eq!(headings, ["### Clone and drop in a loop", "### Goals"]);
        assert!(!text.contains("NaN"), "{text}");
    }
}
