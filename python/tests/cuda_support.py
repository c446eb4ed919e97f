"""Helpers of the tests of CUDA devices, which run in a process with the fake CUDA driver."""

import ctypes as C
import gc

import numpy as np
import pytest

import dlbridge as dl
import fake_cuda
from fake_cuda import Memory, live
from producer import HostileProducer, opened, set_name

if fake_cuda.IS_HERE:
    gc.freeze()  # each test collects garbage, and need not visit the imported modules

GPU, OTHER, HOST = (2, 0), (2, 1), (1, 0)


IS_COPIED = 2


def numbers(*shape, dtype="float32"):
    return (np.arange(np.prod(shape, dtype=int)).reshape(shape) % 251).astype(dtype)


def consumed(tensor, **options):
    """The struct of a tensor's capsule, consumed: the caller has to release it."""
    capsule = tensor.__dlpack__(**{"max_version": (1, 3), **options})
    struct = opened(capsule)
    set_name(capsule, type(struct).used)
    return struct


def release(struct):
    """Calls the struct's deleter."""
    C.CFUNCTYPE(None, C.c_void_p)(struct.deleter)(C.addressof(struct))


class DeviceProducer(HostileProducer):
    """A producer of device memory with `__dlpack__` and no other protocol. Its deleter frees the memory."""

    def __init__(self, memory, **options):
        self.device_memory, array = memory, memory.part(memory.array)
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
        self.device_memory = None


def read_on(stream, tensor):
    """The bytes that a consumer reads from a tensor on its stream."""
    struct = consumed(tensor, stream=stream)
    read = stream.read(struct.tensor.data, tensor.nbytes)
    release(struct)
    stream.synchronize()
    return bytes(read)


class OnFakeCuda:
    """Tests for a process that has the fake driver."""

    __test__ = fake_cuda.IS_HERE
    # Objects that must not increase in a test. Threads cache page-locked memory and events for
    # later copies.
    counted = (fake_cuda.MEMORY, fake_cuda.PINNED, fake_cuda.EVENTS, fake_cuda.STREAMS)

    @pytest.fixture(autouse=True)
    def check_faults_and_leaks(self):
        for index in range(
            2
        ):  # dlbridge creates its caches here, so that they do not count as leaks
            dl.from_dlpack(Memory(numbers(6), index, part=lambda a: a[::-2])).clone().cpu().cuda(
                index
            )
        gc.collect()
        fake_cuda.synchronize_devices()
        fake_cuda.reset()
        before = live(*self.counted)
        yield
        gc.collect()
        fake_cuda.synchronize_devices()
        assert fake_cuda.faults() == ""
        more = [now - then for now, then in zip(live(*self.counted), before, strict=True)]
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
    """Device memory with an array's layout, from its lowest element to its highest."""
    low, high = np.lib.array_utils.byte_bounds(array)
    shape, dtype, first, strides = array.shape, array.dtype, array.ctypes.data - low, array.strides
    data = np.frombuffer(C.string_at(low, high - low), "uint8")
    return Memory(data, index, lambda data: np.ndarray(shape, dtype, data, first, strides))
