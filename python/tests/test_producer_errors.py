"""Exceptions of producers reach the caller unchanged, and each producer is called once."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import dlbridge as dl

FUNCTIONS = [dl.from_dlpack, dl.tensor, dl.clone, dl.contiguous]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_deleted_arrays_of_jax(function):
    array = jnp.arange(10.0)
    array.delete()
    with pytest.raises((RuntimeError, BufferError), match="deleted"):
        function(array)


def test_donated_arrays_of_jax():
    array = jnp.arange(10.0)
    jax.jit(lambda x: x * 2, donate_argnums=0)(array)
    with pytest.raises((RuntimeError, BufferError), match="deleted"):
        dl.from_dlpack(array)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_arrays_of_arrow_with_nulls(function):
    pyarrow = pytest.importorskip("pyarrow")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((TypeError, BufferError), match="null"):
            function(pyarrow.array([1, None, 3]))


def test_arrays_of_arrow():
    pyarrow = pytest.importorskip("pyarrow")
    array = pyarrow.array([1.5, 2.5, 3.5])
    assert dl.from_dlpack(array).tolist() == [1.5, 2.5, 3.5]
    assert dl.from_dlpack(array.slice(1)).tolist() == [2.5, 3.5]
    for refused in (pyarrow.array([True, False]), pyarrow.array(["a"])):
        with pytest.raises((TypeError, BufferError)):
            dl.from_dlpack(refused)


class Producer:
    """Counts calls of its `__dlpack__`, and raises the given exception."""

    def __init__(self, error, device_error=None):
        self.asked, self.error, self.device_error = 0, error, device_error

    def __dlpack_device__(self):
        if self.device_error is not None:
            raise self.device_error
        return (1, 0)

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        self.asked += 1
        raise self.error


ERRORS = [
    TypeError("elements of type decimal cannot be exported"),
    ValueError("no"),
    BufferError("no"),
    RuntimeError("no"),
    KeyError("no"),
    KeyboardInterrupt("no"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_producer_is_asked_once(function, error):
    producer = Producer(error)
    with pytest.raises(type(error)) as raised:
        function(producer)
    assert raised.value is error and producer.asked == 1


def test_producers_of_the_first_protocol_are_asked_twice():
    class First:
        def __dlpack__(self, stream=None):
            return np.arange(3).__dlpack__()

    class Positional:
        def __dlpack__(self):
            return np.arange(3).__dlpack__()

    assert dl.from_dlpack(First()).tolist() == dl.from_dlpack(Positional()).tolist() == [0, 1, 2]


def test_an_error_about_the_device_yields_to_a_better_one():
    unknown, deleted = TypeError("object of type 'NoneType' has no len()"), RuntimeError("deleted")
    with pytest.raises(RuntimeError) as raised:
        dl.from_dlpack(Producer(deleted, unknown))
    assert raised.value is deleted and raised.value.__cause__ is unknown

    class Works(Producer):
        def __dlpack__(self, **options):
            return np.arange(3).__dlpack__(**options)

    with pytest.raises(TypeError) as raised:
        dl.from_dlpack(Works(None, unknown))
    assert raised.value is unknown


def test_the_exchange_table_names_both_classes():
    tvm_ffi = pytest.importorskip("tvm_ffi")

    class Pretends:
        __dlpack_c_exchange_api__ = dl.Tensor.__dlpack_c_exchange_api__

    with pytest.raises((TypeError, BufferError)) as raised:
        tvm_ffi.from_dlpack(Pretends())
    assert "dlbridge.Tensor" in str(raised.value) and "Pretends" in str(raised.value)


def test_sparse_tensors_of_a_class_name_their_layout():
    sparse = torch.nn.Parameter(torch.ones(2, 2).to_sparse(), requires_grad=False)
    with pytest.raises(BufferError, match=r"torch\.sparse_coo: use tensor\.to_dense\(\)"):
        dl.from_dlpack(sparse)
