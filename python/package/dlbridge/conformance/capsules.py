"""Checks of an export: the capsule, its struct, and their rules."""

from __future__ import annotations

import ctypes as C
import gc
from typing import Any

from . import verdicts
from .elements import Elements, read_struct, rows
from .imports import described, shown
from .libraries import Library
from .structs import (
    HOST,
    Deleter,
    Legacy,
    Versioned,
    call_deleter,
    name_of,
    opened,
    set_name,
)
from .verdicts import Outcome


class Found(Exception):
    """Ends a check with an outcome."""

    def __init__(self, verdict: str, detail: str, error: Exception | None = None) -> None:
        self.outcome, self.error = Outcome(verdict, detail), error


def array_of(library: Library, kind: str = "plain") -> Any:
    """Returns an array of this kind, or ends the check."""
    assert library.make is not None
    try:
        return library.make(kind)
    except Exception as error:
        raise Found(verdicts.NOT_APPLICABLE, described(error)) from None


def capsule_of(array: Any, **asked: Any) -> Any:
    """Returns a capsule, or ends the check."""
    try:
        return array.__dlpack__(**asked)
    except SystemError as error:
        raise Found(verdicts.WRONG_ERROR, described(error)) from None
    except Exception as error:
        raise Found(verdicts.REFUSED, described(error), error) from None


def device_of(array: Any) -> tuple[int, int]:
    """The device of the array, by its `__dlpack_device__`. An index that is no number counts as 0."""
    try:
        kind, index = array.__dlpack_device__()
        return int(kind), index if isinstance(index, int) else 0
    except (TypeError, ValueError) as error:
        raise Found(verdicts.WRONG_STRUCT, f"__dlpack_device__: {described(error)}") from None


class Export:
    """The struct of a consumed capsule, whose destructor must not call the deleter."""

    def __init__(self, array: Any, **asked: Any) -> None:
        capsule = capsule_of(array, **asked)  # the only reference to it
        if type(capsule).__name__ != "PyCapsule":
            raise Found(verdicts.WRONG_STRUCT, f"{type(capsule).__name__} is not a capsule")
        self.name = name_of(capsule)
        if self.name not in (Legacy.name, Versioned.name):
            raise Found(verdicts.WRONG_STRUCT, f"the capsule's name is {self.name!r}")
        self.struct = opened(capsule)
        set_name(capsule, type(self.struct).used)
        original, calls = self.struct.deleter, list[int]()
        counting = Deleter(calls.append)
        self.struct.deleter = C.cast(counting, C.c_void_p).value
        del capsule
        gc.collect()
        self.struct.deleter = original
        if calls:
            raise Found(verdicts.DOUBLE_FREED, "the destructor of a consumed capsule frees")

    @property
    def flags(self) -> int:
        return self.struct.flags if isinstance(self.struct, Versioned) else 0

    @property
    def device(self) -> tuple[int, int]:
        kind, index = self.struct.tensor.device
        return kind, index

    def check(self, array: Any, expected: Elements | None) -> Outcome:
        """Fails if the struct breaks a rule or describes other elements."""
        problem = self.problem(device_of(array))
        if problem:
            raise Found(verdicts.WRONG_STRUCT, problem)
        if expected is None or self.device[0] not in HOST:
            return Outcome(verdicts.ACCEPTED, "values not compared")
        return self.compare(expected)

    def problem(self, device: tuple[int, int]) -> str:
        """The rule that the struct breaks, if it breaks one."""
        tensor, version = self.struct.tensor, (1, 0)
        if isinstance(self.struct, Versioned):
            version = (self.struct.version[0], self.struct.version[1])
        if version[0] != 1:
            return f"the struct's version is {version}"
        if tensor.ndim < 0 or tensor.lanes < 1 or tensor.bits < 1:
            return f"ndim {tensor.ndim}, {tensor.bits} bits, {tensor.lanes} lanes"
        if tensor.ndim and not tensor.sizes:
            return f"shape is NULL and ndim is {tensor.ndim}"
        if tensor.ndim and not tensor.steps and version >= (1, 2):
            return f"strides are NULL in a struct of version {version}"
        if self.device != device and not {self.device[0], device[0]} <= HOST:
            return f"device is {self.device}, __dlpack_device__ says {device}"
        if not tensor.data and 0 not in rows(tensor)[0]:
            return "data is NULL, and there are elements"
        return ""

    def compare(self, expected: Elements) -> Outcome:
        """Fails if the struct describes other elements."""
        found = read_struct(self.struct.tensor)
        if found == expected:
            return Outcome(verdicts.ACCEPTED)
        raise Found(
            verdicts.WRONG_VALUES, f"the array has {shown(expected)}, the struct {shown(found)}"
        )

    def free(self) -> None:
        call_deleter(self.struct)
