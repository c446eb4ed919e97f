"""Programs that made an earlier version of dlbridge crash, hang or give wrong values."""

import gc
import subprocess
import sys
import weakref

import ml_dtypes
import numpy as np
import pytest
import torch

import dlbridge as dl


def run(code, seconds=60):
    """Runs a program in its own process, which must exit with status 0; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


# -- owners of memory
# --------------------------------------------------------------------------------------


def test_weak_proxies_keep_their_array_alive():
    array = np.full(1 << 20, 7.0)
    tensor = dl.from_numpy(weakref.proxy(array))
    gone = weakref.ref(array)
    del array
    gc.collect()
    assert gone() is not None
    assert tensor.numpy()[:3].tolist() == [7.0] * 3


def test_subclasses_may_show_another_arrays_memory():
    class Shows(np.ndarray):
        @property
        def __array_struct__(self):
            return np.full(1 << 20, 7.0).__array_struct__

    tensor = dl.from_numpy(np.zeros(2).view(Shows))
    assert tensor.numel() == 1 << 20 and tensor.numpy().sum() == 7 << 20


@pytest.mark.parametrize(
    "hop",
    [
        "dl.from_numpy(t.numpy())",
        "dl.from_dlpack(memoryview(t))",
        "dl.from_dlpack(t.__dlpack__(max_version=(1, 0)))",
        "dl.from_dlpack(torch.from_dlpack(t))",
    ],
)
def test_long_chains_of_owners_are_released_without_recursion(hop):
    program = f"""
import numpy as np, torch, weakref, dlbridge as dl
class Watched(np.ndarray): pass
first = np.ndarray.__new__(Watched, 1)
first[...] = 1
gone = weakref.ref(first)
t = dl.from_numpy(np.broadcast_to(first, (3,), subok=True))
del first
if {"torch" in hop}:
    t = t.clone()
    gone = lambda: t
for _ in range(200_000):
    t = {hop}
assert t.tolist() == [1.0] * 3 and gone() is not None
t = None
print(gone())
"""
    assert run(program) == "None\n"


def test_weak_proxies_of_array_interface_objects():
    class Picture:
        def __init__(self):
            self.pixels = np.full(1 << 20, 7, np.uint8)

        @property
        def __array_interface__(self):
            return self.pixels.__array_interface__

    picture = Picture()
    gone, tensor = weakref.ref(picture), dl.from_dlpack(weakref.proxy(picture))
    del picture
    gc.collect()
    assert gone() is not None and tensor.numpy().sum() == 7 << 20
    lost = weakref.proxy(Picture())
    with pytest.raises(ReferenceError):
        dl.from_dlpack(lost)


def test_nested_releases_may_end_in_any_order():
    """Releases end in another order than they began, as with greenlets."""
    greenlet = pytest.importorskip("greenlet")

    class SwitchingArray(np.ndarray):
        def __del__(self):
            if switches := getattr(self, "switches", None):
                switches.pop()()

    def owned(switches):
        array = np.ones(1).view(SwitchingArray)
        array.switches = switches
        return dl.from_numpy(array)

    main = greenlet.getcurrent()
    for _ in range(100):
        first = greenlet.greenlet(lambda: owned([main.switch]) and None)
        second = greenlet.greenlet(lambda: owned([main.switch]) and None)
        for each in (first, second, first, second):
            each.switch()
    test_weak_proxies_keep_their_array_alive()
    watched = np.ones(1).view(SwitchingArray)
    gone = weakref.ref(watched)
    tensor = dl.from_numpy(watched)
    del watched
    for _ in range(60):
        tensor = dl.from_numpy(tensor.numpy())
    del tensor
    assert gone() is None


# -- values
# ----------------------------------------------------------------------------------------------


class Derived(torch.Tensor):
    pass


NEGATIVE = torch.tensor([1 + 2j, 3 + 4j]).conj().imag


@pytest.mark.parametrize(
    "tensor",
    [torch.nn.Parameter(NEGATIVE, requires_grad=False), NEGATIVE.as_subclass(Derived)],
    ids=["Parameter", "class"],
)
def test_torch_subclasses_are_checked_like_tensors(tensor):
    assert tensor.tolist() == [-2.0, -4.0]
    for take in (dl.from_dlpack, dl.tensor, dl.clone):
        with pytest.raises(BufferError, match="resolve_neg"):
            take(tensor)
    with pytest.raises(BufferError, match="negative bit set: pass a plain"):
        dl.copyto(tensor, np.ones(2, np.float32))
    with pytest.raises(BufferError, match="below a byte"):
        dl.from_dlpack(torch.nn.Parameter(torch.empty(2, dtype=torch.uint4), requires_grad=False))


def test_clones_of_torch_subclasses_have_their_values():
    class Copies(torch.Tensor):
        def __dlpack__(self, **options):
            return self.detach().clone().as_subclass(torch.Tensor).__dlpack__(**options)

    source = torch.arange(6.0).as_subclass(Copies)
    assert dl.clone(source).tolist() == source.tolist()
    assert dl.contiguous(source.reshape(2, 3).t()).tolist() == source.reshape(2, 3).t().tolist()


def test_clones_of_numpy_subclasses_have_their_values():
    class Liar(np.ndarray):
        def __array_function__(self, function, types, arguments, options):
            return np.full((2, 3), 9.0)

    source = np.arange(6.0).reshape(2, 3).view(Liar)
    clone = dl.clone(source)
    assert type(clone) is np.ndarray and clone.tolist() == np.arange(6.0).reshape(2, 3).tolist()


def test_copyto_refuses_producers_that_export_a_copy():
    class Copies:
        def __init__(self, array):
            self.array = array

        def __dlpack_device__(self):
            return (1, 0)

        def __dlpack__(self, *, copy=None, **options):
            if copy is False:
                raise BufferError("there is always a copy")
            return self.array.copy().__dlpack__(**options)

    with pytest.raises(BufferError, match="always a copy"):
        dl.copyto(Copies(np.zeros(3)), np.ones(3))


def test_subclasses_that_report_a_wrong_dtype_are_refused():
    class Liar(np.ndarray):
        @property
        def dtype(self):
            return np.dtype(ml_dtypes.bfloat16)

    with pytest.raises(BufferError):
        dl.from_dlpack(np.frombuffer(b"abcd", "S1").view(Liar))


def test_copyto_refuses_numpy_scalars():
    with pytest.raises(ValueError, match="dst: a NumPy scalar cannot be written"):
        dl.copyto(np.float64(3), np.array(9.0))
    with pytest.raises(ValueError, match="no memory to share"):
        dl.from_dlpack(np.float64(3), copy=False)


def test_copyto_refuses_producers_without_copy_false():
    class Refuses:
        array = np.zeros(3)

        def __dlpack_device__(self):
            return (1, 0)

        def __dlpack__(self, *, max_version=None, copy=None):
            if copy is False:
                raise TypeError("copy=False is not supported")
            return self.array.copy().__dlpack__(max_version=max_version)

    with pytest.raises(ValueError, match="does not take"):
        dl.copyto(Refuses(), np.ones(3))


def test_swapped_byte_order_is_refused_for_every_dtype():
    swapped = (
        np.arange(4).astype(ml_dtypes.bfloat16).view(np.dtype(ml_dtypes.bfloat16).newbyteorder(">"))
    )
    with pytest.raises(BufferError, match="byte order"):
        dl.from_dlpack(swapped)


def test_numpy_scalars_convert_or_are_refused():
    assert dl.from_dlpack(np.float32(2.5)).item() == 2.5
    assert dl.from_dlpack(ml_dtypes.bfloat16(3)).item() == 3.0
    for number in (
        np.datetime64("2020-01-01"),
        np.timedelta64(5, "s"),
        np.str_("ab"),
        np.void(b"ab"),
    ):
        with pytest.raises(BufferError, match="DLPack has no type"):
            dl.from_dlpack(number)


def test_fake_library_modules_are_not_cached():
    program = """
import sys, types, dlbridge as dl
for name, member in (("numpy", "ndarray"), ("torch", "Tensor")):
    sys.modules[name] = types.ModuleType(name)
    setattr(sys.modules[name], member, type(member, (), {}))
    setattr(sys.modules[name], "generic", type("generic", (), {}))
try:
    dl.from_dlpack(object())
except AttributeError:
    pass
del sys.modules["numpy"], sys.modules["torch"]
import numpy as np, torch
print(dl.from_numpy(np.ones(2)).tolist())
try:
    dl.from_dlpack(torch.ones(2, requires_grad=True))
except BufferError:
    print("refused")
"""
    assert run(program) == "[1.0, 1.0]\nrefused\n"


# -- the interpreter
# -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "last_words",
    [
        "np_from(self.t, device='cpu')",
        "self.t.__dlpack__(copy=True)",
        "self.t.__dlpack__(1)",
        "self.t.tolist()",
    ],
)
def test_finalizers_may_use_tensors_at_interpreter_exit(last_words):
    program = f"""
import numpy as np, dlbridge as dl
class Cache:
    def __init__(self):
        self.t = dl.tensor(np.arange(3.0))
    def __del__(self, np_from=np.from_dlpack):
        try:
            {last_words}
        except Exception:
            pass
cache = Cache()
"""
    run(program)


def test_subinterpreters_are_refused_without_a_deadlock():
    program = """
import _xxsubinterpreters as sub
code = "try:\\n import dlbridge\\nexcept ImportError as error:\\n print(error)"
for import_first in (False, True):
    if import_first:
        import dlbridge
    sub.run_string(sub.create(), code)
"""
    if sys.version_info >= (3, 13):
        pytest.skip("the module has another name there")
    assert run(program).count("subinterpreters") == 2


def test_huge_versions_leak_nothing():
    tensor, version = dl.tensor(np.ones(2)), (10**30, 0)
    program = f"tensor.__dlpack__(max_version={version})"
    before = sys.getrefcount(OverflowError)
    for _ in range(1000):
        exec(program, {"tensor": tensor})
    assert sys.getrefcount(OverflowError) - before < 100


def test_classes_are_refused_as_arrays():
    for wrong in (np.float32, np.ndarray, torch.Tensor, dl.Tensor):
        with pytest.raises(TypeError, match="got the class"):
            dl.from_dlpack(wrong)
    with pytest.raises(TypeError):
        dl.Tensor()
    for call in (
        lambda: dl.Tensor.__dlpack__(5),
        lambda: dl.Tensor.__dlpack__(),
        lambda: object.__new__(dl.Tensor),
    ):
        with pytest.raises(TypeError):
            call()


def test_in_place_changes_of_torch_metadata_do_not_reach_the_tensor():
    source = torch.arange(6.0).reshape(2, 3)
    tensor = dl.from_dlpack(source)
    source.t_()
    source.unsqueeze_(0).unsqueeze_(0).unsqueeze_(0).unsqueeze_(0)
    assert tensor.shape == (2, 3) and tensor.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
