"""CUDA devices, on the fake CUDA driver, which runs work as late, and frees memory as early, as CUDA's rules let it.

A process has the fake driver from its start or not at all: `test_this_file_on_the_fake_driver` runs this file again in
a process that has it. By hand: `LD_LIBRARY_PATH=$DLBRIDGE_FAKE_CUDA pytest python/tests/test_cuda.py`.
"""

import copy
import ctypes as C
import gc
import os
import pickle
import subprocess
import sys
import threading
import weakref
from ctypes.util import find_library
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import dlbridge as dl
import fake_cuda
from fake_cuda import Memory, Stream, live, log
from producer import HostileProducer, opened, set_name

GPU, OTHER, HOST = (2, 0), (2, 1), (1, 0)
IS_COPIED = 2

if fake_cuda.IS_HERE:
    gc.freeze()  # each test collects: what was imported is not looked at again
else:

    @pytest.mark.skipif(
        fake_cuda.FOLDER is None, reason="DLBRIDGE_FAKE_CUDA does not name the fake driver's folder"
    )
    def test_this_file_on_the_fake_driver():
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__],
            env={**os.environ, "LD_LIBRARY_PATH": fake_cuda.FOLDER},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout + run.stderr

    @pytest.mark.skipif(find_library("cuda") is not None, reason="this machine has a driver")
    def test_a_machine_without_a_driver_says_so():
        says("", "there is no driver (libcuda.so.1)")


SAYS = """
import numpy as np, dlbridge as dl
host = dl.tensor(np.ones(2))
def sentence(call):
    try:
        call()
    except BufferError as error:
        print(error)
for call in (
    host.cuda,
    host.pin_memory,
    lambda: dl.from_dlpack(np.ones(2), device="cuda"),
    lambda: host.to("cuda:1"),
    lambda: host.__dlpack__(dl_device=(2, 0)),
):
    sentence(call)
assert not host.is_pinned() and host.cpu() is host
class Far:
    __cuda_array_interface__ = {"shape": (2,), "typestr": "<f4", "data": (4096, False), "version": 3}
sentence(lambda: dl.from_dlpack(Far()))
"""


def says(prepare, reason):
    """What a process says that can't reach a device."""
    run = subprocess.run([sys.executable, "-c", prepare + SAYS], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 6 and all(line.endswith(reason) for line in lines), lines
    assert lines[0] == f"cuda:0 is not available on this machine: {reason}"
    assert lines[3].startswith("cuda:1 is not available")


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


class TestCopies(OnFakeCuda):
    @pytest.mark.parametrize("dtype", ["uint8", "bool", "float16", "float32", "complex128"])
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_every_layout_makes_the_round_trip(self, layout, dtype):
        array = LAYOUTS[layout](np.dtype(dtype))
        host = dl.from_numpy(array)
        clone, rows = host.clone(), host.clone(memory_format="contiguous_format")
        theirs = dl.from_dlpack(on_device(array))
        assert (theirs.device, theirs.stride()) == ("cuda:0", host.stride())
        for start in (host, theirs):
            near = start.to("cuda:0", copy=True)
            across = start.to("cuda:1")
            kept, row_major = near.clone(), start.cuda().contiguous()
            for tensor, device, strides in [
                (near, "cuda:0", clone),
                (across, "cuda:1", clone),
                (kept, "cuda:0", clone),
                (theirs.clone(), "cuda:0", clone),
                (start.cuda().clone(memory_format="contiguous_format"), "cuda:0", rows),
                (row_major, "cuda:0", rows if array.size else row_major),
                (start.to("cpu", copy=True), "cpu", clone),
                (across.cpu(), "cpu", clone),
            ]:
                assert (tensor.device, tensor.stride()) == (device, strides.stride())
                assert (tensor.shape, tensor.dtype, tensor.readonly) == (array.shape, dtype, False)
                back = tensor.numpy(force=True)
                assert back.dtype == array.dtype and np.array_equal(back, array)
                assert tensor.data_ptr() != start.data_ptr() or not array.size or tensor is row_major
            assert row_major.contiguous() is row_major and row_major.is_contiguous()

    def test_types_that_numpy_does_not_have(self):
        for array in (
            torch.arange(6).to(torch.bfloat16).reshape(2, 3),
            torch.ones(3, dtype=torch.float8_e5m2),
        ):
            near = dl.from_dlpack(array).cuda()
            assert near.dtype == str(array.dtype).removeprefix("torch.")
            assert torch.equal(near.cpu().torch().float(), array.float())

    def test_large_memory_crosses_in_parts(self):
        array = numbers(13, 1 << 20, dtype="uint8")
        for part in (array, array[:, ::3]):
            near = dl.from_numpy(part).cuda()
            assert np.array_equal(near.clone().cpu().numpy(), part)
        assert len(log("cuMemcpyHtoDAsync")) > 4

    @pytest.mark.parametrize("format", ["channels_last", torch.channels_last, torch.preserve_format])
    def test_memory_formats_are_the_hosts(self, format):
        host = dl.from_numpy(numbers(2, 3, 4, 5))
        clone = host.cuda().clone(memory_format=format)
        assert (clone.device, clone.stride()) == ("cuda:0", host.clone(memory_format=format).stride())
        assert np.array_equal(clone.cpu().numpy(), host.numpy())
        with pytest.raises(ValueError, match="is for 5 dimensions"):
            host.cuda().clone(memory_format="channels_last_3d")

    def test_what_is_there_goes_through(self):
        near = dl.from_numpy(numbers(3)).cuda(1)
        fake_cuda.reset()
        for device in (None, 1, "cuda:1", OTHER, torch.device("cuda:1"), torch.device("cuda"), "cuda"):
            assert near.cuda(device) is near
        assert near.to("cuda") is near and near.to("cuda:1") is near and copy.copy(near) is near
        shared = dl.from_dlpack(near, device="cuda")
        assert shared.data_ptr() == near.data_ptr() and log() == []
        for new in (near.cuda(0), near.to("cuda:0"), dl.from_dlpack(near, device="cuda:0")):
            assert (new.device, new.cpu().tolist()) == ("cuda:0", [0, 1, 2])
        for new in (near.to("cuda", copy=True), copy.deepcopy(near), dl.tensor(near), dl.clone(near)):
            assert new.device == "cuda:1" and new.data_ptr() != near.data_ptr()
            assert new.cpu().tolist() == [0, 1, 2]

    def test_devices_that_are_none_are_refused(self):
        host = dl.from_numpy(numbers(3))
        for call, error, words in [
            (lambda: host.cuda(2), BufferError, "cuda:2 is not available.*the driver has cuda:0 to cuda:1"),
            (lambda: host.to("cuda:7"), BufferError, "the driver has cuda:0 to cuda:1"),
            (lambda: host.cuda(-1), ValueError, "-1 is not the index of a CUDA device"),
            (lambda: host.cuda(1 << 40), ValueError, "is not the index"),
            (lambda: host.cuda("cpu"), ValueError, "cpu is not a CUDA device"),
            (lambda: host.to("meta"), ValueError, "expected 'cpu', 'cuda' or 'cuda:N'"),
            (lambda: host.to("cuda:x"), ValueError, "expected"),
            (lambda: host.to(torch.float16), TypeError, "does not cast"),
        ]:
            with pytest.raises(error, match=words):
                call()
        assert live(fake_cuda.QUEUED) == [0]

    def test_the_current_device_is_used_and_stays_current(self):
        host = dl.from_numpy(numbers(5))
        calls = [
            host.cuda,
            lambda: host.to("cuda"),
            lambda: dl.from_dlpack(host, device="cuda"),
            lambda: dl.from_dlpack(numbers(5), device="cuda"),
        ]
        assert [call().device for call in calls] == ["cuda:0"] * 4
        with fake_cuda.current(1):
            assert [call().device for call in calls] == ["cuda:1"] * 4
            there = host.cuda(0)
            assert there.cuda() is there and there.clone().cpu().tolist() == [0, 1, 2, 3, 4]
            empty = dl.from_dlpack(Memory(numbers(0)))  # without an address
            assert empty.device == "cuda:1"
            del there, empty
            assert fake_cuda.depth() == 1
            assert fake_cuda.made("cuCtxGetCurrent") == fake_cuda.context(1)

    def test_the_host_is_refused_with_the_remedy(self):
        near = dl.from_numpy(numbers(1)).cuda()
        to_numpy = (
            "can't convert cuda:0 device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )
        remedy = "use Tensor.cpu() first"
        for call, error, words in [
            (near.numpy, TypeError, to_numpy),
            (near.__array__, TypeError, to_numpy),
            (lambda: np.asarray(near), TypeError, to_numpy),
            (near.tolist, TypeError, f"can't list the elements of a tensor on cuda:0: {remedy}"),
            (near.item, TypeError, remedy),
            (lambda: float(near), TypeError, remedy),
            (lambda: bool(near), TypeError, remedy),
            (lambda: memoryview(near), BufferError, f"the memory is on cuda:0: {remedy}"),
            (lambda: bytes(near), BufferError, remedy),
            (lambda: pickle.dumps(near, 5), BufferError, f"can't pickle memory on cuda:0: {remedy}"),
        ]:
            with pytest.raises(error) as raised:
                call()
            assert str(raised.value).endswith(words)
        with pytest.raises((BufferError, RuntimeError)):
            np.from_dlpack(near)
        assert repr(near) == "dlbridge.Tensor(..., shape=(1,), dtype=float32, device=cuda:0)"
        assert log("cuMemcpyDtoHAsync") == []


class TestStreams(OnFakeCuda):
    """A consumer's stream waits for nothing but what it is told to wait for."""

    @pytest.mark.parametrize("version", [None, (1, 3)])
    @pytest.mark.parametrize("spelling", ["number", "object"])
    @pytest.mark.parametrize("first", ["the struct", "the tensor"])
    @pytest.mark.parametrize("start", ["ours", "theirs"])
    def test_a_consumer_reads_what_is_released_meanwhile(self, version, spelling, first, start):
        array, stream = numbers(1000), Stream()
        near = dl.from_numpy(array).cuda() if start == "ours" else dl.from_dlpack(Memory(array))
        struct = taken(near, max_version=version, stream=stream if spelling == "object" else stream.number)
        read = stream.read(struct.tensor.data, array.nbytes)
        fake_cuda.reset()
        for which in sorted(["the struct", "the tensor"], key=lambda which: which != first):
            if which == "the struct":
                release(struct)
            else:
                del near
        assert len(log("cuMemFreeAsync")) == 1, "it is given back at once"
        assert log("cuStreamSynchronize", "cuEventSynchronize", "cuCtxSynchronize") == [], "nobody waits"
        stream.synchronize()
        assert bytes(read) == array.tobytes()

    def test_without_a_word_on_the_stream_that_goes_wrong(self):
        array, stream = numbers(1000), Stream()
        struct = taken(dl.from_numpy(array).cuda())
        early = stream.read(struct.tensor.data, array.nbytes)
        stream.synchronize()
        assert "the allocation" in fake_cuda.faults() and bytes(early) != array.tobytes()
        fake_cuda.settle()
        fake_cuda.reset()
        late = stream.read(struct.tensor.data, array.nbytes)
        release(struct)
        stream.synchronize()
        assert "is freed" in fake_cuda.faults() and bytes(late) != array.tobytes()
        fake_cuda.reset()

    @pytest.mark.parametrize("number", [None, 1], ids=["its own", "the default"])
    @pytest.mark.parametrize("copied", [None, True], ids=["shared", "copied"])
    @pytest.mark.parametrize("layout", ["contiguous", "transposed", "every other", "reversed", "broadcast"])
    def test_every_layout_is_made_ready(self, layout, copied, number):
        array, stream = LAYOUTS[layout]("int16"), Stream(0, number)
        memory = on_device(array)
        tensor = dl.from_dlpack(memory)
        struct = taken(tensor, stream=stream.number, copy=copied)
        shares = copied is None and layout != "reversed"
        assert (struct.tensor.data == tensor.data_ptr()) == shares
        assert bool(struct.flags & IS_COPIED) != shares
        strides = (C.c_int64 * array.ndim).from_address(struct.tensor.steps)[:]
        size = sum((n - 1) * step for n, step in zip(array.shape, strides, strict=True)) + 1
        read = stream.read(struct.tensor.data, 2 * size)
        release(struct)
        del tensor, memory
        stream.synchronize()
        seen = np.lib.stride_tricks.as_strided(
            np.frombuffer(bytes(read), "int16"), array.shape, [2 * step for step in strides]
        )
        assert np.array_equal(seen, array)

    def test_what_a_consumer_writes_is_seen_afterwards(self):
        near, stream = dl.from_numpy(numbers(100)).cuda(), Stream()
        struct = taken(near, stream=stream.number)
        stream.write(struct.tensor.data, numbers(100)[::-1].tobytes())
        release(struct)
        other = Stream()
        struct = taken(near, stream=other.number)
        read = other.read(struct.tensor.data, near.nbytes)
        release(struct)
        other.synchronize()
        assert bytes(read) == numbers(100)[::-1].tobytes() == bytes(near.cpu())

    def test_what_a_consumer_reads_is_not_overwritten_before(self):
        near, stream = dl.from_numpy(numbers(100)).cuda(), Stream()
        struct = taken(near, stream=stream.number)
        read = stream.read(struct.tensor.data, near.nbytes)
        dl.copyto(near, np.zeros(100, "float32"))
        fake_cuda.settle()
        assert bytes(read) == numbers(100).tobytes()
        assert near.cpu().numpy().sum() == 0
        release(struct)

    @pytest.mark.parametrize("stream", [None, -1, 1, 2, np.int64(1), "own"])
    def test_which_stream_waits(self, stream):
        own = Stream()
        near = dl.from_numpy(numbers(3)).cuda()
        fake_cuda.reset()
        release(taken(near, stream=own if stream == "own" else stream))
        waits = {
            line.split(" stream=")[1].split(" ")[0].rstrip("0123456789") for line in log("cuStreamWaitEvent")
        }
        assert waits - {"legacy"} == {"own": {"#"}, 2: {"per-thread"}}.get(stream, set())

    @pytest.mark.parametrize(
        ("stream", "error", "words"),
        [
            (0, ValueError, "0 is not a stream of cuda:0"),
            (-2, ValueError, "-2 is not a stream of cuda:0"),
            (SimpleNamespace(__cuda_stream__=lambda: (0, 0)), ValueError, "0 is not a stream"),
            (SimpleNamespace(__cuda_stream__=lambda: "x"), TypeError, None),
            ("1", TypeError, "an int or None"),
            (1.0, TypeError, "an int or None"),
            (1 << 70, (TypeError, ValueError, OverflowError), None),
        ],
        ids=repr,
    )
    def test_streams_that_are_none_are_refused(self, stream, error, words):
        near = dl.from_numpy(numbers(3)).cuda()
        with pytest.raises(error, match=words):
            near.__dlpack__(stream=stream)

    def test_an_object_that_holds_a_stream_is_kept_as_long_as_the_memory(self):
        stream, array = Stream(), numbers(100)
        near, seen = dl.from_numpy(array).cuda(), weakref.ref(stream)
        struct = taken(near, stream=stream)
        read = stream.read(struct.tensor.data, array.nbytes)
        del stream, near
        gc.collect()
        assert seen() is not None
        release(struct)
        assert seen() is None
        fake_cuda.settle()
        assert bytes(read) == array.tobytes()

    def test_a_stream_that_its_owner_destroys_early_costs_a_wait(self):
        stream = Stream()
        near = dl.from_numpy(numbers(3)).cuda()
        struct = taken(near, stream=stream.number)
        read = stream.read(struct.tensor.data, near.nbytes)
        del stream  # a number keeps nothing
        fake_cuda.reset()
        release(struct)
        assert len(log("cuCtxSynchronize")) == 1 and bytes(read) == numbers(3).tobytes()
        assert near.cpu().tolist() == numbers(3).tolist()
        fake_cuda.reset()  # the fake driver calls it a fault, as it should

    def test_a_use_ends_with_its_struct_and_the_stream_may_go(self):
        near, reads = dl.from_numpy(numbers(3)).cuda(), []
        for _ in range(3):
            stream = Stream()
            struct = taken(near, stream=stream.number)
            reads.append(stream.read(struct.tensor.data, near.nbytes))
            release(struct)
            del stream
        fake_cuda.reset()
        assert near.cpu().tolist() == numbers(3).tolist()
        assert all(bytes(read) == numbers(3).tobytes() for read in reads) and log("cuCtxSynchronize") == []


class TestDevicesOfConsumers(OnFakeCuda):
    """`dl_device=`: where a consumer wants the memory."""

    @pytest.mark.parametrize("copied", [None, True])
    @pytest.mark.parametrize("start", ["host", "cuda:0"])
    def test_memory_is_ready_on_a_stream_of_the_device_that_is_asked_for(self, start, copied):
        array, stream = numbers(50, 20).T, Stream(1)
        tensor = dl.from_numpy(array) if start == "host" else dl.from_numpy(array).cuda(0)
        struct = taken(tensor, stream=stream.number, dl_device=OTHER, copy=copied)
        assert tuple(struct.tensor.device) == OTHER and struct.flags == IS_COPIED
        read = stream.read(struct.tensor.data, array.nbytes)
        release(struct)
        del tensor
        stream.synchronize()
        assert bytes(read) == array.T.tobytes()

    def test_memory_comes_to_the_host_complete(self):
        array = numbers(50, 20)[:, ::2]
        near = dl.from_numpy(array).cuda()
        for options in ({}, {"copy": True}, {"stream": -1}, {"stream": None}):
            struct = taken(near, dl_device=HOST, **options)
            assert tuple(struct.tensor.device) == HOST and struct.flags == IS_COPIED
            seen = C.string_at(struct.tensor.data, array.size * array.itemsize)
            assert seen == array.tobytes()
            release(struct)
        assert np.array_equal(np.from_dlpack(near, device="cpu"), array)

    def test_what_does_not_go_together_is_refused(self):
        host = dl.from_numpy(numbers(3))
        near = host.cuda()
        for tensor, options, error, words in [
            (near, {"dl_device": HOST, "copy": False}, BufferError, "the memory is on cuda:0, not on cpu"),
            (near, {"dl_device": OTHER, "copy": False}, BufferError, "not on cuda:1"),
            (host, {"dl_device": GPU, "copy": False}, BufferError, "the memory is on cpu, not on cuda:0"),
            (near, {"dl_device": HOST, "stream": 1}, ValueError, "1 is not a stream of cpu"),
            (near, {"dl_device": HOST, "stream": Stream()}, ValueError, "is not a stream of cpu"),
            (host, {"dl_device": GPU, "stream": 0}, ValueError, "0 is not a stream of cuda:0"),
            (near, {"dl_device": (2, 5)}, BufferError, "the driver has cuda:0 to cuda:1"),
            (near, {"dl_device": (8, 0)}, BufferError, "unsupported device requested"),
            (near, {"dl_device": "cpu"}, TypeError, None),
        ]:
            with pytest.raises(error, match=words):
                tensor.__dlpack__(**options)
        assert len(log("cuMemAllocAsync")) == 1, "nothing was copied"
        near.__dlpack__(dl_device=GPU, copy=False, stream=1)


class TestProducers(OnFakeCuda):
    """In: `__dlpack__` of others."""

    def test_memory_is_shared_and_ready_on_the_default_stream(self):
        memory = Memory(numbers(2, 3))
        producer, address = DeviceProducer(memory), memory.address
        del memory
        tensor = producer.imported()
        assert producer.asked == [{"stream": 1, "max_version": (1, 3)}]
        assert (tensor.device, tensor.data_ptr(), tensor.readonly) == ("cuda:0", address, False)
        assert tensor.cpu().tolist() == [[0, 1, 2], [3, 4, 5]] == tensor.cuda(1).cpu().tolist()
        assert dl.from_dlpack(tensor, device="cuda:0", copy=False).data_ptr() == address
        stream = Stream()
        struct = taken(tensor, stream=stream.number)
        read = stream.read(address, 24)
        release(struct)
        assert producer.deleted == 0
        del tensor
        producer.check_released()  # and the memory is freed, as far as the producer is concerned
        stream.synchronize()
        assert bytes(read) == numbers(2, 3).tobytes()

    def test_to_the_host(self):
        memory = Memory(numbers(2, 3))
        producer = DeviceProducer(memory)
        producer.answers = [dl.from_numpy(numbers(2, 3) + 1).__dlpack__(max_version=(1, 3))]
        fetched = dl.from_dlpack(producer, device="cpu")
        assert producer.asked == [{"dl_device": HOST, "max_version": (1, 3)}]
        assert (fetched.device, fetched.tolist()) == ("cpu", [[1, 2, 3], [4, 5, 6]])
        producer = DeviceProducer(memory)  # does not mind where it is wanted
        ours = dl.from_dlpack(producer, device="cpu")
        assert (ours.device, ours.tolist()) == ("cpu", [[0, 1, 2], [3, 4, 5]])
        producer.check_released()
        producer = DeviceProducer(memory)  # does not know the word
        producer.answers = [TypeError("unexpected keyword")]
        with pytest.raises(ValueError, match="does not take"):
            dl.from_dlpack(producer, device="cpu")
        assert dl.from_dlpack(producer).cpu().tolist() == [[0, 1, 2], [3, 4, 5]]
        del producer

    def test_to_another_device(self):
        memory = Memory(numbers(6, 4), part=lambda a: a[:, ::2])
        producer = DeviceProducer(memory)
        across = dl.from_dlpack(producer, device="cuda:1")
        assert producer.asked == [{"stream": 1, "max_version": (1, 3)}]
        producer.check_released()
        assert (across.device, across.stride()) == ("cuda:1", (2, 1))
        assert np.array_equal(across.cpu().numpy(), numbers(6, 4)[:, ::2])
        producer = DeviceProducer(memory)
        with pytest.raises(ValueError, match="can't be on cuda:1 without a copy"):
            dl.from_dlpack(producer, device="cuda:1", copy=False)
        assert producer.asked == [{"stream": 1, "copy": False, "max_version": (1, 3)}]
        producer.check_released()

    def test_copies_are_asked_for(self):
        memory, copied = Memory(numbers(2, 3)), Memory(numbers(2, 3) + 1)
        other = DeviceProducer(copied, flags=IS_COPIED)
        producer = DeviceProducer(memory)
        producer.answers = [other.capsule]
        tensor = dl.from_dlpack(producer, copy=True)
        assert producer.asked == [{"stream": 1, "copy": True, "max_version": (1, 3)}]
        assert (tensor.data_ptr(), tensor.cpu().tolist()) == (copied.address, [[1, 2, 3], [4, 5, 6]])
        producer = DeviceProducer(memory)
        producer.answers = [TypeError("unexpected keyword"), producer.capsule]
        with pytest.raises(ValueError, match="does not take"):
            dl.from_dlpack(producer, copy=True)
        del tensor
        other.check_released()

    def test_copies_of_those_that_nobody_asks_are_ours(self):
        near = dl.from_numpy(numbers(3)).cuda()
        memory = Memory(numbers(3))
        for source, address in ((near, near.data_ptr()), (memory, memory.address)):
            for wanted, device in ((None, 0), ("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)):
                copied = dl.from_dlpack(source, copy=True, device=wanted)
                assert (copied.device, copied.cpu().tolist()) == (f"cuda:{device}", [0, 1, 2])
                assert copied.data_ptr() != address

    def test_from_the_host(self):
        for source in (numbers(3), torch.arange(3.0), dl.from_numpy(numbers(3)), memoryview(numbers(3))):
            for copied in (None, True):
                near = dl.from_dlpack(source, device="cuda:1", copy=copied)
                assert (near.device, near.cpu().tolist()) == ("cuda:1", [0, 1, 2])
            with pytest.raises(ValueError, match="is on cpu and can't be on cuda:1 without a copy"):
                dl.from_dlpack(source, device="cuda:1", copy=False)

    def test_copies_for_others_stay_on_their_device(self):
        class Array(DeviceProducer):
            def __array_namespace__(self):
                return SimpleNamespace(from_dlpack=lambda tensor: ("theirs", tensor))

        turned = lambda: Memory(numbers(3, 4), 1, part=lambda a: a.T)  # noqa: E731
        for copied, strides in ((dl.clone, (1, 4)), (dl.contiguous, (3, 1))):
            for source in (turned(), DeviceProducer(turned()), dl.from_dlpack(turned())):
                new = copied(source)
                assert (type(new), new.device, new.stride()) == (dl.Tensor, "cuda:1", strides)
                assert np.array_equal(new.cpu().numpy(), numbers(3, 4).T)
        rows = DeviceProducer(Memory(numbers(3, 4)))
        assert dl.contiguous(rows) is rows
        word, new = dl.clone(Array(turned()))
        assert (word, new.device) == ("theirs", "cuda:1") and np.array_equal(
            new.cpu().numpy(), numbers(3, 4).T
        )


LIKE_TORCH = """
import ctypes as C, sys, types
import numpy as np, dlbridge as dl
import fake_cuda
from producer import new_capsule, opened, set_name

asked = []
module = sys.modules["torch"] = types.ModuleType("torch")

@C.PYFUNCTYPE(C.c_int, C.py_object, C.POINTER(C.c_void_p))
def export(tensor, out):
    capsule = tensor.inner.__dlpack__(max_version=(1, 3), stream=-1)
    struct = opened(capsule)
    set_name(capsule, struct.used)
    out[0] = C.addressof(struct)
    return 0

@C.PYFUNCTYPE(C.c_int, C.c_int, C.c_int32, C.POINTER(C.c_void_p))
def current(kind, index, out):
    if stream is None:
        return -1
    asked.append((kind, index))
    out[0] = stream
    return 0

@C.PYFUNCTYPE(C.c_int)
def nothing():
    return -1

class Table(C.Structure):
    _fields_ = [("version", C.c_uint32 * 2), *[(name, C.c_void_p) for name in "previous allocate managed to borrowed stream".split()]]

address = lambda function: C.cast(function, C.c_void_p).value
table = Table((1, 3), None, address(nothing), address(export), address(nothing), address(nothing), address(current))

class Tensor:
    requires_grad = property(lambda self: False)
    dtype = "torch.uint8"
    __dlpack_c_exchange_api__ = new_capsule(C.addressof(table), b"dlpack_exchange_api", None)
    def is_neg(self):
        return False
    def __dlpack_device__(self):
        return (2, 1)
    def __dlpack__(self, **options):
        asked.append(options)
        return self.inner.__dlpack__(**options)

module.Tensor = Tensor
memory, side = fake_cuda.Memory(np.zeros(4, "u1"), 1), fake_cuda.Stream(1)
tensor = Tensor()
tensor.inner = dl.from_dlpack(memory)
stream = side.number
side.write(memory.address, bytes([1, 2, 3, 4]))
print(dl.from_dlpack(tensor).cpu().tolist())
stream = 0
side.write(memory.address, bytes([5, 6, 7, 8]))
print(dl.from_dlpack(tensor).cpu().tolist())
stream = None
print(dl.from_dlpack(tensor).shape, asked)
fake_cuda.settle()
print(fake_cuda.faults() == "")
"""


class TestTorch(OnFakeCuda):
    """What is asked of PyTorch's exchange table, in a process where something like PyTorch has one."""

    def test_a_tensor_comes_in_the_order_of_the_current_stream(self):
        run = subprocess.run(
            [sys.executable, "-c", LIKE_TORCH],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert run.stdout.splitlines() == [
            "[1, 2, 3, 4]",
            "[1, 2, 3, 4]",  # nothing said that another stream writes
            "(4,) [(2, 1), (2, 1), {'stream': 1, 'max_version': (1, 3)}]",
            "True",
        ], run.stderr


class TestCudaArrayInterface(OnFakeCuda):
    def test_memory_is_found_by_its_address_and_kept(self):
        memory = Memory(numbers(3, 4), 1, part=lambda a: a[1:, ::2])
        seen, address = weakref.ref(memory), memory.address
        near = dl.from_dlpack(memory)
        del memory
        gc.collect()
        assert seen() is not None
        assert (near.device, near.shape, near.stride()) == ("cuda:1", (2, 2), (4, 2))
        assert (near.data_ptr(), near.readonly) == (address + 16, False)
        assert near.cpu().tolist() == [[4, 6], [8, 10]]
        del near
        assert seen() is None

    def test_what_is_being_written_is_waited_for(self):
        new = numbers(1000)[::-1]
        for use in (
            lambda near: bytes(near.cpu()),
            lambda near: bytes(near.clone().cpu()),
            lambda near: bytes(near.cuda(1).cpu()),
            lambda near: read_on(Stream(), near),
            lambda near: read_on(Stream(0, 1), near),
        ):
            for told in (True, False):
                memory, stream = Memory(numbers(1000)), Stream()
                stream.write(memory.address, new.tobytes())
                memory.shown["stream"] = stream.number if told else None
                near = dl.from_dlpack(memory)
                assert use(near) == (new if told else numbers(1000)).tobytes()
                stream.synchronize()
                del near, memory

    def test_streams_are_those_of_the_interface(self):
        memory = Memory(numbers(3), 1)
        for stream in (None, 1, 2):
            memory.shown["stream"] = stream
            assert dl.from_dlpack(memory).cpu().tolist() == [0, 1, 2]
        for stream, error in ((0, ValueError), (-2, ValueError), ("1", TypeError)):
            memory.shown["stream"] = stream
            with pytest.raises(error):
                dl.from_dlpack(memory)

    def test_other_addresses_are_refused(self):
        freed = Memory(numbers(3)).address
        for address in (0x1000, numbers(3).ctypes.data, freed):
            interface = {"shape": (3,), "typestr": "<f4", "data": (address, False), "version": 3}
            with pytest.raises(BufferError, match="is not memory of a CUDA device"):
                dl.from_dlpack(SimpleNamespace(__cuda_array_interface__=interface))

    def test_read_only_memory_stays_so(self):
        memory = Memory(numbers(3))
        memory.shown["data"] = (memory.address, True)
        near = dl.from_dlpack(memory)
        assert near.readonly and near.__cuda_array_interface__["data"] == (memory.address, True)
        with pytest.raises(ValueError, match="read-only"):
            dl.copyto(near, numbers(3))
        with pytest.raises(BufferError, match="readonly"):
            near.__dlpack__()
        assert not near.clone().readonly and not near.cuda(1).readonly

    @pytest.mark.parametrize("dtype", ["float32", "uint8", "bool", "int64", "complex64", "float16"])
    def test_the_dictionary(self, dtype):
        near = dl.from_numpy(numbers(2, 3, dtype=dtype)).cuda(1)
        expected = {
            "shape": (2, 3),
            "typestr": np.dtype(dtype).str,
            "data": (near.data_ptr(), False),
            "strides": None,
            "stream": 1,
            "version": 3,
        }
        assert near.__cuda_array_interface__ == expected
        turned = dl.from_dlpack(Memory(numbers(3, 2, dtype=dtype), part=lambda a: a.T[:, ::-1]))
        size = np.dtype(dtype).itemsize
        assert turned.__cuda_array_interface__ == {
            **expected,
            "data": (turned.data_ptr(), False),
            "strides": (size, -2 * size),
        }
        back = dl.from_dlpack(SimpleNamespace(__cuda_array_interface__=near.__cuda_array_interface__))
        assert (back.device, back.data_ptr(), back.dtype) == ("cuda:1", near.data_ptr(), near.dtype)

    def test_only_memory_of_a_device_has_one(self):
        host = dl.from_numpy(numbers(3))
        assert not hasattr(host, "__cuda_array_interface__")
        assert not hasattr(host.pin_memory(), "__cuda_array_interface__")
        with pytest.raises(AttributeError, match=r"memory on cpu has no .*: cuda\(\) copies it"):
            _ = host.__cuda_array_interface__
        assert dl.from_numpy(numbers(0, 3)).cuda().__cuda_array_interface__["data"] == (0, False)

    def test_it_is_ready_on_the_default_stream(self):
        memory, writer = Memory(numbers(100)), Stream()
        writer.write(memory.address, numbers(100)[::-1].tobytes())
        memory.shown["stream"] = writer.number
        near = dl.from_dlpack(memory)
        user = Stream()
        struct = taken(near, stream=user)
        user.write(struct.tensor.data, numbers(100).tobytes())
        interface = near.__cuda_array_interface__
        reader = Stream(0, interface["stream"])
        read = reader.read(interface["data"][0], near.nbytes)
        reader.synchronize()
        assert bytes(read) == numbers(100).tobytes()
        release(struct)


class TestCopyto(OnFakeCuda):
    PARTS = {
        "all": lambda a: a,
        "every other": lambda a: a[::2, ::3],
        "reversed": lambda a: a[::-1, ::-1],
        "turned": lambda a: a[:6].T,
        "a corner": lambda a: a[1:5, 2:5],
    }

    @pytest.mark.parametrize("to", PARTS)
    @pytest.mark.parametrize("dtype", ["float32", "uint8", "complex128"])
    def test_any_layout_goes_into_any_and_gaps_stay(self, dtype, to):
        room, part = numbers(8, 9, dtype=dtype), self.PARTS[to]
        shape = part(room).shape
        values = numbers(*shape, dtype=dtype) + np.array(100, dtype)
        expected = room.copy()
        part(expected)[...] = values
        sources = {
            "rows": values,
            "columns": np.asfortranarray(values),
            "broadcast": np.broadcast_to(np.array(5, dtype), shape),
        }
        for name, source in sources.items():
            part(expected)[...] = source
            for lender in (
                source,
                on_device(source),
                on_device(source, 1),
                dl.from_numpy(source).cuda(1),
                dl.from_numpy(source).pin_memory(),
            ):
                for index in range(2):
                    memory = Memory(room, index, part)
                    dl.copyto(memory, lender)
                    fake_cuda.settle()
                    assert np.array_equal(memory.now(), expected), name
                host = room.copy()
                dl.copyto(part(host), lender)
                assert np.array_equal(host, expected), name

    def test_our_own_memory_is_written(self):
        near = dl.from_numpy(numbers(2, 3)).cuda()
        dl.copyto(near, torch.ones(2, 3))
        assert near.cpu().tolist() == [[1] * 3] * 2
        into = torch.zeros(2, 3)
        before = into._version
        dl.copyto(into, near)
        assert into.tolist() == [[1] * 3] * 2 and into._version > before

    def test_parts_of_the_same_memory_may_overlap(self):
        memory = Memory(numbers(100))
        dl.copyto(memory.other(lambda a: a[1:]), memory.other(lambda a: a[:-1]))
        fake_cuda.settle()
        assert memory.now().tolist() == [0, *range(99)]
        dl.copyto(memory, memory.other(lambda a: a[::-1]))
        fake_cuda.settle()
        assert memory.now().tolist() == [*range(98, -1, -1), 0]

    def test_what_does_not_fit_is_refused(self):
        near = dl.from_numpy(numbers(4)).cuda()
        twice = Memory(numbers(1), part=lambda a: np.broadcast_to(a, (4,)))
        for dst, src, words in [
            (near, numbers(3), r"dst has shape \(4,\), src has \(3,\)"),
            (near, numbers(4, dtype="int32"), "dst has elements of type float32"),
            (numbers(2, 2), near, "dst has shape"),
            (twice, near, "share memory"),
            (b"1234", dl.from_numpy(numbers(4, dtype="uint8")).cuda(), "read-only"),
        ]:
            with pytest.raises(ValueError, match=words):
                dl.copyto(dst, src)
        assert near.cpu().tolist() == [0, 1, 2, 3]

    def test_memory_of_others_is_done_with_when_it_returns(self):
        memory, near = Memory(numbers(100)), dl.from_numpy(numbers(100)[::-1]).cuda()
        dl.copyto(memory, near)
        assert memory.now().tolist() == numbers(100)[::-1].tolist()  # nobody waited for it but the call


class TestPageLockedMemory(OnFakeCuda):
    def test_it_is_ordinary_memory_for_others(self):
        array = numbers(50, 20).T
        host = dl.from_numpy(array)
        assert not host.is_pinned()
        pinned = host.pin_memory()
        assert pinned.is_pinned() and pinned.pin_memory() is pinned and pinned.cpu() is pinned
        assert (pinned.device, pinned.__dlpack_device__(), pinned.readonly) == ("cpu", HOST, False)
        assert pinned.stride() == host.clone().stride() and np.array_equal(pinned.numpy(), array)
        assert not pinned.clone().is_pinned() and not pinned.to("cpu", copy=True).is_pinned()
        view, tensor = pinned.numpy(), torch.from_dlpack(pinned)
        assert tensor.device == torch.device("cpu")
        tensor[0, 1] = -7
        assert view[0, 1] == -7 == memoryview(pinned)[0, 1]
        assert dl.from_numpy(view[1:]).is_pinned() and dl.from_dlpack(tensor).is_pinned()
        before = live(fake_cuda.PINNED)[0]
        del pinned, view
        gc.collect()
        assert live(fake_cuda.PINNED) == [before] and tensor[0, 1] == -7
        del tensor
        assert live(fake_cuda.PINNED) == [before - 1]

    def test_whoever_locked_it(self):
        theirs = fake_cuda.PageLocked(40)
        lent = dl.from_dlpack(theirs.bytes)
        assert lent.is_pinned() and lent.pin_memory() is lent
        assert dl.from_numpy(np.frombuffer(theirs.bytes, "float32")[::-2]).is_pinned()
        del lent

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_every_layout(self, layout):
        array = LAYOUTS[layout]("float32")
        near = dl.from_dlpack(on_device(array))
        for pinned in (dl.from_numpy(array).pin_memory(), near.pin_memory()):
            assert pinned.device == "cpu" and pinned.is_pinned() == (array.size > 0)
            assert pinned.stride() == dl.from_numpy(array).clone().stride()
            assert np.array_equal(pinned.numpy(), array)
            assert np.array_equal(pinned.cuda().cpu().numpy(), array)

    def test_devices_read_and_write_it_by_themselves(self):
        array = numbers(9 << 20, dtype="uint8")
        pinned, plain = dl.from_numpy(array).pin_memory(), dl.from_numpy(array)
        sizes = lambda name: [line.split(" bytes=")[1] for line in log(name)]  # noqa: E731
        fake_cuda.reset()
        near = pinned.cuda()
        assert sizes("cuMemcpyHtoDAsync") == [str(9 << 20)]
        pinned.numpy()[:] = 0  # the device is done with it
        fake_cuda.reset()
        back = dl.from_numpy(np.ones_like(array)).pin_memory()
        dl.copyto(back, near)
        assert sizes("cuMemcpyDtoHAsync") == [str(9 << 20)]
        assert np.array_equal(back.numpy(), array)
        fake_cuda.reset()
        dl.copyto(near, pinned)
        assert sizes("cuMemcpyHtoDAsync") == [str(9 << 20)] and not near.cpu().numpy().any()
        fake_cuda.reset()
        plain.cuda()
        assert len(sizes("cuMemcpyHtoDAsync")) == 3, "in halves of 4 MiB otherwise"

    def test_it_is_copied_into_from_anywhere(self):
        pinned = dl.from_numpy(np.zeros((4, 6), "float32")).pin_memory()
        for source in (numbers(4, 6), dl.from_numpy(numbers(4, 6)).cuda(1), on_device(numbers(6, 4).T)):
            dl.copyto(pinned, source)
            expected = source.part(source.array) if isinstance(source, Memory) else numbers(4, 6)
            assert np.array_equal(pinned.numpy(), expected)


class TestFailures(OnFakeCuda):
    # Not those after which memory is left alone on purpose: whose work may still be under way.
    CALLS = (
        "cuMemAllocAsync",
        "cuMemHostAlloc",
        "cuMemcpyHtoDAsync",
        "cuMemcpyDtoHAsync",
        "cuMemcpyPeerAsync",
        "cuLaunchKernel",
        "cuEventCreate",
        "cuEventRecord",
        "cuStreamWaitEvent",
        "cuPointerGetAttribute",
    )

    def test_whatever_fails_is_an_error_and_nothing_is_lost(self):
        array = numbers(1200, 2500, dtype="uint16")[:, ::2]
        host, stream = dl.from_numpy(array), Stream()
        near = dl.from_dlpack(on_device(array))
        own = near.clone()
        pinned = host.pin_memory()

        def exported(tensor, **options):
            return dl.from_dlpack(tensor.__dlpack__(stream=stream.number, **options))

        def copied(dst, src):
            dl.copyto(dst, src)
            return dl.from_dlpack(dst)

        def imported():
            return dl.from_dlpack(SimpleNamespace(__cuda_array_interface__=interface, memory=near))

        interface = {**near.__cuda_array_interface__, "stream": stream.number}
        verbs = {
            "up": host.cuda,
            "up from pinned": pinned.cuda,
            "down": near.cpu,
            "across": lambda: near.to("cuda:1"),
            "clone": near.clone,
            "pin": host.pin_memory,
            "pin from there": near.pin_memory,
            "copyto": lambda: copied(own.clone(), near),
            "copyto the host": lambda: copied(np.empty_like(array), near),
            "out": lambda: exported(own),
            "out, copied": lambda: exported(own, copy=True),
            "out, from the host": lambda: exported(host, dl_device=GPU),
            "in": imported,
            "in and out": lambda: imported().__cuda_array_interface__ and near,
        }
        failures = 0
        for verb, call in verbs.items():
            call()
            fake_cuda.settle()
            before = live(*self.kept)
            for name in self.CALLS:
                for nth in range(1, 100):
                    fake_cuda.reset()
                    out_of_memory = "Alloc" in name
                    code = fake_cuda.OUT_OF_MEMORY if out_of_memory else fake_cuda.UNKNOWN
                    fake_cuda.fail(name, nth, code)
                    try:
                        result, error = call(), None
                    except Exception as raised:
                        result, error = None, raised.with_traceback(None)
                    reached = any(line.endswith(f"-> {code}") for line in log(name))
                    label, faults = f"{verb}: {name} {nth}: {error!r}", fake_cuda.faults()
                    fake_cuda.reset()  # the failure that did not come to pass is not for the next
                    if error is None:
                        assert np.array_equal(result.numpy(force=True), array), label
                    elif out_of_memory:
                        assert type(error) is MemoryError and str(error).startswith("out of memory: "), label
                    else:
                        assert type(error) is RuntimeError and name in str(error), label
                        assert "unknown error" in str(error), label
                    del result
                    fake_cuda.settle()
                    assert (faults, fake_cuda.depth(), live(*self.kept)) == ("", 0, before), label
                    failures += error is not None
                    if not reached:
                        break
                else:
                    raise AssertionError(f"{label} without end")
            assert np.array_equal(call().numpy(force=True), array), "the next one works"
            fake_cuda.settle()
        assert failures > 60, failures

    def test_the_words(self):
        host = dl.from_numpy(numbers(100))
        near = host.cuda()
        fake_cuda.fail("cuMemAllocAsync", 1, fake_cuda.OUT_OF_MEMORY)
        with pytest.raises(MemoryError, match="^out of memory: 400 bytes$"):
            host.cuda()
        with pytest.raises(MemoryError, match="^out of memory: 1099511627776 bytes$"):
            dl.from_dlpack(Memory(numbers(1), part=lambda a: np.broadcast_to(a, (1 << 38,)))).clone()
        fake_cuda.fail("cuMemcpyHtoDAsync", 1, 700)
        with pytest.raises(RuntimeError) as raised:
            host.cuda()
        assert str(raised.value) == (
            "CUDA: cuMemcpyHtoDAsync_v2 gave CUDA_ERROR_ILLEGAL_ADDRESS, an illegal memory access was encountered (error 700)"
        )
        fake_cuda.fail("cuMemHostAlloc", 1, fake_cuda.OUT_OF_MEMORY)
        with pytest.raises(MemoryError):
            host.pin_memory()
        fake_cuda.fail("cuMemcpyDtoHAsync", 1, 719)
        with pytest.raises(RuntimeError, match="unspecified launch failure"):
            near.cpu()
        assert near.cpu().tolist() == host.cuda().cpu().tolist() == list(range(100))

    def test_a_machine_without_devices_says_so(self):
        prepare = "import ctypes; ctypes.CDLL('libcuda.so.1').fake_cuda_reset(0)"
        says(
            prepare, "CUDA: cuInit gave CUDA_ERROR_NO_DEVICE, no CUDA-capable device is detected (error 100)"
        )


class TestThreads(OnFakeCuda):
    kept = (fake_cuda.MEMORY, fake_cuda.STREAMS)

    def test_threads_copy_at_the_same_time(self):
        wrong, done = [], []

        def work(thread):
            for turn in range(4):
                for size in (5 << 20, 3000):
                    array = np.full((size // 100, 100), 16 * thread + turn, "uint8")
                    near = dl.from_numpy(array).cuda(thread % 2)
                    theirs = dl.from_dlpack(on_device(array[:, ::2], thread % 2))
                    back = [near.cpu(), near.clone().cpu(), theirs.to(f"cuda:{1 - thread % 2}").cpu()]
                    dl.copyto(theirs, near.cpu().numpy()[:, 1::2])
                    back += [theirs.cpu(), dl.from_numpy(array).pin_memory().cuda().cpu()]
                    wrong.extend(got for got in back if (got.numpy() != 16 * thread + turn).any())
            done.append(thread)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (wrong, sorted(done)) == ([], [0, 1, 2, 3])

    def test_a_tensor_is_dropped_on_another_thread(self):
        array = numbers(1000)
        held = [dl.from_numpy(array).cuda(1)]
        stream = Stream(1)
        struct = taken(held[0], stream=stream)
        read = stream.read(struct.tensor.data, array.nbytes)
        release(struct)
        before = live(fake_cuda.MEMORY)[0]
        thread = threading.Thread(target=held.clear)
        thread.start()
        thread.join()
        assert live(fake_cuda.MEMORY) == [before - 1]
        stream.synchronize()
        assert bytes(read) == array.tobytes()

    @pytest.mark.parametrize("start", ["ours", "theirs"])
    def test_a_struct_is_released_on_a_thread_that_python_does_not_know(self, start):
        array, stream = numbers(1000), Stream()
        near = dl.from_numpy(array).cuda() if start == "ours" else dl.from_dlpack(Memory(array))
        struct, seen = taken(near, stream=stream), weakref.ref(stream)
        read = stream.read(struct.tensor.data, array.nbytes)
        del near, stream
        process = C.CDLL(None)
        thread = C.c_ulong()
        # A deleter takes an address, as the start of a thread does.
        assert process.pthread_create(C.byref(thread), None, C.c_void_p(struct.deleter), C.byref(struct)) == 0
        assert process.pthread_join(thread, None) == 0
        assert seen() is None
        fake_cuda.settle()
        assert bytes(read) == array.tobytes()

    def test_the_current_device_is_each_threads_own(self):
        found = []
        with fake_cuda.current(1):
            thread = threading.Thread(target=lambda: found.append(dl.from_numpy(numbers(3)).cuda().device))
            thread.start()
            thread.join()
            found.append(dl.from_numpy(numbers(3)).cuda().device)
        assert found == ["cuda:0", "cuda:1"]
