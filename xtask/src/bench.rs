//! `cargo xtask bench`: runs the benchmarks, and writes what they print into the page of this
//! machine, `docs/benchmarks/<machine>.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::copies::Copies;
use crate::environment::{self, TVM_FFI};
use crate::template::fill;
use crate::{Outcome, cargo, python, root, setup, show};

const PAGE: &str = include_str!("../templates/page.md");
const EXCHANGE: &str = include_str!("../templates/exchange.md");
const CALLS: &str = include_str!("../templates/calls.md");
const PYTHON: &str = include_str!("../templates/python.md");

/// The parts of the page: a name for the command line, and a heading. A part reaches from its
/// heading to the next heading of that level.
const PARTS: [(&str, &str); 4] = [
    ("exchange", "## Exchange"),
    ("calls", "## Calls of the C library"),
    ("python", "## Python"),
    ("copies", "## Copies"),
];

/// Runs every benchmark, or those of the part `only`, and writes down what they print. Parts that
/// are not run stay as they are.
pub(crate) fn run(only: Option<&str>) -> Outcome {
    let parts = PARTS.map(|(name, _)| name);
    if only.is_some_and(|only| !parts.contains(&only)) {
        return Err(format!("there is no such part; there are {}", parts.join(", ")).into());
    }
    setup::libtorch_ready(None)?;
    let processor = processor();
    let name = plain_name(&processor);
    let machine = slug(&name);
    let path = root().join(format!("docs/benchmarks/{machine}.md"));
    let before = fs::read_to_string(&path).unwrap_or_default();
    let mut measured = BTreeMap::new();
    for name in parts.into_iter().filter(|&name| only.is_none_or(|only| only == name)) {
        let text = format!("\n{}\n{}", run_line(&processor), text_of(name, &machine)?);
        measured.insert(name, text);
    }
    fs::create_dir_all(root().join("docs/benchmarks"))?;
    fs::write(&path, page(&name, &before, &measured))?;
    eprintln!("written: {}", path.display());
    Ok(())
}

/// The page of a processor: the parts that were measured, and the other parts as they were
/// `before`.
fn page(processor: &str, before: &str, measured: &BTreeMap<&str, String>) -> String {
    let mut page = fill(PAGE, &[("processor", processor)]);
    for (name, heading) in PARTS {
        let part = measured.get(name).map(String::as_str).or_else(|| part_of(before, heading));
        if let Some(part) = part {
            page.push_str(&format!("\n{heading}\n{part}"));
        }
    }
    page
}

/// A quick run of the benchmark of copies, or a part of it, whose name contains `name`. Prints the
/// tables, and writes no page.
pub(crate) fn quick_copies(name: Option<&str>) -> Outcome {
    setup::libtorch_ready(None)?;
    let mut bench = rust_bench("copy")?;
    bench.args(["--", "--quick"]).args(name);
    let text = Copies::parse(&captured(&mut bench)?).short_text()?;
    println!("{text}");
    Ok(())
}

/// Runs the benchmarks of a part; returns its text.
fn text_of(part: &str, machine: &str) -> Outcome<String> {
    Ok(match part {
        "exchange" => fill(EXCHANGE, &[("figures", &bench("exchange")?)]),
        "calls" => fill(CALLS, &[("figures", &calls()?)]),
        "python" => fill(PYTHON, &[("figures", &from_python()?)]),
        _ => {
            let charts = root().join("docs/benchmarks/charts").join(machine);
            Copies::parse(&bench("copy")?).text(&charts)?
        }
    })
}

/// What a page holds below a heading, up to the next one.
fn part_of<'a>(page: &'a str, heading: &str) -> Option<&'a str> {
    let (_, rest) = page.split_once(&format!("\n{heading}\n"))?;
    // The line break before the next heading belongs to that part.
    Some(rest.split_once("\n## ").map_or(rest, |(part, _)| part))
}

/// Runs one of the benchmarks in Rust; returns what it prints.
fn bench(name: &str) -> Outcome<String> {
    output_of(&mut rust_bench(name)?)
}

/// The command of one of the benchmarks in Rust. The NumPy of the newest environment takes part
/// where it is installed.
fn rust_bench(name: &str) -> Outcome<Command> {
    let mut bench = cargo(&["bench", "--package", "dlbridge-benches", "--bench", name]);
    let python = setup::ensure_package(&setup::venv(None), "numpy")?.join("bin/python");
    bench.env("DLBRIDGE_PYTHON", python);
    let newest = environment::NEWEST.path();
    if setup::site_packages(&newest).is_ok_and(|folder| folder.join("numpy").is_dir()) {
        bench.env("DLBRIDGE_PYTHON_NEWEST", newest.join("bin/python"));
    }
    Ok(bench)
}

/// Compiles and runs the benchmark in C; returns what it prints.
fn calls() -> Outcome<String> {
    crate::run(&mut cargo(&["build", "--release", "--package", "dlbridge-capi"]))?;
    let library = root().join("target/release");
    let program = library.join("call");
    let mut compiler = Command::new("cc");
    compiler.current_dir(root()).args(["-O2", "-std=c11", "-Iinclude", "benches/c/call.c"]);
    compiler.arg(format!("-L{}", library.display())).arg("-ldlbridge");
    crate::run(compiler.arg(format!("-Wl,-rpath,{}", library.display())).arg("-o").arg(&program))?;
    // Cargo sets LD_LIBRARY_PATH to folders with libraries that are not optimised.
    output_of(Command::new(program).env_remove("LD_LIBRARY_PATH"))
}

/// Runs the benchmark in Python; returns what it prints.
fn from_python() -> Outcome<String> {
    let mut bench = python::example("benches/python/host.py")?;
    bench.env("PYTHONPATH", extension()?);
    setup::ensure_packages(&setup::venv(None), &[TVM_FFI])?;
    output_of(&mut bench)
}

/// Builds the extension module that the benchmark in Python measures, as wheels are built; returns
/// the folder that it is in.
fn extension() -> Outcome<PathBuf> {
    let package = "dlbridge-bench-extension";
    crate::run(&mut cargo(&["build", "--profile", "wheel", "--package", package]))?;
    let folder = root().join("target/bench-extension");
    fs::create_dir_all(&folder)?;
    let module = root().join("target/wheel/libbench_extension.so");
    fs::copy(module, folder.join("bench_extension.abi3.so"))?;
    Ok(folder)
}

/// Runs a command, shows its standard output, and returns it.
fn output_of(command: &mut Command) -> Outcome<String> {
    let text = captured(command)?;
    println!("{text}");
    Ok(text)
}

/// Runs a command; returns its standard output.
fn captured(command: &mut Command) -> Outcome<String> {
    show(command);
    let output = command.stderr(Stdio::inherit()).output()?;
    crate::succeeded(command, Ok(output.status))?;
    Ok(String::from_utf8(output.stdout)?)
}

/// The processor's name, as the kernel reports it.
fn processor() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or("unknown processor", |(_, name)| name).to_owned()
}

/// A processor's name without trademark signs, words that every name has, and the clock rate:
/// `Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz` becomes `Intel Xeon Platinum 8481C`.
fn plain_name(processor: &str) -> String {
    let name = processor.split('@').next().unwrap_or(processor);
    let name = name.replace("(R)", "").replace("(TM)", "");
    let says_nothing =
        |word: &&str| matches!(*word, "CPU" | "Processor") || word.ends_with("-Core");
    name.split_whitespace().filter(|word| !says_nothing(word)).collect::<Vec<_>>().join(" ")
}

/// A name in lower case, with a hyphen in place of everything but letters and digits.
fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

/// The line below a part's heading: where and when it was measured, and with which versions.
fn run_line(processor: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let first_line = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let text = output.map_or_else(|_| Vec::new(), |output| output.stdout);
        String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").to_owned()
    };
    let libtorch = setup::installed(&setup::libtorch(None));
    format!(
        "{processor}, {cores} cores, {}; {}; {}; libtorch {}.\n",
        first_line("date", &["+%Y-%m-%d"]),
        first_line("rustc", &["--version"]),
        first_line("c++", &["--version"]),
        libtorch.as_deref().unwrap_or("of the user"),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::{page, part_of, plain_name, slug};
    use crate::root;

    #[test]
    fn a_machine_has_the_name_of_its_processor() {
        for (reported, name, file) in [
            ("AMD EPYC", "AMD EPYC", "amd-epyc"),
            ("Intel(R) Xeon(R) Processor", "Intel Xeon", "intel-xeon"),
            ("AMD EPYC 7763 64-Core Processor", "AMD EPYC 7763", "amd-epyc-7763"),
            (
                "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
                "Intel Xeon Platinum 8481C",
                "intel-xeon-platinum-8481c",
            ),
        ] {
            assert_eq!(plain_name(reported), name);
            assert_eq!(slug(name), file);
        }
    }

    #[test]
    fn a_part_ends_at_the_next_heading() {
        let page = "# Page\n\n## One\n\ntext\n### Detail\nmore\n\n## Two\n\nend\n";
        assert_eq!(part_of(page, "## One"), Some("\ntext\n### Detail\nmore\n"));
        assert_eq!(part_of(page, "## Two"), Some("\nend\n"));
        assert_eq!(part_of(page, "## Three"), None);
    }

    #[test]
    fn parts_that_are_not_measured_stay_as_they_are() {
        for (name, machine) in [("AMD EPYC", "amd-epyc"), ("Intel Xeon", "intel-xeon")] {
            let path = root().join(format!("docs/benchmarks/{machine}.md"));
            let before = fs::read_to_string(path).expect("a page");
            assert_eq!(page(name, &before, &BTreeMap::new()), before);
            let measured = BTreeMap::from([("calls", "\nnew\n".to_owned())]);
            let after = page(name, &before, &measured);
            assert_eq!(part_of(&after, "## Calls of the C library"), Some("\nnew\n"));
            assert_eq!(part_of(&after, "## Copies"), part_of(&before, "## Copies"));
        }
    }
}
