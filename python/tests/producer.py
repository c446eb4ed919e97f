"""The conformance kit's producer, and functions that run code with it in a child process.

Cases run in forked children, so that an abort, a segmentation fault or a hang fails one case, which names the
signal, and does not end the run.
"""

import functools
import gc
import os
import signal
import sys
import traceback

import pytest

import dlbridge
from dlbridge.conformance.structs import (
    HOST,
    IS_COPIED,
    PADDED,
    READ_ONLY,
    DLTensor,
    Legacy,
    Producer,
    Versioned,
    compact,
    name_of,
    new_capsule,
    opened,
    pointer_of,
    set_name,
)

__all__ = [
    "HOST",
    "IS_COPIED",
    "PADDED",
    "READ_ONLY",
    "DLTensor",
    "HostileProducer",
    "Legacy",
    "Versioned",
    "cases",
    "compact",
    "in_child",
    "name_of",
    "new_capsule",
    "opened",
    "outcome",
    "pointer_of",
    "set_name",
]

SECONDS = 20


def in_child(case):
    """Runs a case in a forked child, and fails if the child fails."""

    @functools.wraps(case)
    def run(**arguments):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            verdict, unraisable = "", []
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(SECONDS)
                gc.freeze()  # collections need not visit the parent's objects
                sys.unraisablehook = lambda event: unraisable.append(repr(event.exc_value))
                case(**arguments)
                gc.collect()
                assert unraisable == []
                verdict = "passed"
            except BaseException:
                verdict = traceback.format_exc()
            finally:
                with open(writer, "w") as pipe:
                    pipe.write(verdict)
                os._exit(0)
        os.close(writer)
        with open(reader) as pipe:
            verdict = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status < 0:
            pytest.fail(f"the child died of {signal.Signals(-status).name}", pytrace=False)
        if verdict != "passed":
            pytest.fail(f"exit status {status}\n{verdict}", pytrace=False)

    return run


def cases(**tables):
    """Runs a test in a child for each combination of these arguments."""

    def decorate(test):
        test = in_child(test)
        for name, table in tables.items():
            test = pytest.mark.parametrize(name, list(table), ids=str)(test)
        return test

    return decorate


def outcome(call, *arguments):
    """The result of a call, or the class of the exception that it raises."""
    try:
        return call(*arguments)
    except Exception as error:
        return type(error)


class HostileProducer(Producer):
    """The kit's producer, imported by dlbridge."""

    def imported(self, **options):
        """Imports the struct, and checks that the capsule was consumed and nothing was released."""
        tensor = dlbridge.from_dlpack(self, **options)
        assert (name_of(self.capsule), self.deleted) == (type(self.struct).used, 0)
        return tensor

    def check_released(self, times=1):
        """Fails unless the deleter was called `times` times, with an unchanged struct."""
        gc.collect()
        assert (self.deleted, self.intact) == (times, True)

    def check_refused(self, match=None, times=1):
        """Checks that dlbridge refuses the struct, and calls its deleter."""
        with pytest.raises(BufferError, match=match):
            dlbridge.from_dlpack(self)
        assert (name_of(self.capsule), bytes(self.struct)) == (type(self.struct).used, self.made)
        self.check_released(times)

    def elements(self, shape=(3,), strides=(1,), at=Producer.FIRST):
        """The elements of this layout, read byte by byte."""
        if not shape:
            return int.from_bytes(self.memory[at : at + 4], sys.byteorder, signed=True)
        return [
            self.elements(shape[1:], strides[1:], at + 4 * i * strides[0]) for i in range(shape[0])
        ]
