"""The order of work on streams, devices of consumers, and threads, on the fake CUDA driver."""

import ctypes as C
import gc
import threading
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

import dlbridge as dl
import fake_cuda
from cuda_support import (
    GPU,
    HOST,
    IS_COPIED,
    LAYOUTS,
    OTHER,
    OnFakeCuda,
    consumed,
    numbers,
    on_device,
    release,
)
from fake_cuda import Memory, Stream, live, log


class TestStreams(OnFakeCuda):
    """A consumer's stream, which waits only for the streams that it is told to wait for."""

    @pytest.mark.parametrize("version", [None, (1, 3)])
    @pytest.mark.parametrize("spelling", ["number", "object"])
    @pytest.mark.parametrize("first", ["the struct", "the tensor"])
    @pytest.mark.parametrize("start", ["ours", "theirs"])
    def test_memory_released_during_a_read_is_still_valid(self, version, spelling, first, start):
        array, stream = numbers(1000), Stream()
        near = dl.from_numpy(array).cuda() if start == "ours" else dl.from_dlpack(Memory(array))
        struct = consumed(
            near, max_version=version, stream=stream if spelling == "object" else stream.number
        )
        read = stream.read(struct.tensor.data, array.nbytes)
        fake_cuda.reset()
        for which in sorted(["the struct", "the tensor"], key=lambda which: which != first):
            if which == "the struct":
                release(struct)
            else:
                del near
        assert len(log("cuMemFreeAsync")) == 1, "it is given back at once"
        assert log("cuStreamSynchronize", "cuEventSynchronize", "cuCtxSynchronize") == [], (
            "the host does not wait"
        )
        stream.synchronize()
        assert bytes(read) == array.tobytes()

    def test_using_an_unnamed_stream_is_a_fault(self):
        array, stream = numbers(1000), Stream()
        struct = consumed(dl.from_numpy(array).cuda())
        early = stream.read(struct.tensor.data, array.nbytes)
        stream.synchronize()
        assert "the allocation" in fake_cuda.faults() and bytes(early) != array.tobytes()
        fake_cuda.synchronize_devices()
        fake_cuda.reset()
        late = stream.read(struct.tensor.data, array.nbytes)
        release(struct)
        stream.synchronize()
        assert "is freed" in fake_cuda.faults() and bytes(late) != array.tobytes()
        fake_cuda.reset()

    @pytest.mark.parametrize("number", [None, 1], ids=["its own", "the default"])
    @pytest.mark.parametrize("copied", [None, True], ids=["shared", "copied"])
    @pytest.mark.parametrize(
        "layout", ["contiguous", "transposed", "every other", "reversed", "broadcast"]
    )
    def test_exports_of_every_layout_are_ready(self, layout, copied, number):
        array, stream = LAYOUTS[layout]("int16"), Stream(0, number)
        memory = on_device(array)
        tensor = dl.from_dlpack(memory)
        struct = consumed(tensor, stream=stream.number, copy=copied)
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

    def test_writes_of_a_consumer_are_seen_later(self):
        near, stream = dl.from_numpy(numbers(100)).cuda(), Stream()
        struct = consumed(near, stream=stream.number)
        stream.write(struct.tensor.data, numbers(100)[::-1].tobytes())
        release(struct)
        other = Stream()
        struct = consumed(near, stream=other.number)
        read = other.read(struct.tensor.data, near.nbytes)
        release(struct)
        other.synchronize()
        assert bytes(read) == numbers(100)[::-1].tobytes() == bytes(near.cpu())

    def test_copyto_waits_for_consumers_that_read(self):
        near, stream = dl.from_numpy(numbers(100)).cuda(), Stream()
        struct = consumed(near, stream=stream.number)
        read = stream.read(struct.tensor.data, near.nbytes)
        dl.copyto(near, np.zeros(100, "float32"))
        fake_cuda.synchronize_devices()
        assert bytes(read) == numbers(100).tobytes()
        assert near.cpu().numpy().sum() == 0
        release(struct)

    @pytest.mark.parametrize("stream", [None, -1, 1, 2, np.int64(1), "own"])
    def test_only_the_named_stream_waits(self, stream):
        own = Stream()
        near = dl.from_numpy(numbers(3)).cuda()
        fake_cuda.reset()
        release(consumed(near, stream=own if stream == "own" else stream))
        waits = {
            line.split(" stream=")[1].split(" ")[0].rstrip("0123456789")
            for line in log("cuStreamWaitEvent")
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
    def test_invalid_streams_are_refused(self, stream, error, words):
        near = dl.from_numpy(numbers(3)).cuda()
        with pytest.raises(error, match=words):
            near.__dlpack__(stream=stream)

    def test_stream_objects_are_kept_as_long_as_the_memory(self):
        stream, array = Stream(), numbers(100)
        near, seen = dl.from_numpy(array).cuda(), weakref.ref(stream)
        struct = consumed(near, stream=stream)
        read = stream.read(struct.tensor.data, array.nbytes)
        del stream, near
        gc.collect()
        assert seen() is not None
        release(struct)
        assert seen() is None
        fake_cuda.synchronize_devices()
        assert bytes(read) == array.tobytes()

    def test_streams_destroyed_early_are_replaced_by_a_context_wait(self):
        stream = Stream()
        near = dl.from_numpy(numbers(3)).cuda()
        struct = consumed(near, stream=stream.number)
        read = stream.read(struct.tensor.data, near.nbytes)
        del stream  # a number does not keep the stream alive
        fake_cuda.reset()
        release(struct)
        assert len(log("cuCtxSynchronize")) == 1 and bytes(read) == numbers(3).tobytes()
        assert near.cpu().tolist() == numbers(3).tolist()
        fake_cuda.reset()  # clears the fault that the fake driver reports

    def test_streams_may_be_destroyed_after_their_struct_is_released(self):
        near, reads = dl.from_numpy(numbers(3)).cuda(), []
        for _ in range(3):
            stream = Stream()
            struct = consumed(near, stream=stream.number)
            reads.append(stream.read(struct.tensor.data, near.nbytes))
            release(struct)
            del stream
        fake_cuda.reset()
        assert near.cpu().tolist() == numbers(3).tolist()
        assert (
            all(bytes(read) == numbers(3).tobytes() for read in reads)
            and log("cuCtxSynchronize") == []
        )


class TestDevicesOfConsumers(OnFakeCuda):
    """`dl_device=`: the device on which a consumer wants the memory."""

    @pytest.mark.parametrize("copied", [None, True])
    @pytest.mark.parametrize("start", ["host", "cuda:0"])
    def test_copies_are_ready_on_a_stream_of_the_requested_device(self, start, copied):
        array, stream = numbers(50, 20).T, Stream(1)
        tensor = dl.from_numpy(array) if start == "host" else dl.from_numpy(array).cuda(0)
        struct = consumed(tensor, stream=stream.number, dl_device=OTHER, copy=copied)
        assert tuple(struct.tensor.device) == OTHER and struct.flags == IS_COPIED
        read = stream.read(struct.tensor.data, array.nbytes)
        release(struct)
        del tensor
        stream.synchronize()
        assert bytes(read) == array.T.tobytes()

    def test_copies_requested_on_the_host_are_complete(self):
        array = numbers(50, 20)[:, ::2]
        near = dl.from_numpy(array).cuda()
        for options in ({}, {"copy": True}, {"stream": -1}, {"stream": None}):
            struct = consumed(near, dl_device=HOST, **options)
            assert tuple(struct.tensor.device) == HOST and struct.flags == IS_COPIED
            seen = C.string_at(struct.tensor.data, array.size * array.itemsize)
            assert seen == array.tobytes()
            release(struct)
        assert np.array_equal(np.from_dlpack(near, device="cpu"), array)

    def test_contradictory_requests_are_refused(self):
        host = dl.from_numpy(numbers(3))
        near = host.cuda()
        for tensor, options, error, words in [
            (
                near,
                {"dl_device": HOST, "copy": False},
                BufferError,
                "the memory is on cuda:0, not on cpu",
            ),
            (near, {"dl_device": OTHER, "copy": False}, BufferError, "not on cuda:1"),
            (
                host,
                {"dl_device": GPU, "copy": False},
                BufferError,
                "the memory is on cpu, not on cuda:0",
            ),
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


class TestThreads(OnFakeCuda):
    counted = (fake_cuda.MEMORY, fake_cuda.STREAMS)

    def test_threads_copy_concurrently(self):
        wrong, done = [], []

        def work(thread):
            for turn in range(4):
                for size in (5 << 20, 3000):
                    array = np.full((size // 100, 100), 16 * thread + turn, "uint8")
                    near = dl.from_numpy(array).cuda(thread % 2)
                    theirs = dl.from_dlpack(on_device(array[:, ::2], thread % 2))
                    back = [
                        near.cpu(),
                        near.clone().cpu(),
                        theirs.to(f"cuda:{1 - thread % 2}").cpu(),
                    ]
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

    def test_tensors_may_be_released_on_another_thread(self):
        array = numbers(1000)
        held = [dl.from_numpy(array).cuda(1)]
        stream = Stream(1)
        struct = consumed(held[0], stream=stream)
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
    def test_structs_may_be_released_on_a_non_python_thread(self, start):
        array, stream = numbers(1000), Stream()
        near = dl.from_numpy(array).cuda() if start == "ours" else dl.from_dlpack(Memory(array))
        struct, seen = consumed(near, stream=stream), weakref.ref(stream)
        read = stream.read(struct.tensor.data, array.nbytes)
        del near, stream
        process = C.CDLL(None)
        thread = C.c_ulong()
        # A deleter takes an address, as the start of a thread does.
        assert (
            process.pthread_create(
                C.byref(thread), None, C.c_void_p(struct.deleter), C.byref(struct)
            )
            == 0
        )
        assert process.pthread_join(thread, None) == 0
        assert seen() is None
        fake_cuda.synchronize_devices()
        assert bytes(read) == array.tobytes()

    def test_the_current_device_is_per_thread(self):
        found = []
        with fake_cuda.current(1):
            thread = threading.Thread(
                target=lambda: found.append(dl.from_numpy(numbers(3)).cuda().device)
            )
            thread.start()
            thread.join()
            found.append(dl.from_numpy(numbers(3)).cuda().device)
        assert found == ["cuda:0", "cuda:1"]
