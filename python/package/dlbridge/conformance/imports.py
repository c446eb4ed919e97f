"""Runs the cases for consumers, in the worker."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

from . import verdicts
from .cases import ACCEPT, BOOLS, REFUSE, TOUCH, Case
from .elements import Elements, dense, gathered
from .libraries import Library
from .structs import PADDED, Legacy, Producer, Versioned, new_capsule
from .verdicts import Outcome

NOT_READABLE = "not readable"
CONTEXT = 0x5EED  # for the producer; consumers do not read it
RELEASE_SECONDS = 1.0  # how long a library may take to call the deleter


class Asked(Producer):
    """A producer that gives the versioned struct only to consumers that ask for it."""

    declined = False

    def __dlpack__(self, **asked: Any) -> Any:
        version = asked.get("max_version")
        if not isinstance(self.struct, Legacy) and (version is None or tuple(version) < (1, 0)):
            self.declined = True
            raise BufferError("this producer has no DLManagedTensor")
        return super().__dlpack__(**asked)


class OldWithStream(Producer):
    def __dlpack__(self, stream: object = None) -> Any:  # type: ignore[override]
        return super().__dlpack__(stream=stream)


class OldWithoutArguments(Producer):
    def __dlpack__(self) -> Any:  # type: ignore[override]
        return super().__dlpack__()


class NoDeviceQuery(Asked):
    @property
    def __dlpack_device__(self) -> Any:
        raise AttributeError("__dlpack_device__")


KINDS: dict[str, type[Producer]] = {
    "old-with-stream": OldWithStream,
    "old-without-arguments": OldWithoutArguments,
    "no-device-query": NoDeviceQuery,
}
ANSWERS: dict[str, Callable[[Producer], Any]] = {
    "raises-buffer-error": lambda producer: BufferError("the producer says no"),
    "raises-type-error": lambda producer: TypeError("the producer says no"),
    "raises-value-error": lambda producer: ValueError("the producer says no"),
    "gives-none": lambda producer: None,
    "gives-itself": lambda producer: producer,
    "other-name": lambda producer: new_capsule(producer.first, b"tensor", None),
    "no-name": lambda producer: new_capsule(producer.first, None, None),
}


def producer_of(case: Case) -> Producer:
    """The producer of a case."""
    kind = Producer if case.protocol in ANSWERS else KINDS.get(case.protocol, Asked)
    producer = kind(**{"context": CONTEXT, **case.fields}, destructor=True, poison=True)
    if case.protocol == BOOLS:
        producer.memory[producer.FIRST : producer.FIRST + 3] = [1, 0, 1]
    if case.protocol in ANSWERS:
        producer.answers = [
            ANSWERS[case.protocol](producer)
        ] * 10  # for consumers that call it again
    return producer


def elements(producer: Producer) -> Elements | None:
    """The elements that the producer's struct describes; `None` if they are not whole bytes."""
    tensor, struct = producer.struct.tensor, producer.struct
    bits = tensor.bits * tensor.lanes
    if isinstance(struct, Versioned) and struct.flags & PADDED and tensor.bits < 8:
        bits = 8 * tensor.lanes
    if bits % 8:
        return None
    strides = dense(producer.shape, 1) if producer.strides is None else producer.strides
    first, itemsize = (tensor.data or 0) + tensor.byte_offset, bits // 8
    return gathered(first, producer.shape, (int(step) * itemsize for step in strides), itemsize)


def meet(library: Library, case: Case) -> Outcome:
    """The outcome of a case. Everything that holds the producer's memory is dropped in it.

    A consumer that asks for `DLManagedTensor` gets it, where the case does not say which struct.
    """
    assert library.consume is not None
    producer = producer_of(case)
    outcome = consumed(library, case, producer)
    release(producer)
    if case.any_struct and isinstance(producer, Asked) and producer.declined:
        return meet(library, dataclasses.replace(case, fields={**case.fields, "legacy": True}))
    expected = int(case.fields.get("deleter", True))
    if producer.deleted > expected:
        return Outcome(verdicts.DOUBLE_FREED, f"deleter called {producer.deleted} times; {outcome}")
    if producer.deleted < expected and NOT_READABLE in outcome.detail:
        # The attempt to read may keep the result alive.
        return meet(library, dataclasses.replace(case, read=False))
    if producer.deleted < expected:
        return Outcome(verdicts.LEAKED, f"deleter never called; {outcome}")
    return outcome


def release(producer: Producer) -> None:
    """Drops the capsule, whose destructor calls the deleter unless the capsule was consumed."""
    producer.answers.clear()
    producer.capsule = None
    end = time.monotonic() + RELEASE_SECONDS
    while not producer.deleted and producer.struct.deleter and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)


def consumed(library: Library, case: Case, producer: Producer) -> Outcome:
    """Passes the producer to the library, reads the result and drops it."""
    consume = library.consume
    assert consume is not None
    expected = elements(producer) if case.read and case.allowed != REFUSE else None
    try:
        result = consume(producer)
        if case.protocol == "consumed-twice":
            return again(consume, producer)
    except BaseException as error:
        return refused(case, producer, error)
    if case.allowed == REFUSE:
        return Outcome(verdicts.ACCEPTED_HOSTILE, str(type(result).__name__))
    if case.protocol == "capsule-first":
        producer.capsule = None
    if case.protocol == TOUCH:
        with contextlib.suppress(Exception):
            library.read(result)
    outcome = compared(library, result, producer, expected)
    if case.protocol == "thread":
        box = [result]
        del result
        thread = threading.Thread(target=box.clear)
        thread.start()
        thread.join()
    return outcome


def again(consume: Any, producer: Producer) -> Outcome:
    """Passes the consumed capsule again, while the first result lives."""
    try:
        consume(producer)
    except Exception as error:
        return Outcome(verdicts.REFUSED, described(error))
    return Outcome(verdicts.ACCEPTED_HOSTILE, "one capsule was consumed twice")


def refused(case: Case, producer: Producer, error: BaseException) -> Outcome:
    """The outcome for an exception of the consumer."""
    if isinstance(producer, Asked) and producer.declined:
        return Outcome(verdicts.NOT_APPLICABLE, "asks for DLManagedTensor only")
    if case.protocol == "consumed-twice":
        return Outcome(verdicts.NOT_APPLICABLE, f"not consumed once: {described(error)}")
    if isinstance(error, SystemError) and producer.pending:
        error = producer.pending[0]  # it was pending when the deleter was called, and was lost
    if isinstance(error, SystemError) or not isinstance(error, Exception):
        return Outcome(verdicts.WRONG_ERROR, described(error))
    newer = any(asked.get("max_version") for asked in producer.asked)
    legal = case.allowed == ACCEPT and not (newer and isinstance(producer.struct, Legacy))
    return Outcome(verdicts.REFUSED_LEGAL if legal else verdicts.REFUSED, described(error))


def compared(
    library: Library, result: Any, producer: Producer, expected: Elements | None
) -> Outcome:
    """Compares the result with the elements that the struct described."""
    if expected is None:
        return Outcome(verdicts.ACCEPTED, "values not compared")
    early = producer.deleted
    try:
        found = library.read(result)
    except Exception as error:
        return Outcome(verdicts.ACCEPTED, f"{NOT_READABLE}: {described(error)}")
    if found == expected:
        return Outcome(verdicts.ACCEPTED)
    verdict = verdicts.FREED_EARLY if early else verdicts.WRONG_VALUES
    return Outcome(verdict, f"expected {shown(expected)}, found {shown(found)}")


def described(error: BaseException) -> str:
    """The class of an exception, and the first line of its text."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:120]}".removesuffix(": ")


def shown(elements: Elements) -> str:
    """Describes a shape and some bytes."""
    shape, raw = elements
    more = "…" if len(raw) > 16 else ""
    sizes = shape if len(shape) < 9 else f"of {len(shape)} sizes"
    return f"shape {sizes}, bytes {raw[:16].hex(' ')}{more}"
