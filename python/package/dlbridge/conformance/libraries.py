"""The array libraries: how to import a producer, read the result, and make arrays to export."""

from __future__ import annotations

import contextlib
import ctypes as C
import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .elements import Elements, gathered, read_any
from .structs import HOST

PLAIN = (2, 3)  # the shape of most arrays to export; their elements are the int32 numbers 0 to 5
BIG = 1 << 20  # int32 elements of an array that shows in the memory of the process


@dataclass(frozen=True)
class Library:
    """A library. `make(kind)` returns an array of one of `KINDS`, or raises if the library has none."""

    name: str
    distribution: str
    consume: Callable[[Any], Any] | None
    read: Callable[[Any], Elements]
    make: Callable[[str], Any] | None

    @property
    def module(self) -> str:
        """The module whose presence says that the library is installed."""
        return self.name.replace("-", "_")

    def installed(self) -> bool:
        """Whether the library is installed; nothing is imported."""
        return importlib.util.find_spec(self.module) is not None

    def prepare(self) -> None:
        """Imports the library."""
        os.environ.setdefault("JAX_ENABLE_X64", "1")  # else JAX has no types of 64 bits
        if ":" in self.name:
            function(self.name)
        else:
            load(self.module)

    def version(self) -> str:
        """The version of the installed distribution."""
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(self.distribution) if self.distribution else ""
        return str(getattr(load(self.module), "__version__", ""))


KINDS = (
    "plain",
    "transposed",
    "sliced",
    "negative",
    "broadcast",
    "empty",
    "0-d",
    "read-only",
    "big",
)


def load(module: str) -> Any:
    """The module of this name."""
    return importlib.import_module(module)


def made(module: str, kind: str, numbers: Callable[..., Any]) -> Any:
    """An array of a library with slices like NumPy's; `numbers(n)` gives 0 to n - 1."""
    if kind == "big":
        return numbers(BIG)
    plain = numbers(6).reshape(PLAIN)
    if kind in ("plain", "read-only"):
        return plain
    if kind == "0-d":
        return plain[1, 2]
    cuts: dict[str, Callable[[], Any]] = {
        "transposed": lambda: plain.T,
        "sliced": lambda: plain[:, ::2],
        "negative": lambda: plain[::-1],
        "broadcast": lambda: load(module).broadcast_to(plain[:1], PLAIN),
        "empty": lambda: plain[:0],
    }
    return cuts[kind]()


def read_numpy(array: Any) -> Elements:
    return tuple(array.shape), array.tobytes()


def make_numpy(kind: str) -> Any:
    numpy = load("numpy")
    if kind == "0-d":
        return numpy.array(5, "int32")
    array = made("numpy", kind, lambda n: numpy.arange(n, dtype="int32"))
    if kind == "read-only":
        array.flags.writeable = False
    return array


def read_torch(tensor: Any) -> Elements:
    raw = tensor.contiguous().reshape(-1).view(load("torch").uint8)
    return tuple(tensor.shape), C.string_at(raw.data_ptr(), raw.numel()) if raw.numel() else b""


def make_torch(kind: str) -> Any:
    torch = load("torch")
    if kind in ("read-only", "negative"):
        raise NotImplementedError("torch has no such tensors")
    return made("torch", kind, lambda n: torch.arange(n, dtype=torch.int32))


def read_jax(array: Any) -> Elements:
    return read_numpy(load("numpy").asarray(array.block_until_ready()))


def make_jax(kind: str) -> Any:
    numpy = load("jax.numpy")
    return made("jax.numpy", kind, lambda n: numpy.arange(n, dtype="int32")).block_until_ready()


def read_tvm_ffi(tensor: Any) -> Elements:
    if tensor.__dlpack_device__()[0] not in HOST:
        raise BufferError("not host memory")
    itemsize = tensor.dtype.itemsize
    return gathered(
        tensor.data_ptr(), tensor.shape, (itemsize * step for step in tensor.strides), itemsize
    )


def make_tvm_ffi(kind: str) -> Any:
    """tvm-ffi makes no arrays, so it imports arrays of NumPy."""
    if kind == "read-only":
        raise NotImplementedError("tvm-ffi has no such tensors")
    return load("tvm_ffi").from_dlpack(make_numpy(kind))


def make_pyarrow(kind: str) -> Any:
    return load("pyarrow").Tensor.from_numpy(make_numpy(kind))


def make_onnxruntime(kind: str) -> Any:
    if kind not in ("plain", "empty", "0-d", "big"):
        raise NotImplementedError("OrtValue is dense and writable")
    return load("onnxruntime").OrtValue.ortvalue_from_numpy(make_numpy(kind))


def read_dlbridge(tensor: Any) -> Elements:
    dense = tensor.contiguous()
    return tuple(dense.shape), C.string_at(dense.data_ptr(), dense.nbytes) if dense.nbytes else b""


def make_dlbridge(kind: str) -> Any:
    """dlbridge makes no arrays, so it imports arrays of NumPy."""
    return load("dlbridge").from_dlpack(make_numpy(kind))


def read_cupy(array: Any) -> Elements:
    return read_numpy(array.get())


def make_cupy(kind: str) -> Any:
    if kind == "read-only":
        raise NotImplementedError("CuPy has no such arrays")
    cupy = load("cupy")
    return made("cupy", kind, lambda n: cupy.arange(n, dtype="int32"))


def consume_tensorflow(producer: Any) -> Any:
    return load("tensorflow").experimental.dlpack.from_dlpack(producer.__dlpack__())


def make_tensorflow(kind: str) -> Any:
    if kind not in ("plain", "read-only", "big", "empty", "0-d"):
        raise NotImplementedError("TensorFlow's tensors are dense")
    return load("tensorflow").constant(make_numpy(kind))


def make_paddle(kind: str) -> Any:
    if kind in ("read-only", "negative"):
        raise NotImplementedError("Paddle has no such tensors")
    return load("paddle").to_tensor(make_numpy(kind))


LIBRARIES = (
    Library("numpy", "numpy", lambda x: load("numpy").from_dlpack(x), read_numpy, make_numpy),
    Library("torch", "torch", lambda x: load("torch").from_dlpack(x), read_torch, make_torch),
    Library("jax", "jax", lambda x: load("jax.dlpack").from_dlpack(x), read_jax, make_jax),
    Library(
        "tvm-ffi",
        "apache-tvm-ffi",
        lambda x: load("tvm_ffi").from_dlpack(x),
        read_tvm_ffi,
        make_tvm_ffi,
    ),
    Library(
        "pyarrow",
        "pyarrow",
        lambda x: load("pyarrow").Tensor.from_dlpack(x),
        lambda tensor: read_numpy(tensor.to_numpy()),
        make_pyarrow,
    ),
    Library(
        "onnxruntime",
        "onnxruntime",
        lambda x: load("onnxruntime").OrtValue.from_dlpack(x),
        lambda value: read_numpy(value.numpy()),
        make_onnxruntime,
    ),
    Library("cupy", "cupy", lambda x: load("cupy").from_dlpack(x), read_cupy, make_cupy),
    Library(
        "tensorflow",
        "tensorflow",
        consume_tensorflow,
        lambda tensor: read_numpy(tensor.numpy()),
        make_tensorflow,
    ),
    Library(
        "paddle",
        "paddlepaddle",
        lambda x: load("paddle").from_dlpack(x),
        lambda tensor: read_numpy(tensor.numpy()),
        make_paddle,
    ),
    Library(
        "dlbridge",
        "dlbridge",
        lambda x: load("dlbridge").from_dlpack(x),
        read_dlbridge,
        make_dlbridge,
    ),
)
BY_NAME = {library.name: library for library in LIBRARIES}


def function(path: str) -> Callable[..., Any]:
    """The function that `module:name` names."""
    module, _, name = path.partition(":")
    found = load(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{path} is not callable")
    return found  # type: ignore[no-any-return]


def library(name: str, consumer: str = "", producer: str = "") -> Library:
    """The library of this name, or one that consists of a user's functions."""
    if not consumer and not producer:
        return BY_NAME[name]

    def make(kind: str) -> Any:
        if kind not in ("plain", "big"):
            raise NotImplementedError("a function of one's own makes one kind of array")
        return function(producer)()

    consume = (lambda x: function(consumer)(x)) if consumer else None
    return Library(name, "", consume, read_any, make if producer else None)
