"""Pickles with unusual tensors, invalid contents and other buffers, and copies by the module `copy`."""

import copy
import copyreg
import gc
import io
import pickle
import subprocess
import sys
import weakref

import ml_dtypes
import numpy as np
import pytest
import torch

import dlbridge as dl

ODD = {
    "0-d": lambda: np.array(5.0),
    "empty": lambda: np.zeros((3, 0)),
    "reversed": lambda: np.arange(6.0).reshape(2, 3)[::-1, ::-1],
    "column-major": lambda: np.arange(6.0).reshape(2, 3).T,
    "with gaps": lambda: np.arange(12.0).reshape(3, 4)[:, ::2],
    "broadcast": lambda: np.broadcast_to(np.arange(3.0), (2, 3)),
    "overlapping": lambda: np.lib.stride_tricks.sliding_window_view(np.arange(5.0), 3),
    "of size 1, reversed": lambda: np.arange(3.0).reshape(1, 3)[::-1],
    "bfloat16": lambda: np.arange(3).astype(ml_dtypes.bfloat16),
    "int4": lambda: np.arange(3).astype(ml_dtypes.int4)[::-1],
    "5-d": lambda: np.arange(24.0).reshape(2, 1, 3, 1, 4).transpose(4, 1, 0, 3, 2),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("tensor", ODD)
def test_odd_tensors_survive_pickling(tensor, protocol):
    source = ODD[tensor]()
    tensor = dl.from_numpy(source)
    bands = [] if protocol == 5 else None
    data = pickle.dumps(tensor, protocol, buffer_callback=None if bands is None else bands.append)
    for back in (
        pickle.loads(data, buffers=bands),
        copy.deepcopy(tensor),
        pickle.loads(pickle.dumps(tensor)),
    ):
        assert (back.shape, back.dtype) == (tensor.shape, tensor.dtype)
        assert bytes(back) == bytes(tensor) == source.tobytes()


class Refuses:
    """An object that is no buffer."""


def out_of_band(tensor):
    bands = []
    return pickle.dumps(tensor, 5, buffer_callback=bands.append), bands


@pytest.mark.parametrize(
    "buffer",
    [
        b"",
        bytes(23),
        memoryview(bytes(48))[::2],
        memoryview(bytes(48))[::-1],
        np.zeros((2, 24), np.uint8).T,
        Refuses(),
        None,
        5,
        "text",
        dl.tensor(np.zeros(2)),
    ],
    ids=lambda buffer: type(buffer).__name__,
)
def test_buffers_that_do_not_hold_the_elements_are_refused(buffer):
    data, _ = out_of_band(dl.tensor(np.arange(3.0)))
    with pytest.raises((BufferError, TypeError, ValueError)):
        pickle.loads(data, buffers=[buffer])


def test_released_buffers_are_refused():
    data, bands = out_of_band(dl.tensor(np.arange(3.0)))
    view = memoryview(bytearray(24))
    view.release()
    with pytest.raises((BufferError, ValueError)):
        pickle.loads(data, buffers=[view])
    bands[0].release()
    with pytest.raises((BufferError, ValueError)):
        pickle.loads(data, buffers=bands)


def test_tensors_hold_the_buffers_that_they_came_in():
    data, _ = out_of_band(dl.tensor(np.arange(3.0)))
    buffer = bytearray(24)
    tensor = pickle.loads(data, buffers=[buffer])
    with pytest.raises(BufferError):
        buffer.clear()
    array = tensor.numpy()
    del tensor
    with pytest.raises(BufferError):
        buffer.clear()
    del array
    buffer.clear()


def test_out_of_band_buffers_hold_the_tensor():
    owner = np.arange(1000.0)
    gone = weakref.ref(owner)
    data, bands = out_of_band(dl.from_numpy(owner))
    del owner
    gc.collect()
    assert gone() is not None and pickle.loads(data, buffers=bands).tolist() == list(range(1000))
    bands.clear()
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "description",
    [
        (2, 64, 1, False, [4], [1]),
        (2, 64, 1, False, [3], [2]),
        (2, 64, 1, False, [3], [-2]),
        (2, 64, 1, False, [-3], [1]),
        (2, 64, 1, False, [3], [1, 1]),
        (2, 64, 1, False, [1 << 62, 1 << 62], [0, 1 << 62]),
        (2, 64, 1, False, [3], [(1 << 63) - 1]),
        (2, 64, 1, False, [3], [-(1 << 63)]),
        (2, 64, 2, False, [3], [1]),
        (2, 64, 65535, False, [1], [1]),
        (2, 0, 1, False, [3], [1]),
        (2, 3, 1, False, [3], [1]),
        (99, 64, 1, False, [3], [1]),
        (3, 64, 1, False, [3], [1]),
        (17, 4, 1, True, [25], [1]),
        (17, 4, 1, False, [49], [1]),
        (0, 4, 65535, True, [3], [1]),
        (300, 64, 1, False, [3], [1]),
        (2, 64, 1, False, None, None),
        (2, 64, 1, False, "3", "1"),
        (),
        None,
    ],
    ids=str,
)
def test_descriptions_that_reach_beyond_the_buffer_are_refused(description):
    with pytest.raises((BufferError, OverflowError, TypeError, ValueError)):
        dl.Tensor._rebuild(bytearray(24), description)


def test_descriptions_within_the_buffer():
    for shape, strides in ([3], [1]), ([3], [-1]), ([2, 2], [1, 1]), ([0, 9], [5, 7]), ([9], [0]):
        tensor = dl.Tensor._rebuild(bytearray(24), (2, 64, 1, False, shape, strides))
        assert tensor.shape == tuple(shape) and set(np.ravel(tensor.tolist())) <= {0.0}


def test_no_tensor_is_made_without_memory():
    for make in (
        dl.Tensor,
        lambda: dl.Tensor.__new__(dl.Tensor),
        lambda: object.__new__(dl.Tensor),
        lambda: copyreg.__newobj__(dl.Tensor),
        lambda: copyreg._reconstructor(dl.Tensor, object, None),
        lambda: pickle.loads(b"cdlbridge\nTensor\n)\x81."),
        lambda: pickle.loads(b"cdlbridge\nTensor\n)R."),
        lambda: type("Derived", (dl.Tensor,), {}),
    ):
        with pytest.raises((TypeError, pickle.UnpicklingError)):
            make()


def test_the_class_of_a_tensor_stays():
    class Slots:
        __slots__ = ("__weakref__",)

    tensor = dl.tensor(np.arange(3.0))
    for other in (Slots, object, type("Plain", (), {}), np.ndarray, torch.Tensor):
        with pytest.raises(TypeError):
            tensor.__class__ = other
        with pytest.raises(TypeError):
            other().__class__ = dl.Tensor
    with pytest.raises(AttributeError):
        tensor.anything = 1
    assert tensor.tolist() == [0.0, 1.0, 2.0]


def test_methods_of_other_objects():
    """Checks that the methods of the class refuse objects of other types."""
    for name, method in vars(dl.Tensor).items():
        if not hasattr(method, "__get__") or name in ("__new__", "__init_subclass__"):
            continue
        for other in (np.arange(3.0), torch.ones(3), 5, None, dl.Tensor):
            with pytest.raises(TypeError):
                call = method.__get__(other, type(other))
                if call is method or not callable(call):
                    raise TypeError
                call()


def test_copies_by_pythons_modules():
    owner = np.arange(3.0)
    tensor = dl.from_numpy(owner)
    assert copy.copy(tensor) is tensor
    pair = copy.deepcopy([tensor, tensor])
    assert pair[0] is pair[1] is not tensor and pair[0].tolist() == owner.tolist()
    constant = dl.from_dlpack(b"abc")
    assert not copy.deepcopy(constant).readonly and pickle.loads(pickle.dumps(constant)).readonly
    memo = {}
    assert copy.deepcopy(tensor, memo) is copy.deepcopy(tensor, memo)


def test_pickling_while_the_buffers_change():
    """Pickles with any protocol number, and with a callback that changes the buffers."""
    owner = np.arange(3.0)
    tensor = dl.from_numpy(owner)

    def callback(buffer):
        raw = buffer.raw()
        raw[:] = bytes(24)
        raw.release()
        buffer.release()

    data = pickle.dumps(tensor, 5, buffer_callback=callback)
    assert tensor.tolist() == [0.0, 0.0, 0.0]
    for protocol in (-1, 0, 4, 5, 6, 2**31 - 1, -(2**31), True):
        assert len(tensor.__reduce_ex__(protocol)) == 2
    for protocol in (2**31, None, "5", 5.0):
        with pytest.raises((OverflowError, TypeError)):
            tensor.__reduce_ex__(protocol)
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(data)
    sink = io.BytesIO()
    pickle.Pickler(sink, 5).dump([tensor, tensor])
    first, second = pickle.loads(sink.getvalue())
    assert first is second


def test_buffers_are_released_at_and_after_the_end_of_the_interpreter():
    code = """
import atexit, pickle, sys, threading, weakref, numpy as np, torch, dlbridge as dl
class Holder: pass
tensor = dl.tensor(np.arange(100_000.0))
bands = []
data = pickle.dumps(tensor, 5, buffer_callback=bands.append)
sys.views = [memoryview(tensor), tensor.numpy(), torch.from_dlpack(tensor), tensor.__dlpack__(), bands]
sys.holder = Holder()
class Last:
    def __init__(self): self.tensor = tensor
    def __del__(self):
        assert self.tensor.numpy().sum() == 4999950000 and bytes(self.tensor)[:8] == bytes(8)
        memoryview(self.tensor), self.tensor.__dlpack__(max_version=(1, 0)), self.tensor.clone()
        self.tensor.__array_interface__
sys.last = Last()
weakref.finalize(tensor, print, "finalized")
atexit.register(lambda: sys.views.append(torch.from_dlpack(tensor.clone())))
torch.kept = torch.from_dlpack(tensor), np.asarray(memoryview(tensor))
def use():
    while True:
        memoryview(tensor), tensor.__dlpack__(), tensor.clone(), dl.from_numpy(np.zeros(3))
for _ in range(3): threading.Thread(target=use, daemon=True).start()
import time; time.sleep(0.2)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and "Error" not in done.stderr, (done.returncode, done.stderr)
