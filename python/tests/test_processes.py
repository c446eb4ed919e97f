"""Tensors that cross process boundaries: pickles, pools of processes, shared memory, joblib, Dask and Ray."""

import copy
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
from contextlib import suppress
from multiprocessing import shared_memory
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import dlbridge as dl

HERE = Path(__file__).absolute().parent
NAMES = f"from {Path(__file__).stem} import *; "

# Layouts of parts of an array of shape (4, 6), and the strides after a round trip if they differ: elements
# with gaps between them, or that share memory, are copied first.
LAYOUTS = {
    "row-major": (lambda a: a, None),
    "column-major": (lambda a: a.T, None),
    "permuted": (lambda a: a.reshape(2, 2, 6).transpose(1, 2, 0), None),
    "negative strides": (lambda a: a[::-1, ::-1], None),
    "sliced": (lambda a: a[::2, 1:5], (4, 1)),
    "sliced and transposed": (lambda a: a[::2, 1:5].T, (1, 4)),
    "broadcast": (lambda a: np.broadcast_to(a[1], (5, 6)), (6, 1)),
    "overlapping": (lambda a: np.lib.stride_tricks.sliding_window_view(a[1], 3), (3, 1)),
    "0-d": (lambda a: a[1:2, 2:3].reshape(()), None),
    "empty": (lambda a: a[:0], None),
}


def array_of(layout, dtype="float32", writable=True):
    numbers = (np.arange(24) * 7 % 11).reshape(4, 6)
    kinds = {"bool": numbers % 2, "uint64": numbers + 2**60, "complex64": numbers * (1 - 2j)}
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    array = LAYOUTS[layout][0](kinds.get(dtype, numbers - 5).astype(kind))
    array.flags.writeable = writable and array.flags.writeable
    return array


def address(buffer):
    """The address of the lowest byte."""
    array = buffer if isinstance(buffer, np.ndarray) else np.frombuffer(buffer, np.uint8)
    return np.lib.array_utils.byte_bounds(array)[0]


def assert_same(tensor, array, strides=None, readonly=False):
    """The tensor has the array's elements and type, and these strides or the array's own."""
    seen = tensor.numpy()
    assert seen.dtype == array.dtype and seen.shape == tensor.shape == array.shape
    assert seen.tobytes() == array.tobytes()
    assert tensor.stride() == (strides or tuple(step // array.itemsize for step in array.strides))
    assert tensor.readonly == readonly and seen.flags.writeable != readonly


def python(*arguments):
    """Runs a new interpreter, and returns what it prints."""
    ran = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, f"exit status {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout.strip()


@pytest.fixture(autouse=True, scope="module")
def environment():
    """Lets new interpreters find this file, and the package that is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{Path(dl.__file__).absolute().parents[1]}")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "int8", "uint64", "bool", "complex64", "bfloat16"]
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_round_trip(layout, dtype):
    for writable in (True, False):
        array = array_of(layout, dtype, writable)
        tensor = dl.from_numpy(array)
        for protocol in range(2, 6):
            back = pickle.loads(pickle.dumps(tensor, protocol))
            assert_same(back, array, LAYOUTS[layout][1], readonly=not array.flags.writeable)
            assert back.data_ptr() != tensor.data_ptr() or not array.size


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_holds_the_elements_of_its_tensor_only(protocol):
    base = np.full((1000, 1000), 3, np.int8)
    for part in (base[:, 1], base[::4, :250], base[7, ::-4], base[3:4]):
        # Protocol 2 has text only; there a byte takes up to two.
        assert (
            part.nbytes <= len(pickle.dumps(dl.from_numpy(part), protocol)) < 2 * part.nbytes + 300
        )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pickle_out_of_band_buffers(layout):
    array, strides = array_of(layout), LAYOUTS[layout][1]
    tensor = dl.from_numpy(array)
    buffers = []
    pickled = pickle.dumps(tensor, 5, buffer_callback=buffers.append)
    assert [type(buffer) for buffer in buffers] == [pickle.PickleBuffer] and len(pickled) < 128
    raw = buffers[0].raw()
    assert raw.nbytes == array.nbytes and raw.readonly == tensor.readonly
    start, end = np.lib.array_utils.byte_bounds(array)
    assert address(raw) == start if strides is None else not start <= address(raw) < end
    if strides is None and "negative" not in layout:
        assert address(raw) == tensor.data_ptr()
    for kind in (bytes, bytearray, pickle.PickleBuffer):
        given = kind(raw)
        back = pickle.loads(pickled, buffers=[given])
        # A read-only tensor comes back read-only, even from a bytearray.
        assert_same(back, array, strides, readonly=tensor.readonly or kind is bytes)
        assert address(back.numpy()) == address(given) or not array.size
        if kind is bytearray:
            with pytest.raises(BufferError):
                given.append(0)


def test_copy_and_deepcopy():
    array = array_of("column-major")
    tensor = dl.from_numpy(array)
    shallow, deep = copy.copy(tensor), copy.deepcopy(tensor)
    assert_same(deep, array)
    array[0, 0] = 100
    assert shallow.numpy()[0, 0] == 100 != deep.numpy()[0, 0]
    assert not copy.deepcopy(dl.from_dlpack(b"abc")).readonly


def test_round_trip_through_another_process():
    array = array_of("negative strides", "bfloat16")
    code = "print(pickle.dumps(pickle.loads(bytes.fromhex(sys.argv[1]))).hex())"
    answer = python("-c", NAMES + code, pickle.dumps(dl.from_numpy(array)).hex())
    assert_same(pickle.loads(bytes.fromhex(answer)), array)


def lie(data=b"x" * 12, code=2, bits=32, lanes=1, shape=(3,), strides=None):
    """The tensor that a pickle makes from bytes and a description."""
    description = code, bits, lanes, False, list(shape), list(strides or (1,) * len(shape))
    return dl.Tensor._rebuild(data, description)


LIES = [
    (
        ValueError,
        "fewer than the elements need",
        "data=b'x' * 11; data=b'', shape=(); bits=64; lanes=65535",
    ),
    (
        ValueError,
        "fewer than the elements need",
        "strides=(2,); strides=(-2,); shape=(4,); shape=(1, 13), code=0, bits=8",
    ),
    (
        BufferError,
        "no elements of type",
        "code=99; code=3, bits=64, shape=(1,); bits=0; bits=33; lanes=0",
    ),
    (
        BufferError,
        "address space",
        "shape=(2**62,); strides=(-2**63,); shape=(2**40, 2**40), strides=(0, 0)",
    ),
    (
        BufferError,
        "address space",
        "shape=(5,), strides=(2**60,); shape=(5, 5), strides=(2**60, -2**60)",
    ),
    (BufferError, "negative", "shape=(-3,); shape=(0, -1); shape=(-2**63,)"),
    (BufferError, "as many strides", "strides=(1, 1)"),
    (OverflowError, None, "code=256; shape=(2**63,)"),
    (TypeError, "bytes-like", "data=None; data='x' * 12"),
]
LIES = {
    parts: (error, reason) for error, reason, all_parts in LIES for parts in all_parts.split("; ")
}


@pytest.mark.parametrize("parts", LIES)
def test_pickles_with_invalid_fields_are_refused(parts):
    with pytest.raises(LIES[parts][0], match=LIES[parts][1]):
        eval(f"lie({parts})")


def test_pickles_that_exceed_their_memory_are_refused():
    chance = np.random.default_rng(5)
    data = np.arange(1000, dtype=np.int16)
    taken = [0, 0]
    for _ in range(3000):
        shape = chance.integers(1, 8, size=chance.integers(4)).tolist()
        strides = chance.integers(-15, 16, size=len(shape)).tolist()
        wanted = np.lib.stride_tricks.as_strided(data[500:], shape, [2 * step for step in strides])
        start, end = (bound - address(data) for bound in np.lib.array_utils.byte_bounds(wanted))
        given = data.tobytes()[start : start + 80]
        taken[end - start <= 80] += 1
        if end - start <= 80:
            read = lie(given, 0, 16, 1, shape, strides)
            seen = zip(read.stride(), strides, shape, strict=True)
            assert all(size == 1 or step == asked for step, asked, size in seen)
            assert_same(read, wanted, read.stride(), readonly=True)
        else:
            with pytest.raises(ValueError, match="fewer than the elements need"):
                lie(given, 0, 16, 1, shape, strides)
    assert min(taken) > 500


def use(tensor):
    """Calls all functions that read the elements of a tensor. They may raise exceptions."""
    ways = [
        repr,
        dl.Tensor.numpy,
        dl.clone,
        pickle.dumps,
        bytes,
        bytearray,
        memoryview,
        np.from_dlpack,
    ]
    for way in ways + [dl.Tensor.tolist, dl.Tensor.item] * (tensor.numel() < 1000):
        with suppress(BufferError, MemoryError, RuntimeError, TypeError, ValueError):
            way(tensor)


STRANGE = ["shape=(1,) * 100", "shape=(1,) * 100_000", "shape=(2**62,), strides=(0,)"]
STRANGE += ["code=0, bits=8, shape=(2**61, 2), strides=(0, 0)"]
STRANGE += ["shape=(0, 2**62, 2**62), strides=(2**62, -2**63, 7)"]


@pytest.mark.parametrize("parts", STRANGE)
def test_pickles_with_unusual_layouts_are_safe(parts):
    python("-c", NAMES + f"use(lie({parts}))")


def doubled(tensor):
    """Runs in a worker: returns a new tensor, the strides that it saw, and its process."""
    array = tensor.numpy()
    return dl.from_numpy(np.asarray(array + array)), tensor.stride(), os.getpid()


def some_tensors():
    return [
        dl.from_numpy(array_of(layout, dtype))
        for layout in LAYOUTS
        for dtype in ("float32", "bfloat16")
    ]


def assert_doubled(answers, tensors):
    for (answer, stride, process), tensor in zip(answers, tensors, strict=True):
        assert_same(answer, doubled(tensor)[0].numpy())
        assert stride == pickle.loads(pickle.dumps(tensor)).stride() and process != os.getpid()


def through_processes(method):
    tensors = some_tensors()
    if method == "loky":
        joblib = pytest.importorskip("joblib")
        assert_doubled(joblib.Parallel(2, method)(map(joblib.delayed(doubled), tensors)), tensors)
    else:
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert_doubled(pool.map(doubled, tensors), tensors)


@pytest.mark.parametrize("method", ["fork", "spawn", "loky"])
def test_multiprocessing_and_joblib(method):
    pytest.importorskip("joblib" if method == "loky" else "multiprocessing")
    # In a new interpreter: threads that other libraries have started do not survive a fork.
    python("-c", NAMES + f"through_processes('{method}')")


def increased(name):
    """Runs in a worker: adds one to each of 8 numbers in shared memory, and returns what they were."""
    memory = shared_memory.SharedMemory(name)
    tensor = dl.from_dlpack(memory.buf[:64].cast("q"))
    were = tensor.tolist()
    dl.copyto(tensor, tensor.numpy() + 1)
    del tensor
    memory.close()
    return were, os.getpid()


def test_shared_memory():
    memory = shared_memory.SharedMemory(create=True, size=64)
    tensor = dl.from_dlpack(memory.buf)
    assert tensor.data_ptr() == address(memory.buf) and not tensor.readonly
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for number in (0, 5):
            tensor.numpy()[:64].view(np.int64)[:] = number
            were, process = pool.apply(increased, (memory.name,))
            assert were == [number] * 8 and process != os.getpid()
            assert tensor.tolist()[:64] == [number + 1, 0, 0, 0, 0, 0, 0, 0] * 8
    with pytest.raises(BufferError, match="exported"):
        memory.close()
    assert tensor.tolist()[0] == 6
    del tensor
    memory.close()
    memory.unlink()


@pytest.mark.parametrize("writable", [True, False])
def test_dask_sends_elements_without_a_copy(writable):
    protocol = pytest.importorskip("distributed.protocol")
    array = np.arange(1 << 16, dtype=np.float32).reshape(256, 256).T
    array.flags.writeable = writable
    header, (pickled, elements) = protocol.serialize(dl.from_numpy(array))
    assert header["serializer"] == "pickle" and len(pickled) < 150
    assert memoryview(elements).nbytes == array.nbytes and address(elements) == address(array)
    back = protocol.deserialize(header, [pickled, elements])
    assert_same(back, array, readonly=not writable)
    assert back.data_ptr() == address(array)


def test_dask_workers():
    distributed = pytest.importorskip("distributed")
    with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        workers = list(client.scheduler_info()["workers"])
        for tensor in some_tensors():
            # The second worker gets the tensor from the first.
            sent = client.scatter(tensor, workers=workers[:1])
            answers = client.gather(
                [client.submit(doubled, sent, workers=[w], pure=False) for w in workers]
            )
            assert_doubled(answers, [tensor] * 2)
            assert len({process for _, _, process in answers}) == 2
            back = pickle.loads(pickle.dumps(tensor)).numpy()
            assert_same(client.gather(sent), back, readonly=tensor.readonly)


class Worker:
    """Gets a tensor from Ray's object store, in its own process."""

    def look(self, box):
        ray = pytest.importorskip("ray")

        def private_memory():
            return (
                int(re.search(r"RssAnon:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])
                << 10
            )

        before = private_memory()
        self.tensor = tensor = ray.get(box[0])
        array = tensor.numpy()
        assert tensor.readonly and not array.flags.writeable and tensor.data_ptr() == address(array)
        total = int(array.sum(dtype=np.int64))
        grown = private_memory() - before
        maps = re.findall(r"^(\w+)-(\w+) (.*)", Path("/proc/self/maps").read_text(), re.MULTILINE)
        first, last = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes - 1
        (mapping,) = [
            rest for low, high, rest in maps if int(low, 16) <= first <= last < int(high, 16)
        ]
        return os.getpid(), tensor.stride(), total, grown, mapping

    def hand_on(self):
        jax = pytest.importorskip("jax")
        with pytest.raises(BufferError, match=r"read-only.*clone\(\)"):
            self.tensor.torch()
        copied = self.tensor.clone()
        copied.torch()[0, 0] = 7
        return int(jax.numpy.from_dlpack(copied)[0, 0]), int(self.tensor.numpy()[0, 0])


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray", reason="Ray can't be imported")
    options = {"include_dashboard": False, "logging_level": "error", "log_to_driver": False}
    ray.init("local", num_cpus=2, object_store_memory=200 << 20, **options)
    yield ray
    ray.shutdown()


def test_ray_workers_share_the_object_store(ray):
    array = np.arange(16 << 20, dtype=np.int32).reshape(4096, 4096).T
    reference = ray.put(dl.from_numpy(array))
    workers = [ray.remote(num_cpus=1)(Worker).remote() for _ in range(2)]
    reports = ray.get([worker.look.remote([reference]) for worker in workers])
    assert len({os.getpid(), *(process for process, *_ in reports)}) == 3
    for _, stride, total, grown, mapping in reports:
        assert stride == (1, 4096) and total == array.sum(dtype=np.int64) and grown < 16 << 20
        # Shared ("s") memory, of the store's file.
        assert re.match(r"r..s .*/\S*plasma", mapping)
    [pytest.importorskip(library) for library in ("torch", "jax")]
    assert ray.get([worker.hand_on.remote() for worker in workers]) == [(7, 0)] * 2


def test_ray_example():
    pytest.importorskip("ray", reason="Ray can't be imported")
    printed = python(str(HERE.parent / "examples" / "ray_object_store.py"))
    worker = r"worker: pid=(\d+), read-only=True, memory=/\S*plasma.*, sum=140737479966720, seconds=\d\.\d+"
    found = re.fullmatch(
        rf"driver: pid=(\d+), 64 MB in private memory\n{worker}\n{worker}", printed
    )
    assert found and len(set(found.groups())) == 3, printed
