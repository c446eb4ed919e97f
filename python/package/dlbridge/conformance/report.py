"""Prints results: as a table, as Markdown, as JSON."""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import json
import pathlib
import platform
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import verdicts
from .cases import Case
from .verdicts import MEANINGS, VERDICTS, Result

FORMAT = 1  # of the JSON


@dataclass(frozen=True)
class Findings:
    """The versions of the libraries, the cases that ran, and their results."""

    versions: Mapping[str, str]
    cases: Mapping[str, Case]
    results: Sequence[Result]

    def title(self) -> str:
        """The libraries, the machine and the date."""
        versions = ", ".join(f"{name} {version}".strip() for name, version in self.versions.items())
        where = f"CPython {platform.python_version()}, {platform.system()} {platform.machine()}"
        return f"{versions}; {where}; {datetime.date.today()}"

    def rows(self, only_bad: bool) -> Iterator[tuple[str, list[Result | None]]]:
        """For each case, the result of each library."""
        by = {(result.case, result.library): result for result in self.results}
        for case in self.cases:
            row = [by.get((case, library)) for library in self.versions]
            found = [result for result in row if result is not None]
            if found and (not only_bad or any(result.bad for result in found)):
                yield case, row

    def counts(self, library: str) -> Counter[str]:
        """The number of cases of a library for each verdict."""
        return Counter(r.outcome.verdict for r in self.results if r.library == library)

    def faults(self) -> Iterator[Result]:
        return (result for result in self.results if result.bad)


class Known:
    """Known faults: lines with a library and a case. In both, * and ? are wildcards."""

    def __init__(self, path: str | None) -> None:
        self.lines, self.used = list[tuple[str, str]](), set[tuple[str, str]]()
        for number, line in enumerate(
            pathlib.Path(path).read_text().splitlines() if path else [], 1
        ):
            words = line.partition("#")[0].split()
            if len(words) not in (0, 2):
                raise ValueError(f"{path}, line {number}: expected a library and a case")
            self.lines += [(words[0], words[1])] if words else []

    def marked(self, result: Result) -> Result:
        """The result, marked as known if it is a listed fault."""
        for line in self.lines:
            library, case = line
            named = fnmatch.fnmatch(result.library, library)
            if result.bad and named and fnmatch.fnmatch(result.case, case):
                self.used.add(line)
                return result.as_known()
        return result

    def unused(self) -> list[str]:
        """The lines that match no fault."""
        return [" ".join(line) for line in dict.fromkeys(self.lines) if line not in self.used]


def listing(cases: Mapping[str, Case]) -> Iterator[str]:
    """The list of cases: names, proper outcomes, and reasons."""
    for name, case in cases.items():
        yield f"{name}: {case.allowed}"
        yield indented(case.why)


def indented(text: str) -> str:
    """A paragraph, indented by four columns."""
    return textwrap.fill(text, 100, initial_indent="    ", subsequent_indent="    ")


SHORT = {  # proper outcomes in small letters, faults in capitals
    verdicts.ACCEPTED: "ok",
    verdicts.REFUSED: "refused",
    verdicts.NOT_APPLICABLE: "-",
    verdicts.ACCEPTED_HOSTILE: "ACCEPTED",
    verdicts.REFUSED_LEGAL: "REFUSED",
    verdicts.WRONG_VALUES: "VALUES",
    verdicts.WRONG_STRUCT: "STRUCT",
    verdicts.WRONG_ERROR: "ERROR",
    verdicts.FREED_EARLY: "EARLY",
    verdicts.LEAKED: "LEAKED",
    verdicts.DOUBLE_FREED: "DOUBLE",
    verdicts.CRASHED: "CRASHED",
    verdicts.HUNG: "HUNG",
}


def cell(result: Result | None) -> str:
    """The cell for a result: a crash by its signal, a known fault in parentheses."""
    if result is None:
        return ""
    first = result.outcome.detail.replace(";", " ").split(" ")[0]
    signal = result.outcome.verdict == verdicts.CRASHED and first.startswith("SIG")
    word = first if signal else SHORT[result.outcome.verdict]
    return f"({word})" if result.known else word


def table(findings: Findings, only_bad: bool) -> Iterator[str]:
    """One row for each case, one column for each library."""
    rows = [(case, list(map(cell, row))) for case, row in findings.rows(only_bad)]
    heads = list(findings.versions)
    widths = [
        max(len(head), *(len(cells[column]) for _, cells in rows), 0)
        for column, head in enumerate(heads)
    ]
    first = max([len(case) for case, _ in rows], default=0)

    def line(case: str, cells: Sequence[str]) -> str:
        padded = (f"{text:<{width}}" for text, width in zip(cells, widths, strict=True))
        return f"{case:<{first}}  {'  '.join(padded)}".rstrip()

    if rows:
        yield line("", heads)
        yield from (line(*row) for row in rows)
        yield ""


def summary(findings: Findings) -> Iterator[tuple[str, list[int]]]:
    """One row for each verdict that occurs: the number of cases of each library."""
    counts = [findings.counts(library) for library in findings.versions]
    for verdict in VERDICTS:
        numbers = [count[verdict] for count in counts]
        if any(numbers):
            yield verdict, numbers


def text(findings: Findings, only_bad: bool) -> Iterator[str]:
    """The report as text."""
    yield findings.title()
    yield ""
    yield from table(findings, only_bad)
    for result in findings.faults():
        known = " (known)" if result.known else ""
        yield f"{result.library}: {result.case}: {result.outcome}{known}"
        why = findings.cases[result.case]
        yield indented(f"Proper: {why.allowed}. {why.why}")
    yield ""
    for verdict, numbers in summary(findings):
        found = (f"{n} {name}" for n, name in zip(numbers, findings.versions, strict=True) if n)
        word = "a signal" if verdict == verdicts.CRASHED else SHORT[verdict]
        yield f"{verdict} ({word} in the table; {MEANINGS[verdict]}): {', '.join(found)}"


def markdown(findings: Findings) -> Iterator[str]:
    """The report as two Markdown tables: numbers of cases by verdict, and all faults."""
    libraries = [f"{name} {version}".strip() for name, version in findings.versions.items()]
    yield findings.title()
    yield ""
    yield f"| verdict | {' | '.join(libraries)} |"
    yield "|---|" + "--:|" * len(libraries)
    for verdict, numbers in summary(findings):
        yield f"| {verdict} | {' | '.join(str(n or '') for n in numbers)} |"
    yield ""
    yield f"| case with a fault | {' | '.join(findings.versions)} | proper |"
    yield "|---|" + "---|" * (len(libraries) + 1)
    for case, row in findings.rows(only_bad=True):
        yield f"| `{case}` | {' | '.join(map(cell, row))} | {findings.cases[case].allowed} |"


def as_json(findings: Findings) -> dict[str, Any]:
    """The document that `--json` writes."""
    return {
        "tool": "dlbridge.conformance",
        "format": FORMAT,
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": dict(findings.versions),
        "results": [
            {
                "library": result.library,
                "case": result.case,
                "verdict": result.outcome.verdict,
                "detail": result.outcome.detail,
                "bad": result.bad,
                "known": result.known,
                "allowed": findings.cases[result.case].allowed,
                "why": findings.cases[result.case].why,
            }
            for result in findings.results
        ],
    }


def write(options: argparse.Namespace, findings: Findings) -> None:
    """Writes the reports that the options name."""
    if options.json:
        document = json.dumps(as_json(findings), indent=1)
        if options.json == "-":
            print(document)
            return
        pathlib.Path(options.json).write_text(document + "\n")
    print(*(markdown(findings) if options.markdown else text(findings, options.only_bad)), sep="\n")
