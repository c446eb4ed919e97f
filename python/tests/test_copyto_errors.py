"""The errors of `dlbridge.copyto`: they name the argument, and their remedies work."""

import re

import numpy as np
import pytest
import torch

import dlbridge as dl
from producer import HostileProducer


def error_of(dst, src):
    with pytest.raises((BufferError, ValueError, TypeError)) as caught:
        dl.copyto(dst, src)
    return caught.value


def remedy_of(dst, src):
    """The expression after "use" in the error."""
    found = re.fullmatch(r"dst has .*, src has .*: use (.*)", str(error_of(dst, src)))
    return found and found[1]


SOURCES = {
    "src": lambda array: array,
    "src of torch": torch.from_numpy,
    "src.numpy()": dl.from_numpy,
    "numpy.asarray(src)": memoryview,
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize(
    ("to", "of"),
    [
        ((3, 4, 5), (4, 5, 3)),
        ((2, 3), (3, 2)),
        ((3, 4, 4), (4, 4, 3)),
        ((4, 4, 3), (3, 4, 4)),
        ((3, 4), (4,)),
        ((3, 4), (3, 1)),
        ((2, 3, 4), (3, 1)),
        ((3,), ()),
    ],
)
def test_the_remedy_for_another_shape_works(to, of, kind):
    dst, src = np.zeros(to, np.float32), SOURCES[kind](np.ones(of, np.float32))
    expression = remedy_of(dst, src)
    dl.copyto(dst, eval(expression, {"src": src, "numpy": np}))
    assert (dst == 1).all()


def test_equal_dimensions_keep_their_order():
    src = np.arange(48).reshape(4, 4, 3)
    assert remedy_of(np.zeros((3, 4, 4), int), src) == "src.transpose(2, 0, 1)"
    assert remedy_of(np.zeros((3, 4, 4), int), torch.from_numpy(src)) == "src.permute(2, 0, 1)"
    assert remedy_of(np.zeros((4, 4, 3), int), src.transpose(2, 0, 1)) == "src.transpose(1, 2, 0)"


@pytest.mark.parametrize(("to", "of"), [((3,), (2,)), ((3,), (1, 3)), ((2, 3), (6,))])
def test_other_shapes_have_no_remedy(to, of):
    assert str(error_of(np.zeros(to), np.zeros(of))) == f"dst has shape {to}, src has {of}"


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("to", ["float32", "bool", "complex64", "int16"])
def test_the_remedy_for_another_type_works(to, kind):
    dst, src = np.zeros(3, to), SOURCES[kind](np.ones(3, np.uint8))
    expression = remedy_of(dst, src)
    dl.copyto(dst, eval(expression, {"src": src, "numpy": np, "torch": torch}))
    assert dst.tolist() == [1] * 3


def test_types_without_a_format_have_a_plain_remedy():
    dst = torch.zeros(3, dtype=torch.bfloat16)
    assert str(error_of(dst, np.zeros(3))).endswith("src has float64: cast one of them first")


def read_only():
    array = np.zeros(2)
    array.flags.writeable = False
    return array


def moved():
    x = torch.ones(2)
    tensor = dl.from_dlpack(x)
    x.share_memory_()
    return tensor


# The producer keeps the struct and its deleter, so it must outlive the tensors.
METAL = HostileProducer(device=(8, 0), dtype=(2, 32, 1), shape=(2,), strides=(1,))
WRONG = {
    "a list": (lambda: [1.0, 2.0], TypeError),
    "a number": (lambda: 1.0, TypeError),
    "None": (lambda: None, TypeError),
    "a class": (lambda: np.ndarray, TypeError),
    "dates": (lambda: np.zeros(2, "datetime64[s]"), BufferError),
    "a mask": (lambda: np.ma.masked_array([1.0, 2.0], [True, False]), BufferError),
    "gradient": (lambda: torch.ones(2, requires_grad=True), BufferError),
    "sparse": (lambda: torch.ones(2).to_sparse(), BufferError),
    "negative": (lambda: torch._neg_view(torch.ones(2)), BufferError),
    "a parameter": (lambda: torch.nn.Parameter(torch.ones(2)), BufferError),
    "moved": (moved, BufferError),
    "another device": (lambda: dl.from_dlpack(METAL), BufferError),
}


@pytest.mark.parametrize("kind", WRONG)
def test_the_error_names_the_argument(kind):
    make, class_of_error = WRONG[kind]
    wrong = make()
    right = np.zeros(2, "float32")
    for name, arguments in (("src", (right, wrong)), ("dst", (wrong, right))):
        error = error_of(*arguments)
        assert type(error) is class_of_error and str(error).startswith(f"{name}: "), error


def test_a_read_only_dst_is_named():
    for dst in (read_only(), b"ab"):
        error = error_of(dst, np.zeros(2, "uint8"))
        assert type(error) is ValueError and str(error).startswith("dst is read-only: ")


@pytest.mark.parametrize("kind", ["sparse", "negative"])
def test_a_dst_gets_no_remedy_that_copies(kind):
    dst = WRONG[kind][0]()
    text = str(error_of(dst, np.zeros(2, "float32")))
    assert text.endswith(": pass a plain strided tensor")
    swapped = np.zeros(2, ">f4")
    assert "copies" not in str(error_of(swapped, np.zeros(2, "float32")))


def test_a_dst_that_requires_gradient_can_be_written_through_detach():
    weight = torch.zeros(2, requires_grad=True)
    assert str(error_of(weight, np.ones(2, "float32"))).endswith(": use tensor.detach()")
    dl.copyto(weight.detach(), np.ones(2, "float32"))
    assert weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("copy", [dl.tensor, dl.clone, dl.contiguous])
def test_copying_functions_speak_of_copies(copy):
    with pytest.raises(BufferError, match="can't copy a tensor that requires gradient"):
        copy(torch.ones(2, requires_grad=True))
    numbers = [] if copy is dl.tensor else [[1.0], 1.0]
    for wrong in (*numbers, None, object()):
        with pytest.raises(TypeError, match="expected an array of any library"):
            copy(wrong)
        with pytest.raises(AttributeError, match="__dlpack__"):
            dl.from_dlpack(wrong)


def test_exceptions_of_a_producer_are_passed_on():
    class Producer:
        def __init__(self, error):
            self.error = error

        def __dlpack__(self, **_):
            raise self.error

        def __dlpack_device__(self):
            return (1, 0)

    for error in (BufferError("mine"), AttributeError("mine"), KeyError("mine")):
        for arguments in ((np.zeros(2), Producer(error)), (Producer(error), np.zeros(2))):
            with pytest.raises(type(error)) as caught:
                dl.copyto(*arguments)
            assert caught.value is error


@pytest.mark.parametrize(
    "dtype", ["float16", "bool", "int8", "uint64", "bfloat16", "float8_e4m3fn", "complex64",
              np.float32, np.dtype("float32"), float, torch.float16],
)  # fmt: skip
def test_to_takes_no_element_type(dtype):
    tensor = dl.tensor(np.zeros(2))
    for name, call in {
        "to": lambda: tensor.to(dtype),
        "cuda": lambda: tensor.cuda(dtype),
        "from_dlpack": lambda: dl.from_dlpack(tensor, device=dtype),
    }.items():
        with pytest.raises(TypeError, match=rf"^{name}\(\) takes a device, not a dtype: cast with"):
            call()
    for unknown in ("gpu", "tpu", "interesting"):
        with pytest.raises(ValueError, match="is not supported: expected 'cpu'"):
            tensor.to(unknown)
