"""What the tests of CUDA devices share. They run in a process that has the fake CUDA driver from its start."""

import ctypes as C
import gc

import numpy as np
import pytest

import dlbridge as dl
import fake_cuda
from fake_cuda import Memory, live
from producer import HostileProducer, opened, set_name

if fake_cuda.IS_HERE:
    gc.freeze()  # each test collects: what was imported is not looked at again

GPU, OTHER, HOST = (2, 0), (2, 1), (1, 0)


IS_COPIED = 2


def numbers(*shape, dtype="float32"):
    return (np.arange(np.prod(shape, dtype=int)).reshape(shape) % 251).astype(dtype)


def taken(tensor, **options):
    """What a consumer makes of a tensor: the struct is its own from now on."""
    capsule = tensor.__dlpack__(**{"max_version": (1, 3), **options})
    struct = opened(capsule)
    set_name(capsule, type(struct).used)
    return struct


def release(struct):
    C.CFUNCTYPE(None, C.c_void_p)(struct.deleter)(C.addressof(struct))


class DeviceProducer(HostileProducer):
    """Somebody who shows device memory with `__dlpack__` alone, and frees it when its deleter is called."""

    def __init__(self, memory, **options):
        self.lent, array = memory, memory.part(memory.array)
        super().__init__(
            device=(2, memory.index),
            data=memory.interface()["data"][0],
            dtype=({"f": 2, "u": 1, "i": 0}[array.dtype.kind], 8 * array.itemsize, 1),
            shape=array.shape,
            strides=[step // array.itemsize for step in array.strides],
            **options,
        )

    def delete(self, address):
        super().delete(address)
        self.lent = None


def read_on(stream, tensor):
    """What a consumer reads on its stream."""
    struct = taken(tensor, stream=stream)
    read = stream.read(struct.tensor.data, tensor.nbytes)
    release(struct)
    stream.synchronize()
    return bytes(read)


class OnFakeCuda:
    """Tests for a process that has the fake driver."""

    __test__ = fake_cuda.IS_HERE
    # What is as it was after each test: threads keep page-locked memory and events for later copies.
    kept = (fake_cuda.MEMORY, fake_cuda.PINNED, fake_cuda.EVENTS, fake_cuda.STREAMS)

    @pytest.fixture(autouse=True)
    def nothing_is_wrong_and_nothing_is_left(self):
        for index in range(2):  # what is kept for later copies is there from here on
            dl.from_dlpack(Memory(numbers(6), index, part=lambda a: a[::-2])).clone().cpu().cuda(index)
        gc.collect()
        fake_cuda.settle()
        fake_cuda.reset()
        before = live(*self.kept)
        yield
        gc.collect()
        fake_cuda.settle()
        assert fake_cuda.faults() == ""
        more = [now - then for now, then in zip(live(*self.kept), before, strict=True)]
        assert max(more) <= 0, f"device memory, page-locked memory, events, streams left: {more}"
        assert fake_cuda.depth() == 0


LAYOUTS = {
    "contiguous": lambda dtype: numbers(2, 3, 4, dtype=dtype),
    "transposed": lambda dtype: numbers(2, 3, 4, dtype=dtype).transpose(2, 0, 1),
    "every other": lambda dtype: numbers(3, 8, dtype=dtype)[:, ::2],
    "reversed": lambda dtype: numbers(3, 4, dtype=dtype)[::-1, ::-1],
    "broadcast": lambda dtype: np.broadcast_to(numbers(1, 4, dtype=dtype), (3, 4)),
    "empty": lambda dtype: np.empty((0, 3), dtype),
    "0-d": lambda dtype: np.array(7, dtype),
    "channels last": lambda dtype: numbers(2, 3, 5, 4, dtype=dtype).transpose(0, 3, 1, 2),
    "a gap": lambda dtype: numbers(5, 6, dtype=dtype)[:, 1:4],
}


def on_device(array, index=0):
    """Somebody's device memory that lies as an array does, from its lowest element to its highest."""
    low, high = np.lib.array_utils.byte_bounds(array)
    shape, dtype, first, strides = array.shape, array.dtype, array.ctypes.data - low, array.strides
    data = np.frombuffer(C.string_at(low, high - low), "uint8")
    return Memory(data, index, lambda data: np.ndarray(shape, dtype, data, first, strides))
