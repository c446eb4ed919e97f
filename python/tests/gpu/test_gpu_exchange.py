"""Libraries share memory of a device, which does not move."""

import itertools
import pickle

import numpy as np
import pytest
from elements import BROKEN, NARROW, WHOLE, Interface, content, elements, same, steps

import dlbridge as dl

torch = pytest.importorskip("torch")

VIEWS = {
    "row-major": lambda x: x,
    "transposed": lambda x: x.T,
    "every other": lambda x: x[1:, ::2],
    "a row": lambda x: x[1],
    "a column": lambda x: x[:, 2],
    "0-d": lambda x: x[1, 2],
    "empty": lambda x: x[:0],
}
# What `__cuda_array_interface__` can say.
PLAIN = [*WHOLE, *BROKEN]
# JAX makes narrower types of wider ones unless it is told otherwise.
OF_JAX = [
    "bool",
    "int8",
    "int16",
    "int32",
    "uint8",
    "uint16",
    "uint32",
    "float16",
    "float32",
    "bfloat16",
    "complex64",
]


def in_place(tensor, array, address):
    """That a tensor shares an array's memory, by what it says of it."""
    assert tensor.device == "cuda:0"
    assert tensor.__dlpack_device__() == (2, 0)
    assert tensor.shape == tuple(array.shape)
    if tensor.numel() > 0:
        assert tensor.data_ptr() == address


def arrays_of(cupy, x):
    """The same elements in CuPy's own memory."""
    return cupy.array(x.cpu().numpy())


# -- PyTorch
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", [*PLAIN, *NARROW])
def test_torch_round_trip(dtype, view):
    x = VIEWS[view](elements((4, 6), dtype))
    tensor = dl.from_dlpack(x)
    in_place(tensor, x, x.data_ptr())
    assert (tensor.dtype, tensor.readonly) == (dtype, False)
    assert steps(tensor, tensor.stride()) == steps(x, x.stride())
    for back in (tensor.torch(), torch.from_dlpack(tensor)):
        assert same(back, x)
        assert steps(back, back.stride()) == steps(x, x.stride())
        if x.numel() > 0:
            assert back.data_ptr() == x.data_ptr()


def test_writes_are_seen_by_both_libraries():
    x = torch.zeros(4, 6, device="cuda")
    tensor = dl.from_dlpack(x.T)
    tensor.torch()[2, 3] = 7.0
    assert x[3, 2].item() == 7.0
    x.fill_(5.0)
    assert (tensor.numpy(force=True) == 5.0).all()


def test_tensors_that_torch_does_not_export_are_refused():
    with pytest.raises(BufferError, match="gradient"):
        dl.from_dlpack(torch.zeros(2, device="cuda", requires_grad=True))
    with pytest.raises(BufferError, match="onjugate"):
        dl.from_dlpack(torch.zeros(2, device="cuda", dtype=torch.complex64).conj())
    with pytest.raises(BufferError, match="negative"):
        dl.from_dlpack(torch.zeros(2, device="cuda", dtype=torch.complex64).conj().imag)


# -- CuPy
# ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", PLAIN)
def test_cupy_round_trip(cupy, dtype, view):
    c = VIEWS[view](arrays_of(cupy, elements((4, 6), dtype)))
    tensor = dl.from_dlpack(c)
    in_place(tensor, c, c.data.ptr)
    assert tensor.dtype == dtype
    for back in (cupy.from_dlpack(tensor), cupy.asarray(tensor)):
        assert (back.dtype, back.shape) == (c.dtype, c.shape)
        assert content(back) == content(c)
        assert steps(back, back.strides) == steps(c, c.strides)
        if c.size > 0:
            assert back.data.ptr == c.data.ptr


@pytest.mark.parametrize("view", VIEWS)
def test_torch_to_cupy_round_trip(cupy, view):
    x = VIEWS[view](elements((4, 6), "float32"))
    c = cupy.from_dlpack(dl.from_dlpack(x))
    back = dl.from_dlpack(c).torch()
    assert same(back, x)
    if x.numel() > 0:
        assert x.data_ptr() == c.data.ptr == back.data_ptr()


def test_negative_strides_are_copied_only_for_libraries_without_them(cupy):
    c = cupy.arange(12, dtype="float32").reshape(3, 4)[::-1]
    tensor = dl.from_dlpack(c)
    in_place(tensor, c, c.data.ptr)
    assert tensor.stride() == (-4, 1)
    with pytest.raises(ValueError, match="negative"):
        tensor.torch()
    copy = torch.from_dlpack(tensor)
    assert copy.data_ptr() != tensor.data_ptr()
    shared = cupy.asarray(tensor)
    assert shared.data.ptr == c.data.ptr
    assert content(copy) == content(shared) == content(tensor) == content(c)


# -- the CUDA array interface
# ----------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int16", "int64", "float16", "float32", "float64", "complex64"]
)
def test_cuda_array_interface_of_torch(dtype, view):
    x = VIEWS[view](elements((4, 6), dtype))
    tensor = dl.from_dlpack(Interface(x))
    in_place(tensor, x, x.data_ptr())
    assert tensor.dtype == dtype
    assert content(tensor) == content(x)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", PLAIN)
def test_cuda_array_interface_of_cupy(cupy, dtype, view):
    c = VIEWS[view](arrays_of(cupy, elements((4, 6), dtype)))
    tensor = dl.from_dlpack(Interface(c))
    in_place(tensor, c, c.data.ptr)
    assert tensor.dtype == dtype
    assert content(tensor) == content(c)


@pytest.mark.parametrize("view", VIEWS)
def test_cuda_array_interface_of_dlbridge(view):
    x = VIEWS[view](elements((4, 6), "float32"))
    interface = dl.from_dlpack(x).__cuda_array_interface__
    assert (interface["version"], interface["typestr"], interface["stream"]) == (3, "<f4", 1)
    assert interface["shape"] == tuple(x.shape)
    assert interface["data"] == (x.data_ptr() if x.numel() else 0, False)
    y = torch.as_tensor(Interface(dl.from_dlpack(x)), device="cuda")
    assert same(y, x)
    if x.numel() > 0:
        assert y.data_ptr() == x.data_ptr()
    with pytest.raises(AttributeError, match="cuda"):
        _ = dl.from_dlpack(x.cpu()).__cuda_array_interface__
    assert not hasattr(dl.from_dlpack(x.cpu()), "__cuda_array_interface__")


def test_cuda_array_interface_keeps_its_memory():
    x = torch.full((1 << 20,), 3.0, device="cuda")
    tensor = dl.from_dlpack(Interface(x))
    del x
    torch.full((1 << 20,), 4.0, device="cuda")
    assert (tensor.numpy(force=True) == 3.0).all()


# -- JAX
# -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", OF_JAX)
def test_jax_round_trip(jax, dtype):
    x = elements((4, 6), dtype)
    j = jax.dlpack.from_dlpack(dl.from_dlpack(x))
    assert (str(j.dtype), j.shape, content(j)) == (dtype, (4, 6), content(x))
    assert j.unsafe_buffer_pointer() == x.data_ptr()
    tensor = dl.from_dlpack(j)
    in_place(tensor, j, x.data_ptr())
    assert tensor.dtype == dtype
    assert content(tensor) == content(x)


@pytest.mark.parametrize("dtype", OF_JAX)
def test_memory_made_by_jax_is_shared(jax, dtype):
    host = np.frombuffer(content(elements((4, 6), dtype)), jax.numpy.dtype(dtype)).reshape(4, 6)
    j = jax.device_put(host, jax.devices("cuda")[0])
    tensor = dl.from_dlpack(j)
    in_place(tensor, j, j.unsafe_buffer_pointer())
    y = tensor.torch()
    assert y.data_ptr() == j.unsafe_buffer_pointer()
    assert content(y) == content(j) == host.tobytes()


def test_dlbridge_memory_is_shared_with_every_library(cupy, jax):
    tensor = dl.from_numpy(np.arange(24, dtype=np.float32).reshape(4, 6)).cuda()
    x, c, j = torch.from_dlpack(tensor), cupy.from_dlpack(tensor), jax.dlpack.from_dlpack(tensor)
    assert x.data_ptr() == c.data.ptr == j.unsafe_buffer_pointer() == tensor.data_ptr()
    assert content(x) == content(c) == content(j) == np.arange(24, dtype=np.float32).tobytes()


# -- what a tensor on a device does and does not
# ---------------------------------------------------------------


def test_host_access_to_a_device_tensor_is_refused():
    x = torch.arange(6.0, device="cuda").reshape(2, 3)
    tensor = dl.from_dlpack(x)
    assert repr(tensor) == "dlbridge.Tensor(..., shape=(2, 3), dtype=float32, device=cuda:0)"
    assert not tensor.is_pinned()
    assert tensor.cuda() is tensor and tensor.cuda(0) is tensor and tensor.to("cuda") is tensor
    assert tensor.contiguous() is tensor
    for reader in (tensor.numpy, tensor.tolist):
        with pytest.raises(TypeError, match="cpu"):
            reader()
    with pytest.raises(BufferError, match="cpu"):
        pickle.dumps(tensor)
    with pytest.raises((BufferError, TypeError)):
        memoryview(tensor)
    assert (tensor.numpy(force=True) == x.cpu().numpy()).all()


def test_consumers_may_request_the_host_or_a_copy():
    x = torch.arange(6.0, device="cuda").reshape(2, 3)
    tensor = dl.from_dlpack(x.T)
    assert (np.from_dlpack(tensor, device="cpu") == x.T.cpu().numpy()).all()
    for host in (
        dl.from_dlpack(x.T, device="cpu"),
        dl.from_dlpack(tensor, device="cpu"),
        tensor.to("cpu"),
    ):
        assert (host.device, host.tolist()) == ("cpu", x.T.tolist())
    for copy in (torch.from_dlpack(tensor, copy=True), tensor.to("cuda", copy=True).torch()):
        assert copy.data_ptr() != x.data_ptr() and same(copy, x.T)
    with pytest.raises((BufferError, ValueError, RuntimeError)):
        dl.from_dlpack(x, device="cpu", copy=False)


def test_copies_have_the_type_of_their_source(cupy):
    x = elements((4, 6), "float32")
    copy = dl.clone(x.T)
    assert isinstance(copy, torch.Tensor) and copy.is_cuda and same(copy, x.T)
    assert copy.stride() == x.T.clone().stride()
    copy = dl.contiguous(x.T)
    assert copy.is_contiguous() and same(copy, x.T)
    assert dl.contiguous(x) is x
    c = arrays_of(cupy, x)
    copy = dl.clone(c.T)
    assert isinstance(copy, cupy.ndarray) and content(copy) == content(c.T)
    copy = dl.tensor(x.T)
    assert copy.device == "cuda:0" and same(copy.torch(), x.T)


# -- lifetimes
# -------------------------------------------------------------------------------------------------

ORIGINS = {
    "PyTorch's": lambda cupy, x: x.clone(),
    "CuPy's": lambda cupy, x: arrays_of(cupy, x),
    "ours": lambda cupy, x: dl.from_dlpack(x.cpu()).cuda(),
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_handles_are_dropped_in_any_order(cupy, origin):
    x = elements((64, 64), "float32")
    expected = content(x)
    before = torch.cuda.memory_allocated(), cupy.get_default_memory_pool().used_bytes()
    for order in itertools.permutations(range(5)):
        first = ORIGINS[origin](cupy, x)
        tensor = dl.from_dlpack(first)
        handles = {0: first, 1: tensor, 2: torch.from_dlpack(tensor), 3: cupy.from_dlpack(tensor)}
        handles[4] = dl.from_dlpack(handles[3])
        del first, tensor
        for number in order:
            del handles[number]
            # Memory that was freed too early is overwritten here.
            torch.zeros_like(x), cupy.zeros((64, 64), "float32"), dl.from_dlpack(x).clone().cpu()
            for array in handles.values():
                assert content(array) == expected
    assert (torch.cuda.memory_allocated(), cupy.get_default_memory_pool().used_bytes()) == before


def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS"))


def usage(cupy):
    """What is in use: by PyTorch, by CuPy, on the device, and on the host."""
    torch.cuda.synchronize()
    ours = torch.cuda.memory_allocated(), cupy.get_default_memory_pool().used_bytes()
    return ours, torch.cuda.mem_get_info()[0], resident()


ROUNDS = 10_000
MB = 1 << 20
HAND_OVERS = {
    "from PyTorch": lambda s: dl.from_dlpack(s.x),
    "to PyTorch": lambda s: torch.from_dlpack(s.tensor),
    "PyTorch to CuPy": lambda s: s.cupy.from_dlpack(dl.from_dlpack(s.x)),
    "CuPy to PyTorch": lambda s: torch.from_dlpack(dl.from_dlpack(s.c)),
    "a capsule that no consumer takes": lambda s: s.tensor.__dlpack__(
        stream=s.stream, max_version=(1, 0)
    ),
    "the interface in": lambda s: dl.from_dlpack(Interface(s.c)),
    "the interface out": lambda s: s.cupy.asarray(s.tensor),
    "to a device": lambda s: s.host.cuda(),
    "to the host": lambda s: s.tensor.cpu(),
    "clone": lambda s: s.tensor.clone(),
    "copyto": lambda s: dl.copyto(s.x, s.host),
    "new memory on another stream": lambda s: s.host.cuda().__dlpack__(
        stream=s.stream, max_version=(1, 0)
    ),
}


class Subjects:
    def __init__(self, cupy):
        self.cupy, self.x = cupy, elements((64, 64), "float32")
        self.c, self.tensor = arrays_of(cupy, self.x), dl.from_dlpack(self.x)
        self.host = dl.from_dlpack(self.x.cpu())
        self.owner = torch.cuda.Stream()
        self.stream = self.owner.cuda_stream


def flat(cupy, exchange):
    for _ in range(ROUNDS // 5):
        exchange()
    before, free, size = usage(cupy)
    for _ in range(ROUNDS):
        exchange()
    after, free_now, size_now = usage(cupy)
    assert after == before
    # A leak of one tensor an exchange would be 160 MB.
    assert free_now >= free - 64 * MB
    assert size_now <= size + 16 * MB


@pytest.mark.parametrize("exchange", HAND_OVERS)
def test_memory_use_does_not_grow(cupy, exchange):
    subjects = Subjects(cupy)
    flat(cupy, lambda: HAND_OVERS[exchange](subjects))


@pytest.mark.parametrize("way", ["to JAX", "from JAX"])
def test_memory_use_does_not_grow_with_jax(cupy, jax, way):
    tensor = dl.from_dlpack(elements((64, 64), "float32"))
    j = jax.device_put(np.ones((64, 64), np.float32), jax.devices("cuda")[0])
    ways = {
        "to JAX": lambda: jax.dlpack.from_dlpack(tensor),
        "from JAX": lambda: dl.from_dlpack(j).torch(),
    }
    flat(cupy, ways[way])


def test_pinned_memory_use_does_not_grow():
    host = dl.from_numpy(np.ones(1 << 20, np.uint8))
    for _ in range(20):
        host.pin_memory()
    size = resident()
    for _ in range(500):
        host.pin_memory()
    assert resident() <= size + 16 * MB
