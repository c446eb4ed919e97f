"""Garbage collection of cycles through a tensor, which must never free memory that is in use."""

import contextlib
import gc
import random
import subprocess
import sys
import weakref

import ml_dtypes
import numpy as np
import pytest
import torch

import dlbridge as dl
from producer import HostileProducer, cases


def run(code, seconds=120):
    """Runs a program in a process of its own; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


class Derived(np.ndarray):
    """An array that may have attributes."""


class Shows:
    """An object with `__array_interface__`, whose memory is freed with its attribute."""

    def __init__(self, elements=3):
        self.array = np.arange(float(elements))

    @property
    def __array_interface__(self):
        return self.array.__array_interface__


class Bytes(bytearray):
    """A buffer that may have attributes."""


# What the collector may free: an array keeps its memory as long as anything holds the array.
OWNERS = {
    "derived array, from_numpy": (lambda: np.arange(3.0).view(Derived), dl.from_numpy),
    "derived array, from_dlpack": (lambda: np.arange(3.0).view(Derived), dl.from_dlpack),
    "derived array, twice": (
        lambda: np.arange(3.0).view(Derived),
        lambda owner: dl.from_dlpack(dl.from_numpy(owner)),
    ),
    "derived array, out and in": (
        lambda: np.arange(3.0).view(Derived),
        lambda owner: dl.from_dlpack(dl.from_numpy(owner).__dlpack__(max_version=(1, 0))),
    ),
    "derived array, broadcast": (
        lambda: np.broadcast_to(np.zeros(1), 3, subok=True).view(Derived),
        lambda owner: dl.from_dlpack(dl.from_numpy(owner).__dlpack__(max_version=(1, 0))),
    ),
    "derived array of bfloat16": (
        lambda: np.arange(3).astype(ml_dtypes.bfloat16).view(Derived),
        dl.from_numpy,
    ),
    "torch.Tensor": (lambda: torch.arange(3.0, dtype=torch.float64), dl.from_dlpack),
    "frozen parameter": (
        lambda: torch.nn.Parameter(torch.arange(3.0, dtype=torch.float64), requires_grad=False),
        dl.from_dlpack,
    ),
    "memoryview of a tensor": (
        lambda: np.arange(3.0).view(Derived),
        lambda owner: memoryview(dl.from_numpy(owner)),
    ),
}

# Owners whose memory the collector could free although a finalizer reaches the tensor. They are not shown to it.
HIDDEN = {
    "array interface": (Shows, dl.from_dlpack),
    "bytearray": (lambda: Bytes(range(24)), dl.from_dlpack),
    "memoryview": (lambda: Bytes(range(24)), lambda owner: dl.from_dlpack(memoryview(owner))),
    "array over a buffer": (
        lambda: Bytes(range(24)),
        lambda owner: dl.from_numpy(np.ndarray(3, buffer=owner)),
    ),
}


@pytest.fixture(autouse=True, scope="module")
def frozen():
    """Makes collections faster: they leave out the objects of other tests and libraries."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("owner", OWNERS)
def test_cycles_are_collected(owner):
    make, share = OWNERS[owner]
    memory = make()
    memory.tensor = share(memory)
    gone = weakref.ref(memory)
    gc.collect()
    assert gone() is memory and len(memory.tensor) == 3
    del memory
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("owner", HIDDEN)
def test_owners_that_could_be_freed_too_early_are_hidden(owner):
    make, share = HIDDEN[owner]
    memory = make()
    memory.tensor = share(memory)
    assert memory not in gc.get_referents(memory.tensor)
    gone = weakref.ref(memory)
    del memory
    gc.collect()
    assert gone() is not None and len(bytes(gone().tensor)) == 24
    del gone().tensor
    assert gone() is None


# Objects that hold the memory beside the tensor of the cycle, and that the collector does not see.
HOLDERS = {
    "array": lambda tensor: tensor.numpy(),
    "capsule": lambda tensor: tensor.__dlpack__(max_version=(1, 0)),
    "torch.Tensor": torch.from_dlpack,
    "another tensor": dl.from_dlpack,
    "another tensor's capsule": lambda tensor: dl.from_dlpack(tensor).__dlpack__(
        max_version=(1, 0)
    ),
}
READ = {
    "array": lambda held: held,
    "capsule": lambda held: dl.from_dlpack(held),
    "torch.Tensor": lambda held: held,
    "another tensor": lambda held: held,
    "another tensor's capsule": lambda held: dl.from_dlpack(held),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_memory_that_others_hold_is_not_collected(holder):
    memory = np.arange(1000.0).view(Derived)
    memory.tensor = dl.from_dlpack(memory)
    held = HOLDERS[holder](memory.tensor)
    gone = weakref.ref(memory)
    del memory
    gc.collect()
    assert gone() is not None and gone().sum() == 499500
    assert READ[holder](held).tolist() == list(range(1000))
    del held
    gc.collect()
    gc.collect()
    assert gone() is None


def test_tensors_show_the_collector_what_they_alone_hold():
    owner = np.arange(3.0).view(Derived)
    tensor = dl.from_dlpack(owner)

    def shown(tensor):
        return sum(found is owner for found in gc.get_referents(tensor))

    assert shown(tensor) == 1 and gc.is_tracked(tensor)
    other = dl.from_dlpack(tensor)
    assert shown(tensor) == shown(other) == 0
    del tensor
    assert shown(other) == 1
    capsule = other.__dlpack__()
    assert shown(other) == 0
    del capsule
    assert shown(other) == 1
    assert gc.get_referents(dl.tensor(np.zeros(3))) == [dl.Tensor]


def test_structs_of_producers_show_nothing():
    producer = HostileProducer()
    tensor = producer.imported()
    assert gc.get_referents(tensor) == [dl.Tensor]
    del tensor
    producer.check_released()


class Last(Derived):
    """An array whose finalizer uses its tensor."""

    seen = []

    def __del__(self):
        if hasattr(self, "tensor"):
            Last.seen.append(self.use(self.tensor))


def test_finalizers_in_a_cycle_can_use_the_tensor():
    Last.seen.clear()
    memory = np.arange(3.0).view(Last)
    memory.tensor = dl.from_numpy(memory)
    memory.use = lambda tensor: (tensor.tolist(), tensor.clone().tolist(), bytes(tensor))
    gone = []
    weakref.finalize(memory.tensor, gone.append, "tensor")
    weakref.finalize(memory, gone.append, "memory")
    del memory
    gc.collect()
    assert Last.seen == [([0.0, 1.0, 2.0], [0.0, 1.0, 2.0], np.arange(3.0).tobytes())]
    assert sorted(gone) == ["memory", "tensor"]


@pytest.mark.parametrize("holder", HOLDERS)
def test_finalizers_may_bring_the_tensor_back(holder):
    Last.seen.clear()
    memory = np.arange(100.0).view(Last)
    memory.tensor = dl.from_numpy(memory)
    memory.use = HOLDERS[holder]
    gone = weakref.ref(memory.tensor)
    del memory
    gc.collect()
    gc.collect()
    assert READ[holder](Last.seen.pop()).tolist() == list(range(100))
    gc.collect()
    gc.collect()
    assert gone() is None


@cases(owner=[*OWNERS, *HIDDEN])
def test_tensors_stay_whole_while_a_cycle_is_cleared(owner):
    """A finalizer makes a weak reference whose callback takes the tensor away from the collector: when the first
    attribute of the owner is freed, and before the tensor is."""
    make, share = {**OWNERS, **HIDDEN}[owner]
    references, taken = [], []

    class Marks:
        def __init__(self, memory):
            self.memory = memory

        def __del__(self):
            tensor = weakref.ref(self.memory.tensor)
            first = getattr(self.memory, "array", self.memory.first)
            references.append(weakref.ref(first, lambda _: taken.append(tensor())))

    memory = make()
    wanted = bytes(share(memory))
    memory.first = np.zeros(1)
    memory.marks = Marks(memory)
    memory.tensor = share(memory)
    del memory
    gc.collect()
    trash = [np.full(3, -1.0) for _ in range(1000)]
    for tensor in taken:
        # The collector released a memoryview, or cleared a torch.Tensor.
        with contextlib.suppress(ValueError, BufferError):
            assert tensor is None or bytes(tensor) == wanted
    assert len(references) == (owner in OWNERS) and trash


def test_collections_run_beside_threads_that_export():
    """Threads hold, export and copy the tensors of cycles, with and without the interpreter's lock."""
    code = """
import gc, random, sys, threading, numpy as np, torch, dlbridge as dl
sys.setswitchinterval(1e-5)
class Shows(np.ndarray): pass
def Shown(value):
    made = np.full(40_000, value).view(Shows)
    made.tensor = dl.from_numpy(made)
    return made
gc.freeze()
pool = [Shown(float(n)) for n in range(16)]
stop, wrong = threading.Event(), []
def work(seed):
    choose = random.Random(seed)
    while not stop.is_set():
        n = choose.randrange(16)
        value, tensor = float(pool[n][0]), pool[n].tensor
        pool[n] = Shown(choose.random())
        kind = choose.randrange(5)
        if kind == 0: got = tensor.clone().numpy()
        elif kind == 1: got = torch.from_dlpack(tensor).clone().numpy()
        elif kind == 2: got = np.from_dlpack(tensor)
        elif kind == 3: got = dl.from_dlpack(tensor.__dlpack__(max_version=(1, 0))).numpy()
        else: got = np.frombuffer(bytes(tensor))
        del tensor
        if not (got == value).all(): wrong.append((kind, value))
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
for thread in threads: thread.start()
for _ in range(300): gc.collect()
stop.set()
for thread in threads: thread.join()
pool.clear()
gc.collect()
print(wrong, sum(type(found) is Shows for found in gc.get_objects()))
"""
    assert run(code) == "[] 0\n"


def test_random_graphs_are_collected_when_nothing_holds_them():
    """Random graphs of arrays and tensors: values that a root reaches stay, and the rest is freed."""
    choose = random.Random(7)
    links = [
        dl.from_dlpack,
        lambda other: other,
        lambda other: memoryview(dl.from_dlpack(other)),
        lambda other: dl.from_dlpack(dl.from_numpy(other).__dlpack__(max_version=(1, 0))),
    ]
    for _ in range(100):
        nodes = [np.arange(50.0).view(Derived) for _ in range(12)]
        for node in nodes:
            node.links = [choose.choice(links)(choose.choice(nodes)) for _ in range(2)]
        seen = [weakref.ref(node) for node in nodes]
        root = choose.choice(nodes).links
        del nodes, node
        gc.collect()
        for link in root:
            assert np.asarray(link).tolist() == list(range(50))
        alive = [ref() for ref in seen if ref() is not None]
        assert all(node.tolist() == list(range(50)) for node in alive)
        del root, link, alive
        gc.collect()
        assert all(ref() is None for ref in seen)


def test_long_chains_are_collected_without_recursion():
    code = """
import gc, weakref, numpy as np, dlbridge as dl
class Derived(np.ndarray): pass
def link(inner):
    made = np.zeros(1).view(Derived)
    made.inner = inner
    return made
first = last = link(None)
for _ in range(100_000):
    last = link(dl.from_numpy(last))
first.inner = dl.from_numpy(last)
gone = weakref.ref(first)
del first, last
gc.collect()
print(gone())
"""
    assert run(code) == "None\n"


def test_cycles_that_live_until_the_end_are_harmless():
    code = """
import atexit, threading, numpy as np, dlbridge as dl
class Last(np.ndarray):
    def __del__(self):
        if hasattr(self, "tensor"):
            assert self.tensor.tolist() == [0, 1, 2], "gone"
            self.kept = memoryview(self.tensor), self.tensor.__dlpack__(max_version=(1, 0))
def Shows():
    made = np.arange(3.0).view(Last)
    made.tensor = dl.from_numpy(made)
    return made
shows = [Shows() for _ in range(100)]
atexit.register(lambda: shows[0].tensor.clone())
threading.Thread(target=lambda: [Shows() for _ in range(1000)], daemon=True).start()
"""
    run(code)
