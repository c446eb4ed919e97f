//! What `benches/copy.rs` measured, as tables, goals and charts.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::chart;

/// Contenders, ours first, as the benchmark names them.
const CONTENDERS: [&str; 6] = ["dlbridge", "memcpy", "libtorch", "NumPy", "ndarray", "strided-perm"];

/// The others that copy any layout.
const PEERS: [&str; 4] = ["libtorch", "NumPy", "ndarray", "strided-perm"];

/// One layout of one element type, in one kind of memory, on so many threads.
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
    /// How many times as fast as another contender ours is.
    fn ratio(&self, other: &str) -> f64 {
        self.speed("dlbridge") / self.speed(other)
    }

    fn speed(&self, contender: &str) -> f64 {
        self.speeds.get(contender).copied().unwrap_or(f64::NAN)
    }

    /// How many times as fast as ours the fastest peer is.
    fn behind(&self) -> f64 {
        PEERS.iter().map(|peer| 1.0 / self.ratio(peer)).fold(0.0, f64::max)
    }

    fn is(&self, memory: &str, threads: &str) -> bool {
        self.memory == memory && self.threads == threads
    }
}

/// Everything that was measured.
pub(crate) struct Copies {
    rows: Vec<Row>,
    /// Case, contender, nanoseconds.
    small: Vec<[String; 3]>,
    numpy: String,
}

impl Copies {
    /// Reads what the benchmark printed.
    pub(crate) fn parse(output: &str) -> Self {
        let mut copies = Self { rows: Vec::new(), small: Vec::new(), numpy: String::new() };
        for line in output.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            match fields[..] {
                ["copy", family, layout, dtype, memory, threads, contender, speed] => {
                    let same =
                        |row: &Row| row.layout == layout && row.dtype == dtype && row.is(memory, threads);
                    if !copies.rows.last().is_some_and(same) {
                        let [family, layout, dtype, memory, threads] =
                            [family, layout, dtype, memory, threads].map(str::to_owned);
                        copies.rows.push(Row {
                            family,
                            layout,
                            dtype,
                            memory,
                            threads,
                            speeds: BTreeMap::new(),
                        });
                    }
                    if let (Some(row), Ok(speed)) = (copies.rows.last_mut(), speed.parse()) {
                        row.speeds.insert(contender.to_owned(), speed);
                    }
                }
                ["small", case, contender, time] => {
                    copies.small.push([case, contender, time].map(str::to_owned))
                }
                _ => copies.numpy.push_str(line),
            }
        }
        copies
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
        let mut families: Vec<&str> = self.rows.iter().map(|row| &*row.family).collect();
        families.dedup();
        families.sort_unstable();
        families.dedup();
        families
    }

    fn select<'a>(&'a self, (memory, threads): (&str, &str), family: Option<&str>) -> Vec<&'a Row> {
        let wanted = |row: &&Row| row.is(memory, threads) && family.is_none_or(|family| row.family == family);
        self.rows.iter().filter(wanted).collect()
    }

    /// The chapter of `docs/benchmarks.md`; charts go to the folder beside it.
    pub(crate) fn write(&self, page: &mut String, charts: &Path) -> Outcome {
        writeln!(page, "{COPIES}\nNumPy is version {}.\n", self.numpy.trim_start_matches("numpy "))?;
        self.summary(page)?;
        self.goals(page)?;
        self.charts(page, charts)?;
        writeln!(page, "\n### Small tensors\n\nCloning 3 × 4 `f32`, with a new tensor to hold them:\n")?;
        writeln!(page, "| what | who | time |\n|---|---|---|")?;
        for [case, contender, time] in &self.small {
            writeln!(page, "| {case} | {contender} | {time} ns |")?;
        }
        writeln!(page, "\n### All figures\n")?;
        for group in self.groups() {
            self.table(page, group)?;
        }
        Ok(())
    }

    fn summary(&self, page: &mut String) -> Outcome {
        writeln!(page, "How many times as fast as others, as geometric means over the element types:\n")?;
        writeln!(page, "| memory, threads | family | memcpy | {} |", PEERS.join(" | "))?;
        writeln!(page, "|---|---|---|---|---|---|---|")?;
        for group in self.groups() {
            let families = self.families().into_iter().map(Some).chain([None]);
            for family in families {
                let rows = self.select(group, family);
                let cells: Vec<String> = CONTENDERS[1..]
                    .iter()
                    .map(|other| format!("{:.2}", mean(rows.iter().map(|row| row.ratio(other)))))
                    .collect();
                let name = family.unwrap_or("**all**");
                writeln!(page, "| {}, {} | {name} | {} |", group.0, group.1, cells.join(" | "))?;
            }
        }
        Ok(())
    }

    fn goals(&self, page: &mut String) -> Outcome {
        writeln!(page, "\n### Goals\n\n{GOALS}\n| goal | measured | |\n|---|---|---|")?;
        let mut line = |goal: &str, measured: String, met: bool| {
            writeln!(page, "| {goal} | {measured} | {} |", if met { "met" } else { "**missed**" })
        };
        let alone = ("used", "1");
        let least =
            |rows: &[&Row], other: &str| rows.iter().map(|row| row.ratio(other)).fold(f64::MAX, f64::min);
        let contiguous = self.select(alone, Some("contiguous"));
        let worst = least(&contiguous, "memcpy");
        line(
            "contiguous, used memory: at least 0.95 × memcpy",
            format!("at worst {worst:.2} ×"),
            worst >= 0.95,
        )?;
        let flat = self.select(alone, Some("2-D transposes"));
        let (worst, typical) = (least(&flat, "memcpy"), mean(flat.iter().map(|row| row.ratio("memcpy"))));
        line(
            "2-D transposes, used memory: at least 0.8 × memcpy",
            format!("{typical:.2} × on average, at worst {worst:.2} ×"),
            worst >= 0.8,
        )?;
        for (peer, goal) in [("libtorch", 5.0), ("NumPy", 8.0), ("strided-perm", 3.0)] {
            let means: Vec<[f64; 2]> = self
                .groups()
                .into_iter()
                .map(|group| {
                    let rows = self.select(group, None);
                    let memcpy = rows.iter().map(|row| row.speed("memcpy") / row.speed(peer));
                    [mean(rows.iter().map(|row| row.ratio(peer))), mean(memcpy)]
                })
                .collect();
            let cells = self.groups().into_iter().zip(&means).map(|((memory, threads), [ours, memcpy])| {
                format!("{memory}, {threads}: {ours:.2} × (memcpy alone: {memcpy:.2} ×)")
            });
            let cells = cells.collect::<Vec<_>>();
            let met = means.iter().all(|[ours, _]| *ours >= goal);
            line(&format!("geometric mean at least {goal} × {peer}"), cells.join("; "), met)?;
        }
        let slow: Vec<&Row> = self.rows.iter().filter(|row| row.behind() > 1.1).collect();
        let worst = slow.iter().max_by(|one, other| one.behind().total_cmp(&other.behind()));
        let worst = worst.map_or(String::new(), |row| {
            let Row { layout, dtype, memory, threads, .. } = row;
            format!("; farthest: {layout}, {dtype}, {memory}, {threads}: {:.2} × as long", row.behind())
        });
        let measured = format!("{} of {} are{worst}", slow.len(), self.rows.len());
        line("no case slower than the best peer by more than 10 %", measured, slow.is_empty())?;
        let fresh: Vec<&Row> =
            self.rows.iter().filter(|row| row.memory == "fresh" && row.family == "contiguous").collect();
        let worst = least(&fresh, "NumPy");
        line("contiguous, fresh memory: as fast as NumPy", format!("at worst {worst:.2} ×"), worst >= 1.0)?;
        let time = |contender: &str| {
            let mut times = self.small.iter().filter(|[_, who, _]| who == contender);
            times.next().and_then(|[_, _, time]| time.parse::<f64>().ok()).unwrap_or(f64::NAN)
        };
        let (ours, torch) = (time("dlbridge"), time("libtorch"));
        line("cloning 12 `f32` takes less than libtorch", format!("{ours} ns, {torch} ns"), ours < torch)?;
        Ok(())
    }

    fn charts(&self, page: &mut String, folder: &Path) -> Outcome {
        writeln!(
            page,
            "\n### Charts\n\nGB/s into used memory on one thread; geometric means over the element types.\n"
        )?;
        fs::create_dir_all(folder)?;
        for family in self.families() {
            let rows = self.select(("used", "1"), Some(family));
            let mut layouts: Vec<&str> = rows.iter().map(|row| &*row.layout).collect();
            layouts.sort_unstable();
            layouts.dedup();
            let groups: Vec<(&str, Vec<f64>)> = layouts
                .into_iter()
                .map(|layout| {
                    let speed = |contender: &&str| {
                        let same = rows.iter().filter(|row| row.layout == layout);
                        mean(same.map(|row| row.speed(contender)))
                    };
                    (layout, CONTENDERS.iter().map(speed).collect())
                })
                .collect();
            let file = format!("{}.svg", family.to_lowercase().replace(' ', "-"));
            fs::write(folder.join(&file), chart::bars(family, &CONTENDERS, &groups))?;
            writeln!(page, "![{family}](benchmarks/{file})\n")?;
        }
        Ok(())
    }

    fn table(&self, page: &mut String, group: (&str, &str)) -> Outcome {
        let threads = if group.1 == "1" { "1 thread".to_owned() } else { format!("{} threads", group.1) };
        writeln!(page, "<details><summary>{} memory, {threads}</summary>\n", group.0)?;
        writeln!(page, "| layout | type | dlbridge, GB/s | {} |", CONTENDERS[1..].join(" | "))?;
        writeln!(page, "|---|---|---|---|---|---|---|---|")?;
        for row in self.select(group, None) {
            let ratios: Vec<String> =
                CONTENDERS[1..].iter().map(|other| format!("{:.2} ×", row.ratio(other))).collect();
            let speed = row.speed("dlbridge");
            writeln!(page, "| {} | {} | {speed:.2} | {} |", row.layout, row.dtype, ratios.join(" | "))?;
        }
        writeln!(page, "\n</details>\n")?;
        Ok(())
    }
}

/// The geometric mean.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value.ln()));
    (sum / count).exp()
}

const GOALS: &str = "\
Where the others already come near memcpy, or reach it, no copy can be many times as fast: what memcpy of as
many bytes would reach stands beside what ours does.
";

const COPIES: &str = "\
`benches/copy.rs`: 32 MiB of elements are copied to contiguous memory. \"Used\" memory was written before:
`copy_into`, `copy_` of libtorch, `numpy.copyto`, `assign` of ndarray, `strided_perm::copy_into`. \"Fresh\"
memory comes from the system during the copy: `deep_clone_with(Contiguous)`, `clone` of libtorch from C++,
`ndarray.copy()` of NumPy, `as_standard_layout` of ndarray, `copy_into_uninit` to a new `Vec`. memcpy copies
as many contiguous bytes, always on one thread, as NumPy and ndarray do. libtorch has no negative strides:
there it flips, and copies once more into used memory. All contenders take turns, each with a target of its
own, so their memory is used but mostly not in a cache. A ratio says how many times as fast ours is.
";
