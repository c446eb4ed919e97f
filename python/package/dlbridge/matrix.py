"""Exchanges tensors with every array library that is installed, and checks each exchange.

Run it as `python -m dlbridge.matrix`. For every library, memory layout, element type and `copy=`, an array is
converted in both directions. The result's type, shape, bytes, addresses (equal if the memory is shared, different if
it was copied) and read-only flag are checked. `RULES` lists the cases whose expected outcome is neither shared nor
copied, with the reasons. If a case has an unexpected outcome, it is reported as WRONG, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import itertools
import math
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import dlbridge as dl


@dataclass(frozen=True)
class DType:
    """An element type: its names, its code in DLPack, and its size in bytes."""

    name: str
    short: str
    code: int
    itemsize: int


DTYPES = (
    DType("bool", "bool", 6, 1),
    DType("int8", "i8", 0, 1),
    DType("int16", "i16", 0, 2),
    DType("int32", "i32", 0, 4),
    DType("int64", "i64", 0, 8),
    DType("uint8", "u8", 1, 1),
    DType("uint16", "u16", 1, 2),
    DType("uint32", "u32", 1, 4),
    DType("uint64", "u64", 1, 8),
    DType("float16", "f16", 2, 2),
    DType("float32", "f32", 2, 4),
    DType("float64", "f64", 2, 8),
    DType("bfloat16", "bf16", 4, 2),
    DType("float8_e4m3fn", "e4m3", 10, 1),
    DType("float8_e5m2", "e5m2", 12, 1),
    DType("complex64", "c64", 5, 8),
    DType("complex128", "c128", 5, 16),
)
ML = "bfloat16 float8_e4m3fn float8_e5m2"  # NumPy has them only with the package ml_dtypes
# Where elements lie in memory: shape, strides and start, in elements.
LAYOUTS = {
    "row-major": ((2, 3), (3, 1), 0),
    "column-major": ((2, 3), (1, 2), 0),
    "x[:,::2]": ((2, 3), (6, 2), 0),
    "x[::-1]": ((2, 3), (-3, 1), 3),
    "x[1:]": ((2, 3), (3, 1), 3),
    "broadcast": ((2, 3), (0, 1), 0),
    "0-d": ((), (), 0),
    "empty": ((0, 3), (3, 1), 0),
    "read-only": ((2, 3), (3, 1), 0),
}
COPIES = (None, False, True)


@dataclass(frozen=True)
class View:
    """An array's description of its memory; strides are in elements. `dtype` is None for a type without a name."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str | None
    read_only: bool

    def addresses(self, itemsize: int) -> list[int]:
        """The addresses of all elements, in row-major order."""
        indices = itertools.product(*map(range, self.shape))
        return [
            self.address + itemsize * sum(map(int.__mul__, index, self.strides))
            for index in indices
        ]


_CAPSULE = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_new_capsule = _CAPSULE(("PyCapsule_New", ctypes.pythonapi))


class Memory:
    """A DLPack producer without a library: a layout of some of fourteen elements, aligned to 64 bytes."""

    def __init__(self, dtype: DType, layout: str) -> None:
        self.dtype, (shape, strides, self.start) = dtype.name, LAYOUTS[layout]
        seven = (
            (1, 0, 0, 1, 0, 1, 1) if dtype.name == "bool" else range(48, 48 + 7 * dtype.itemsize)
        )
        buffer = bytearray(14 * dtype.itemsize + 64)
        address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        self.storage = memoryview(buffer)[-address % 64 :][: 14 * dtype.itemsize]
        self.storage[:] = 2 * bytes(seven)
        self.span = range(address + -address % 64, address + -address % 64 + len(self.storage))
        address = self.span.start + self.start * dtype.itemsize
        self.view = View(address, shape, strides, dtype.name, layout == "read-only")
        self.addresses = self.view.addresses(dtype.itemsize)
        self.elements = [ctypes.string_at(at, dtype.itemsize) for at in self.addresses]
        self.numbers = (ctypes.c_int64 * (2 * len(shape)))(*shape, *strides)
        at = ctypes.addressof(self.numbers)
        tensor = (
            address,
            1,
            0,
            len(shape),
            dtype.code,
            8 * dtype.itemsize,
            1,
            at,
            at + 8 * len(shape),
            0,
        )
        managed = struct.pack(
            "@ II PP Q P ii i BBH PP Q", 1, 0, 0, 0, layout == "read-only", *tensor
        )
        self.managed = ctypes.create_string_buffer(
            managed
        )  # a `DLManagedTensorVersioned` without a deleter

    def __dlpack__(self, **_: object) -> object:
        return _new_capsule(ctypes.addressof(self.managed), b"dltensor_versioned", None)


memory_of = cache(
    Memory
)  # Never freed: without a deleter, no consumer says when it has released the memory.


@cache
def load(module: str) -> Any:
    """Imports a library; None if it is not installed or cannot be imported."""
    try:
        if module == "pyarrow":
            importlib.import_module("numpy")  # shows the memory of Arrow's tensors
        return importlib.import_module(module)
    except (ImportError, OSError):
        return None


def make_numpy(memory: Memory) -> Any:
    numpy, name, view = load("numpy"), memory.dtype, memory.view
    dtype = numpy.dtype(getattr(load("ml_dtypes"), name) if name in ML.split() else name)
    start, *strides = (dtype.itemsize * count for count in (memory.start, *view.strides))
    array = numpy.ndarray(view.shape, dtype, memory.storage, start, strides)
    array.flags.writeable = not view.read_only
    return array


def look_at_numpy(array: Any) -> View:
    """The view of a NumPy array, or of an object that NumPy takes as one, such as a memoryview."""
    seen = load("numpy").asarray(array)
    strides = tuple(stride // seen.itemsize for stride in seen.strides)
    return View(seen.ctypes.data, seen.shape, strides, seen.dtype.name, not seen.flags.writeable)


def make_torch(memory: Memory) -> Any:
    row = load("torch").frombuffer(memory.storage, dtype=getattr(load("torch"), memory.dtype))
    return row.as_strided(memory.view.shape, memory.view.strides, memory.start)


def look_at_torch(tensor: Any) -> View:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return View(tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), dtype, read_only=False)


def to_jax(source: Any, copy: bool | None = None) -> Any:
    """Imports into JAX with 64-bit types enabled; otherwise JAX converts them to 32 bits."""
    with load("jax").enable_x64(True):
        return load("jax").dlpack.from_dlpack(source, copy=copy)


def look_at_jax(array: Any) -> View:
    order = array.format.layout.major_to_minor
    inner = (order[order.index(dimension) + 1 :] for dimension in range(array.ndim))
    strides = tuple(
        math.prod(array.shape[dimension] for dimension in dimensions) for dimensions in inner
    )
    return View(
        array.unsafe_buffer_pointer(), array.shape, strides, array.dtype.name, read_only=True
    )


def to_tvm_ffi(source: Any) -> Any:
    return load("tvm_ffi").from_dlpack(source)


def look_at_tvm_ffi(tensor: Any) -> View:
    try:
        dtype = str(tensor.dtype)
    except ValueError:  # complex numbers
        dtype = None
    return View(tensor.data_ptr(), tensor.shape, tensor.strides, dtype, read_only=False)


def look_at_dlbridge(tensor: dl.Tensor) -> View:
    return View(tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.readonly)


def make_arrow(memory: Memory) -> Any:
    if memory.dtype == "bool":
        raise TypeError("Arrow would make integers of them")
    return load("pyarrow").Tensor.from_numpy(make_numpy(memory))


def look_at_arrow(tensor: Any) -> View:
    seen = look_at_numpy(tensor.to_numpy())
    return View(seen.address, tensor.shape, seen.strides, seen.dtype, not tensor.is_mutable)


def to_arrow(source: Any, copy: bool | None = None) -> Any:
    return load("pyarrow").Tensor.from_dlpack(source, copy=copy)


def make_strict(memory: Memory) -> Any:
    return load("array_api_strict").asarray(make_numpy(memory))


@dataclass(frozen=True)
class Library:
    """How to make and inspect a library's arrays; `read_only` is None if it depends on the memory."""

    name: str
    module: str
    make: Callable[[Memory], Any]
    look: Callable[[Any], View]
    read_only: bool | None = None


NUMPY = Library("numpy", "numpy", make_numpy, look_at_numpy)
TORCH = Library("torch", "torch", make_torch, look_at_torch, read_only=False)
JAX = Library(
    "jax", "jax", lambda memory: to_jax(dl.from_dlpack(memory)), look_at_jax, read_only=True
)
TVM = Library(
    "tvm-ffi", "tvm_ffi", lambda memory: to_tvm_ffi(dl.from_dlpack(memory)), look_at_tvm_ffi, False
)
BUFFER = Library(
    "memoryview", "numpy", lambda memory: memoryview(make_numpy(memory)), look_at_numpy
)
ARROW = Library("pyarrow", "pyarrow", make_arrow, look_at_arrow)
STRICT = Library("array-api-strict", "array_api_strict", make_strict, look_at_numpy)
DLBRIDGE = Library("dlbridge", "dlbridge", dl.from_dlpack, look_at_dlbridge)
LIBRARIES = (NUMPY, TORCH, JAX, TVM, BUFFER, ARROW, STRICT)


def _from_dlpack(module: str) -> Callable[[Any, bool | None], Any]:
    return lambda array, copy: load(module).from_dlpack(array, copy=copy)


# The conversions into dlbridge, by the name of the library, and out of dlbridge.
Way = tuple[Library, Callable[[Any, bool | None], Any]]
WAYS_IN: dict[str, Way] = {
    library.name: (library, _from_dlpack("dlbridge")) for library in LIBRARIES
}
WAYS_OUT: dict[str, Way] = {
    "numpy.from_dlpack()": (NUMPY, _from_dlpack("numpy")),
    "tensor.numpy()": (NUMPY, lambda tensor, copy: (tensor.clone() if copy else tensor).numpy()),
    "torch.from_dlpack()": (TORCH, _from_dlpack("torch")),
    "tensor.torch()": (TORCH, lambda tensor, copy: (tensor.clone() if copy else tensor).torch()),
    "jax.dlpack.from_dlpack()": (JAX, to_jax),
    "tvm_ffi.from_dlpack()": (
        TVM,
        lambda tensor, copy: to_tvm_ffi(tensor.clone() if copy else tensor),
    ),
    "memoryview()": (BUFFER, lambda tensor, copy: memoryview(tensor.clone() if copy else tensor)),
    "pyarrow.Tensor.from_dlpack()": (ARROW, to_arrow),
    "array_api_strict.from_dlpack()": (STRICT, _from_dlpack("array_api_strict")),
}
WAYS = WAYS_IN | WAYS_OUT


@dataclass(frozen=True)
class Rule:
    """The outcome of some conversions for some layouts or types, if it differs from the requested one."""

    ways: str
    where: str
    outcome: str
    why: str
    copies: tuple[bool | None, ...] = COPIES
    without: str | None = None  # a module

    def covers(self, case: Case) -> bool:
        where = self.where.split()
        there = case.way in self.ways.split() and (case.layout in where or case.dtype.name in where)
        return there and case.copy in self.copies and not (self.without and load(self.without))


NONE, SHARING = "not representable", (None, False)
TO_JAX, TO_STRICT = "jax.dlpack.from_dlpack()", "array_api_strict.from_dlpack()"
TO_ARROW = "pyarrow.Tensor.from_dlpack()"
# fmt: off The first rule that covers a case holds. Outcomes with 'or' between them depend on a
# library's version.
RULES = [
    Rule("torch", "x[::-1]", NONE, "PyTorch has no negative strides"),
    Rule(
        "tvm-ffi",
        "x[::-1]",
        NONE,
        "tvm-ffi makes no arrays, and dlbridge gives it no negative strides",
    ),
    Rule("torch tvm-ffi", "read-only", NONE, "such arrays do not know that memory is read-only"),
    Rule("jax", "x[:,::2] x[::-1] broadcast", NONE, "JAX arrays are dense"),
    Rule("jax", "x[1:]", NONE, "JAX arrays begin on a multiple of 64 bytes"),
    Rule(
        "jax",
        "read-only",
        f"{NONE} or shared read-only or copied",
        "JAX before 0.12 can't be told so",
    ),
    Rule("pyarrow", f"bool complex64 complex128 {ML}", NONE, "Arrow has no such types"),
    Rule("pyarrow", "x[::-1]", NONE, "Arrow has no negative strides"),
    Rule("memoryview", ML, NONE, "the buffer protocol has no such types"),
    Rule("array-api-strict", f"float16 {ML}", NONE, "the array API has no such types"),
    Rule("numpy", ML, NONE, "NumPy has such types only with ml_dtypes", without="ml_dtypes"),
    Rule(
        f"numpy.from_dlpack() torch.from_dlpack() {TO_ARROW} {TO_STRICT}",
        "x[::-1]",
        "refused BufferError",
        "PyTorch would abort, and may be who asks: leave copy= out, or use tensor.numpy()",
        (False,),
    ),
    Rule(
        TO_ARROW,
        f"bool complex64 complex128 {ML}",
        "refused ArrowInvalid",
        "Arrow has no such types",
    ),
    Rule(TO_ARROW, "empty", "empty read-only", "Arrow has no memory for no elements"),
    Rule(
        f"numpy.from_dlpack() {TO_STRICT}",
        ML,
        "refused RuntimeError or refused BufferError",
        "NumPy takes such types only through tensor.numpy()",
    ),
    Rule(TO_STRICT, "float16", "refused TypeError", "the array API has no such type"),
    Rule(
        f"numpy.from_dlpack() torch.from_dlpack() {TO_ARROW} {TO_STRICT}",
        "x[::-1]",
        "copied",
        "dlbridge copies negative strides when copy= is left out",
    ),
    Rule(
        f"numpy.from_dlpack() {TO_ARROW} {TO_STRICT}",
        "broadcast",
        "shared read-only",
        "to write one element would be to write several",
        SHARING,
    ),
    Rule(
        f"tvm_ffi.from_dlpack() {TO_JAX}",
        "x[::-1]",
        "copied",
        "dlbridge copies negative strides, and is not told of copy=False",
    ),
    Rule("tensor.numpy()", ML, "refused TypeError", "NumPy needs ml_dtypes", without="ml_dtypes"),
    Rule(
        "tensor.torch()",
        "x[::-1]",
        "refused ValueError",
        "PyTorch would abort: use clone()",
        SHARING,
    ),
    Rule(
        "tensor.torch()",
        "read-only",
        "refused BufferError",
        "it would be written: use clone()",
        SHARING,
    ),
    Rule("memoryview()", ML, "refused BufferError", "the buffer protocol has no such types"),
    Rule(TO_JAX, "x[:,::2]", "refused JaxRuntimeError", "JAX arrays are dense: use contiguous()"),
    Rule(
        TO_JAX,
        "broadcast",
        "refused BufferError or refused JaxRuntimeError",
        "JAX arrays are dense",
    ),
    Rule(
        TO_JAX,
        "read-only",
        "refused BufferError or shared read-only",
        "JAX before 0.12 can't be told so",
    ),
    Rule(
        TO_JAX,
        "x[1:]",
        "refused ValueError",
        "JAX arrays begin on a multiple of 64 bytes",
        (False,),
    ),
    Rule(TO_JAX, "x[1:]", "copied", "JAX arrays begin on a multiple of 64 bytes"),
    Rule(
        TO_JAX,
        "row-major 0-d empty",
        "shared",
        "JAX shares such memory in spite of copy=True",
        (True,),
    ),
]
# fmt: on


@dataclass
class Case:
    """One exchange. After it ran: its outcome, the expected one, and the reason that a rule gives."""

    way: str
    layout: str
    dtype: DType
    copy: bool | None
    got: str = ""
    expected: str = ""
    why: str = ""

    @property
    def wrong(self) -> bool:
        return self.got not in self.expected.split(" or ")

    def __str__(self) -> str:
        case = f"{self.way}, {self.layout}, {self.dtype.name}, copy={self.copy}: {self.got}"
        return f"WRONG: {case}, expected {self.expected}" if self.wrong else case


def expectation(case: Case) -> tuple[str, str]:
    """The expected outcome of a case, and the reason."""
    rule = next((rule for rule in RULES if rule.covers(case)), None)
    outcome = rule.outcome if rule else "copied" if case.copy else "shared"
    why = f"{rule.where}: {rule.outcome} ({rule.why})" if rule else ""
    if outcome not in ("copied", "shared"):
        return outcome, why
    library, shared = WAYS[case.way][0], outcome == "shared"
    read_only = shared and case.layout == "read-only"
    if library.read_only is not None and (shared or case.way in WAYS_OUT):
        read_only = library.read_only
    return ("empty" if case.layout == "empty" else outcome) + (
        " read-only" if read_only else ""
    ), why


def exchange(case: Case) -> str:
    """Runs a case; returns its outcome."""
    (library, hand_over), itemsize = WAYS[case.way], case.dtype.itemsize
    source, target = (DLBRIDGE, library) if case.way in WAYS_OUT else (library, DLBRIDGE)
    memory = memory_of(case.dtype, case.layout)
    try:
        array = source.make(memory)
        before = source.look(array)
    except Exception:
        return NONE
    if before.addresses(itemsize) != memory.addresses or before.read_only < memory.view.read_only:
        return NONE  # the library made an array of other memory
    try:
        result = hand_over(array, case.copy)
    except Exception as error:
        return f"refused {type(error).__name__}"
    after = target.look(result)
    found = after.addresses(itemsize)
    if after.dtype not in (None, case.dtype.name) or after.shape != memory.view.shape:
        return f"{after.dtype} of shape {after.shape}"
    if [ctypes.string_at(at, itemsize) for at in found] != memory.elements:
        return "other elements"
    elsewhere = "copied" if set(found).isdisjoint(memory.span) else "displaced"
    kind = "shared" if found == memory.addresses else elsewhere
    return (kind if found else "empty") + (" read-only" if after.read_only else "")


def run(library: Library) -> Iterator[Case]:
    """Runs all cases of an installed library."""
    ways = [way for way, (of, _) in WAYS.items() if of is library]
    for case in itertools.starmap(Case, itertools.product(ways, LAYOUTS, DTYPES, COPIES)):
        case.got, (case.expected, case.why) = exchange(case), expectation(case)
        yield case


LETTERS = {NONE: "-", "shared": "S", "copied": "C", "empty": "E"}
LETTERS |= {f"{outcome} read-only": letter.lower() for outcome, letter in LETTERS.items()}
LEGEND = """
In a cell: copy= left out, copy=False, copy=True (a consumer without copy= gets tensor.clone()).
S shared  C copied  E empty, so neither  s, c, e: and read-only  x refused  - not representable  ! WRONG"""


def table(title: str, cases: Sequence[Case]) -> Iterator[str]:
    """The report: for every conversion one row per layout and one column per type, and reasons."""
    yield f"\n{title}"
    for way, of_way in itertools.groupby(cases, lambda case: case.way):
        rows = list(of_way)
        yield f"\n{way:<31}" + " ".join(f"{dtype.short:<4}" for dtype in DTYPES)
        for layout, row in itertools.groupby(rows, lambda case: case.layout):
            letters = "".join("!" if case.wrong else LETTERS.get(case.got, "x") for case in row)
            yield f"  {layout:<29}" + "  ".join(
                letters[at : at + 3] for at in range(0, len(letters), 3)
            )
        yield from dict.fromkeys(f"  * {case.why}" for case in rows if case.why)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m dlbridge.matrix", description="What works with what."
    )
    parser.add_argument("--verbose", action="store_true", help="list every case")
    verbose = parser.parse_args(arguments).verbose
    start, cases, end = time.perf_counter(), list[Case](), "\r" if sys.stderr.isatty() else "\n"
    for library in LIBRARIES:
        print(f"{library.name:<20}", end=end, file=sys.stderr, flush=True)
        cases += run(library) if load(library.module) else ()
    print(f"Python {sys.version.split()[0]}, dlbridge {dl.__version__}", end="")
    for module in (*dict.fromkeys(library.module for library in LIBRARIES), "ml_dtypes"):
        print(f", {module} {load(module).__version__ if load(module) else 'not installed'}", end="")
    print()
    inward, outward = ([case for case in cases if case.way in ways] for ways in (WAYS_IN, WAYS_OUT))
    print(LEGEND)
    print(*table("Arrays into dlbridge: dlbridge.from_dlpack(array, copy=...)", inward), sep="\n")
    print(*table("Tensors out of dlbridge", outward), sep="\n")
    print(*(case for case in cases if verbose or case.wrong), sep="\n")
    counts = ", ".join(
        f"{count} {got}" for got, count in Counter(case.got for case in cases).most_common()
    )
    wrong = sum(case.wrong for case in cases)
    print(f"{len(cases)} cases in {time.perf_counter() - start:.1f} s: {counts}; {wrong} WRONG")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
