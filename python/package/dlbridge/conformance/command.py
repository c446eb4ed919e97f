"""The command line of the kit."""

from __future__ import annotations

import argparse
import fnmatch
import sys
import time
from collections.abc import Sequence

from . import report
from .cases import CONSUMER_CASES, Case
from .libraries import BY_NAME
from .lifetimes import PRODUCER_CASES
from .runner import Run, Tested, WorkerError
from .verdicts import Result

CASES: dict[str, Case] = CONSUMER_CASES | PRODUCER_CASES
PROPER, FAULTS, USAGE = 0, 1, 2  # exit statuses


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    made = argparse.ArgumentParser(
        prog="python -m dlbridge.conformance",
        description="Runs hostile and odd DLPack structs against array libraries.",
        epilog="Exit status: 0 if every outcome is proper or known, 1 if not, 2 for wrong usage.",
    )
    add = made.add_argument
    add("libraries", nargs="*", metavar="library", help=f"{', '.join(BY_NAME)} (all installed)")
    add("--consumer", action="append", default=[], metavar="MODULE:FUNCTION",
        help="also test this function, which imports a producer")  # fmt: skip
    add("--producer", action="append", default=[], metavar="MODULE:FUNCTION",
        help="also test the arrays that this function returns")  # fmt: skip
    add("--consumers", action="store_true", help="only cases that import")
    add("--producers", action="store_true", help="only cases that export")
    add("--case", action="append", default=[], metavar="NAME",
        help="only this case; * matches any text, ? any letter")  # fmt: skip
    add(
        "--list", action="store_true", help="list the cases, their proper outcomes, and the reasons"
    )
    add("--known", metavar="FILE", help="known faults: lines with a library and a case")
    add("--only-bad", action="store_true", help="print only faults")
    add("--json", metavar="FILE", help="write the results as JSON (- for standard output)")
    add("--markdown", action="store_true", help="print tables in Markdown")
    add("--timeout", type=float, default=20, metavar="SECONDS", help="for each case (20)")
    return made


def chosen(options: argparse.Namespace) -> dict[str, Case]:
    """The cases to run."""
    both = options.consumers == options.producers
    prefix = "" if both else "import/" if options.consumers else "export/"
    patterns = options.case or ["*"]
    return {
        name: case
        for name, case in CASES.items()
        if name.startswith(prefix) and any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    }


def tested(options: argparse.Namespace) -> list[Tested]:
    """The libraries to test: the named ones, or all that are installed."""
    own = [Tested(path, consumer=path) for path in options.consumer]
    own += [Tested(path, producer=path) for path in options.producer]
    named = options.libraries or [
        name for name, library in BY_NAME.items() if not own and library.installed()
    ]
    return [Tested(name) for name in dict.fromkeys(named)] + own


def problem(options: argparse.Namespace, cases: dict[str, Case], libraries: list[Tested]) -> str:
    """The error message for wrong arguments, if there is an error."""
    for pattern in options.case:
        if not fnmatch.filter(CASES, pattern):
            return f"no case is named {pattern}; --list lists them"
    if not cases:
        return "no case is left"
    for library in libraries:
        if library.consumer or library.producer:
            if ":" not in library.name:
                return f"{library.name} is not of the form module:function"
        elif library.name not in BY_NAME:
            return f"{library.name} is not one of {', '.join(BY_NAME)}; --consumer takes functions"
        elif not BY_NAME[library.name].installed():
            return f"{library.name} is not installed"
    return "" if libraries else "no library is installed"


def names_for(library: Tested, cases: dict[str, Case]) -> list[str]:
    """The cases for this library."""
    skipped = "export/" if library.consumer else "import/" if library.producer else " "
    return [name for name in cases if not name.startswith(skipped)]


def run(library: Tested, names: Sequence[str], seconds: float) -> tuple[str, list[Result]]:
    """The version and the results of a library, with progress on standard error."""
    start, results, tty = time.monotonic(), list[Result](), sys.stderr.isatty()
    cases = Run(library, names, seconds)
    for result in cases:
        results.append(result)
        if tty:
            line = f"{library.name}: {len(results)}/{len(names)} {result.case}"
            print(f"\r{line[:79]:<79}", end="", file=sys.stderr, flush=True)
        elif result.bad:
            print(f"{library.name}: {result.case}: {result.outcome}", file=sys.stderr, flush=True)
    bad = sum(result.bad for result in results)
    line = f"{library.name} {cases.version}: {len(results)} cases, {bad} with faults"
    line = f"{line}, {time.monotonic() - start:.1f} s"
    print(f"\r{line:<79}" if tty else line, file=sys.stderr, flush=True)
    return cases.version, results


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, and returns the exit status."""
    options = parser().parse_args(arguments)
    cases, libraries = chosen(options), tested(options)
    wrong = problem(options, cases, libraries)
    if options.list and cases:
        print(*report.listing(cases), sep="\n")
        return PROPER
    if wrong:
        print(f"{parser().prog}: {wrong}", file=sys.stderr)
        return USAGE
    try:
        known = report.Known(options.known)
    except (OSError, ValueError) as error:
        print(f"{parser().prog}: {error}", file=sys.stderr)
        return USAGE
    versions, results, broken = dict[str, str](), list[Result](), list[str]()
    for library in libraries:
        try:
            versions[library.name], found = run(library, names_for(library, cases), options.timeout)
        except WorkerError as error:
            print(f"{parser().prog}: {library.name} cannot be imported: {error}", file=sys.stderr)
            if library.name not in BY_NAME:
                return USAGE
            broken.append(library.name)
            continue
        results += map(known.marked, found)
    report.write(options, report.Findings(versions, cases, results))
    for line in known.unused():
        print(f"not a fault any more: {line}", file=sys.stderr)
    return FAULTS if broken or any(result.failed for result in results) else PROPER
