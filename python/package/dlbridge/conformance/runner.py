"""The parent process: sends cases to workers, and starts another worker after a crash or a hang."""

from __future__ import annotations

import contextlib
import json
import pathlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from . import verdicts
from .verdicts import Outcome, Result

START_SECONDS = 120.0  # for a worker to import its library


@dataclass(frozen=True)
class Tested:
    """The name of a library, or a name for a user's functions, which are given as `module:function`."""

    name: str
    consumer: str = ""
    producer: str = ""


class WorkerError(Exception):
    """A worker did not start: its library cannot be imported."""


class Silence(Exception):
    """A worker did not answer in time."""


class Worker:
    """A child process that runs cases of one library.

    It runs this folder as a file, so that the package around it, whose native module may be broken,
    is imported for the library `dlbridge` only.
    """

    def __init__(self, tested: Tested) -> None:
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        folder = pathlib.Path(__file__).parent
        command = [sys.executable, str(folder), "--worker", tested.name]
        self.process = subprocess.Popen(
            [*command, tested.consumer, tested.producer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self.listen, daemon=True).start()
        self.faults, self.written = 0, 0
        try:
            ready = self.hear(START_SECONDS)
        except (Silence, EOFError) as error:
            self.stop()
            raise WorkerError(self.last_words() or repr(error)) from None
        self.version = str(ready["ready"])

    def listen(self) -> None:
        """Puts the child's answers into a queue, and an empty line when the child has ended."""
        assert self.process.stdout is not None
        with self.process.stdout as answers:
            for line in answers:
                self.lines.put(line)
        self.lines.put("")

    def hear(self, seconds: float) -> dict[str, Any]:
        """The child's next answer."""
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            raise Silence from None
        if not line:
            raise EOFError
        answer: dict[str, Any] = json.loads(line)
        return answer

    def run(self, case: str, seconds: float) -> Outcome:
        """The outcome of a case. After a crash or a hang, the worker has ended."""
        assert self.process.stdin is not None
        self.written = self.errors.seek(0, 2)
        try:
            self.process.stdin.write(case + "\n")
            self.process.stdin.flush()
            while "ends" not in (answer := self.hear(seconds)):
                pass
        except Silence:
            self.stop()
            return Outcome(verdicts.HUNG, f"no answer in {seconds:g} s")
        except (EOFError, OSError):
            self.stop(patience=10)
            return Outcome(verdicts.CRASHED, self.death())
        return Outcome(answer["verdict"], answer["detail"])

    def death(self) -> str:
        """The signal or exit status of the child, and its last output."""
        status = self.process.returncode
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return "; ".join(filter(None, [how, self.last_words()]))

    def last_words(self) -> str:
        """The message of a C++ exception, or the last line that the child wrote to standard error."""
        self.errors.seek(self.written)
        lines = self.errors.read().decode(errors="replace").strip().splitlines() or [""]
        said = [line for line in lines if "what():" in line]
        return (said or lines[-1:])[0].strip()[:160]

    def stop(self, patience: float = 0) -> None:
        """Ends the child. A child that is exiting gets some seconds to do so."""
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()


class Run:
    """All cases of one library. Iterating over it gives their results."""

    def __init__(self, tested: Tested, cases: Sequence[str], seconds: float) -> None:
        self.tested, self.cases, self.seconds = tested, cases, seconds
        self.worker: Worker | None = Worker(tested)
        self.version = self.worker.version

    def __iter__(self) -> Iterator[Result]:
        for case in self.cases:
            yield Result(self.tested.name, case, self.outcome(case))
        if self.worker is not None:
            self.worker.stop()
            self.worker.errors.close()

    def outcome(self, case: str) -> Outcome:
        """The outcome of a case. After a crash that followed other faults, the case runs again alone."""
        outcome, suspects = self.once(case)
        if outcome.verdict != verdicts.CRASHED or not suspects:
            return outcome
        alone, _ = self.once(case)
        if alone.verdict == verdicts.CRASHED:
            return alone
        detail = f"{outcome.detail} (only after other faults in one process; alone: {alone})"
        return Outcome(verdicts.CRASHED, detail)

    def once(self, case: str) -> tuple[Outcome, bool]:
        """The outcome of a case, and whether there were faults in the same process before."""
        if self.worker is None:
            self.worker = Worker(self.tested)
        worker = self.worker
        outcome = worker.run(case, self.seconds)
        if outcome.verdict in (verdicts.CRASHED, verdicts.HUNG):
            worker.errors.close()
            self.worker = None
        suspects = worker.faults
        worker.faults += outcome.verdict in verdicts.BAD
        return outcome, suspects > 0
