"""Memory of copies that is cached for later ones."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import dlbridge as dl

MIB = 1 << 20


@pytest.fixture(autouse=True)
def empty_cache():
    limit = dl.set_cache_limit(64 * MIB)
    dl.trim()
    yield
    dl.set_cache_limit(limit)
    dl.trim()


def test_the_memory_of_a_copy_is_used_again():
    array = np.arange(MIB, dtype=np.float32)
    copy = dl.tensor(array)
    address = copy.data_ptr()
    del copy
    assert dl.cached_bytes() == 4 * MIB
    array += 1
    copy = dl.tensor(array)
    assert copy.data_ptr() == address and dl.cached_bytes() == 0
    assert np.array_equal(copy.numpy(), array)
    del copy
    assert dl.trim() == 4 * MIB and dl.trim() == 0
    assert dl.cached_bytes() == 0


def test_memory_in_use_elsewhere_is_not_in_the_cache():
    tensor = dl.tensor(np.ones((1024, 1024), np.float32))
    view = tensor.numpy()[1:]
    del tensor
    assert dl.cached_bytes() == 0
    other = dl.tensor(np.zeros((1024, 1024), np.float32))
    assert view.sum() == 1023 * 1024
    del view
    assert dl.cached_bytes() == 4 * MIB
    del other


def test_the_limit_is_kept():
    tensor = dl.tensor(np.ones(8 * MIB, np.uint8))
    assert dl.set_cache_limit(12 * MIB) == 64 * MIB
    copies = [tensor.clone() for _ in range(3)]
    del copies
    assert dl.cached_bytes() == 8 * MIB
    assert dl.set_cache_limit(0) == 12 * MIB
    assert dl.cached_bytes() == 0
    tensor.clone()
    assert dl.cached_bytes() == 0


@pytest.mark.parametrize("limit", [-1, 1 << 64])
def test_limits_out_of_range(limit):
    with pytest.raises(OverflowError):
        dl.set_cache_limit(limit)
    assert dl.set_cache_limit(64 * MIB) == 64 * MIB


@pytest.mark.parametrize("limit", ["1", None, 1.5])
def test_limits_of_other_types(limit):
    with pytest.raises(TypeError):
        dl.set_cache_limit(limit)


@pytest.mark.parametrize(
    ("value", "expected"), [("0", 0), (str(8 * MIB), 8 * MIB), ("a lot", 512 * MIB)]
)
def test_the_environment_sets_the_limit(value, expected):
    program = "import dlbridge as dl; print(dl.set_cache_limit(1), dl.set_cache_limit(0))"
    environment = {**os.environ, "DLBRIDGE_CACHE_LIMIT": value}
    output = subprocess.check_output([sys.executable, "-c", program], text=True, env=environment)
    assert output.split() == [str(expected), "1"]


def in_child(test):
    """The status of a forked child that ran `test`; 0 if that is true."""
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # ends a child that hangs
        status = 1
        try:
            status = 0 if test() else 2
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_children_have_a_cache_of_their_own():
    array = np.ones((1024, 1024), np.float32)
    dl.tensor(array)

    def copies():
        first, second = dl.tensor(array), dl.tensor(array * 2)
        return (
            np.array_equal(first.numpy(), array)
            and np.array_equal(second.numpy(), array * 2)
            and dl.cached_bytes() == 0  # neither used memory of the parent, nor kept it
            and dl.trim() == 0
        )

    assert in_child(copies) == 0
    assert np.array_equal(dl.tensor(array).numpy(), array)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_forks_while_a_thread_uses_the_cache():
    tensor, ends = dl.tensor(np.ones(2 * MIB, np.uint8)), threading.Event()

    def use():
        while not ends.is_set():
            tensor.clone()
            dl.trim()

    thread = threading.Thread(target=use)
    thread.start()
    try:
        for _ in range(20):
            assert in_child(lambda: tensor.clone().numpy().all() and dl.trim() >= 0) == 0
    finally:
        ends.set()
        thread.join()
