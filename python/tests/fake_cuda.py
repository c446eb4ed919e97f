"""The fake CUDA driver of tests/support/fake-cuda: its log and its faults, and memory and streams on it that
dlbridge did not make.

It runs queued work as late, and frees memory as early, as CUDA's rules let it.
"""

import contextlib
import ctypes as C
import functools
import math
import os
from types import SimpleNamespace

import numpy as np

FOLDER = os.environ.get("DLBRIDGE_FAKE_CUDA")
IS_HERE = FOLDER is not None and FOLDER in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)

MEMORY, PINNED, EVENTS, STREAMS, CONTEXTS, QUEUED = range(6)
OUT_OF_MEMORY, UNKNOWN = 2, 999


@functools.cache
def function(name, result=C.c_int):
    # Not an attribute of the library, because all result types would share that.
    return C.CFUNCTYPE(result)((name, library()))


@functools.cache
def library():
    return C.CDLL("libcuda.so.1")


def control(name, *arguments, result=C.c_int):
    # Integers of any size are passed in a register.
    whole = (C.c_size_t(given) if isinstance(given, int) else given for given in arguments)
    return function(name, result)(*whole)


def call(name, *arguments):
    code = control(name, *arguments)
    assert code == 0, f"{name} gave {code}"


def made(name, *arguments):
    """The result that a call writes through its first argument, a pointer."""
    out = C.c_size_t()
    call(name, C.byref(out), *arguments)
    return out.value


# -- control
# ---------------------------------------------------------------------------------------------------


def reset(devices=2):
    """Clears the log, the faults and the injected failures."""
    control("fake_cuda_reset", devices)


def fail(name, nth=1, code=UNKNOWN):
    """Lets the nth next call of a function fail."""
    control("fake_cuda_fail", name.encode(), nth, code)


def text(name):
    size = control(name, None, 0, result=C.c_size_t) + 4096
    buffer = C.create_string_buffer(size)
    control(name, buffer, size, result=C.c_size_t)
    return buffer.value.decode()


def faults():
    return text("fake_cuda_faults")


def log(*names):
    """The calls since the reset, of some functions or of all."""
    lines = text("fake_cuda_log").splitlines()
    return [line for line in lines if not names or line.split(" ")[0] in names]


def live(*kinds):
    return [control("fake_cuda_live", kind, result=C.c_int64) for kind in kinds]


def depth():
    """How many contexts are on this thread's stack."""
    return control("fake_cuda_current_depth")


def peek(address, size):
    """The bytes of device memory at this moment. Runs no queued work."""
    buffer = C.create_string_buffer(size)
    call("fake_cuda_peek", address, buffer, size)
    return buffer.raw


def synchronize_devices():
    """Runs everything that is queued on both devices."""
    for index in range(2):
        with current(index):
            call("cuCtxSynchronize")


# -- memory and streams that dlbridge did not make
# --------------------------------------------------------------------------------------------


@functools.cache
def context(index):
    call("cuInit", 0)
    return made("cuDevicePrimaryCtxRetain", index)


@contextlib.contextmanager
def current(index):
    """Makes a device's context current on this thread."""
    call("cuCtxPushCurrent_v2", context(index))
    try:
        yield
    finally:
        call("cuCtxPopCurrent_v2", None)


class Stream:
    """A new non-blocking stream, or the stream with this number."""

    def __init__(self, index=0, number=None):
        self.index, self.is_ours = index, number is None
        with current(index):
            self.number = made("cuStreamCreate", 1) if number is None else number

    def __cuda_stream__(self):
        return (0, self.number)

    def read(self, address, size):
        """Queues a copy from device memory on the stream. The returned memory is written when the copy runs."""
        target = PageLocked(size)
        with current(self.index):
            call("cuMemcpyDtoHAsync_v2", target.address, address, size, self.number)
        return target

    def write(self, address, data):
        """Queues a copy to device memory on the stream. The driver reads the data at once."""
        with current(self.index):
            call("cuMemcpyHtoDAsync_v2", address, bytes(data), len(data), self.number)

    def synchronize(self):
        with current(self.index):
            call("cuStreamSynchronize", self.number)

    def __del__(self):
        if self.is_ours:
            with current(self.index):
                call("cuStreamDestroy_v2", self.number)


class PageLocked:
    """Page-locked host memory."""

    def __init__(self, size):
        with current(0):
            self.address = made("cuMemHostAlloc", size, 1)
        self.bytes = (C.c_ubyte * size).from_address(self.address)

    def __bytes__(self):
        return bytes(self.bytes)

    def __del__(self):
        with current(0):
            call("cuMemFreeHost", self.address)


class Memory:
    """Device memory with an array's contents, which `__cuda_array_interface__` shows a part of.

    `part` returns the part as a view of the array. Keyword arguments replace entries of the interface.
    """

    def __init__(self, array, index=0, part=lambda array: array, **shown):
        self.array, self.index, self.part = np.array(array, order="C"), index, part
        self.shown = shown
        self.legacy = Stream(index, 1)
        with current(index):
            self.address = made("cuMemAllocAsync", max(self.array.nbytes, 1), 1)
        self.legacy.write(self.address, self.array.tobytes())
        self.legacy.synchronize()

    def interface(self, part=None):
        """The `__cuda_array_interface__` of a part."""
        part = (part or self.part)(self.array)
        offset = part.ctypes.data - self.array.ctypes.data
        return {
            "shape": part.shape,
            "typestr": part.dtype.str,
            "data": (self.address + offset if part.size else 0, False),
            "strides": part.strides,
            "version": 3,
            **self.shown,
        }

    @property
    def __cuda_array_interface__(self):
        return self.interface()

    def other(self, part):
        """Another part of the same memory."""
        return SimpleNamespace(__cuda_array_interface__=self.interface(part), memory=self)

    def now(self):
        """All of the memory as it is now."""
        data = peek(self.address, self.array.nbytes)
        return np.frombuffer(data, self.array.dtype, math.prod(self.array.shape)).reshape(
            self.array.shape
        )

    def __del__(self):
        with current(self.index):
            call("cuMemFreeAsync", self.address, 1)
