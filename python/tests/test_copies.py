"""Copies of arrays of every library."""

import threading
import time

import array_api_strict
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
import tvm_ffi

import dlbridge as dl

SHAPE = (4, 6, 10)
NUMBERS = np.arange(np.prod(SHAPE)).reshape(SHAPE)

LAYOUTS = {
    "row-major": lambda a: a,
    "transposed": lambda a: a.T,
    "permuted": lambda a: a.transpose(1, 2, 0),
    "sliced": lambda a: a[::2, 1:, ::3],
    "reversed": lambda a: a[::-1, :, ::-1],
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "column": lambda a: a[:, :1, 3],
    "empty": lambda a: a[:0],
    "scalar": lambda a: a[0, 0, 0:1].reshape(()),
}
DTYPES = [
    bool,
    np.int8,
    np.uint16,
    np.int32,
    np.uint64,
    np.float16,
    np.float32,
    np.float64,
    np.complex64,
    np.complex128,
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_numpy_arrays_are_copied_as_numpy_copies(layout, dtype):
    source = LAYOUTS[layout](NUMBERS.astype(dtype))
    before = source.copy()
    clone, rows = dl.clone(source), dl.contiguous(source)
    for copy, known in (
        (clone, source.copy(order="K")),
        (rows, np.ascontiguousarray(source).reshape(source.shape)),
    ):
        assert type(copy) is np.ndarray and copy.dtype == source.dtype
        assert copy.tobytes() == known.tobytes() and copy.shape == known.shape
        assert layout == "empty" or copy.strides == known.strides
        assert copy.flags.writeable or copy is source
    assert clone.flags.owndata and not np.may_share_memory(clone, source)
    assert (rows is source) == source.flags.c_contiguous
    everything = np.zeros([2 * size for size in source.shape], dtype)
    target = everything[(..., *(slice(None, None, 2) for _ in source.shape))]
    dl.copyto(target, source)
    assert target.tobytes() == source.tobytes()
    assert source.tobytes() == before.tobytes()


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "reversed"])
@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.float32, torch.bfloat16, torch.complex128]
)
def test_torch_tensors_are_copied_as_torch_copies(layout, dtype):
    view = LAYOUTS[layout](NUMBERS)
    source = (
        torch.from_numpy(NUMBERS.copy())
        .to(dtype)
        .as_strided(
            view.shape,
            [stride // 8 for stride in view.strides],
            (view.__array_interface__["data"][0] - NUMBERS.ctypes.data) // 8 if view.size else 0,
        )
    )
    clone, rows = dl.clone(source), dl.contiguous(source)
    for copy, known in ((clone, source.clone()), (rows, source.contiguous())):
        assert (
            type(copy) is torch.Tensor
            and copy.stride() == known.stride()
            and torch.equal(copy, known)
        )
    assert (rows is source) == source.is_contiguous()
    clone.resize_(1000)  # possible because PyTorch owns the memory


def test_clones_are_on_the_host_with_any_torch_default_device():
    with torch.device("meta"):
        clone = dl.clone(torch.ones(3, device="cpu"))
    assert clone.device.type == "cpu" and clone.tolist() == [1.0, 1.0, 1.0]


def test_copies_have_the_type_of_their_argument():
    array = jnp.arange(12.0).reshape(3, 4)
    clone = dl.clone(array)
    assert type(clone) is type(array) and clone.tolist() == array.tolist()
    assert clone.unsafe_buffer_pointer() != array.unsafe_buffer_pointer()
    strict = array_api_strict.asarray([[1.0, 2.0], [3.0, 4.0]])
    assert type(dl.contiguous(array_api_strict.permute_dims(strict, (1, 0)))) is type(strict)
    tensor = tvm_ffi.from_dlpack(torch.ones(2, 3))
    assert type(dl.clone(tensor)) is type(tensor)
    ours = dl.from_numpy(np.arange(6).reshape(2, 3).T)
    assert type(dl.contiguous(ours)) is dl.Tensor and dl.contiguous(ours).tolist() == ours.tolist()
    view = dl.clone(memoryview(b"abc"))
    assert isinstance(view, memoryview) and bytes(view) == b"abc" and not view.readonly


class Plain:
    """Has `__dlpack__`, but belongs to no library."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_copies_of_unknown_producers_are_tensors():
    assert dl.clone(Plain(np.ones(3))).tolist() == [1.0, 1.0, 1.0]


def test_copyto_refuses_invalid_targets():
    source = np.arange(4.0)
    constant = np.zeros(4)
    constant.flags.writeable = False
    everywhere = torch.zeros(1, dtype=torch.float64).expand(4)
    for target, reason in [
        (constant, "read-only"),
        (jnp.zeros(4, jnp.float32), "read-only"),
        (b"        " * 4, "read-only"),
        (np.zeros(5), "shape"),
        (np.zeros(4, np.float32), "float32"),
        (everywhere, "share memory"),
    ]:
        with pytest.raises(ValueError, match=reason):
            dl.copyto(target, source)
    assert everywhere.tolist() == [0.0] * 4
    with pytest.raises(BufferError, match="gradient"):
        dl.copyto(torch.zeros(4, dtype=torch.float64, requires_grad=True), source)
    for wrong in ([1.0], 1.0, None):
        with pytest.raises(TypeError):
            dl.copyto(np.zeros(1), wrong)


def test_copyto_handles_overlapping_memory():
    for target, source in [
        (slice(1, None), slice(None, -1)),
        (slice(None, -1), slice(1, None)),
        (slice(None, None, 2), slice(1, None, 2)),
        (slice(None), slice(None, None, -1)),
        (slice(None), slice(None)),
    ]:
        array, known = np.arange(6.0), np.arange(6.0)
        dl.copyto(array[target], array[source])
        np.copyto(known[target], known[source])
        assert array.tolist() == known.tolist()


def test_copyto_increments_autograds_version():
    weight = torch.ones(3, requires_grad=True)
    factor = torch.ones(3)
    product = (weight * factor).sum()  # saves the factor
    dl.copyto(factor, np.full(3, 2, np.float32))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_copyto_does_not_write_gaps():
    target = np.full((4, 9), 7)
    dl.copyto(target[:, ::2], np.zeros((4, 5), int))
    assert target[:, ::2].sum() == 0 and (target[:, 1::2] == 7).all()


def test_large_copies_release_the_gil():
    source = np.ones((6000, 6000), np.float32).T
    counted, done = [0], threading.Event()

    def count():
        while not done.is_set():
            counted[0] += 1
            time.sleep(0)

    counter = threading.Thread(target=count)
    counter.start()
    try:
        best = 0
        for _ in range(5):
            before = counted[0]
            dl.contiguous(source)
            best = max(best, counted[0] - before)
    finally:
        done.set()
        counter.join()
    # If the copy kept the GIL, the other thread would run only once or twice in between.
    assert best > 20


def test_jax_shares_the_memory_of_clones():
    for size in (1, 3, 1000):
        clone = dl.clone(dl.from_numpy(np.ones(size, np.float32)))
        assert clone.data_ptr() % 256 == 0
        assert jnp.from_dlpack(clone).unsafe_buffer_pointer() == clone.data_ptr()
