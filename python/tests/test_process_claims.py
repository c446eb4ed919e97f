"""Each row of the table in docs/python-processes.md: what processes share, and what is copied."""

import gc
import mmap
import multiprocessing
import pickle
import re
from multiprocessing import shared_memory

import numpy as np
import pytest
import torch
import torch.multiprocessing
from torch.utils.data import DataLoader, Dataset

import dlbridge as dl
from examples import ROOT

PAGE = ROOT / "docs/python-processes.md"
CLAIMS = {}
LARGE = 1 << 20


def claim(row):
    """Registers the test of a row of the table: its text up to the second cell."""

    def register(test):
        CLAIMS[row] = test
        return test

    return register


def test_each_row_has_a_test():
    text = PAGE.read_text().split("## What is shared and what is copied", 1)[1].split("\n\n")
    (table,) = [part for part in text if part.startswith("| a `Tensor` goes")]
    rows = re.findall(r"^\| (.*?) \| (.*) \|$", table, re.MULTILINE)[1:]
    assert {row for row, _ in rows if set(row) != {"-"}} == CLAIMS.keys()


def shared_zeros():
    return dl.from_dlpack(torch.zeros(3).share_memory_())


def write(tensor, value=1.0):
    tensor.numpy()[:] = value


def run(method, target, *arguments):
    child = multiprocessing.get_context(method).Process(target=target, args=arguments)
    child.start()
    child.join()
    assert child.exitcode == 0


@claim("through pickle, without `buffer_callback`")
def test_pickles_copy():
    tensor = dl.tensor(np.arange(1000.0))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        text = pickle.dumps(tensor, protocol)
        assert len(text) >= tensor.nbytes
        copied = pickle.loads(text)
        write(copied, 5.0)
        assert tensor.tolist() == list(range(1000))


@claim("through pickle, protocol 5, with `buffer_callback`")
def test_out_of_band_pickles_share():
    tensor, buffers = dl.tensor(np.arange(1000.0)), []
    text = pickle.dumps(tensor, 5, buffer_callback=buffers.append)
    assert pickle.loads(text, buffers=buffers).data_ptr() == tensor.data_ptr() and len(text) < 200
    gaps, buffers = dl.from_numpy(tensor.numpy()[::2]), []
    text = pickle.dumps(gaps, 5, buffer_callback=buffers.append)
    copied = pickle.loads(text, buffers=buffers)
    assert copied.data_ptr() != tensor.data_ptr() and copied.tolist() == gaps.tolist()


def write_and_answer(tensor, *_):
    write(tensor)
    return tensor.tolist()


def write_from(connection):
    connection.send(write_and_answer(connection.recv()))


def write_from_queue(queue, answers):
    answers.put(write_and_answer(queue.get()))


@claim("through a queue, pipe or pool of `multiprocessing` or `torch.multiprocessing`")
def test_queues_pipes_and_pools_copy():
    for library in multiprocessing, torch.multiprocessing:
        for method in "fork", "spawn":
            context = library.get_context(method)
            tensor, (ours, theirs) = shared_zeros(), context.Pipe()
            child = context.Process(target=write_from, args=(theirs,))
            child.start()
            ours.send(tensor)
            assert ours.recv() == [1.0] * 3 and tensor.tolist() == [0.0] * 3
            child.join()
        with context.Pool(1) as pool:
            assert pool.apply(write_and_answer, (tensor,)) == [1.0] * 3
        assert tensor.tolist() == [0.0] * 3
        queue, answers = context.Queue(), context.Queue()
        child = context.Process(target=write_from_queue, args=(queue, answers))
        child.start()
        queue.put(tensor)
        assert answers.get(timeout=60) == [1.0] * 3 and tensor.tolist() == [0.0] * 3
        child.join()


@claim("as an argument of a process that `fork` starts")
def test_fork_copies_on_write():
    tensor = dl.tensor(np.zeros(3))
    run("fork", write, tensor)
    assert tensor.tolist() == [0.0] * 3


@claim("as an argument of a process that `fork` starts, in shared memory")
def test_fork_shares_shared_memory():
    tensor = shared_zeros()
    run("fork", write, tensor)
    assert tensor.tolist() == [1.0] * 3


@claim("as an argument of a process that `spawn` or `forkserver` starts")
def test_spawn_copies():
    tensor = shared_zeros()
    for method in "spawn", "forkserver":
        run(method, write, tensor)
        assert tensor.tolist() == [0.0] * 3


def write_torch(x):
    x[:] = 1.0


@claim("as the PyTorch tensor `t.torch()` through a queue or pipe, or to `spawn`")
def test_tensors_of_pytorch_move_to_shared_memory():
    tensor = dl.tensor(np.zeros(3))
    x = tensor.torch()
    run("spawn", write_torch, x)
    assert x.is_shared() and x.tolist() == [1.0] * 3 and tensor.tolist() == [0.0] * 3
    address = x.data_ptr()
    run("spawn", write_torch, x)
    assert x.data_ptr() == address


def write_named(name):
    memory = shared_memory.SharedMemory(name)
    tensor = dl.from_dlpack(memory.buf[:24].cast("d"))
    write(tensor)
    del tensor
    memory.close()


def write_file(name):
    with open(name, "r+b") as file:
        write(dl.from_dlpack(memoryview(mmap.mmap(file.fileno(), 0)).cast("d")))


@claim("in `multiprocessing.shared_memory` or a shared `mmap` of a file")
def test_named_memory_is_shared(tmp_path):
    memory = shared_memory.SharedMemory(create=True, size=24)
    tensor = dl.from_dlpack(memory.buf[:24].cast("d"))
    run("spawn", write_named, memory.name)
    assert tensor.tolist() == [1.0] * 3
    del tensor
    memory.close()
    memory.unlink()
    path = tmp_path / "numbers"
    path.write_bytes(bytes(24))
    mapped = dl.from_dlpack(np.memmap(path, np.float64, "r+"))
    run("spawn", write_file, path)
    assert mapped.tolist() == [1.0] * 3


class Writing(Dataset):
    def __init__(self, tensor):
        self.tensor = tensor

    def __len__(self):
        return 1

    def __getitem__(self, index):
        write(self.tensor)
        return self.tensor


def loader(tensor, method, collate):
    return DataLoader(
        Writing(tensor), num_workers=1, multiprocessing_context=method, collate_fn=collate
    )


@claim("in a `Dataset`, to the workers of a `DataLoader`")
def test_datasets_go_to_workers_as_arguments():
    for method, make, seen in [
        ("fork", lambda: dl.tensor(np.zeros(3)), 0.0),
        ("fork", shared_zeros, 1.0),
        ("spawn", shared_zeros, 0.0),
    ]:
        tensor = make()
        (batch,) = loader(tensor, method, dl.collate)
        assert batch.tolist() == [[1.0] * 3] and tensor.tolist() == [seen] * 3


@claim("from a worker of a `DataLoader`, joined by `dl.collate`")
def test_collated_batches_are_in_shared_memory():
    for method in "fork", "spawn":
        (batch,) = loader(dl.tensor(np.zeros(3)), method, dl.collate)
        assert isinstance(batch, torch.Tensor) and batch.is_shared()
        tensor = dl.from_dlpack(batch)
        run("fork", write, tensor, 7.0)
        assert batch.tolist() == [[7.0] * 3]


@claim("from a worker of a `DataLoader`, not joined (`collate_fn=list`)")
def test_other_batches_are_copied():
    ((tensor,),) = loader(shared_zeros(), "fork", list)
    run("fork", write, tensor, 7.0)
    assert isinstance(tensor, dl.Tensor) and tensor.tolist() == [1.0] * 3


def is_mapped(array):
    return dl.from_dlpack(array).readonly and isinstance(array, np.memmap)


@claim("to a worker of joblib")
def test_joblib_maps_arrays_only():
    joblib = pytest.importorskip("joblib")
    large, small = dl.tensor(np.ones(LARGE)), dl.tensor(np.ones(3))
    arguments = [large.numpy(), small.numpy(), large]
    results = joblib.Parallel(n_jobs=2)(joblib.delayed(is_mapped)(x) for x in arguments)
    assert results == [True, False, False]


@claim("to a worker of Dask")
def test_dask_does_not_copy_again():
    serialize = pytest.importorskip("distributed.protocol")
    tensor = dl.tensor(np.ones(LARGE))
    header, frames = serialize.serialize(tensor)
    assert sum(memoryview(frame).nbytes for frame in frames) < tensor.nbytes + 1000
    received = [bytearray(frame) for frame in frames]
    (elements,) = [frame for frame in received if len(frame) == tensor.nbytes]
    copied = serialize.deserialize(header, received)
    assert copied.data_ptr() == dl.from_dlpack(elements).data_ptr()


@claim("through `ray.put` and `ray.get`")
def test_ray_shares_the_object_store():
    ray = pytest.importorskip("ray")

    def stored(tensor):  # here, so that Ray pickles it by value
        with open("/proc/self/maps") as maps:
            ranges = [line.split() for line in maps]
        address = tensor.data_ptr()
        for bounds, *_, name in (line[:6] for line in ranges if len(line) > 5):
            low, high = (int(bound, 16) for bound in bounds.split("-"))
            if low <= address < high:
                return tensor.readonly, name.startswith("/dev/shm")
        return tensor.readonly, False

    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        tensor = dl.tensor(np.ones(LARGE))
        reference = ray.put(tensor)
        write(tensor, 5.0)
        first, second = ray.get(reference), ray.get(reference)
        assert first.tolist()[:2] == [1.0, 1.0] and first.data_ptr() == second.data_ptr()
        assert first.readonly
        assert ray.get(ray.remote(stored).remote(reference)) == (True, True)
        del first, second
        gc.collect()
    finally:
        ray.shutdown()
