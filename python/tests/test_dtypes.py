"""`Tensor.dtype`: a `str` that equals the element types of NumPy, PyTorch and JAX too."""

import copy
import gc
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

import dlbridge as dl
from producer import HostileProducer

NAMES = ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]
NAMES += ["float16", "float32", "float64", "complex64", "complex128"]


def dtype_of(name):
    return dl.tensor(np.zeros(2, name)).dtype


@pytest.mark.parametrize("name", NAMES)
def test_a_dtype_equals_those_of_all_libraries(name):
    dtype = dtype_of(name)
    equal = [name, getattr(torch, name), getattr(np, name), np.dtype(name), np.dtype(name).type]
    for other in [*equal, dl.DType(name), dl.tensor(np.zeros(1, name)).dtype]:
        assert dtype == other and other == dtype
        assert not dtype != other and not other != dtype
    for wrong in set(NAMES) - {name}:
        for other in wrong, getattr(torch, wrong), getattr(np, wrong), np.dtype(wrong):
            assert dtype != other and other != dtype
            assert not dtype == other and not other == dtype


@pytest.mark.parametrize("name", NAMES)
def test_a_dtype_is_a_str(name):
    dtype = dtype_of(name)
    assert isinstance(dtype, str) and issubclass(dl.DType, str) and type(dtype) is dl.DType
    assert repr(dtype) == repr(name) and str(dtype) == name and type(str(dtype)) is str
    assert f"{dtype}" == name and f"{dtype:>12}" == f"{name:>12}" and "%s" % dtype == name
    assert hash(dtype) == hash(name) and {name: 5}[dtype] == 5 and {dtype: 5}[name] == 5
    assert len({dtype, name, dl.DType(name)}) == 1 and dtype in {name}
    assert np.dtype(dtype) == np.dtype(name) and getattr(torch, dtype) is getattr(torch, name)
    assert np.zeros(2, dtype=dtype).dtype == name
    assert json.loads(json.dumps({"dtype": dtype})) == {"dtype": name}
    assert (
        dtype.startswith(name[:3]) and dtype + "!" == name + "!" and sorted([dtype, ""])[1] == name
    )
    assert (dtype < "zzz") and not (dtype < "") and dtype >= name and name <= dtype


def test_dtypes_in_membership_and_match():
    dtype = dtype_of("float32")
    assert dtype in (torch.float16, torch.float32) and dtype in [np.float32]
    assert dtype not in (torch.float16, np.float64, "float")
    match dtype:
        case torch.float16:
            raise AssertionError
        case torch.float32:
            pass
        case _:
            raise AssertionError
    # PyTorch hashes its types by identity, so sets and dicts of them do not find a `str`.
    assert dtype not in {torch.float32: 1} and getattr(torch, dtype) in {torch.float32: 1}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["float32", "bool"])
def test_copies_and_pickles_stay_dtypes(name, protocol):
    dtype = dtype_of(name)
    copied = [pickle.loads(pickle.dumps(dtype, protocol)), copy.copy(dtype), copy.deepcopy(dtype)]
    for other in copied:
        assert type(other) is dl.DType and other == dtype == getattr(torch, name) == other


def test_a_type_without_a_name_is_pickled_as_str():
    dtype = dl.from_dlpack(HostileProducer(dtype=(2, 32, 4))).dtype
    assert type(dtype) is dl.DType and dtype == "float32x4"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(dtype, protocol)) == "float32x4"


def test_types_of_pytorch_and_ml_dtypes():
    half = dl.from_dlpack(torch.zeros(2, dtype=torch.bfloat16))
    assert half.dtype == torch.bfloat16 and half.dtype != torch.float16
    eighth = dl.from_dlpack(torch.zeros(2, dtype=torch.float8_e4m3fn))
    assert eighth.dtype == torch.float8_e4m3fn != torch.float8_e5m2 and eighth.dtype != "int8"
    assert eighth.dtype != torch.float8_e5m2
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert half.dtype == ml_dtypes.bfloat16 == half.dtype
    assert half.dtype == np.dtype(ml_dtypes.bfloat16) == half.dtype
    assert half.dtype != ml_dtypes.float8_e4m3fn and half.dtype != np.dtype(ml_dtypes.int4)


@pytest.mark.filterwarnings("ignore")
def test_every_type_of_pytorch_that_can_be_shared_is_equal():
    for name in dir(torch):
        dtype = getattr(torch, name)
        if not isinstance(dtype, torch.dtype):
            continue
        try:
            tensor = dl.from_dlpack(torch.empty(2, dtype=dtype))
        except (BufferError, TypeError, RuntimeError, ValueError):
            continue
        assert tensor.dtype == dtype and dtype == tensor.dtype, name
        assert dl.DType(dtype) == tensor.dtype


def test_types_of_jax():
    jnp = pytest.importorskip("jax.numpy")
    for name in ["float32", "bfloat16", "int8", "uint32", "bool_"]:
        tensor = dl.from_dlpack(jnp.zeros(2, getattr(jnp, name)))
        assert tensor.dtype == getattr(jnp, name) and tensor.dtype == jnp.zeros(2, name).dtype
        assert tensor.dtype != jnp.float16
        assert jnp.zeros(2, tensor.dtype).dtype == getattr(jnp, name)


def test_types_that_only_look_alike_are_not_equal():
    dtype = dtype_of("int32")
    swapped = np.dtype("int32").newbyteorder()
    assert swapped.name == "int32" and dtype != swapped and swapped != dtype
    for other in [None, 4, 32, b"int32", object(), "i4", "<i4", "torch.int32", "INT32", np.integer]:
        assert dtype != other and other != dtype and not dtype == other
    for other in [np.number, np.generic, np.str_, np.longdouble, np.datetime64, int.__class__]:
        assert dtype != other and other != dtype
    structured = np.dtype([("int32", "i4")])
    assert dtype != structured and structured != dtype


def test_python_types_are_those_of_numpy():
    for python, name in [
        (bool, "bool"),
        (int, "int64"),
        (float, "float64"),
        (complex, "complex128"),
    ]:
        assert np.dtype(name) == python and dtype_of(name) == python and python == dtype_of(name)
        assert dtype_of("float32") != python


def test_arrays_are_compared_by_their_own_library():
    answer = dtype_of("int32") == np.array(["int32", "int8"])
    assert answer.tolist() == [True, False]


def test_the_class_makes_dtypes():
    for given in ["float32", torch.float32, np.float32, np.dtype("float32"), dtype_of("float32")]:
        made = dl.DType(given)
        assert type(made) is dl.DType and made == "float32" == made
    assert dl.DType(float) == "float64" and dl.DType("bfloat16") == torch.bfloat16
    for wrong in [
        "f4",
        "float",
        "",
        "float32\0",
        "flöat32",
        "float24",
        "float32x4",
        "x" * 10_000,
        "\ud800",
    ]:
        with pytest.raises(TypeError, match="element type"):
            dl.DType(wrong)
    for wrong in [
        None,
        5,
        np.zeros(2),
        np.dtype(">i4"),
        np.str_,
        torch.float32.__class__,
        np.number,
    ]:
        with pytest.raises(TypeError, match="element type"):
            dl.DType(wrong)
    with pytest.raises(TypeError, match="argument"):
        dl.DType()
    with pytest.raises(TypeError, match="argument"):
        dl.DType("float32", "utf-8")
    with pytest.raises(TypeError, match="argument"):
        dl.DType(dtype="float32")
    with pytest.raises(TypeError):
        type("Mine", (dl.DType,), {})
    with pytest.raises(TypeError):
        str.__new__(dl.DType, "float32")


def test_hostile_types_raise_their_own_errors():
    class Meta(type):
        @property
        def dtype(cls):
            raise ZeroDivisionError

    class Hostile(metaclass=Meta):
        pass

    with pytest.raises(ZeroDivisionError):
        _ = dtype_of("int32") == Hostile

    class Endless(type):
        @property
        def dtype(cls):
            return cls

    assert dtype_of("int32") != Endless("Endless", (), {})

    class Reflected:
        def __eq__(self, other):
            return "reflected"

    assert (dtype_of("int32") == Reflected()) == "reflected"

    class Named(str):
        __slots__ = ()

        def __eq__(self, other):
            return "reflected"

        __hash__ = str.__hash__

    assert dtype_of("int32") == Named("int32")


def test_a_dtype_attribute_keeps_no_memory():
    tensor = dl.from_dlpack(HostileProducer(dtype=(2, 32, 4)))
    dtype = tensor.dtype
    del tensor
    gc.collect()
    for _ in range(2):  # the first round warms the interpreter's caches
        before = sys.getrefcount(dl.DType)
        made = [dl.DType("float32") for _ in range(100)]
        during = sys.getrefcount(dl.DType)
        del made
        after = sys.getrefcount(dl.DType)
    assert (during - before, after - before) == (100, 0) and dtype == "float32x4"
    with pytest.raises(AttributeError):
        dtype.name = "other"


WITHOUT = """
import sys
sys.modules["numpy"] = sys.modules["torch"] = None
import array, pickle, dlbridge as dl
dtype = dl.from_dlpack(array.array("f", [1.0])).dtype
assert dtype == "float32" and dtype != "float64" and dtype != 5 and dtype != float
assert pickle.loads(pickle.dumps(dtype)) == dtype
assert not {"numpy", "torch"} & {name for name, module in sys.modules.items() if module}
"""


def test_dtypes_need_no_library():
    subprocess.run([sys.executable, "-c", WITHOUT], check=True, timeout=100)


def test_torch_loads_a_dtype_once_its_class_is_safe(tmp_path):
    file = tmp_path / "saved"
    torch.save({"dtype": dtype_of("float32")}, file)
    with pytest.raises(pickle.UnpicklingError, match="DType"):
        torch.load(file)
    with torch.serialization.safe_globals([dl.DType]):
        assert torch.load(file) == {"dtype": "float32"}
    torch.save({"dtype": str(dtype_of("float32"))}, file)
    assert torch.load(file) == {"dtype": "float32"}
