"""Makes failed assertions in shared modules print their values, and prints the versions of the libraries."""

import importlib.metadata
import platform

import pytest

pytest.register_assert_rewrite("cuda_support", "examples", "fake_cuda", "producer")

LIBRARIES = (
    ("torch", "numpy", "jax", "ml_dtypes", "apache-tvm-ffi", "array-api-strict", "pyarrow")
    + ("pandas", "polars", "xarray", "awkward", "pillow", "onnxruntime")
    + ("ray", "joblib", "distributed", "greenlet", "mypy")
)


def pytest_terminal_summary(terminalreporter):
    versions = [f"CPython {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    terminalreporter.write_line(", ".join(versions))
