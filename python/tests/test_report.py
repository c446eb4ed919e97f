"""`python -m dlbridge` prints the versions, the features, the state of CUDA and the installed libraries."""

import importlib.metadata
import subprocess
import sys
import tomllib
from ctypes.util import find_library

import pytest

import dlbridge as dl
import fake_cuda
from dlbridge import __main__ as report
from examples import ROOT


def printed(*arguments):
    """The standard output of a new interpreter."""
    command = [sys.executable, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def lines_of(text):
    """The lines of a report: names and texts. A line without a name continues the one before it."""
    lines = {}
    for line in text.splitlines():
        name, value = line[:18].strip(), line[18:]
        assert line[17:18] == " ", line
        lines.setdefault(name or next(reversed(lines)), []).append(value)
    return lines


@pytest.fixture(scope="module")
def lines():
    return lines_of(printed("-m", "dlbridge"))


def test_the_report_names_dlbridge_python_and_the_machine(lines):
    assert next(iter(lines)) == "dlbridge"
    assert lines["dlbridge"] == [importlib.metadata.version("dlbridge")] == [dl.__version__]
    assert lines["Python"][0].endswith(sys.executable)
    for name in ("installed", "system", "processor", "huge pages"):
        assert lines[name][0], name


def test_every_library_is_listed_or_missing(lines):
    missing = lines.get("not found", [""])[0].split(", ")
    for module, distributions in report.LIBRARIES.items():
        assert (module in lines) != (module in missing), module
        installed = []
        for name in distributions:
            try:
                installed.append(importlib.metadata.version(name))
            except importlib.metadata.PackageNotFoundError:
                continue
        if installed:
            assert lines[module] == installed[:1]


def test_a_module_without_a_distribution_has_no_version(tmp_path, monkeypatch):
    (tmp_path / "lonely.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(report.LIBRARIES, "lonely", ("lonely",))
    monkeypatch.setitem(report.LIBRARIES, "absent", ("absent",))
    assert report.version_of("lonely") == "unknown version"
    assert report.version_of("absent") is None


def test_no_array_library_is_imported():
    program = "import sys, dlbridge.__main__ as report; report.main(); print(*sys.modules)"
    modules = printed("-c", program).splitlines()[-1].split()
    assert set(modules).isdisjoint(report.LIBRARIES)


def test_features_are_those_of_the_build():
    manifests = [
        tomllib.loads((ROOT / name / "Cargo.toml").read_text()) for name in ("python", "pyo3")
    ]
    module, library = (manifest["dependencies"] for manifest in manifests)
    built = module["dlbridge-pyo3"]["features"] + library["dlbridge"]["features"]
    assert tuple(sorted(built)) == report.FEATURES


def test_variables_that_are_set_are_printed(monkeypatch, capsys):
    monkeypatch.setenv("RAYON_NUM_THREADS", "3")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert report.main() == 0
    lines = lines_of(capsys.readouterr().out)
    assert lines["RAYON_NUM_THREADS"] == ["3"] and "GLIBC_TUNABLES" not in lines


@pytest.mark.skipif(
    fake_cuda.IS_HERE or find_library("cuda") is not None, reason="this process has a driver"
)
def test_a_machine_without_a_driver_is_reported(lines):
    assert lines["CUDA"] == ["no driver"]
