"""`dl.tensor` of numbers and nested lists: element types, ranges, and lists that misbehave."""

import collections
import decimal
import enum
import fractions
import gc
import itertools
import math
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

import dlbridge as dl

INTEGERS = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]
FLOATS = ["float16", "bfloat16", "float32", "float64"]
COMPLEX = ["complex64", "complex128"]


@pytest.mark.parametrize(
    "numbers",
    [5, True, 2.5, 1j, [1, 2], (1, 2), [True, False], [[1.5, 2], (3, 4)], [[[1]], [[2]]], [2, 1j]]
    + [
        [True, 2],
        [True, 2.5],
        [False, 1j],
        [],
        [[], []],
        [[[]]],
        (),
        [0.1],
        [-0.0],
        [2**62, -(2**63)],
    ],
)
def test_types_and_shapes_are_those_of_numpy(numbers):
    tensor, array = dl.tensor(numbers), np.array(numbers)
    assert tensor.dtype == array.dtype and tensor.shape == array.shape
    assert tensor.tolist() == array.tolist() and bytes(tensor) == array.tobytes()
    assert not tensor.readonly and tensor.is_contiguous() and tensor.data_ptr() % 256 == 0


@pytest.mark.parametrize("name", INTEGERS + FLOATS + COMPLEX + ["bool"])
def test_a_dtype_converts_numbers(name):
    dtype = getattr(torch, name)
    for numbers in [[0, 1], [True, False], [[1], [0]], 1, False, []]:
        tensor = dl.tensor(numbers, dtype=name)
        assert tensor.dtype == dtype == dl.tensor(numbers, dtype=dtype).dtype
        assert tensor.tolist() == torch.tensor(numbers, dtype=dtype).tolist()


@pytest.mark.parametrize("name", FLOATS + COMPLEX)
def test_floats_are_rounded_as_pytorch_rounds_them(name):
    numbers = [0.1, 1 / 3, 65504.0, -2.5, 1e-30, 5e-324, math.inf, -math.inf, 12345, 2**24 + 1]
    numbers = numbers[:2] + numbers[3:8] + [1234] if name == "float16" else numbers
    tensor = dl.tensor(numbers, dtype=name)
    assert tensor.tolist() == torch.tensor(numbers, dtype=getattr(torch, name)).tolist()
    assert (
        math.isnan(dl.tensor(math.nan, dtype=name).numpy().real.astype("f8"))
        if name != "bfloat16"
        else True
    )


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_must_be_in_range(name):
    low, high = np.iinfo(name).min, np.iinfo(name).max
    assert dl.tensor([low, high], dtype=name).tolist() == [int(low), int(high)]
    for wrong in [int(low) - 1, int(high) + 1, 10**30, -(10**30), 10**400]:
        with pytest.raises(OverflowError, match=rf"x\[1\]\[0\] = .* out of range for {name}"):
            dl.tensor([[0], [wrong]], dtype=name)
    with pytest.raises(TypeError, match=r"x\[1\] = 1.0 can't be converted"):
        dl.tensor([0, 1.0], dtype=name)
    with pytest.raises(TypeError, match=r"x = \(0.0\+1.0j\) can't be converted"):
        dl.tensor(1j, dtype=name)


def test_large_integers():
    with pytest.raises(OverflowError, match=r"int64: pass dtype='uint64'"):
        dl.tensor([1, 2**63])
    assert dl.tensor([2**64 - 1], dtype="uint64").tolist() == [2**64 - 1]
    for wrong in [2**64, -(2**63) - 1, 10**400, -(10**400)]:
        with pytest.raises(OverflowError, match="out of range for int64"):
            dl.tensor(wrong)
    numbers = [2**70, -(2**65), 2**63, 2**53 + 1]
    assert dl.tensor([*numbers, 0.5]).tolist() == [float(n) for n in numbers] + [0.5]
    for name in FLOATS + COMPLEX:
        with pytest.raises(OverflowError, match="x = an integer over 1.7e308"):
            dl.tensor(10**400, dtype=name)
    with pytest.raises(OverflowError):
        dl.tensor([10**400, 0.5])


@pytest.mark.parametrize(
    ("name", "wrong"), [("float16", 65520.0), ("float32", 1e39), ("bfloat16", 1e39)]
)
def test_finite_floats_stay_finite(name, wrong):
    for numbers in [wrong, [-wrong], int(wrong)]:
        with pytest.raises(OverflowError, match=f"out of range for {name}"):
            dl.tensor(numbers, dtype=name)
    with pytest.raises(OverflowError, match="complex64"):
        dl.tensor(complex(0, 1e39), dtype="complex64")


def test_bools_take_0_and_1_only():
    assert dl.tensor([0, 1, True], dtype="bool").tolist() == [False, True, True]
    for wrong in 2, -1, 2**63, 10**400:
        with pytest.raises(OverflowError, match="bool"):
            dl.tensor(wrong, dtype=bool)
    for wrong in 1.0, 1j, math.nan:
        with pytest.raises(TypeError, match="can't be converted to bool"):
            dl.tensor(wrong, dtype=bool)
    with pytest.raises(TypeError, match="float64: pass dtype='complex128'"):
        dl.tensor(1j, dtype=float)


def test_scalars_of_numpy():
    for name in ["bool", *INTEGERS, "float16", "float32", "float64", *COMPLEX]:
        scalar = np.dtype(name).type(1)
        assert dl.tensor([scalar, scalar]).dtype == name == dl.tensor([[scalar]]).dtype
        assert dl.tensor(scalar).dtype == name and dl.tensor(scalar, dtype="complex64") is not None
        assert dl.tensor([scalar, True]).dtype in ("bool", "int64", "float64", "complex128")
    one, half = np.float32(1.5), np.float16(2)
    assert dl.tensor([one, 2.0]).dtype == "float64" == np.array([one, 2.0]).dtype
    assert dl.tensor([one, half]).dtype == "float64"
    assert dl.tensor([one, half], dtype="float16").tolist() == [1.5, 2.0]
    assert dl.tensor([np.int8(1), one]).tolist() == [1.0, 1.5]
    assert dl.tensor([np.uint64(2**64 - 1)]).tolist() == [2**64 - 1]
    with pytest.raises(OverflowError):
        dl.tensor([np.uint64(2**64 - 1), 1])
    with pytest.raises(TypeError, match="can't be converted to int8"):
        dl.tensor(np.float64(1), dtype="int8")
    for wrong in [
        np.longdouble(1),
        np.datetime64(0, "s"),
        np.timedelta64(1),
        np.str_("a"),
        np.void(b"a"),
    ]:
        with pytest.raises(TypeError, match=r"x\[0\] is of type 'numpy\."):
            dl.tensor([wrong])
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert dl.tensor([ml_dtypes.bfloat16(2.5)]).dtype == torch.bfloat16
    with pytest.raises(TypeError, match="can't make elements of type float8_e4m3fn"):
        dl.tensor([ml_dtypes.float8_e4m3fn(1)])


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([[1, 2], [3]], r"x\[1\] has 1 items, x\[0\] 2"),
        ([[1], []], r"x\[1\] has 0 items, x\[0\] 1"),
        ([[], [1]], r"x\[1\] has 1 items, x\[0\] 0"),
        ([[1], 2], r"x\[1\] is a number, x\[0\] a list"),
        ([1, [2]], r"x\[1\] is a list, x\[0\] a number"),
        ([1, []], r"x\[1\] is a list, x\[0\] a number"),
        ([[[1], [2]], [[3], [4, 5]]], r"x\[1\]\[1\] has 2 items, x\[0\]\[0\] 1"),
        ([[[]], [[1]]], r"x\[1\]\[0\] has 1 items"),
        ((((1,),), ((2, 3),)), r"x\[1\]\[0\] has 2 items"),
    ],
)
def test_ragged_lists(numbers, text):
    with pytest.raises(ValueError, match=f"ragged lists: {text}"):
        dl.tensor(numbers)


@pytest.mark.parametrize(
    "wrong",
    [None, "1", b"1", {1}, {1: 2}, object(), decimal.Decimal(1), fractions.Fraction(1), range(2)]
    + [iter([1]), int, [1].__len__, ..., bytearray(b"1"), collections.deque([1])],
)
def test_other_objects_are_no_numbers(wrong):
    for numbers, place in [
        ([wrong], r"x\[0\]"),
        ([[1], [wrong]], r"x\[1\]\[0\]"),
        ([[1], wrong], r"x\[1\]"),
    ]:
        with pytest.raises(TypeError, match=f"{place} is of type '.*', not a number"):
            dl.tensor(numbers)


def test_remedies():
    for array in np.zeros(2), torch.zeros(2), dl.tensor(1.0), np.array(1.0):
        with pytest.raises(TypeError, match=r"numpy.stack\(\) or torch.stack\(\)"):
            dl.tensor([array])
    for iterable in {1}, range(2), (i for i in [1]):
        with pytest.raises(TypeError, match=r"use list\(\)"):
            dl.tensor([iterable])
    with pytest.raises(TypeError, match="got 'range'"):
        dl.tensor(range(3))


def test_deep_and_endless_lists():
    deep = 1
    for _ in range(64):
        deep = [deep]
    assert dl.tensor(deep).ndim == 64 and dl.tensor(deep).numel() == 1
    endless = []
    endless.append(endless)
    chain = 1
    for _ in range(100_000):
        chain = (chain,)
    for wrong in [[deep], [[deep], 1], endless, chain]:
        with pytest.raises(ValueError, match="nested more than 64 deep"):
            dl.tensor(wrong)
    while chain != 1:
        (chain,) = chain  # frees it without a deep recursion
    with pytest.raises(ValueError, match="ragged"):
        dl.tensor([1, endless])


def test_derived_lists_are_read_without_their_methods():
    class Liar(list):
        def __len__(self):
            raise AssertionError

        __getitem__ = __iter__ = __len__

    class Pair(tuple):
        def __len__(self):
            return 10**9

        def __getitem__(self, index):
            raise AssertionError

    Point = collections.namedtuple("Point", "x y")
    assert dl.tensor(Liar([1, 2])).tolist() == [1, 2]
    assert dl.tensor([Pair((1, 2)), Liar([3, 4])]).tolist() == [[1, 2], [3, 4]]
    assert dl.tensor(Point(1.0, 2.0)).tolist() == [1.0, 2.0]
    assert dl.tensor(torch.Size([2, 3])).dtype == "int64"


def test_derived_numbers_are_read_without_their_methods():
    def refuse(self, *_):
        raise AssertionError

    def hostile(base):
        names = ["__float__", "__int__", "__index__", "__complex__", "__bool__", "__eq__", "__lt__"]
        return type("Hostile", (base,), dict.fromkeys(names, refuse))

    assert dl.tensor([hostile(float)(1.5), hostile(int)(2)]).tolist() == [1.5, 2.0]
    assert dl.tensor([hostile(complex)(1j)]).tolist() == [1j]
    assert dl.tensor([hostile(int)(2**64 - 1)], dtype="uint64").tolist() == [2**64 - 1]
    assert dl.tensor(enum.IntEnum("E", "A B").B).tolist() == 2

    class Convertible:
        __float__ = __index__ = __complex__ = refuse

    with pytest.raises(TypeError, match="not a number"):
        dl.tensor([Convertible()])


class Meddler(np.float32):
    """A scalar that calls a function when it is asked for its value."""

    action = staticmethod(lambda: None)

    def item(self):
        type(self).action()
        return 1.0


@pytest.mark.parametrize("change", ["clear", "append", "replace", "outer"])
def test_lists_that_change_while_they_are_read(change, monkeypatch):
    inner = [Meddler(1), *range(1000)]
    outer = [inner, list(inner)]

    def act():
        if change == "clear":
            inner.clear()
        elif change == "append":
            inner.append(5)
        elif change == "replace":
            inner[1:] = [[object()]] * 1000
        else:
            outer.clear()
        gc.collect()

    monkeypatch.setattr(Meddler, "action", staticmethod(act))
    expected = TypeError if change == "replace" else ValueError
    if change == "replace":
        expected = (TypeError, ValueError)
    with pytest.raises(expected):
        dl.tensor(outer)


def test_scalars_that_lie(monkeypatch):
    class Liar(np.float32):
        value = None

        def item(self):
            return self.value

    for value in [None, "1", [1.0], np.zeros(3), object()]:
        monkeypatch.setattr(Liar, "value", value)
        with pytest.raises(TypeError, match="not a number"):
            dl.tensor([Liar(1)])
    monkeypatch.setattr(Liar, "value", 1j)
    with pytest.raises(TypeError, match="can't be converted to float32"):
        dl.tensor([Liar(1)])

    class Raising(np.float32):
        def item(self):
            raise ZeroDivisionError

        dtype = property(item)

    with pytest.raises(ZeroDivisionError):
        dl.tensor([Raising(1)])
    with pytest.raises(ZeroDivisionError):
        dl.tensor([[1.0], Raising(1)])


def test_another_thread_that_changes_the_list():
    rows = [[float(i) for i in range(50)] for _ in range(50)]
    stop = threading.Event()

    def change():
        for i in itertools.cycle(range(50)):
            if stop.is_set():
                return
            rows[i].append(1.0)
            rows[i].pop()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            try:
                assert dl.tensor(rows).shape == (50, 50)
            except ValueError as error:
                assert "ragged" in str(error) or "changed" in str(error)
    finally:
        stop.set()
        thread.join()


def test_reading_can_be_interrupted():
    numbers = [[[1.0]] * 1000] * 1000
    for _ in range(3):
        numbers = [numbers] * 50  # more numbers than the memory could hold

    def interrupt(*_):
        raise InterruptedError

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(InterruptedError):
            dl.tensor(numbers)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_failures_leak_nothing():
    marker = object()
    before = sys.getrefcount(marker), sys.getrefcount(None)
    for _ in range(100):
        with pytest.raises(TypeError):
            dl.tensor([[1.0, 2.0], [3.0, marker]])
    assert sys.getrefcount(marker) == before[0]


@pytest.mark.parametrize(
    "dtype", ["f4", "float", "", 5, [], np.dtype(">f4"), np.str_, "float33", object()]
)
def test_unknown_dtypes(dtype):
    for x in [1.0], np.zeros(2):
        with pytest.raises(TypeError, match="is not an element type"):
            dl.tensor(x, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "int4", "complex32", torch.float8_e5m2])
def test_types_that_numbers_cannot_have(dtype):
    with pytest.raises(TypeError, match="can't make elements of type"):
        dl.tensor([1], dtype=dtype)


def test_arrays_keep_their_type():
    array, x = np.zeros((2, 3), np.float32), torch.zeros(2, 3)
    for same in ["float32", np.float32, torch.float32, dl.tensor(x).dtype]:
        for source in array, x, dl.tensor(x), array.astype(">f4"):
            copied = dl.tensor(source, dtype=same)
            assert copied.shape == (2, 3) and copied.dtype == "float32"
    for source, remedy in [
        (array, r"x\.astype\('float16'\)"),
        (x, r"x\.to\(torch\.float16\)"),
        (dl.tensor(x), r"x\.torch\(\)\.to"),
        (memoryview(array), r"numpy\.asarray\(x\)\.astype\('float16'\)"),
    ]:
        with pytest.raises(TypeError, match=f"float32, and tensor.* casts only numbers.*{remedy}"):
            dl.tensor(source, dtype="float16")
    assert dl.tensor(torch.zeros(2, dtype=torch.float8_e5m2), dtype=torch.float8_e5m2).numel() == 2


def test_devices():
    for device in ["cpu", "cpu:0", torch.device("cpu"), (1, 0), None]:
        assert dl.tensor([1], device=device).device == "cpu"
        assert dl.tensor(np.zeros(2), device=device).device == "cpu"
    for x in [1], np.zeros(2):
        with pytest.raises(ValueError, match="device 'tpu'"):
            dl.tensor(x, device="tpu")
        with pytest.raises(TypeError, match="not a dtype"):
            dl.tensor(x, device=torch.float32)
    with pytest.raises(TypeError):
        dl.tensor([1], "float32")


WITHOUT = """
import sys
sys.modules["numpy"] = sys.modules["torch"] = None
import dlbridge as dl
t = dl.tensor([[1, 2.5], (True, 3)], dtype="float32")
assert t.tolist() == [[1.0, 2.5], [1.0, 3.0]] and t.dtype == "float32"
assert dl.tensor([1, 2], dtype=float).dtype == "float64" and dl.tensor(1j).item() == 1j
assert dl.contiguous(t) is t and format(dl.tensor(2.0), ".2f") == "2.00"
try:
    dl.tensor([1, "a"])
except TypeError:
    print("refused")
"""


def test_lists_need_no_numpy():
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=100
    )
    assert run.stdout == "refused\n", run.stderr
