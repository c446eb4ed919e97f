"""Libraries of tables make a column from a tensor, or refuse the tensor."""

import numpy as np
import pytest
import torch

import dlbridge as dl

VALUES = {
    "numbers": np.arange(3),
    "floats": np.array([0.5, 1.5, -2.0], np.float32),
    "reversed": np.arange(3.0)[::-1],
    "bools": np.array([True, False, True]),
    "nothing": np.zeros(0),
}
COLUMNS = {
    "pandas.Series": ("pandas", lambda library, tensor: library.Series(tensor)),
    "pandas.Index": ("pandas", lambda library, tensor: library.Index(tensor)),
    "pandas.array": ("pandas", lambda library, tensor: library.array(tensor)),
    "pandas column": ("pandas", lambda library, tensor: library.DataFrame({"a": tensor})["a"]),
    "pandas assigned": (
        "pandas",
        lambda library, tensor: library.DataFrame(index=range(len(tensor))).assign(a=tensor)["a"],
    ),
    "polars.Series": ("polars", lambda library, tensor: library.Series(tensor)),
    "polars column": ("polars", lambda library, tensor: library.DataFrame({"a": tensor})["a"]),
    "pyarrow.array": ("pyarrow", lambda library, tensor: library.array(tensor)),
    "pyarrow column": ("pyarrow", lambda library, tensor: library.table({"a": tensor})["a"]),
    "xarray.DataArray": ("xarray", lambda library, tensor: library.DataArray(tensor)),
    "awkward.Array": ("awkward", lambda library, tensor: library.Array(tensor)),
    "jax.numpy.array": ("jax.numpy", lambda library, tensor: library.array(tensor)),
    "numpy.array of rows": ("numpy", lambda library, tensor: library.array([tensor, tensor])[0]),
    "numpy object column": ("numpy", lambda library, tensor: library.array(tensor, object)),
    "torch.tensor": ("torch", lambda library, tensor: library.tensor(tensor)),
    "list": ("builtins", lambda library, tensor: list(tensor)),
}


# These take a sequence. A tensor is none, because it has no indexing.
MAY_REFUSE = ("pandas.Index", "pandas.array", "polars.Series", "polars column")


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("column", COLUMNS)
def test_columns_are_of_the_values(column, values):
    library, make = COLUMNS[column]
    library, values = pytest.importorskip(library), VALUES[values]
    for tensor in (dl.from_numpy(values), dl.tensor(values)):
        try:
            made = np.asarray(make(library, tensor)).tolist()
        except (TypeError, ValueError):
            assert column in MAY_REFUSE
            continue
        assert made == values.tolist() and dl.Tensor not in map(type, made)


def test_tables_of_two_dimensions():
    values = np.arange(6.0).reshape(2, 3).T
    tensor = dl.from_numpy(values)
    for library, make in {
        "pandas": lambda library: library.DataFrame(tensor),
        "xarray": lambda library: library.DataArray(tensor),
        "awkward": lambda library: library.Array(tensor),
    }.items():
        made = make(pytest.importorskip(library))
        assert np.asarray(made).tolist() == values.tolist(), library
    pandas = pytest.importorskip("pandas")
    for make in (pandas.Series, pandas.Index):
        try:
            made = make(tensor)
        except (TypeError, ValueError):
            continue
        assert dl.Tensor not in {type(value) for value in np.asarray(made, object).flat}


def test_tensors_without_numbers_of_python_are_refused_or_converted():
    tensor = dl.from_dlpack(torch.ones(2, dtype=torch.bfloat16))
    pandas = pytest.importorskip("pandas")
    try:
        made = pandas.Series(tensor).tolist()
    except (TypeError, ValueError):
        return
    assert [float(value) for value in made] == [1.0, 1.0]
