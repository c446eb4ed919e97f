"""Reads the elements of an array through a protocol."""

from __future__ import annotations

import ctypes as C
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from .structs import call_deleter, opened, set_name

Elements = tuple[tuple[int, ...], bytes]  # the shape, and every element's bytes in row-major order


def gathered(address: int, shape: Sequence[int], strides: Iterable[int], itemsize: int) -> Elements:
    """Reads elements from memory; `strides` are in bytes."""
    if 0 in shape:
        return tuple(shape), b""
    steps = tuple(strides)
    indices = itertools.product(*map(range, shape))
    where = (address + sum(map(int.__mul__, index, steps)) for index in indices)
    return tuple(shape), b"".join(C.string_at(at, itemsize) for at in where)


def read_any(result: Any) -> Elements:
    """Reads the elements of a result through the buffer protocol, `__array_interface__` or `__dlpack__`."""
    try:
        view = memoryview(result)
    except TypeError:
        pass
    else:
        return tuple(view.shape or ()), view.tobytes()
    if hasattr(result, "__array_interface__"):
        return read_interface(result.__array_interface__)
    if hasattr(result, "__dlpack__"):
        return read_capsule(result.__dlpack__())
    raise TypeError(f"{type(result).__name__} has no buffer, __array_interface__ or __dlpack__")


def read_interface(interface: Any) -> Elements:
    """Reads the memory that an `__array_interface__` describes."""
    shape, itemsize = tuple(interface["shape"]), int(interface["typestr"][2:])
    return gathered(
        interface["data"][0], shape, interface.get("strides") or dense(shape, itemsize), itemsize
    )


def dense(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Row-major strides in bytes."""
    steps = itertools.accumulate(reversed(shape[1:]), int.__mul__, initial=itemsize)
    return tuple(steps)[: len(shape)][::-1]


def read_capsule(capsule: Any) -> Elements:
    """Consumes a capsule and reads its memory."""
    struct = opened(capsule)
    set_name(capsule, type(struct).used)
    try:
        return read_struct(struct.tensor)
    finally:
        call_deleter(struct)


def rows(tensor: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and strides (in elements) of a `DLTensor`."""

    def row(at: int | None) -> tuple[int, ...]:
        return tuple((C.c_int64 * tensor.ndim).from_address(at)) if at else ()

    shape = row(tensor.sizes)
    return shape, row(tensor.steps) or dense(shape, 1)


def read_struct(tensor: Any) -> Elements:
    """The elements that a `DLTensor` describes."""
    shape, strides = rows(tensor)
    itemsize = tensor.bits * tensor.lanes // 8
    first = (tensor.data or 0) + tensor.byte_offset
    return gathered(first, shape, (step * itemsize for step in strides), itemsize)
