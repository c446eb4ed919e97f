"""The cases for producers about the release of memory: when, and on which thread."""

from __future__ import annotations

import ctypes as C
import gc
import os
import pathlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from . import verdicts
from .capsules import Export, Found, array_of, capsule_of
from .cases import PYTHON
from .exports import CHECKS, NEW, PRODUCER_CASES, case
from .libraries import Library
from .structs import Deleter, call_deleter, opened
from .verdicts import Outcome

__all__ = ["CHECKS", "PRODUCER_CASES"]  # with the cases of this module

ARRAYS, LEAK_BYTES = 48, 96 << 20  # arrays of 4 MiB; more growth than this is a leak
Lifetime = TypeVar("Lifetime", bound=Callable[[Library, dict[str, Any]], Outcome])


def both(name: str, why: str) -> Callable[[Lifetime], Lifetime]:
    """Registers a check twice: for legacy and for versioned capsules."""

    def add(check: Lifetime) -> Lifetime:
        case(f"{name}/legacy", PYTHON + why)(lambda library: check(library, {}))
        case(f"{name}/versioned", PYTHON + why)(lambda library: check(library, NEW))
        return check

    return add


@both("array-first", "the struct keeps the memory, also after the array and the capsule are gone.")
def array_first(library: Library, asked: dict[str, Any]) -> Outcome:
    array = array_of(library)
    export = Export(array, **asked)
    expected = library.read(array)
    device = export.device[0]
    del array
    gc.collect()
    others = [bytearray(b"\xee" * 24) for _ in range(1000)]  # reuses freed memory
    try:
        return export.compare(expected) if device == 1 else Outcome(verdicts.ACCEPTED)
    finally:
        export.free()
        del others


@both("two-capsules", "each capsule has a struct of its own.")
def two_capsules(library: Library, asked: dict[str, Any]) -> Outcome:
    array = array_of(library)
    expected = library.read(array)
    first, second = (Export(array, **asked) for _ in range(2))
    if C.addressof(first.struct) == C.addressof(second.struct):
        return Outcome(verdicts.DOUBLE_FREED, "both capsules hold the same struct")
    first.free()
    try:
        return second.check(array, expected)
    finally:
        second.free()


@both("unconsumed", "the destructor of a capsule that was not consumed calls the deleter once.")
def unconsumed(library: Library, asked: dict[str, Any]) -> Outcome:
    array = array_of(library)
    capsule = capsule_of(array, **asked)
    struct = opened(capsule)
    original, calls = struct.deleter, list[int]()

    def delete(address: int) -> None:
        calls.append(address)
        if original and len(calls) == 1:
            Deleter(original)(address)

    counting = Deleter(delete)
    if original:
        struct.deleter = C.cast(counting, C.c_void_p).value
    del capsule, struct
    gc.collect()
    if len(calls) > 1:
        return Outcome(verdicts.DOUBLE_FREED, f"deleter called {len(calls)} times")
    library.read(array)
    return Outcome(verdicts.ACCEPTED, "" if calls else "the deleter in the struct was not called")


@both("exception", "an exception that is on its way survives the capsule's destructor.")
def exception(library: Library, asked: dict[str, Any]) -> Outcome:
    array = array_of(library)
    capsule_of(array, **asked)
    try:
        # The tuple and the capsule in it are dropped while the exception propagates.
        (array.__dlpack__(**asked), 1 // len(()))
    except ZeroDivisionError:
        return Outcome(verdicts.ACCEPTED)
    except BaseException as error:
        return Outcome(
            verdicts.WRONG_ERROR, f"{type(error).__name__} came instead of the exception"
        )
    return Outcome(verdicts.WRONG_ERROR, "the exception is gone")


@both("deleter-other-thread", "the deleter takes the interpreter's lock itself if it needs it.")
def deleter_on_other_thread(library: Library, asked: dict[str, Any]) -> Outcome:
    export = Export(array_of(library), **asked)
    thread = threading.Thread(
        target=export.free
    )  # without the GIL, like every call of a deleter in this module
    thread.start()
    thread.join()
    return Outcome(verdicts.ACCEPTED)


@both("deleter-foreign-thread", "the deleter may be called on a thread that Python did not start.")
def deleter_on_foreign_thread(library: Library, asked: dict[str, Any]) -> Outcome:
    system = C.CDLL(None) if os.name == "posix" else None
    if not hasattr(system, "pthread_create"):
        raise Found(verdicts.NOT_APPLICABLE, "there are no POSIX threads here")
    export = Export(array_of(library), **asked)
    if export.struct.deleter:
        # The type should be `void *(*)(void *)`, but nothing reads the result of the thread.
        thread, run = C.c_ulong(), C.c_void_p(export.struct.deleter)
        struct = C.c_void_p(C.addressof(export.struct))
        assert system is not None and system.pthread_create(C.byref(thread), None, run, struct) == 0
        system.pthread_join(thread, None)
    return Outcome(verdicts.ACCEPTED)


def resident() -> int:
    """The bytes of physical memory that this process uses."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        raise Found(verdicts.NOT_APPLICABLE, "there is no /proc here") from None
    return pages * os.sysconf("SC_PAGE_SIZE")


def growth(library: Library, use: Callable[[Any], None]) -> Outcome:
    """Fails if arrays leak memory when they are exported and dropped."""
    use(array_of(library, "big"))
    gc.collect()
    before = resident()
    for _ in range(ARRAYS):
        use(array_of(library, "big"))
    gc.collect()
    grown = resident() - before
    if grown > LEAK_BYTES:
        detail = f"{ARRAYS} arrays of 4 MiB leave {grown >> 20} MiB in use"
        return Outcome(verdicts.LEAKED, detail)
    return Outcome(verdicts.ACCEPTED)


@both("leak-unconsumed", "the memory is free after an unconsumed capsule is gone.")
def leak_of_unconsumed(library: Library, asked: dict[str, Any]) -> Outcome:
    return growth(library, lambda array: capsule_of(array, **asked) and None)


@both("leak-consumed", "the memory is free after the deleter was called.")
def leak_of_consumed(library: Library, asked: dict[str, Any]) -> Outcome:
    def use(array: Any) -> None:
        export = Export(array, **asked)
        call_deleter(export.struct)

    return growth(library, use)
