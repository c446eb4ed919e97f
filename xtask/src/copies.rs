//! Prints the measurements of `benches/benches/copy.rs` as tables, goals and charts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::chart;
use crate::template::fill;

const COPIES: &str = include_str!("../templates/copies.md");

/// Contenders by the benchmark's names, dlbridge first.
const CONTENDERS: [&str; 6] =
    ["dlbridge", "memcpy", "libtorch", "NumPy", "ndarray", "strided-perm"];

/// The other libraries that copy any layout.
const OTHERS: [&str; 4] = ["libtorch", "NumPy", "ndarray", "strided-perm"];

/// The rates of one layout and element type, for one kind of memory and number of threads.
struct Row {
    family: String,
    layout: String,
    dtype: String,
    memory: String,
    threads: String,
    /// GB/s by contender.
    speeds: BTreeMap<String, f64>,
}

impl Row {
    fn speed(&self, contender: &str) -> f64 {
        self.speeds.get(contender).copied().unwrap_or(f64::NAN)
    }

    /// The rate of dlbridge divided by that of `other`.
    fn ratio(&self, other: &str) -> f64 {
        self.speed("dlbridge") / self.speed(other)
    }

    /// The rate of the fastest other library divided by that of dlbridge.
    fn behind(&self) -> f64 {
        OTHERS.iter().map(|other| 1.0 / self.ratio(other)).fold(0.0, f64::max)
    }

    fn is(&self, memory: &str, threads: &str) -> bool {
        self.memory == memory && self.threads == threads
    }
}

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

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Copies {
    rows: Vec<Row>,
    /// Case, contender, nanoseconds.
    small: Vec<[String; 3]>,
    numpy: String,
}

impl Copies {
    /// Reads what the benchmark printed.
    pub(crate) fn parse(output: &str) -> Self {
        let mut copies = Self::default();
        for line in output.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            match fields[..] {
                ["copy", family, layout, dtype, memory, threads, contender, speed] => {
                    let row = copies.row_of([family, layout, dtype, memory, threads]);
                    row.speeds.insert(contender.to_owned(), speed.parse().unwrap_or(f64::NAN));
                }
                ["small", case, contender, time] => {
                    copies.small.push([case, contender, time].map(str::to_owned))
                }
                _ => copies.numpy.push_str(line.trim_start_matches("numpy ")),
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
                speeds: BTreeMap::new(),
            });
        }
        let last = self.rows.len() - 1;
        &mut self.rows[last]
    }

    /// The text of the part. Its charts go to the folder `charts`, whose name is the machine's.
    pub(crate) fn text(&self, charts: &Path) -> Outcome<String> {
        let tables = self.groups().into_iter().map(|group| self.table(group));
        let values = [
            ("numpy", self.numpy.clone()),
            ("summary", self.summary()?),
            ("goals", self.goals()?),
            ("charts", self.charts(charts)?),
            ("small", self.small()?),
            ("tables", tables.collect::<Outcome<Vec<_>>>()?.join("\n").trim_end().to_owned()),
        ];
        let values: Vec<(&str, &str)> =
            values.iter().map(|(name, value)| (*name, &**value)).collect();
        Ok(fill(COPIES, &values))
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

    fn select(&self, (memory, threads): (&str, &str), family: Option<&str>) -> Vec<&Row> {
        let wanted = |row: &&Row| {
            row.is(memory, threads) && family.is_none_or(|family| row.family == family)
        };
        self.rows.iter().filter(wanted).collect()
    }

    fn summary(&self) -> Outcome<String> {
        let mut text = String::new();
        writeln!(text, "| memory, threads | family | {} |", CONTENDERS[1..].join(" | "))?;
        writeln!(text, "|---|---|{}", "---|".repeat(CONTENDERS.len() - 1))?;
        for group in self.groups() {
            for family in self.families().into_iter().map(Some).chain([None]) {
                let rows = self.select(group, family);
                let cells: Vec<String> = CONTENDERS[1..]
                    .iter()
                    .map(|other| format!("{:.2}", mean(rows.iter().map(|row| row.ratio(other)))))
                    .collect();
                let name = family.unwrap_or("**all**");
                writeln!(text, "| {}, {} | {name} | {} |", group.0, group.1, cells.join(" | "))?;
            }
        }
        Ok(text)
    }

    fn goals(&self) -> Outcome<String> {
        let mut goals = vec![self.contiguous_goal(), self.transposes_goal()];
        let means = [("libtorch", 5.0), ("NumPy", 8.0), ("strided-perm", 3.0)];
        goals.extend(means.map(|(other, goal)| self.mean_goal(other, goal)));
        goals.extend([self.behind_goal(), self.fresh_goal(), self.small_goal()]);
        let mut text = "| goal | measured | |\n|---|---|---|\n".to_owned();
        for Goal { goal, measured, met } in goals {
            writeln!(text, "| {goal} | {measured} | {} |", if met { "met" } else { "**missed**" })?;
        }
        Ok(text)
    }

    fn contiguous_goal(&self) -> Goal {
        let worst = least(&self.select(("used", "1"), Some("contiguous")), "memcpy");
        let measured = format!("at worst {worst:.2} ×");
        Goal::new("contiguous, used memory: at least 0.95 × memcpy", measured, worst >= 0.95)
    }

    fn transposes_goal(&self) -> Goal {
        let rows = self.select(("used", "1"), Some("2-D transposes"));
        let (worst, typical) =
            (least(&rows, "memcpy"), mean(rows.iter().map(|row| row.ratio("memcpy"))));
        let measured = format!("{typical:.2} × on average, at worst {worst:.2} ×");
        Goal::new("2-D transposes, used memory: at least 0.8 × memcpy", measured, worst >= 0.8)
    }

    /// The geometric mean of the ratios to `other`, in every kind of memory and on every number of
    /// threads.
    fn mean_goal(&self, other: &str, goal: f64) -> Goal {
        let mut met = true;
        let mut cells = Vec::new();
        for (memory, threads) in self.groups() {
            let rows = self.select((memory, threads), None);
            let ours = mean(rows.iter().map(|row| row.ratio(other)));
            let memcpy = mean(rows.iter().map(|row| row.speed("memcpy") / row.speed(other)));
            met &= ours >= goal;
            cells.push(format!("{memory}, {threads}: {ours:.2} × (memcpy alone: {memcpy:.2} ×)"));
        }
        Goal::new(format!("geometric mean at least {goal} × {other}"), cells.join("; "), met)
    }

    fn behind_goal(&self) -> Goal {
        let slow: Vec<&Row> = self.rows.iter().filter(|row| row.behind() > 1.1).collect();
        let worst = slow.iter().max_by(|one, other| one.behind().total_cmp(&other.behind()));
        let worst = worst.map_or(String::new(), |row| {
            let Row { layout, dtype, memory, threads, .. } = row;
            format!(
                "; the slowest: {layout}, {dtype}, {memory}, {threads}: {:.2} × as long",
                row.behind()
            )
        });
        let measured = format!("{} of {} are{worst}", slow.len(), self.rows.len());
        let goal = "no case is more than 10 % slower than the fastest other library";
        Goal::new(goal, measured, slow.is_empty())
    }

    fn fresh_goal(&self) -> Goal {
        let fresh = |row: &&Row| row.memory == "fresh" && row.family == "contiguous";
        let worst = least(&self.rows.iter().filter(fresh).collect::<Vec<_>>(), "NumPy");
        let measured = format!("at worst {worst:.2} ×");
        Goal::new("contiguous, fresh memory: as fast as NumPy", measured, worst >= 1.0)
    }

    fn small_goal(&self) -> Goal {
        let time = |contender: &str| {
            let mut times = self.small.iter().filter(|[_, who, _]| who == contender);
            times.next().and_then(|[_, _, time]| time.parse::<f64>().ok()).unwrap_or(f64::NAN)
        };
        let (ours, torch) = (time("dlbridge"), time("libtorch"));
        let goal = "cloning 12 `f32` takes less time than with libtorch";
        Goal::new(goal, format!("{ours} ns, {torch} ns"), ours < torch)
    }

    /// Writes the charts to `folder`; returns the links to them from the folder of the pages.
    fn charts(&self, folder: &Path) -> Outcome<String> {
        let machine = folder.file_name().unwrap_or_default().display();
        fs::create_dir_all(folder)?;
        let mut text = String::new();
        for family in self.families() {
            let rows = self.select(("used", "1"), Some(family));
            let groups: Vec<(&str, Vec<f64>)> = sorted(rows.iter().map(|row| &*row.layout))
                .into_iter()
                .map(|layout| (layout, mean_speeds(&rows, layout)))
                .collect();
            let file = format!("{}.svg", family.to_lowercase().replace(' ', "-"));
            fs::write(folder.join(&file), chart::bars(family, &CONTENDERS, &groups))?;
            writeln!(text, "![{family}](charts/{machine}/{file})\n")?;
        }
        Ok(text.trim_end().to_owned() + "\n")
    }

    fn small(&self) -> Outcome<String> {
        let mut text = "| case | library | time |\n|---|---|---|\n".to_owned();
        for [case, contender, time] in &self.small {
            writeln!(text, "| {case} | {contender} | {time} ns |")?;
        }
        Ok(text)
    }

    fn table(&self, group: (&str, &str)) -> Outcome<String> {
        let (memory, threads) = group;
        let unit = if threads == "1" { "thread" } else { "threads" };
        let mut text = String::new();
        writeln!(text, "<details><summary>{memory} memory, {threads} {unit}</summary>\n")?;
        writeln!(text, "| layout | type | dlbridge, GB/s | {} |", CONTENDERS[1..].join(" | "))?;
        writeln!(text, "|---|---|---|---|---|---|---|---|")?;
        for row in self.select(group, None) {
            let ratios: Vec<String> =
                CONTENDERS[1..].iter().map(|other| format!("{:.2} ×", row.ratio(other))).collect();
            let speed = row.speed("dlbridge");
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
}

/// Names in alphabetical order, each once.
fn sorted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The smallest ratio to `other`.
fn least(rows: &[&Row], other: &str) -> f64 {
    rows.iter().map(|row| row.ratio(other)).fold(f64::MAX, f64::min)
}

/// The rate of every contender for a layout, as geometric means over the element types.
fn mean_speeds(rows: &[&Row], layout: &str) -> Vec<f64> {
    let of_layout = |contender: &&str| {
        let rows = rows.iter().filter(|row| row.layout == layout);
        mean(rows.map(|row| row.speed(contender)))
    };
    CONTENDERS.iter().map(of_layout).collect()
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

    #[test]
    fn the_part_has_tables_goals_and_charts() {
        let mut output = "numpy 2.4.6\n".to_owned();
        for (library, time) in [("dlbridge", 200), ("libtorch", 700)] {
            output.push_str(&format!("small\tcontiguous\t{library}\t{time}\n"));
        }
        for (memory, speed) in [("used", 8.0), ("fresh", 4.0)] {
            for (library, share) in [("dlbridge", 1.0), ("memcpy", 0.5), ("NumPy", 2.0)] {
                let line = format!("copy\tcontiguous\tcontiguous\tu8\t{memory}\t1\t{library}\t");
                output.push_str(&format!("{line}{:.3}\n", speed * share));
            }
        }
        let folder = std::env::temp_dir().join(format!("dlbridge-charts-{}", std::process::id()));
        let text = Copies::parse(&output).text(&folder).expect("written");
        let chart = std::fs::read_to_string(folder.join("contiguous.svg")).expect("a chart");
        std::fs::remove_dir_all(&folder).expect("removed");
        assert!(chart.starts_with("<svg"));
        for line in [
            "NumPy has version 2.4.6.",
            "| used, 1 | contiguous | 2.00 | NaN | 0.50 | NaN | NaN |",
            "| contiguous, used memory: at least 0.95 × memcpy | at worst 2.00 × | met |",
            "| contiguous, fresh memory: as fast as NumPy | at worst 0.50 × | **missed** |",
            "| cloning 12 `f32` takes less time than with libtorch | 200 ns, 700 ns | met |",
            "<details><summary>fresh memory, 1 thread</summary>",
            "| contiguous | u8 | 8.00 | 2.00 × | NaN × | 0.50 × | NaN × | NaN × |",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        assert!(
            text.contains("| 2 of 2 are; the slowest: contiguous, u8, fresh, 1: 2.00 × as long |")
        );
        assert!(text.ends_with("</details>\n"));
    }
}
