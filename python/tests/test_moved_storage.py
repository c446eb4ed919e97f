"""PyTorch moves the memory of a tensor that others share: every use of it afterwards is an error."""

import copy
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
    """NumPy's arrays were made before, and know nothing of it."""
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
        print("sending it to another process" in str(error))
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
