"""The kit's producer, whose DLPack struct says anything, and children to meet it in.

Cases run in forked children, so that an abort, a segmentation fault or a hang is one failed case, which names
the signal, and not the end of the run.
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
    """Runs a case in a forked child, and fails as the child does."""

    @functools.wraps(case)
    def run(**arguments):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            verdict, unraisable = "", []
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(SECONDS)
                gc.freeze()  # what the parent made is not looked at again
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
    """What a call gives, or the class of what it raises."""
    try:
        return call(*arguments)
    except Exception as error:
        return type(error)


class HostileProducer(Producer):
    """The kit's producer, met by dlbridge."""

    def imported(self, **options):
        """The producer's tensor: the capsule was consumed, and nothing was released."""
        tensor = dlbridge.from_dlpack(self, **options)
        assert (name_of(self.capsule), self.deleted) == (type(self.struct).used, 0)
        return tensor

    def check_released(self, times=1):
        """Fails unless the struct went back to the producer `times` times, as it was made."""
        gc.collect()
        assert (self.deleted, self.intact) == (times, True)

    def check_refused(self, match=None, times=1):
        """The struct is refused, and goes back to the producer all the same."""
        with pytest.raises(BufferError, match=match):
            dlbridge.from_dlpack(self)
        assert (name_of(self.capsule), bytes(self.struct)) == (type(self.struct).used, self.made)
        self.check_released(times)

    def elements(self, shape=(3,), strides=(1,), at=Producer.FIRST):
        """What elements of this layout are, read byte by byte."""
        if not shape:
            return int.from_bytes(self.memory[at : at + 4], sys.byteorder, signed=True)
        return [
            self.elements(shape[1:], strides[1:], at + 4 * i * strides[0]) for i in range(shape[0])
        ]
