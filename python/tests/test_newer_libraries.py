"""What newer versions of libraries brought: read-only tensors of PyTorch, NumPy's registry of element types, arrays of
Arrow that know what is read-only, and JAX's copies."""

import subprocess
import sys
import warnings

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

import dlbridge as dl

# -- PyTorch's read-only wrapper (2.14)


@pytest.fixture
def wrapped():
    wrapper = getattr(torch.utils.dlpack, "ReadOnlyTensorWrapper", None)
    if wrapper is None:
        pytest.skip("PyTorch before 2.14 has no ReadOnlyTensorWrapper")
    tensor = torch.arange(6.0).reshape(2, 3)
    return tensor, wrapper(tensor)


def test_a_read_only_wrapper_is_shared_as_read_only_memory(wrapped):
    tensor, wrapper = wrapped
    for shared in (
        dl.from_dlpack(wrapper),
        dl.from_dlpack(wrapper, copy=False),
        dl.from_dlpack(wrapper, device="cpu"),
        dl.from_dlpack(wrapper.__dlpack__()),
    ):
        assert shared.readonly and shared.data_ptr() == tensor.data_ptr()
        assert not shared.numpy().flags.writeable and memoryview(shared).readonly
    tensor[0, 0] = 9.0
    assert shared.tolist() == tensor.tolist()


def test_a_view_in_a_read_only_wrapper_keeps_its_strides(wrapped):
    tensor, wrapper = wrapped
    shared = dl.from_dlpack(type(wrapper)(tensor.t()[1:]))
    assert shared.readonly and shared.stride() == (1, 3) and shared.tolist() == [[1, 4], [2, 5]]


def test_a_read_only_wrapper_is_copied_and_not_written(wrapped):
    tensor, wrapper = wrapped
    for copy in (dl.tensor(wrapper), dl.from_dlpack(wrapper, copy=True)):
        assert not copy.readonly and copy.tolist() == tensor.tolist()
        assert copy.data_ptr() != tensor.data_ptr()
    for clone in (dl.clone(wrapper), dl.clone(type(wrapper)(tensor.bfloat16().t()))):
        assert type(clone) is torch.Tensor and clone.data_ptr() != tensor.data_ptr()
    assert clone.dtype is torch.bfloat16 and clone.stride() == (1, 3)
    assert dl.contiguous(wrapper) is wrapper
    assert type(dl.contiguous(type(wrapper)(tensor.t()))) is torch.Tensor
    dl.copyto(tensor, type(wrapper)(torch.ones(2, 3)))
    assert tensor.tolist() == [[1.0] * 3] * 2
    with pytest.raises(ValueError, match="dst is read-only"):
        dl.copyto(wrapper, np.zeros((2, 3), np.float32))
    assert tensor.tolist() == [[1.0] * 3] * 2


def test_read_only_memory_stays_refused_by_torch(wrapped):
    _, wrapper = wrapped
    with pytest.raises(BufferError, match="read-only"):
        dl.from_dlpack(wrapper).torch()
    assert dl.from_dlpack(wrapper).clone().torch().sum() == 15.0


def test_a_tensor_that_torch_exports_as_read_only(wrapped):
    tensor, _ = wrapped
    shared = dl.from_dlpack(tensor.__dlpack__(max_version=(1, 0), read_only=True))
    assert shared.readonly and shared.data_ptr() == tensor.data_ptr()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: torch.ones(2, requires_grad=True), "gradient"),
        (lambda: torch.ones(2, dtype=torch.complex64).conj(), "conjugate"),
        (lambda: torch._neg_view(torch.ones(2)), "negative"),
    ],
)
def test_a_wrapper_of_more_than_a_buffer_is_refused(wrapped, make, reason):
    """Or it has the elements of the tensor: never those of its memory."""
    _, wrapper = wrapped
    tensor = make()
    try:
        shared = dl.from_dlpack(type(wrapper)(tensor))
    except BufferError as error:
        assert reason in str(error)
    else:
        assert shared.tolist() == tensor.detach().resolve_conj().resolve_neg().tolist()


# -- NumPy's registry (2.5). It cannot be undone, so each case runs in a process of its own.

REGISTRY = pytest.mark.skipif(
    not hasattr(np.dtypes, "register_dlpack_dtype"), reason="NumPy before 2.5 has no registry"
)
BEGIN = """
import ml_dtypes, numpy as np, torch, dlbridge as dl
register = np.dtypes.register_dlpack_dtype
def raises(error, call):
    try:
        call()
    except error as raised:
        return str(raised)
    raise AssertionError(f"no {error}")
"""


def in_process(program):
    run = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", BEGIN + program],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@REGISTRY
def test_numpy_takes_tensors_of_registered_types():
    in_process("""
for name, key in ("bfloat16", (4, 16)), ("float8_e4m3fn", (10, 8)), ("float8_e5m2", (12, 8)):
    x = torch.tensor([1.0, 2.0, -0.5], dtype=getattr(torch, name))
    shared = dl.from_dlpack(x)
    raises(BufferError, lambda: np.from_dlpack(shared))
    dtype = np.dtype(getattr(ml_dtypes, name))
    register(key, dtype)
    for array in np.from_dlpack(shared), shared.numpy(), np.asarray(shared):
        assert array.dtype == dtype and array.ctypes.data == x.data_ptr()
        assert array.astype(np.float32).tolist() == [1.0, 2.0, -0.5]
    back = dl.from_dlpack(array)
    assert back.dtype == name and back.data_ptr() == x.data_ptr()
    assert back.torch().dtype is x.dtype
""")


@REGISTRY
def test_types_of_other_packages_are_shared_once_they_are_registered():
    in_process("""
array = np.array([b"a", b"b", b"c"])
raises(BufferError, lambda: dl.from_dlpack(array))
raises(TypeError, lambda: dl.from_numpy(array))
register((7, 8), array.dtype)  # float8_e3m4
for shared in dl.from_dlpack(array), dl.from_numpy(array[::-1]), dl.from_dlpack(array[:0]):
    assert shared.dtype == "float8_e3m4"
    back = shared.numpy()
    assert back.dtype == "S1" and back.ctypes.data == shared.data_ptr() or shared.shape == (0,)
assert dl.from_numpy(array[::-1]).numpy().tolist() == [b"c", b"b", b"a"]
assert dl.clone(array).tolist() == array.tolist()
target = array.copy()
dl.copyto(target, array[::-1])
assert target.tolist() == [b"c", b"b", b"a"]
""")


@REGISTRY
def test_the_registry_precedes_ml_dtypes():
    in_process("""
register((4, 16), np.dtype(np.float16))
shared = dl.from_dlpack(torch.zeros(2, dtype=torch.bfloat16))
assert shared.numpy().dtype == np.float16
assert np.from_dlpack(shared).dtype == np.float16
assert dl.from_dlpack(np.zeros(2, ml_dtypes.bfloat16)).dtype == "bfloat16"
""")


@REGISTRY
def test_a_code_that_dlpack_does_not_have_is_refused():
    in_process("""
register((123, 24), np.dtype("S3"))
array = np.array([b"abc"])
array.__dlpack__()
assert "123" in raises(BufferError, lambda: dl.from_dlpack(array))
""")


@REGISTRY
def test_an_array_that_names_another_type_than_its_own_is_refused():
    in_process("""
register((7, 8), np.dtype("S1"))
class Liar(np.ndarray):
    dtype = np.dtype("S1")
liar = np.zeros(2, "S3").view(Liar)
raises(BufferError, lambda: dl.from_dlpack(liar))
""")


def test_numpy_calls_array_with_copy():
    """NumPy warns if `__array__` does not take `copy`."""
    shared = dl.from_dlpack(torch.ones(2, dtype=torch.bfloat16))  # no buffer of Python
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for copy in (None, False):
            assert np.asarray(shared, copy=copy).ctypes.data == shared.data_ptr()
            assert np.array(shared, copy=copy).ctypes.data == shared.data_ptr()
        assert np.array(shared, copy=True).ctypes.data != shared.data_ptr()
        assert np.asarray(shared, np.float32).tolist() == [1.0, 1.0]
        with pytest.raises(ValueError):
            np.asarray(shared, np.float32, copy=False)
    assert np.asarray(shared).dtype == ml_dtypes.bfloat16


# -- Arrow (26)


@pytest.fixture
def arrow():
    arrow = pytest.importorskip("pyarrow")
    if not hasattr(arrow.Tensor, "from_dlpack"):
        pytest.skip("pyarrow before 26 does not import through DLPack")
    return arrow


def test_arrays_of_arrow_are_shared_as_read_only_memory(arrow):
    array = arrow.array([1.5, 2.5, 3.5])
    address = array.buffers()[1].address
    shared = dl.from_dlpack(array, copy=False)
    assert shared.readonly and shared.data_ptr() == address
    assert dl.from_dlpack(array.slice(1)).data_ptr() == address + 8
    with pytest.raises(BufferError, match="read-only"):
        shared.torch()
    writable = dl.from_dlpack(array, copy=True)
    assert not writable.readonly and writable.torch().tolist() == [1.5, 2.5, 3.5]
    del array
    assert shared.tolist() == [1.5, 2.5, 3.5]
    with pytest.raises(ValueError, match="read-only"):
        dl.copyto(arrow.array([1.0]), np.zeros(1))


def test_tensors_of_arrow_are_writable_if_their_memory_is(arrow):
    memory = np.arange(6.0).reshape(2, 3)
    shared = dl.from_dlpack(arrow.Tensor.from_numpy(memory.T))
    assert (shared.shape, shared.stride()) == ((3, 2), (1, 3))
    assert not shared.readonly and shared.data_ptr() == memory.ctypes.data
    frozen = arrow.Tensor.from_numpy(np.frombuffer(b"abc", np.uint8))
    assert dl.from_dlpack(frozen).readonly


def test_arrow_shares_tensors(arrow):
    tensor = dl.tensor(np.arange(6, dtype=np.int32).reshape(2, 3))
    shared = arrow.Tensor.from_dlpack(tensor)
    assert shared.to_numpy().ctypes.data == tensor.data_ptr() and shared.is_mutable
    assert not arrow.Tensor.from_dlpack(dl.from_dlpack(b"abc")).is_mutable
    row = dl.tensor(np.arange(3.0))
    array = arrow.Array.from_dlpack(row)
    assert array.buffers()[1].address == row.data_ptr() and array.to_pylist() == [0.0, 1.0, 2.0]
    address = row.data_ptr()
    del row
    assert dl.from_dlpack(array).data_ptr() == address and array.to_pylist() == [0.0, 1.0, 2.0]
    reversed_row = dl.from_numpy(np.arange(3.0)[::-1])
    assert arrow.Array.from_dlpack(reversed_row).to_pylist() == [2.0, 1.0, 0.0]
    with pytest.raises(arrow.ArrowInvalid):
        arrow.Array.from_dlpack(dl.tensor(np.array([True])))


def test_arrow_releases_what_it_shares(arrow):
    class Owner(bytearray):
        released = 0

        def __del__(self):
            Owner.released += 1

    shared = arrow.Tensor.from_dlpack(dl.from_dlpack(Owner(8)))
    assert Owner.released == 0 and shared.shape == (8,)
    del shared
    assert Owner.released == 1


# -- JAX


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 3)])
def test_empty_arrays_of_jax(shape):
    array = jnp.zeros(shape)
    for copy in (None, False, True):
        assert dl.from_dlpack(array, copy=copy).shape == shape
        empty = dl.from_numpy(np.zeros(shape, np.float32))
        assert jnp.from_dlpack(empty, copy=copy).shape == shape
        assert jnp.asarray(empty, copy=copy).shape == shape


def test_unaligned_memory_is_copied_by_jax_or_refused():
    memory = np.zeros(64, np.float32)
    start = -memory.ctypes.data // 4 % 16 + 1  # not on a multiple of 64 bytes
    memory = memory[start : start + 3]
    assert memory.ctypes.data % 64 == 4
    shared = dl.from_numpy(memory)
    with pytest.raises(ValueError):
        jnp.from_dlpack(shared, copy=False)
    for array in (jnp.from_dlpack(shared), jnp.asarray(shared)):
        assert array.unsafe_buffer_pointer() != shared.data_ptr()
        assert dl.from_dlpack(array, copy=False).tolist() == [0.0] * 3


@pytest.mark.parametrize("layout", ["broadcast", "gaps", "reversed", "read-only"])
def test_jax_copies_what_it_cannot_share(layout):
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    array = {
        "broadcast": np.broadcast_to(rows[0], (2, 3)),
        "gaps": rows[:, ::2],
        "reversed": rows[::-1],
        "read-only": np.frombuffer(rows.tobytes(), np.float32),
    }[layout]
    shared = dl.from_numpy(array)
    assert jnp.asarray(shared).tolist() == array.tolist()
    assert jnp.array(shared).tolist() == array.tolist()
    assert (jnp.asarray(shared) + 1).tolist() == (array + 1).tolist()


def test_a_failing_export_to_jax_is_no_reason_to_copy():
    moved = torch.ones(1 << 20)
    shared = dl.from_dlpack(moved)
    moved.untyped_storage().resize_(0)
    with pytest.raises(BufferError, match="PyTorch moved the memory"):
        jnp.asarray(shared)
