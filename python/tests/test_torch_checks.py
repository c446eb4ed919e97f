"""PyTorch tensors that are not plain strided buffers: each kind, in each function that takes an array.

A child process makes the tensors, because reading the wrong memory ends it.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import dlbridge as dl

if not hasattr(os, "fork"):
    pytest.skip("there are no forks here", allow_module_level=True)

# A tensor of each kind, and a part of the message.
KINDS = {
    "zeros without memory": ("torch._efficientzerotensor(4096)", "ZeroTensor"),
    "part of zeros without memory": ("torch._efficientzerotensor(4096)[1024:1032]", "ZeroTensor"),
    "negative bit": ("torch._neg_view(torch.ones(3))", "resolve_neg()"),
    "conjugate bit": ("torch.ones(3, dtype=torch.cfloat).conj()", "resolve_conj()"),
    "requires gradient": ("torch.ones(3, requires_grad=True)", "detach()"),
    "sparse": ("torch.ones(2, 2).to_sparse()", "torch.sparse_coo: use tensor.to_dense()"),
    "compressed rows": ("torch.ones(2, 2).to_sparse_csr()", "torch.sparse_csr"),
    "oneDNN": ("torch.ones(2, 2).to_mkldnn()", "torch._mkldnn: use tensor.to_dense()"),
    "nested": ("torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])", "unbind()"),
    "jagged": (
        "torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)",
        "unbind()",
    ),
    "quantized": ("torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)", "int_repr()"),
    "meta": ("torch.ones(3000, device='meta')[1000:]", "meta"),
    "functional": ("torch._to_functional_tensor(torch.ones(3000))[1000:]", "Functionalize"),
    "fake": ("fake(3000)[1000:]", "without memory"),
    "wrapper of a class": (
        "torch.Tensor._make_wrapper_subclass(Dispatched, (3,), dtype=torch.float32)",
        "memory",
    ),
    "wrapper that says it is of no class": (
        "of_no_class(torch.Tensor._make_wrapper_subclass(Dispatched, (3,), dtype=torch.float32))",
        "(dispatch keys: Python",
    ),
    "zeros of a class": (
        "torch._efficientzerotensor(4096)[1024:1032].as_subclass(Derived)",
        "ZeroTensor",
    ),
    "zeros of a class with a function": (
        "torch._efficientzerotensor(4096)[1024:1032].as_subclass(Logged)",
        "ZeroTensor",
    ),
    "short storage": ("shrunk(1_000_000, 8)", "the storage has 8 bytes"),
    "freed storage": ("shrunk(1_000_000, 0)", "storage"),
    "part of a short storage": ("shrunk(1_000_000, 8, 999_000)", "the storage has 8 bytes"),
    "strides beyond the storage": ("strided(16)", "the storage has 16 bytes"),
    "short storage of a parameter": (
        "torch.nn.Parameter(shrunk(1_000_000, 8), requires_grad=False)",
        "the storage has 8 bytes",
    ),
    "short storage of a class with a function": (
        "shrunk(1_000_000, 8).as_subclass(Logged)",
        "the storage has 8 bytes",
    ),
    "wrapped by vmap": ("inside_vmap()", "FuncTorchBatched"),
}

PREAMBLE = """
import warnings; warnings.simplefilter("ignore")
import sys, numpy as np, torch, dlbridge as dl
class Derived(torch.Tensor): pass
class Dispatched(torch.Tensor):
    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))
class Logged(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return super().__torch_function__(function, types, args, kwargs or {})
def of_no_class(tensor):
    tensor.__class__ = torch.Tensor
    return tensor
def shrunk(count, size, start=0):
    tensor = torch.ones(count)[start:]
    tensor.untyped_storage().resize_(size)
    return tensor
def strided(size):
    tensor = torch.ones(8)[1::3]
    tensor.untyped_storage().resize_(size)
    return tensor
def fake(count):
    from torch._subclasses.fake_tensor import FakeTensorMode
    with FakeTensorMode():
        return torch.ones(count)
def inside_vmap():
    seen = []
    def look(x):
        seen.append(x)
        return x
    torch.vmap(look)(torch.ones(2, 3))
    return seen[0]
"""

REFUSALS = """
import json, os
verbs = {
    "from_dlpack": dl.from_dlpack,
    "tensor": dl.tensor,
    "clone": dl.clone,
    "contiguous": dl.contiguous,
    "copyto from": lambda x: dl.copyto(np.zeros(8, np.float32), x),
    "copyto": lambda x: dl.copyto(x, np.zeros(8, np.float32)),
}
def complaints(source, message):
    x = eval(source)
    for name, verb in verbs.items():
        try:
            verb(x)
        except BufferError as error:
            text = str(error)
            # A remedy that copies would not help a target.
            plain = name == "copyto" and text.endswith("pass a plain strided tensor")
            if message not in text and not plain:
                yield f"{name} says {error}"
        else:
            yield f"{name} takes it"
for kind, (source, message) in json.loads(sys.argv[1]).items():
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, "; ".join(complaints(source, message)).encode())
        os._exit(0)
    os.close(writer)
    told = os.read(reader, 100_000).decode()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([kind, status, told]), flush=True)
"""


def in_child(program, *arguments, seconds=300):
    """Runs a program in its own process, which must exit with status 0; returns what it prints."""
    command = [sys.executable, "-c", PREAMBLE + program, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert run.returncode == 0, (run.returncode, run.stderr)
    return run.stdout


# A PyTorch whose C++ objects dlbridge does not know, so that it calls the Python functions.
OTHER_VERSION = "torch.__version__ = '9.9.9'\n"


@pytest.fixture(scope="module", params=["", OTHER_VERSION], ids=["known", "other version"])
def refusals(request):
    """The exit status and the output of a process for each kind."""
    lines = in_child(request.param + REFUSALS, json.dumps(KINDS)).splitlines()
    return {kind: (status, told) for kind, status, told in map(json.loads, lines)}


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_that_are_not_plain_are_refused(kind, refusals):
    assert refusals[kind] == (0, "")


PLAIN = {
    "ordinary": lambda: torch.arange(6.0).reshape(2, 3),
    "transposed": lambda: torch.arange(6.0).reshape(3, 2).t(),
    "with an offset": lambda: torch.arange(60.0)[7:],
    "empty": lambda: torch.empty(0, 3),
    "without dimensions": lambda: torch.tensor(3.0),
    "end of its storage": lambda: torch.arange(6.0)[::5],
    "broadcast": lambda: torch.ones(1).expand(1000),
    "complex": lambda: torch.ones(3, dtype=torch.cfloat),
    "half": lambda: torch.ones(3, dtype=torch.bfloat16),
    "parameter": lambda: torch.nn.Parameter(torch.arange(3.0), requires_grad=False),
    "detached parameter": lambda: torch.nn.Parameter(torch.arange(3.0)).detach(),
    "inference": lambda: torch.inference_mode()(lambda: torch.arange(3.0))(),
    "no storage left, no elements": lambda: torch.empty(0)[0:0],
    "float8": lambda: torch.ones(3).to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_tensors_are_shared(kind):
    tensor = PLAIN[kind]()
    shared = dl.from_dlpack(tensor)
    assert shared.shape == tuple(tensor.shape) and shared.stride() == tensor.stride()
    assert not tensor.numel() or shared.data_ptr() == tensor.data_ptr()
    assert not shared.readonly
    assert dl.tensor(tensor).torch().tolist() == tensor.tolist()


def with_gradient():
    return torch.ones(4, requires_grad=True)


def view_whose_base_came_to_require_gradient():
    base = torch.zeros(4)
    view = base[:2]
    base.mul_(with_gradient())
    return view


def view_without_gradient():
    with torch.no_grad():
        return with_gradient()[:2]


def gradient():
    leaf = with_gradient()
    (leaf.sum() ** 2).backward()
    return leaf.grad


# Tensors, some of which are views or have a gradient function.
GRADIENTS = {
    "leaf": with_gradient,
    "parameter": lambda: torch.nn.Parameter(torch.ones(3)),
    "result": lambda: with_gradient() * 2,
    "view": lambda: with_gradient()[1:],
    "view of a base that came to require gradient": view_whose_base_came_to_require_gradient,
    "view in no_grad": view_without_gradient,
    "result in no_grad": lambda: torch.no_grad()(lambda: with_gradient() * 2)(),
    "not any more": lambda: with_gradient().requires_grad_(False),
    "detached": lambda: with_gradient().detach(),
    "gradient": gradient,
    "plain view": lambda: torch.arange(6.0).reshape(2, 3).t(),
    "changed view": lambda: torch.zeros(4)[:2].mul_(3),
}


@pytest.mark.parametrize("kind", GRADIENTS)
def test_tensors_are_refused_if_they_require_gradient(kind):
    tensor = GRADIENTS[kind]()
    for _ in range(2):
        if tensor.requires_grad:
            with pytest.raises(BufferError, match="requires gradient"):
                dl.from_dlpack(tensor)
        else:
            assert dl.from_dlpack(tensor).tolist() == tensor.tolist()


@pytest.mark.parametrize(
    "dtype",
    [value for value in vars(torch).values() if isinstance(value, torch.dtype)],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_each_type_is_shared_as_the_table_of_pytorch_describes_it(dtype):
    """`ours` is described by dlbridge, and `theirs`, of a derived class, by PyTorch's table."""

    class Derived(torch.Tensor):
        __torch_function__ = torch._C._disabled_torch_function_impl

    try:
        tensor = torch.empty(2, 3, 4, dtype=dtype).zero_()[:, ::2].transpose(0, 2)
    except (NotImplementedError, RuntimeError):
        pytest.skip("PyTorch makes no such tensor")
    try:
        theirs = dl.from_dlpack(tensor.as_subclass(Derived))
    except BufferError as error:
        with pytest.raises(BufferError) as ours:
            dl.from_dlpack(tensor)
        assert str(ours.value) == str(error)
        return
    ours = dl.from_dlpack(tensor)
    for name in ("shape", "dtype", "device", "readonly", "nbytes"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert (ours.stride(), ours.data_ptr()) == (theirs.stride(), theirs.data_ptr())


@pytest.mark.parametrize(
    "mode",
    [
        "torch.inference_mode()",
        "torch.no_grad()",
        "torch.device('meta')",
        "FakeTensorMode()",
        "torch.overrides.BaseTorchFunctionMode()",
    ],
)
def test_the_first_tensor_may_come_while_a_mode_is_active(mode):
    program = f"""
from torch._subclasses.fake_tensor import FakeTensorMode
import torch.overrides
real, leaf = torch.arange(6.0).reshape(2, 3).t(), torch.ones(3, requires_grad=True)
def check():
    assert dl.from_dlpack(real).stride() == (1, 3)
    try:
        dl.from_dlpack(leaf)
    except BufferError as error:
        assert "requires gradient" in str(error)
    else:
        raise AssertionError
with {mode}:
    for _ in range(10):
        check()
check()
"""
    in_child(program)


def test_classes_with_a_dispatch_function_are_shared():
    class Dispatched(torch.Tensor):
        @classmethod
        def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
            return function(*args, **(kwargs or {}))

    tensor = torch.arange(3.0).as_subclass(Dispatched)
    assert dl.from_dlpack(tensor).tolist() == [0.0, 1.0, 2.0]


class ReadOnly(torch.Tensor):
    """Like PyTorch's wrapper of read-only memory, it allows an export and refuses everything else."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function.__name__ not in ("__dlpack__", "__dlpack_device__", "__get__"):
            raise RuntimeError(f"'{function.__name__}' is not allowed")
        return super().__torch_function__(function, types, args, kwargs or {})

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        with torch._C.DisableTorchFunctionSubclass():
            array = self.detach().as_subclass(torch.Tensor).numpy()
        array.flags.writeable = False
        return array.__dlpack__(max_version=max_version)

    def __dlpack_device__(self):
        return (1, 0)


def test_derived_classes_are_asked_for_their_own_export():
    tensor = torch.arange(3.0).as_subclass(ReadOnly)
    with pytest.raises(RuntimeError, match="is not allowed"):
        tensor.is_neg()
    shared = dl.from_dlpack(tensor)
    assert shared.readonly and shared.tolist() == [0.0, 1.0, 2.0]
    assert dl.tensor(tensor).tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        dl.copyto(tensor, np.zeros(3, np.float32))


def test_a_function_of_a_class_may_stand_for_another_tensor():
    other = torch.arange(4.0)

    class Elsewhere(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if function.__name__ == "__dlpack__":
                return other.__dlpack__(**(kwargs or {}))
            return super().__torch_function__(function, types, args, kwargs or {})

    assert dl.from_dlpack(torch.ones(2).as_subclass(Elsewhere)).tolist() == other.tolist()


def test_objects_that_claim_to_be_tensors_are_not_taken_for_tensors():
    program = """
class Claims:
    __class__ = torch.Tensor
    def __dlpack__(self, **options):
        return np.arange(3).__dlpack__(**options)
    __dlpack_device__ = lambda self: (1, 0)
assert isinstance(Claims(), torch.Tensor)
print(dl.from_dlpack(Claims()).tolist())
"""
    assert in_child(program) == "[0, 1, 2]\n"


def test_modes_of_pytorch_do_not_disturb_the_checks():
    program = """
from torch._subclasses.fake_tensor import FakeTensorMode
real = torch.arange(3.0)
with FakeTensorMode():
    assert dl.from_dlpack(real).tolist() == [0, 1, 2]
with torch.device("meta"):
    assert dl.from_dlpack(real).tolist() == [0, 1, 2]
with torch.inference_mode():
    assert dl.from_dlpack(real).tolist() == [0, 1, 2]
    assert dl.from_dlpack(torch.arange(3.0)).tolist() == [0, 1, 2]
def look(x):
    assert dl.from_dlpack(real).tolist() == [0, 1, 2]
    return x
torch.vmap(look)(torch.ones(2))
print(dl.from_dlpack(real).tolist())
"""
    assert in_child(program) == "[0.0, 1.0, 2.0]\n"
