"""The child process: runs cases of one library, and reports the start and the end of each.

Requests are lines on standard input, each the name of a case. Answers are lines of JSON on a file
descriptor of their own, because libraries write to standard output.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from . import verdicts
from .capsules import Found
from .cases import CONSUMER_CASES
from .imports import described, meet
from .libraries import Library, library
from .lifetimes import CHECKS
from .verdicts import Outcome


def run_case(tested: Library, name: str) -> Outcome:
    """The outcome of one case."""
    if name in CONSUMER_CASES:
        return meet(tested, CONSUMER_CASES[name])
    try:
        return CHECKS[name](tested)
    except Found as found:
        return found.outcome
    except Exception as error:
        return Outcome(verdicts.WRONG_ERROR, described(error))


def prepare(tested: Library) -> None:
    """Imports the library, and makes and reads an array, so that no case does this first."""
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # crashes are expected here
    tested.prepare()
    if tested.make is not None:
        with contextlib.suppress(Exception):
            tested.read(tested.make("plain"))
    gc.collect()
    gc.freeze()  # collections need not visit the imported modules


def main(arguments: Sequence[str]) -> None:
    """Runs the worker: name of the library, a function that consumes, a function that produces."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(**answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")

    name, consumer, producer = arguments
    if consumer or producer:
        sys.path.insert(0, os.getcwd())  # as for `python -m`
    tested = library(name, consumer, producer)
    prepare(tested)
    say(ready=tested.version())
    for line in sys.stdin:
        name = line.strip()
        say(begins=name)
        unraisable = list[str]()
        sys.unraisablehook = lambda event, to=unraisable: to.append(repr(event.exc_value))  # type: ignore[misc]
        outcome = run_case(tested, name)
        detail = "; ".join(
            filter(None, [outcome.detail, *(f"ignored {what}" for what in unraisable)])
        )
        say(ends=name, verdict=outcome.verdict, detail=detail)
    answers.flush()
    os._exit(0)  # the exit handlers of libraries are not tested
