"""Release of memory: during exceptions, on other threads, in forked children, and at exit.

Each case meets its producer in a child process.
"""

import ctypes as C
import gc
import os
import shutil
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

import dlbridge
from producer import (
    SECONDS,
    HostileProducer,
    cases,
    in_child,
    opened,
    outcome,
    set_name,
)

if not hasattr(os, "fork"):
    pytest.skip("there are no forks here", allow_module_level=True)
# The parent may have threads of other libraries; the children use none of them.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork")

HOLDERS = {
    "tensor": lambda tensor: tensor,
    "another tensor": lambda tensor: dlbridge.from_dlpack(tensor),
    "array": lambda tensor: tensor.numpy()[1:],
    "array from DLPack": lambda tensor: np.from_dlpack(tensor),
    "memoryview": lambda tensor: memoryview(tensor)[1:],
    "capsule": lambda tensor: tensor.__dlpack__(max_version=(1, 0)),
    "legacy capsule": lambda tensor: tensor.__dlpack__(),
}


@cases(holder=HOLDERS)
def test_memory_lives_as_long_as_any_holder(holder):
    producer, array = HostileProducer(), np.zeros(3)
    tensor, references = producer.imported(), sys.getrefcount(array)
    held = HOLDERS[holder](tensor), HOLDERS[holder](dlbridge.from_numpy(array))
    del tensor
    gc.collect()
    assert (producer.deleted, sys.getrefcount(array)) == (0, references + 1)
    del held
    producer.check_released()
    assert sys.getrefcount(array) == references


@cases(holder=HOLDERS, owner=["producer", "array"])
def test_releases_during_exception_propagation(holder, owner):
    if (holder, owner) == ("array from DLPack", "producer"):
        return  # NumPy calls the deleter, and no Python code runs in between

    def leave():
        raise LookupError("on its way")

    producer, array = HostileProducer(), np.zeros(3)
    gone = weakref.finalize(array, outcome, {}.__getitem__, "missing")
    tensors = [producer.imported() if owner == "producer" else dlbridge.from_numpy(array)]
    del array
    with pytest.raises(LookupError, match="on its way"):
        # This is on the frame's stack, and is dropped while the exception propagates.
        (HOLDERS[holder](tensors.pop()), leave())
    assert not gone.alive and producer.deleted == (owner == "producer")


@cases()
def test_last_reference_released_on_another_thread():
    producer = HostileProducer()
    holders = [hold(tensor) for tensor in [producer.imported()] for hold in HOLDERS.values()]
    thread = threading.Thread(target=holders.clear)
    thread.start()
    thread.join()
    producer.check_released()
    assert producer.threads == [thread.ident]


@cases()
def test_tensors_work_in_forked_children():
    large = dlbridge.tensor(
        np.arange(2.0**20).reshape(1024, 1024)
    )  # 8 MB: copied by several threads
    producer, array = HostileProducer(), np.zeros(3)
    tensors, references = [producer.imported(), dlbridge.from_numpy(array)], sys.getrefcount(array)

    def use():
        assert [tensor.tolist() for tensor in tensors] == [producer.elements(), [0.0, 0.0, 0.0]]
        assert np.array_equal(large.clone(), large)
        assert np.array_equal(dlbridge.contiguous(large.numpy().T).T, large)
        tensors.clear()
        producer.check_released()
        assert sys.getrefcount(array) == references - 1

    large.clone()
    in_child(use)()
    assert producer.deleted == 0
    use()


HELPER = """
#include <pthread.h>
#include <stdlib.h>
typedef struct { void (*deleter)(void *); void *self; } job;
static job jobs[1024];
static int count;

void hold(void (*deleter)(void *), void *self) { jobs[count++] = (job){deleter, self}; }
static void *one(void *it) { ((job *)it)->deleter(((job *)it)->self); return NULL; }
static void *all(void *nothing) { while (count > 0) one(&jobs[--count]); return nothing; }
static pthread_t start(void *(*run)(void *), void *with) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, with)) abort();
    return thread;
}
void release_on_one(void) { pthread_join(start(all, NULL), NULL); }
void release_on_many(void) {
    pthread_t threads[1024];
    for (int i = 0; i < count; i++) threads[i] = start(one, &jobs[i]);
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    count = 0;
}
void release_meanwhile(void) { pthread_detach(start(all, NULL)); }
void release_at_exit(void) { atexit(release_on_one); }
"""


@pytest.fixture(scope="module")
def helper(tmp_path_factory):
    """A library of C that calls deleters on threads of its own, which the interpreter does not know."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("helper")
    (folder / "helper.c").write_text(HELPER)
    build = ["cc", "-std=c11", "-shared", "-fPIC", "-pthread", "-o", "helper.so", "helper.c"]
    subprocess.run(build, cwd=folder, check=True)
    return str(folder / "helper.so")


def hold(library, tensor, version):
    """Gives a tensor's struct to the library, which consumes it."""
    capsule = tensor.__dlpack__(max_version=version)
    exported = opened(capsule)
    set_name(capsule, type(exported).used)
    library.hold(C.c_void_p(exported.deleter), C.c_void_p(C.addressof(exported)))


@cases(release=["release_on_one", "release_on_many"], version=[(1, 0), None])
def test_releases_on_non_python_threads(helper, release, version):
    library, producer, array = C.CDLL(helper), HostileProducer(), np.zeros(3)
    gone = weakref.ref(array)
    for tensor in [producer.imported(), dlbridge.from_numpy(array)] * 16:
        hold(library, tensor, version)
    del tensor, array
    assert producer.deleted == 0 and gone() is not None
    getattr(library, release)()
    producer.check_released()
    assert gone() is None and producer.threads != [threading.get_ident()]


SCRIPT = """
import atexit, ctypes
late = []
atexit.register(lambda: [release() for release in late])  # after the handlers of what is imported below
import numpy as np, dlbridge
from test_lifetimes import hold
library = ctypes.CDLL(HELPER)
for number in range(1000):
    hold(library, dlbridge.from_numpy(np.zeros(3)), [(1, 0), None][number % 2])
class Last:
    def __del__(self, release=library.release_on_one):
        release()
"""
ENDS = {
    "with a tensor": "kept = dlbridge.from_numpy(np.zeros(3)), dlbridge.tensor(np.zeros(3))",
    "with a capsule": "kept = dlbridge.from_numpy(np.zeros(3)).__dlpack__(max_version=(1, 0))",
    "with a legacy capsule": "kept = dlbridge.from_numpy(np.zeros(3)).__dlpack__()",
    "releasing meanwhile": "library.release_meanwhile()",
    "releasing among the exit handlers": "atexit.register(library.release_on_one)",
    "releasing after the exit handlers": "late.append(library.release_on_one)",
    "releasing as modules go": "last = Last()",
    "releasing when it has ended": "library.release_at_exit()",
}


@pytest.mark.parametrize("end", ENDS)
def test_releases_after_the_interpreter_ends(helper, end):
    script = SCRIPT.replace("HELPER", repr(helper)) + ENDS[end]
    path = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": path},
        timeout=SECONDS,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
