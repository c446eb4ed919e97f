"""NumPy arrays over buffers: the exporter keeps the memory while a tensor lives, or raises an exception."""

import array
import ctypes as C
import mmap
import subprocess
import sys

import numpy as np
import pytest
import torch

import dlbridge as dl


def run(code, seconds=120):
    """Runs a program in a process of its own; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


EXPORTERS = {
    "mmap": (lambda: mmap.mmap(-1, 4096), lambda exporter: exporter.close()),
    "bytearray": (lambda: bytearray(4096), lambda exporter: exporter.clear()),
    "array.array": (lambda: array.array("d", bytes(4096)), lambda exporter: exporter.append(1.0)),
}
OVER = {
    "ndarray(buffer=)": lambda exporter: np.ndarray(4, buffer=exporter),
    "part of ndarray(buffer=)": lambda exporter: np.ndarray(64, buffer=exporter)[8:40:8].reshape(
        2, 2
    ),
    "reversed": lambda exporter: np.ndarray(4, buffer=exporter)[::-1],
    "frombuffer": lambda exporter: np.frombuffer(exporter)[:4],
    "derived": lambda exporter: np.ndarray(4, buffer=exporter).view(np.matrix),
    "asarray": lambda exporter: np.asarray(memoryview(exporter))[:4],
}


TAKE = {
    "from_numpy": dl.from_numpy,
    "from_dlpack": dl.from_dlpack,
    "from_dlpack, exported": lambda source: dl.from_dlpack(source).__dlpack__(max_version=(1, 0)),
    "from_numpy, in torch": lambda source: torch.from_dlpack(dl.from_numpy(source)),
}


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("take", TAKE)
def test_exporters_keep_the_memory_of_arrays_over_them(exporter, over, take):
    make, release = EXPORTERS[exporter]
    exporter = make()
    if over == "reversed" and take not in ("from_numpy", "from_dlpack"):
        return  # DLPack has no negative strides: the consumer gets a copy
    tensor = TAKE[take](OVER[over](exporter))
    with pytest.raises(BufferError):
        release(exporter)
    del tensor
    release(exporter)


def test_readers_of_closed_shared_memory():
    code = """
import numpy as np, dlbridge as dl
from multiprocessing import shared_memory
shared = shared_memory.SharedMemory(create=True, size=1 << 20)
tensor = dl.from_numpy(np.ndarray(1 << 17, buffer=shared.buf))
try: shared.close()
except BufferError: print("refused")
print(sum(tensor.tolist()), tensor.clone().numpy().sum())
del tensor
shared.close()
shared.unlink()
"""
    assert run(code) == "refused\n0.0 0.0\n"


RELEASED = {
    "closed mmap": (lambda: mmap.mmap(-1, 4096), lambda exporter: exporter.close()),
    "bytearray that moved": (
        lambda: bytearray(64),
        lambda exporter: exporter.extend(bytes(1 << 20)),
    ),
    "emptied bytearray": (lambda: bytearray(64), lambda exporter: exporter.clear()),
}


@pytest.mark.parametrize("case", RELEASED)
def test_arrays_whose_exporter_released_the_memory_are_refused(case):
    make, release = RELEASED[case]
    exporter = make()
    source = np.ndarray(4, buffer=exporter)
    release(exporter)
    for take in (dl.from_numpy, dl.from_dlpack, dl.tensor, dl.clone):
        with pytest.raises(BufferError, match="the array's memory is gone"):
            take(source)


def test_arrays_over_exporters_that_always_keep_their_memory():
    for exporter in (bytes(range(32)), (C.c_double * 4)(1, 2, 3, 4), dl.tensor(np.arange(4.0))):
        source = np.frombuffer(exporter)
        tensor = dl.from_numpy(source)
        assert (
            tensor.data_ptr() == source.ctypes.data and tensor.numpy().tolist() == source.tolist()
        )
    for source in (
        np.lib.stride_tricks.as_strided(np.arange(4.0), (2,), (8,)),
        torch.ones(2).numpy(),
    ):
        assert dl.from_numpy(source).numpy().tolist() == source.tolist()


def test_arrays_over_jax_and_mapped_files(tmp_path):
    jnp = pytest.importorskip("jax.numpy")
    source = np.asarray(jnp.arange(4.0))
    assert dl.from_numpy(source).tolist() == [0.0, 1.0, 2.0, 3.0]
    np.arange(100.0).tofile(tmp_path / "numbers")
    mapped = np.memmap(tmp_path / "numbers", mode="r", offset=80)
    tensor = dl.from_numpy(mapped)
    assert tensor.readonly and tensor.numpy().view(float)[0] == 10.0
    with pytest.raises(BufferError):
        mapped._mmap.close()


def test_the_buffer_of_an_array_with_gaps_is_held():
    """An exporter whose memory can be released although NumPy has a view."""
    mapped = mmap.mmap(-1, 1 << 20)
    every_other = memoryview(mapped)[::2]
    for make in (lambda: np.asarray(every_other), lambda: np.asarray(every_other[::-1])[3:]):
        array = make()
        tensor = dl.from_numpy(array)
        with pytest.raises(BufferError):
            root(array).release()
        with pytest.raises(BufferError):
            mapped.close()
        assert tensor.numpy().sum() == 0
        del tensor
        root(array).release()
        with pytest.raises(BufferError, match="the array's memory is gone"):
            dl.from_numpy(array)
    every_other.release()
    mapped.close()


def root(array):
    """The buffer over which the array, or the array that it is a view of, was made."""
    return root(array.base) if isinstance(array.base, np.ndarray) else array.base
