"""After PyTorch moved the memory of a shared tensor, every use of the Tensor raises BufferError."""

import copy
import ctypes
import gc
import pickle
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch

import dlbridge as dl

COUNT = 1_000_000

MOVES = {
    "resize_": lambda x: x.resize_(100 * COUNT),
    "share_memory_": lambda x: x.share_memory_(),
    "set_": lambda x: x.set_(torch.zeros(COUNT)),
    "data": lambda x: setattr(x, "data", torch.zeros(COUNT)),
    "storage resized": lambda x: x.untyped_storage().resize_(8),
    "storage freed": lambda x: x.untyped_storage().resize_(0),
}

USES = {
    "data_ptr": lambda t: t.data_ptr(),
    "__array_interface__": lambda t: t.__array_interface__,
    "ctypes": lambda t: ctypes.c_byte.from_buffer(t),
    "numpy": lambda t: t.numpy(),
    "numpy(force)": lambda t: t.numpy(force=True),
    "torch": lambda t: t.torch(),
    "tolist": lambda t: t.tolist(),
    "clone": lambda t: t.clone(),
    "deepcopy": copy.deepcopy,
    "to": lambda t: t.to("cpu", copy=True),
    "__dlpack__": lambda t: t.__dlpack__(max_version=(1, 0)),
    "legacy __dlpack__": lambda t: t.__dlpack__(),
    "copied __dlpack__": lambda t: t.__dlpack__(copy=True, max_version=(1, 0)),
    "np.from_dlpack": np.from_dlpack,
    "torch.from_dlpack": torch.from_dlpack,
    "asarray": np.asarray,
    "__array__": lambda t: t.__array__(),
    "memoryview": memoryview,
    "bytes": bytes,
    "pickle": lambda t: pickle.dumps(t),
    "pickle out of band": lambda t: pickle.dumps(t, 5, buffer_callback=[].append),
    "dl.from_dlpack": dl.from_dlpack,
    "dl.tensor": dl.tensor,
    "dl.clone": dl.clone,
    "dl.contiguous": dl.contiguous,
    "dl.copyto from": lambda t: dl.copyto(np.zeros(COUNT, np.float32), t),
    "dl.copyto": lambda t: dl.copyto(t, np.zeros(COUNT, np.float32)),
}


@pytest.mark.parametrize("move", MOVES)
def test_moved_memory_is_an_error_for_every_use(move):
    tensor = torch.ones(COUNT)
    shared = dl.from_dlpack(tensor)
    again, part = dl.from_dlpack(shared), dl.from_dlpack(tensor[10:20])
    assert shared.numpy().sum() == COUNT
    MOVES[move](tensor)
    for seen in (shared, again):
        for name, use in USES.items():
            with pytest.raises(BufferError, match="PyTorch moved the memory"):
                use(seen)
                pytest.fail(f"{name} took moved memory")
        assert repr(seen) == f"dlbridge.Tensor(..., shape=({COUNT},), dtype=float32, device=cpu)"
        assert seen.shape == (COUNT,) and seen.dtype == "float32"
    if move in ("set_", "data"):
        assert part.tolist() == [1.0] * 10  # another tensor over the first storage


def test_the_memory_of_a_tensor_that_got_another_storage_is_kept():
    """Checks an array of NumPy that was made before the move."""
    tensor = torch.full((COUNT,), 7.0)
    shared = dl.from_dlpack(tensor)
    array = shared.numpy()
    tensor.data = torch.zeros(2)
    del shared
    gc.collect()
    others = [torch.full((COUNT,), -1.0) for _ in range(4)]
    assert array.sum() == 7 * COUNT and len(others) == 4


def test_moves_back_are_no_error():
    tensor, first = torch.ones(3), torch.ones(0)
    first.set_(tensor)
    shared = dl.from_dlpack(tensor)
    tensor.data = torch.zeros(3)
    with pytest.raises(BufferError, match="moved"):
        shared.tolist()
    tensor.data = first
    assert shared.tolist() == [1.0] * 3


def test_tensors_without_elements_do_not_move():
    tensor = torch.empty(0, 3)
    shared = dl.from_dlpack(tensor)
    tensor.resize_(5, 3)
    assert shared.tolist() == [] and shared.numpy().shape == (0, 3)


def test_requiring_gradient_later_is_no_move():
    tensor = torch.ones(3)
    shared = dl.from_dlpack(tensor)
    tensor.requires_grad_()
    assert shared.tolist() == [1.0] * 3 and dl.tensor(shared).tolist() == [1.0] * 3


@pytest.mark.parametrize("of_class", [torch.nn.Parameter, torch.nn.Buffer])
def test_tensors_of_derived_classes_are_watched_too(of_class):
    tensor = of_class(torch.ones(3))
    shared = dl.from_dlpack(tensor.requires_grad_(False))
    tensor.data = torch.zeros(3)
    with pytest.raises(BufferError, match="PyTorch moved the memory"):
        shared.numpy()


def test_a_worker_of_a_data_loader_moves_what_it_sends():
    program = """
import torch, torch.multiprocessing as mp, dlbridge as dl
def work(queue): queue.get()
if __name__ == "__main__":
    context = mp.get_context("fork")
    queue, tensor = context.Queue(), torch.ones(1000)
    shared = dl.from_dlpack(tensor)
    child = context.Process(target=work, args=(queue,))
    child.start()
    queue.put(tensor)
    child.join()
    try:
        shared.numpy()
    except BufferError as error:
        print(str(error).endswith("call dlbridge.from_dlpack(x) again"))
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stdout) == (0, "True\n"), run.stderr


def test_the_exchange_table_refuses_moved_memory():
    tvm_ffi = pytest.importorskip("tvm_ffi")
    tensor = torch.ones(COUNT)
    shared = dl.from_dlpack(tensor)
    tensor.untyped_storage().resize_(8)
    with pytest.raises(BufferError, match="PyTorch moved the memory"):
        tvm_ffi.from_dlpack(shared)


def test_tensor_and_storage_are_released_with_the_last_handle():
    class Watched(torch.Tensor):
        pass

    tensor = torch.ones(3).as_subclass(Watched)
    gone = weakref.ref(tensor)
    shared = dl.from_dlpack(tensor)
    array = shared.numpy()
    del tensor, shared
    gc.collect()
    assert gone() is not None and array.tolist() == [1.0] * 3
    del array
    gc.collect()
    assert gone() is None


def in_child(program):
    """Runs a program in a child process, which may crash."""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, f"exit status {ran.returncode}\n{ran.stdout}\n{ran.stderr}"


START = """
import gc, pickle, numpy as np, torch, dlbridge as dl
COUNT = 1 << 22
def free(x):
    x.untyped_storage().resize_(0)
def refused(use):
    try:
        use()
    except BufferError as error:
        assert "PyTorch moved the memory" in str(error), error
    else:
        raise AssertionError("took moved memory")
"""


def test_moved_memory_is_noticed_in_a_description_of_other_elements():
    """NumPy gets bfloat16 as integers of the same size."""
    in_child(
        START
        + """
x = torch.ones(COUNT, dtype=torch.bfloat16)
shared = dl.from_dlpack(x)
free(x)
for use in (shared.numpy, lambda: np.asarray(shared), shared.__array__, shared.tolist):
    refused(use)
"""
    )


def test_a_producer_that_moves_the_memory_of_the_other_array_is_noticed():
    in_child(
        START
        + """
class Mover:
    def __init__(self, array, moved):
        self.array, self.moved = array, moved
    def __dlpack_device__(self):
        return (1, 0)
    def __dlpack__(self, **options):
        free(self.moved)
        return self.array.__dlpack__(**options)
x = torch.ones(COUNT)
refused(lambda: dl.copyto(x, Mover(np.zeros(COUNT, np.float32), x)))

from torch.overrides import TorchFunctionMode
x = torch.ones(4000, 1000).t()
class Mode(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), options=None):
        if function is torch.empty_strided:
            free(x)
        return function(*args, **(options or {}))
with Mode():
    refused(lambda: dl.clone(x))
"""
    )


def test_an_argument_that_moves_the_memory_is_noticed_by_an_export():
    x = torch.ones(COUNT)
    shared = dl.from_dlpack(x)

    class Index:
        def __index__(self):
            x.untyped_storage().resize_(0)
            return 1

    with pytest.raises(BufferError, match="PyTorch moved the memory"):
        shared.__dlpack__(dl_device=(Index(), 0), max_version=(1, 0))


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="CPython 3.12 collects garbage only between bytecodes"
)
def test_a_collection_that_moves_the_memory_is_noticed_by_a_list():
    """Making lists starts collections, which run Python code."""
    in_child(
        START
        + """
x = torch.full((5000, 1000), 3.0)
shared = dl.from_dlpack(x)
gc.callbacks.append(lambda phase, info: free(x))
refused(shared.tolist)
"""
    )


def test_a_storage_that_comes_back_smaller_is_noticed():
    in_child(
        START
        + """
def at_its_address_again(size):
    for _ in range(50):
        x = torch.ones(size, dtype=torch.uint8)
        shared, address, storage = dl.from_dlpack(x), x.data_ptr(), x.untyped_storage()
        for smaller in (64, 128, 256, size // 2, size - 1):
            storage.resize_(smaller)
            if x.data_ptr() == address and smaller < size:
                return shared
found = [at_its_address_again(1 << bits) for bits in (10, 14, 16, 20)]
found = [shared for shared in found if shared is not None]
assert found, "the allocator gave no address again"
for shared in found:
    for use in (lambda: bytes(shared), shared.numpy, shared.clone):
        refused(use)
"""
    )
