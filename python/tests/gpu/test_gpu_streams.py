"""Consumers on one stream see what producers write on another, and memory is not reused too early.

Every case runs a second time without the exchange's order of streams. If it gives the same result, the case cannot
detect a missing order, and is skipped.
"""

import contextlib
import ctypes
import itertools
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from busy import cupy_stream, hold, hold_cupy, torch_stream
from elements import Interface, Unordered

import dlbridge as dl

torch = pytest.importorskip("torch")

COUNT = 1 << 20
OLD = -1.0
# Memory may hold what an earlier case wrote.
NEW = itertools.count(1)


def decide(case):
    """Runs a case, which says whether all went well, in order and out of order."""
    for _ in range(
        2
    ):  # the second time kernels are loaded and memory is there: no stream waits by accident
        assert case(ordered=True)
        torch.cuda.synchronize()
    went_well = case(ordered=False)
    torch.cuda.synchronize()
    if went_well:
        pytest.skip("the race did not show")


def out_of_order(alias):
    """A tensor of dlbridge that regards the memory as ready."""
    return dl.from_dlpack(alias.__dlpack__(stream=-1, max_version=(1, 0)))


# -- producers: an array that is being written, the same memory unordered, and the stream to hand it
# over on ---


def by_torch(libraries, value):
    x = torch.full((COUNT,), OLD, device="cuda")
    torch.cuda.synchronize()
    stream = torch_stream("producer")
    hold(stream)
    with torch.cuda.stream(stream):
        x.fill_(value)
    return x, x, torch.cuda.stream(stream)


def by_torch_on_the_default_stream(libraries, value):
    x = torch.full((COUNT,), OLD, device="cuda")
    torch.cuda.synchronize()
    hold()
    x.fill_(value)
    return x, None, contextlib.nullcontext()


def by_cupy(libraries, value):
    c = libraries("cupy").full(COUNT, OLD, "float32")
    alias = torch.from_dlpack(c)
    torch.cuda.synchronize()
    stream = cupy_stream("producer")
    hold_cupy(stream)
    with stream:
        c.fill(value)
    return c, alias, stream


def by_interface(libraries, value):
    c, alias, stream = by_cupy(libraries, value)
    with stream:
        return Interface(c), alias, contextlib.nullcontext()


def by_jax(libraries, value):
    jax = libraries("jax")
    j = late(jax)(zeros(jax), np.float32(value))
    interface = {
        "shape": (COUNT,),
        "typestr": "<f4",
        "data": (j.unsafe_buffer_pointer(), False),
        "version": 3,
    }
    return j, torch.as_tensor(Described(interface), device="cuda"), contextlib.nullcontext()


@cache
def late(jax):
    """A function whose result takes JAX a while."""

    def multiply(matrix, value):
        matrix = jax.lax.fori_loop(0, 300, lambda _, matrix: matrix @ matrix, matrix)
        return jax.numpy.full((COUNT,), value) + matrix[0, 0]

    return jax.jit(multiply)


@cache
def zeros(jax):
    return jax.device_put(np.zeros((4096, 4096), np.float32), jax.devices("cuda")[0])


class Described:
    def __init__(self, interface):
        self.__cuda_array_interface__ = interface


def by_us(libraries, value):
    """New memory, which is written on the default stream."""
    host = dl.from_numpy(np.full(COUNT, value, np.float32))
    hold()
    return host.cuda(), None, contextlib.nullcontext()


def by_our_clone(libraries, value):
    source = dl.from_numpy(np.full(COUNT, value, np.float32)).cuda()
    torch.cuda.synchronize()
    hold()
    return source.clone(), None, contextlib.nullcontext()


# -- consumers: what they read
# -----------------------------------------------------------------------------------


def torch_reads(libraries, tensor):
    stream = torch_stream("consumer")
    with torch.cuda.stream(stream):
        seen = torch.from_dlpack(tensor).clone()
    stream.synchronize()
    return seen


def cupy_reads(libraries, tensor):
    cupy, stream = libraries("cupy"), cupy_stream("consumer")
    with stream:
        seen = cupy.from_dlpack(tensor).copy()
    stream.synchronize()
    return torch.from_dlpack(seen)


def jax_reads(libraries, tensor):
    seen = libraries("jax").dlpack.from_dlpack(tensor) + 0
    return torch.from_numpy(np.array(seen))


def copied_to_the_host(libraries, tensor):
    return tensor.cpu().torch()


def cloned(libraries, tensor):
    return tensor.clone().cpu().torch()


def copied_into_pinned_memory(libraries, tensor):
    dl.copyto(pinned(), tensor)
    return pinned().torch()


@cache
def pinned():
    """To lock memory makes streams wait: once is enough."""
    return dl.from_numpy(np.zeros(COUNT, np.float32)).pin_memory()


def copied_into_memory_of_torch(libraries, tensor):
    seen = torch.zeros(COUNT, device="cuda")
    dl.copyto(seen, tensor)
    return seen


@pytest.fixture
def libraries(request):
    """Finds a library, or skips the test."""
    return request.getfixturevalue


LIBRARIES = [torch_reads, cupy_reads, jax_reads]
COPIES = [copied_to_the_host, cloned, copied_into_pinned_memory, copied_into_memory_of_torch]


@pytest.mark.parametrize("consume", [*LIBRARIES, *COPIES])
@pytest.mark.parametrize("produce", [by_torch, by_cupy, by_interface, by_jax])
def test_imports_wait_for_the_producers_writes(libraries, produce, consume):
    def case(ordered):
        value = float(next(NEW))
        array, alias, on_stream = produce(libraries, value)
        with on_stream:
            tensor = dl.from_dlpack(array) if ordered else out_of_order(alias)
        return bool((consume(libraries, tensor) == value).all())

    decide(case)


@pytest.mark.parametrize("consume", LIBRARIES)
@pytest.mark.parametrize("produce", [by_us, by_our_clone, by_torch_on_the_default_stream])
def test_exports_wait_for_writes_on_the_default_stream(libraries, produce, consume):
    def case(ordered):
        value = float(next(NEW))
        array, _, _ = produce(libraries, value)
        tensor = dl.from_dlpack(array)
        return bool((consume(libraries, tensor if ordered else Unordered(tensor)) == value).all())

    decide(case)


def test_readers_of_the_cuda_array_interface_wait_for_its_stream(cupy):
    """A reader makes its own stream wait for the stream that the interface names."""

    def case(ordered):
        value, stream = float(next(NEW)), cupy_stream("consumer")
        x, _, on_stream = by_torch(None, value)
        with on_stream:
            tensor = dl.from_dlpack(x)
        with stream:
            seen = cupy.asarray(
                Interface(tensor) if ordered else Interface(tensor, stream=None)
            ).copy()
        stream.synchronize()
        return bool((seen == value).all())

    decide(case)


def test_copyto_waits_for_consumers_that_read(libraries):
    """A copy into memory that was handed out waits for those who read it."""

    def case(ordered):
        old, new = float(next(NEW)), np.full(COUNT, next(NEW), np.float32)
        tensor = dl.from_numpy(np.full(COUNT, old, np.float32)).cuda()
        seen, stream = torch.zeros(COUNT, device="cuda"), torch_stream("consumer")
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            x = torch.from_dlpack(tensor if ordered else Unordered(tensor))
            hold(stream)
            seen.copy_(x)
        dl.copyto(tensor, new)
        stream.synchronize()
        return bool((seen == old).all())

    decide(case)


@pytest.mark.parametrize("kind", ["PyTorch", "CuPy"])
def test_streams_may_be_objects(libraries, kind):
    if kind == "CuPy":
        libraries("cupy")
    stream = torch_stream("consumer") if kind == "PyTorch" else cupy_stream("consumer")
    if not hasattr(stream, "__cuda_stream__"):
        pytest.skip(f"this {kind} has no __cuda_stream__")
    handle = stream.cuda_stream if kind == "PyTorch" else stream.ptr

    def case(ordered):
        value, seen = float(next(NEW)), torch.zeros(COUNT, device="cuda")
        x, _, on_stream = by_torch(None, value)
        with on_stream:
            tensor = dl.from_dlpack(x)
        capsule = tensor.__dlpack__(stream=stream if ordered else -1, max_version=(1, 0))
        consumer = torch.cuda.ExternalStream(handle)
        with torch.cuda.stream(consumer):
            seen.copy_(torch.from_dlpack(capsule))
        consumer.synchronize()
        return bool((seen == value).all())

    decide(case)


def test_valid_and_invalid_stream_numbers():
    tensor = dl.from_dlpack(torch.zeros(4, device="cuda"))
    for stream in (None, -1, 1, 2, torch_stream("consumer").cuda_stream):
        capsule = tensor.__dlpack__(stream=stream, max_version=(1, 0))
        assert torch.from_dlpack(capsule).data_ptr() == tensor.data_ptr()
    for stream in (0, -2):
        with pytest.raises(ValueError, match="stream"):
            tensor.__dlpack__(stream=stream)
    with pytest.raises(TypeError):
        tensor.__dlpack__(stream="1")


# -- freed while it is in use
# ------------------------------------------------------------------------------------


@pytest.fixture
def freed_memory_stays_mapped():
    """What is freed stays mapped. Without it, who reads too late reads nothing at all, and the device is lost."""
    driver, pool, release_threshold = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p(), 4
    before, most = ctypes.c_uint64(), ctypes.c_uint64(2**64 - 1)
    torch.cuda.synchronize()
    assert driver.cuDeviceGetDefaultMemPool(ctypes.byref(pool), 0) == 0
    assert driver.cuMemPoolGetAttribute(pool, release_threshold, ctypes.byref(before)) == 0
    assert driver.cuMemPoolSetAttribute(pool, release_threshold, ctypes.byref(most)) == 0
    yield
    torch.cuda.synchronize()
    assert driver.cuMemPoolSetAttribute(pool, release_threshold, ctypes.byref(before)) == 0


def torch_reads_late(libraries, tensor):
    """Has a read wait its turn. Gives what keeps the memory, and what was read, once the stream is done."""
    seen, stream = torch.zeros(COUNT, device="cuda"), torch_stream("consumer")
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        x = torch.from_dlpack(tensor)
        hold(stream)
        seen.copy_(x)
    return x, seen, stream


def cupy_reads_late(libraries, tensor):
    cupy, stream = libraries("cupy"), cupy_stream("consumer")
    seen = cupy.zeros(COUNT, "float32")
    torch.cuda.synchronize()
    with stream:
        c = cupy.from_dlpack(tensor)
        hold_cupy(stream)
        seen[...] = c
    return c, torch.from_dlpack(seen), stream


READERS = [torch_reads_late, cupy_reads_late]


@pytest.mark.parametrize("read", READERS)
def test_dlbridge_memory_is_reused_only_after_its_consumers(
    libraries, freed_memory_stays_mapped, read
):
    def case(ordered):
        old, new = float(next(NEW)), dl.from_numpy(np.full(COUNT, next(NEW), np.float32))
        tensor = dl.from_numpy(np.full(COUNT, old, np.float32)).cuda()
        torch.cuda.synchronize()
        view, seen, stream = read(libraries, tensor if ordered else Unordered(tensor))
        del view, tensor
        others = [new.cuda() for _ in range(4)]
        stream.synchronize()
        del others
        return bool((seen == old).all())

    decide(case)


@pytest.mark.parametrize("read", READERS)
def test_torch_memory_is_reused_only_after_its_consumers(libraries, read):
    """PyTorch does not know who else reads its memory, so dlbridge makes PyTorch's default stream wait before it
    releases the memory."""

    def case(ordered):
        old, new = float(next(NEW)), float(next(NEW))
        x = torch.full((COUNT,), old, device="cuda")
        torch.cuda.synchronize()
        tensor = dl.from_dlpack(x)
        view, seen, stream = read(libraries, tensor if ordered else Unordered(tensor))
        del view, tensor, x
        others = [torch.full((COUNT,), new, device="cuda") for _ in range(4)]
        stream.synchronize()
        del others
        return bool((seen == old).all())

    decide(case)


NON_BLOCKING = 1


def test_streams_may_be_destroyed_before_the_tensor():
    """In a process of its own, which may come to grief."""
    code = f"""
import ctypes
import torch
import dlbridge as dl

driver = ctypes.CDLL("libcuda.so.1")
for number in range(100):
    x = torch.full((1000,), float(number), device="cuda")
    tensor = dl.from_dlpack(x)
    stream = ctypes.c_void_p()
    assert driver.cuStreamCreate(ctypes.byref(stream), {NON_BLOCKING}) == 0
    capsule = tensor.__dlpack__(stream=stream.value, max_version=(1, 0))
    assert driver.cuStreamDestroy_v2(stream) == 0
    del capsule, tensor
    assert x.sum().item() == 1000.0 * number
"""
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert child.returncode == 0, child.stderr
