"""Conversions of NumPy and PyTorch, beside the same conversions with dlbridge.

Both must give the same results. Other tests compare the refusals, and cases that PyTorch handles wrongly.
"""

import numpy as np
import pytest
import torch

import dlbridge as dl
from producer import HostileProducer

# Each line of NumPy or PyTorch, and the line of dlbridge if it differs.
EQUIVALENTS = {
    "one element is a number": [
        (
            "u = torch.tensor(53, dtype=torch.uint8)",
            "u = dl.from_dlpack(torch.tensor(53, dtype=torch.uint8))",
        ),
        "print(int(u), float(u), complex(u), bool(u), [*range(60)][u], np.float64(u))",
        "a = np.zeros(2); a[0] = u; print(a, np.array([u, 2]))",
        ("f = torch.tensor([2.5])", "f = dl.from_dlpack(torch.tensor([2.5]))"),
        "print(int(f), float(f), bool(f))",
        ("z = torch.tensor([False])", "z = dl.from_dlpack(torch.tensor([False]))"),
        "print(bool(z))",
    ],
    "an array becomes a tensor by copy": [
        "a = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)",
        ("t = torch.tensor(a)", "t = dl.tensor(a)"),
        "a[0, 0] = 100",
        "print(t.tolist(), tuple(t.shape), t.stride())",
        "print(t.data_ptr() == a.ctypes.data)",
        ("print(torch.tensor(a.T).stride())", "print(dl.tensor(a.T).stride())"),
    ],
    "an array becomes a tensor that shares its memory": [
        "a = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)",
        ("t = torch.from_numpy(a)", "t = dl.from_numpy(a)"),
        "a[0, 0] = 100",
        "print(t.tolist(), t.data_ptr() == a.ctypes.data)",
        ("t[1, 1] = -1", "t.torch()[1, 1] = -1"),
        "print(a)",
        ("print(torch.from_numpy(a.T).stride())", "print(dl.from_numpy(a.T).stride())"),
        ("t = torch.as_tensor(a)", "t = dl.from_dlpack(a)"),
        "print(t.tolist())",
    ],
    "a tensor becomes an array": [
        (
            "t = torch.tensor([[1.0, 2.0], [3.0, 4.0]])",
            "t = dl.from_dlpack(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))",
        ),
        "n = t.numpy()",
        "n[0, 0] = 5",
        "print(t.tolist(), n.dtype, n.shape, n.strides)",
        ("t.add_(1)", "t.torch().add_(1)"),
        "print(n)",
        "print(np.asarray(t), np.array(t, dtype=np.int64), t.numpy(force=True))",
        "print(n.ctypes.data == t.data_ptr())",
    ],
    "a tensor becomes a list": [
        (
            "t = torch.tensor([[1, 2], [3, 4]])",
            "t = dl.from_dlpack(torch.tensor([[1, 2], [3, 4]]))",
        ),
        "print(t.tolist(), type(t.tolist()[0][0]))",
        ("print(torch.tensor(0.1).tolist())", "print(dl.from_dlpack(torch.tensor(0.1)).tolist())"),
        ("print(torch.tensor([7]).item())", "print(dl.from_dlpack(torch.tensor([7])).item())"),
        (
            "print(torch.empty(0, 3).tolist(), torch.empty(3, 0).tolist())",
            "print(dl.from_dlpack(torch.empty(0, 3)).tolist(), dl.from_dlpack(torch.empty(3, 0)).tolist())",
        ),
    ],
    "a tensor leaves the GPU, or is on the host already": [
        ("t = torch.tensor([1.0, 2.0])", "t = dl.from_dlpack(torch.tensor([1.0, 2.0]))"),
        "print(t.cpu() is t, t.to('cpu') is t, t.to(torch.device('cpu')) is t)",
        "print(t.cpu().numpy(), t.to('cpu', copy=True).data_ptr() == t.data_ptr())",
    ],
    "a tensor is cloned": [
        (
            "t = torch.tensor([[1.0, 2.0], [3.0, 4.0]])",
            "t = dl.from_dlpack(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))",
        ),
        "c = t.clone()",
        ("t[0, 0] = 100", "t.torch()[0, 0] = 100"),
        "print(c.tolist(), t.tolist(), c.data_ptr() == t.data_ptr())",
        ("c = t.t().clone()", "c = dl.from_dlpack(t.torch().t()).clone()"),
        "print(c.stride(), c.contiguous().stride(), c.contiguous().tolist(), t.contiguous() is t)",
        (
            "c = t.clone(memory_format=torch.contiguous_format)",
            "c = t.clone(memory_format='contiguous_format')",
        ),
        "print(c.is_contiguous(), c.numel(), c.ndim, c.nbytes, c.stride(0), c.stride(-1))",
        "c = t.clone(memory_format=torch.contiguous_format)",
    ],
}


@pytest.mark.parametrize("section", EQUIVALENTS)
def test_output_matches_numpy_and_pytorch(section):
    known, here = [], []
    spaces = [
        {
            "np": np,
            "torch": torch,
            "print": lambda *values: known.append(" ".join(map(str, values))),
        },
        {
            "np": np,
            "torch": torch,
            "dl": dl,
            "print": lambda *values: here.append(" ".join(map(str, values))),
        },
    ]
    for line in EQUIVALENTS[section]:
        for text, space in zip(
            (line, line) if isinstance(line, str) else line, spaces, strict=True
        ):
            exec(text, space)
        assert here == known, line
    assert here


NARROW = {
    "eight": torch.ones(2, dtype=torch.float8_e5m2),
    "packed": torch.empty(2, dtype=torch.float4_e2m1fn_x2),
}
REFUSALS = {
    # The exception of PyTorch, and that of dlbridge: the same class, and the same reason.
    "list": ("torch.from_numpy([1.0])", "dl.from_numpy([1.0])", TypeError, "expected np.ndarray"),
    "object": (
        "torch.from_numpy(np.array([None]))",
        "dl.from_numpy(np.array([None]))",
        TypeError,
        "numpy.object_",
    ),
    "text": (
        "torch.from_numpy(np.array(['a']))",
        "dl.from_numpy(np.array(['a']))",
        TypeError,
        "can't convert np.ndarray",
    ),
    "byte order": (
        "torch.from_numpy(np.ones(2, '>f4'))",
        "dl.from_numpy(np.ones(2, '>f4'))",
        ValueError,
        "byte order different from the native byte order",
    ),
    "field": (
        "torch.from_numpy(np.zeros(3, 'u1,f4')['f1'])",
        "dl.from_numpy(np.zeros(3, 'u1,f4')['f1'])",
        ValueError,
        "not a multiple of the element byte size",
    ),
    "float8": (
        "eight.numpy()",
        "dl.from_dlpack(packed).numpy()",
        TypeError,
        "Got unsupported ScalarType",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_error_messages_match_pytorch(case):
    known, here, error, reason = REFUSALS[case]
    for text in (known, here):
        with pytest.raises(error, match=reason):
            eval(
                text,
                {"np": np, "torch": torch, "dl": dl, **NARROW},
            )


# The deleter must outlive its tensors.
ON_CUDA = HostileProducer(shape=(2, 2), device=(2, 0))


def test_host_access_to_device_memory_is_refused_with_a_remedy():
    tensor = dl.from_dlpack(ON_CUDA)
    assert (tensor.device, tensor.shape) == ("cuda:0", (2, 2))
    sentence = (
        "can't convert cuda:0 device type tensor to numpy. "
        r"Use Tensor.cpu\(\) to copy the tensor to host memory first."
    )
    with pytest.raises(TypeError, match=sentence):
        tensor.numpy()
    reads = [tensor.tolist, lambda: np.asarray(tensor), lambda: memoryview(tensor), tensor.clone]
    for read, refusal in zip(reads, [TypeError, TypeError, BufferError, BufferError], strict=True):
        with pytest.raises(refusal):
            read()
    assert "shape=(2, 2)" in repr(tensor) and "cuda:0" in repr(tensor)


def test_conversions_that_fail_in_pytorch_work():
    reversed_ = np.arange(3.0)[::-1]
    with pytest.raises(ValueError):
        torch.from_numpy(reversed_)
    tensor = dl.from_numpy(reversed_)
    assert tensor.stride() == (-1,) and tensor.tolist() == [2.0, 1.0, 0.0]
    assert tensor.numpy().ctypes.data == reversed_.ctypes.data
    # The strides would make PyTorch abort the process, so dlbridge passes a copy, or refuses.
    assert torch.from_dlpack(tensor).tolist() == [2.0, 1.0, 0.0]
    with pytest.raises(BufferError, match="negative"):
        torch.from_dlpack(tensor, copy=False)
    with pytest.raises(ValueError, match=r"clone\(\)"):
        tensor.torch()
    constant = np.arange(3.0)
    constant.flags.writeable = False
    tensor = dl.from_numpy(constant)
    assert tensor.readonly and not tensor.numpy().flags.writeable
    with pytest.raises(BufferError, match=r"clone\(\)\.torch\(\)"):
        tensor.torch()
    assert tensor.clone().torch().add_(1).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: torch.ones(2, requires_grad=True), "detach"),
        (lambda: torch.nn.Parameter(torch.ones(2)), "gradient"),
        (lambda: torch.tensor([1 + 2j]).conj(), "resolve_conj"),
        (lambda: torch.tensor([1 + 2j]).conj().imag, "resolve_neg"),
        (lambda: torch._neg_view(torch.ones(3, dtype=torch.int64)), "resolve_neg"),
        (lambda: torch.ones(2).to_sparse(), r"torch.sparse_coo: use tensor.to_dense\(\)"),
        (lambda: torch.ones(2, device="meta"), "meta"),
        (lambda: torch.empty(2, dtype=torch.int4), "below a byte"),
        (lambda: torch._efficientzerotensor(3), "memory"),
    ],
)
def test_tensors_with_lazy_state_are_refused(make, reason):
    with pytest.raises(BufferError, match=reason):
        dl.from_dlpack(make())


def test_fake_tensors_are_refused():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        fake = torch.empty(3)
    with pytest.raises((BufferError, RuntimeError)):
        dl.from_dlpack(fake)


def test_subclasses_export_through_their_own_dlpack_method():
    class Doubled(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if function is torch.Tensor.__dlpack__:
                return torch.full((2,), 2.0).__dlpack__(**kwargs)
            return super().__torch_function__(function, types, args, kwargs or {})

    assert dl.from_dlpack(torch.ones(2).as_subclass(Doubled)).tolist() == [2.0, 2.0]


def test_repr_shows_values_dtype_and_device():
    assert repr(dl.tensor(np.array([[1, 2], [3, 4]]))) == (
        "dlbridge.Tensor([[1, 2],\n                 [3, 4]], dtype=int64, device=cpu)"
    )
    assert (
        repr(dl.tensor(np.array(1.5, np.float16)))
        == "dlbridge.Tensor(1.5, dtype=float16, device=cpu)"
    )
    assert (
        repr(dl.tensor(np.zeros((0, 3))))
        == "dlbridge.Tensor([], shape=(0, 3), dtype=float64, device=cpu)"
    )
    numbers = np.array([0.1, 1e30, -np.inf, np.nan, 1e-9], np.float32)
    assert repr(dl.tensor(numbers)).startswith("dlbridge.Tensor([0.1, 1e+30, -inf, nan, 1e-09], ")
    large = repr(dl.tensor(np.arange(10_000).reshape(100, 100)))
    assert "0, 1, 2, ..., 97, 98, 99" in large and large.count("\n") == 6
    everywhere = np.broadcast_to(np.float32(1), (1 << 10,) * 6)
    assert len(repr(dl.from_numpy(everywhere))) < 100_000
    bits = torch.ones(2, dtype=torch.float8_e5m2)
    assert (
        repr(dl.from_dlpack(bits))
        == "dlbridge.Tensor(..., shape=(2,), dtype=float8_e5m2, device=cpu)"
    )


def test_scalar_conversion_needs_one_element():
    tensor = dl.tensor(np.arange(6.0))
    for convert in (bool, int, float, complex):
        with pytest.raises(ValueError, match="6 elements|has 6"):
            convert(tensor)
    for wrong in (tensor, dl.tensor(np.array(1.0)), dl.tensor(np.array([1, 2]))):
        with pytest.raises(TypeError, match="index"):
            [1, 2, 3][wrong]
    # The same as for an ndarray without dimensions: a number, and bytes.
    assert (
        bytes(dl.tensor(np.array(3, np.uint8)))
        == bytes(dl.tensor(np.array([3], np.uint8)))
        == b"\3"
    )


def test_jax_accepts_tensors_as_arrays():
    import jax.numpy as jnp

    for array in (np.arange(3, dtype=np.float32), np.broadcast_to(np.float32(1), (3,))):
        assert jnp.asarray(dl.from_numpy(array)).tolist() == array.tolist()
    assert jnp.asarray(dl.from_dlpack(jnp.arange(3.0))).tolist() == [0.0, 1.0, 2.0]  # read-only


@pytest.mark.parametrize(
    ("call", "error", "reason"),
    [
        (lambda t: t.to("mps"), ValueError, "'mps' is not supported"),
        (lambda t: t.to(torch.float32), TypeError, "not a dtype"),
        (lambda t: t.to("cuda:-1"), ValueError, "not supported"),
        (lambda t: t.cuda(-1), ValueError, "not the index"),
        (lambda t: t.cuda(1 << 40), ValueError, "not the index"),
        (lambda t: t.cuda("cpu"), ValueError, "not a CUDA device"),
        (lambda t: t.clone(memory_format="rows"), ValueError, "'rows' is not supported"),
        (
            lambda t: t.clone(memory_format="channels_last"),
            ValueError,
            "4 dimensions, and the tensor has 2",
        ),
        (lambda t: t.stride(2), IndexError, "out of range"),
        (lambda t: t.item(), ValueError, "needs one element"),
    ],
)
def test_error_messages_name_wrong_arguments(call, error, reason):
    with pytest.raises(error, match=reason):
        call(dl.tensor(np.ones((2, 3))))
