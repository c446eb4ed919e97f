"""The modules of docs/extension-modules.md are built with the page's commands, and its Python code runs."""

import functools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import dlbridge
from examples import ROOT, sections_of

PAGE = "docs/extension-modules.md"
SITE = Path(sysconfig.get_path("purelib"))
BUILT = ROOT / "target/guides"
CPP = ["C++", "nanobind", "pybind11", "CPython's own interface"]
BLOCK = re.compile(r"(?:^`([\w./]+)`:\n\n)?^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)

# What the page tells the reader to add to the module, and to the module's function `init`.
LISTED = re.compile(r"add `(\w+)`(?: and `(\w+)`)? to the list in the module", re.IGNORECASE)
IN_INIT = re.compile(r"add `([^`]+;)` to `init`, before its last line", re.IGNORECASE)

# Where programs are searched: the tools of the suite are in the first environment.
TOOLS = [str(Path(sys.executable).parent), str(ROOT / ".venv/bin"), os.environ.get("PATH", "")]

# Commands that prepare what the tests have already, or make what they make themselves.
PREPARES = ("cargo new", "cd ", "python3 -m venv", ". .venv", "pip install")


def blocks(sections=None):
    """Section, file name, language and text of each block."""
    return [
        (title, *found)
        for title, text in sections_of(PAGE)
        if sections is None or title in sections
        for found in BLOCK.findall(text)
    ]


def commands(sections):
    """The commands of sections, without those that prepare the machine."""
    lines = [
        line
        for _, _, language, text in blocks(sections)
        if language == "sh"
        for line in text.splitlines()
    ]
    return "\n".join(line for line in lines if not line.startswith(PREPARES))


def run(command, folder, **environment):
    """Runs a command, which must succeed."""
    if isinstance(command, str):
        command = ["sh", "-e", "-c", command]
    environment = {**os.environ, **environment}
    environment.pop("LD_LIBRARY_PATH", None)
    made = subprocess.run(
        command, capture_output=True, text=True, timeout=1200, cwd=folder, env=environment
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return made.stdout


def write(folder, found):
    for _, name, _, text in found:
        if name:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)


def rust(stage):
    """The text of `src/lib.rs` after the first section, or after the last one."""
    found = [text for _, _, language, text in blocks() if language == "rust"]
    if stage == "first":
        return found[0]
    # The page replaces the `#[pymodule]` of the first section, and then adds to the new one.
    first = found[0].partition("#[pymodule]")[0]
    (module,) = [text for text in found[1:] if text.startswith("#[pymodule]")]
    items = [text for text in found[1:] if text != module]
    page = " ".join((ROOT / PAGE).read_text().split())
    for names in LISTED.findall(page):
        module = module.replace("use super::{", f"use super::{{{', '.join(filter(None, names))}, ")
    for line in IN_INIT.findall(page):
        module = module.replace("PyTensor::add_to", f"{line}\n        PyTensor::add_to")
    return "\n".join([first, *items, module])


def tool(name):
    return shutil.which(name, path=os.pathsep.join(TOOLS))


def environment_for(folder):
    """A virtual environment over this one, as the page makes it."""
    venv = folder / ".venv"
    if not venv.exists():
        run([sys.executable, "-m", "venv", "--without-pip", str(venv)], folder)
    (site,) = venv.glob("lib/python*/site-packages")
    paths = [str(SITE), *(path for path in sys.path if path.endswith("site-packages"))]
    (site / "base.pth").write_text("\n".join(paths))
    return venv


@functools.cache
def project(stage):
    """Builds the Rust module, and installs it with `maturin develop`; returns the environment."""
    if shutil.which("cargo") is None or tool("maturin") is None:
        pytest.skip("there is no cargo, or no maturin")
    folder = BUILT / f"{stage}-{sys.version_info.major}.{sys.version_info.minor}" / "scaling"
    write_if_changed(folder.parent / "dlbridge")
    write(folder, blocks())
    (folder / "src/lib.rs").write_text(rust(stage))
    numpy = 'numpy = "0.30"\n' if stage == "last" else ""
    with (folder / "Cargo.toml").open("a") as manifest:
        manifest.write(f"{numpy}\n[workspace]\n")  # the project lies within dlbridge's workspace
    venv = environment_for(folder)
    paths = {"PATH": os.pathsep.join([str(venv / "bin"), *TOOLS]), "VIRTUAL_ENV": str(venv)}
    target = {"CARGO_TARGET_DIR": str(BUILT / "build"), "PYTHONDONTWRITEBYTECODE": "1"}
    run(commands(["A first module"]), folder, **paths, **target)
    if stage == "last":
        shutil.rmtree(folder / "dist", ignore_errors=True)
        # An unoptimised build is faster to make, and uses the same API.
        build, audit = commands(["A wheel for PyPI"]).replace("--release ", "").splitlines()
        run(build, folder, **paths, **target)
        (wheel,) = (folder / "dist").iterdir()
        assert "-cp311-abi3-" in wheel.name
        if tool("abi3audit"):
            run(audit, folder, **paths)
    return venv


def write_if_changed(link):
    """Makes the folder of dlbridge beside the project."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(ROOT)


def python_blocks(sections):
    found = [block for block in blocks(sections) if block[2] == "python"]
    return {f"{title}, {index}": text for index, (title, _, _, text) in enumerate(found, start=1)}


RUST_SECTIONS = [
    title for title in dict.fromkeys(block[0] for block in blocks()) if title not in CPP
]
RUST_BLOCKS, CPP_BLOCKS = python_blocks(RUST_SECTIONS), python_blocks(CPP)


@pytest.mark.parametrize("name", RUST_BLOCKS)
def test_python_code_with_the_rust_module(name, tmp_path):
    (tmp_path / "program.py").write_text(RUST_BLOCKS[name])
    stages = ["first", "last"] if name.startswith("A first module") else ["last"]
    for stage in stages:
        run([str(project(stage) / "bin/python"), "program.py"], tmp_path)


@functools.cache
def cpp_folder():
    """A folder with the C++ modules, built with the page's commands."""
    for package in ("nanobind", "pybind11"):
        pytest.importorskip(package)
    if shutil.which("c++") is None or not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("there is no C++ compiler, or no Python.h")
    run(["cargo", "build", "--quiet", "--package", "dlbridge-capi"], ROOT)
    folder = BUILT / f"cpp-{sys.version_info.major}.{sys.version_info.minor}"
    shutil.rmtree(folder, ignore_errors=True)
    installed = folder / "home/dlbridge"
    (installed / "include").mkdir(parents=True)
    (installed / "include/dlbridge").symlink_to(ROOT / "include")
    (installed / "lib").symlink_to(ROOT / "target/debug")
    write(folder, blocks(CPP))
    python = f'python() {{ {sys.executable} "$@"; }}\n'
    strict = commands(CPP).replace("-std=c++17", "-std=c++17 -Wall -Wextra -Werror")
    run(python + strict, folder, HOME=str(folder / "home"))
    return folder


@pytest.mark.parametrize("name", CPP_BLOCKS)
def test_python_code_with_the_cpp_modules(name):
    run([sys.executable, "-c", CPP_BLOCKS[name]], cpp_folder())


@pytest.mark.parametrize("module", ["planes", "rows", "doubles"])
def test_cpp_modules_export_no_symbols_of_the_headers(module):
    (built,) = cpp_folder().glob(f"{module}.*so")
    exported = run(["nm", "-DC", "--defined-only", str(built)], ROOT)
    assert f"PyInit_{module}" in exported and "dlbridge::" not in exported, exported


SHARES = """
#include <dlbridge/{header}>
#include <optional>
#include <vector>
#include <{namespace}/{stl}>
{more}
namespace py = {namespace};
using dlbridge::Tensor;
static Tensor kept;
static const Tensor &keep(Tensor tensor) {{ return kept = std::move(tensor); }}
{macro}(shares_{namespace}, module) {{
  module.def("share", [](Tensor tensor) {{ return tensor; }});
  module.def("share_detached", [](Tensor tensor) {{ return tensor; }}, py::call_guard<py::gil_scoped_release>());
  module.def("like", [](py::object original, Tensor tensor) {{
    return dlbridge::python::like(original, std::move(tensor));
  }});
  module.def("reference", keep);
  module.def("forget", [] {{ kept = Tensor(); }});
  module.def("optional", [](std::optional<Tensor> tensor) {{ return tensor.has_value(); }}, {optional});
  module.def("several", [](std::vector<Tensor> tensors) {{ return tensors; }});
  module.def("overloaded", [](Tensor) {{ return "tensor"; }});
  module.def("overloaded", [](int) {{ return "int"; }});
  module.def("moved", [] {{ return Tensor(); }});
}}
"""
BINDERS = {
    "nanobind": {
        "header": "nanobind.hpp",
        "stl": "stl/optional.h",
        "more": "#include <nanobind/stl/vector.h>\n#include <nanobind/stl/string.h>",
        "macro": "NB_MODULE",
        "optional": "nanobind::arg().none()",
    },
    "pybind11": {
        "header": "pybind11.hpp",
        "stl": "stl.h",
        "more": "",
        "macro": "PYBIND11_MODULE",
        "optional": "pybind11::arg()",
    },
}


@functools.cache
def shares(binder):
    """The folder of a module that passes tensors through."""
    folder = cpp_folder()
    text = SHARES.format(namespace=binder, **BINDERS[binder])
    (folder / f"shares_{binder}.cpp").write_text(text)
    (link,) = [
        line
        for line in commands([binder]).replace("\\\n", "").splitlines()
        if f"{'planes' if binder == 'nanobind' else 'rows'}.cpp" in line
    ]
    link = re.sub(r"\b(planes|rows)\b", f"shares_{binder}", link).replace("-O2", "-O0")
    variables = [line for line in commands(CPP).splitlines() if re.match(r"\w+=", line)]
    python = f'python() {{ {sys.executable} "$@"; }}\n'
    run(python + "\n".join([*variables, link]), folder, HOME=str(folder / "home"))
    return folder


USES = """
import importlib, gc, sys, numpy as np, torch
m = importlib.import_module("shares_" + sys.argv[1])
array = np.arange(6.0).reshape(2, 3)
def raised(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return type(error), str(error)
    raise AssertionError("no exception")
for share in (m.share, m.share_detached):
    before = sys.getrefcount(array)
    tensor = share(array)
    assert np.from_dlpack(tensor).ctypes.data == array.ctypes.data
    assert np.from_dlpack(share(share(tensor))).ctypes.data == array.ctypes.data
    reversed_ = share(array[::-1])
    assert torch.from_dlpack(reversed_).tolist() == array[::-1].tolist()
    assert raised(lambda: reversed_.__dlpack__(copy=False))[0] is BufferError
    del tensor, reversed_
    gc.collect()
    assert sys.getrefcount(array) == before
    kind, text = raised(share, torch.ones(3, requires_grad=True))
    assert kind is BufferError and "detach()" in text
    kind, text = raised(share, torch._neg_view(torch.ones(3)))
    assert kind is BufferError and "resolve_neg()" in text
    assert raised(share, np.array(["a"]))[0] is BufferError
    assert raised(share, [1, 2])[0] is TypeError and raised(share, None)[0] is TypeError
    assert raised(share, np.ndarray)[0] is TypeError
assert np.from_dlpack(m.reference(array)).ctypes.data == array.ctypes.data
m.forget()
assert (m.optional(None), m.optional(array)) == (False, True)
assert [np.asarray(t).shape for t in m.several([array, array[0]])] == [(2, 3), (3,)]
assert raised(m.several, [torch.ones(3, requires_grad=True)])[0] in (TypeError, BufferError)
assert raised(m.optional, torch.ones(3, requires_grad=True))[0] in (TypeError, BufferError)
assert (m.overloaded(3), m.overloaded(array)) == ("int", "tensor")
assert raised(m.overloaded, torch.ones(3, requires_grad=True))[0] is BufferError
assert raised(m.moved) == (ValueError, "the tensor was moved from")
constant = array.copy()
constant.flags.writeable = False
tensor = m.share(constant)
assert not np.from_dlpack(tensor).flags.writeable and not np.asarray(tensor).flags.writeable
assert raised(tensor.__dlpack__)[0] is BufferError
assert np.from_dlpack(tensor, copy=True).flags.writeable
assert np.array(tensor, dtype="f4").dtype == "f4" and np.asarray(tensor, copy=True).base is None
assert raised(lambda: tensor.__dlpack__(max_version=1))[0] is TypeError
assert raised(lambda: tensor.__dlpack__(stream=7))[0] is ValueError
assert raised(lambda: tensor.__dlpack__(dl_device=(2, 0)))[0] is BufferError
assert raised(type(tensor))[0] is TypeError
made = m.like(torch.ones(1), constant)
made[0, 0] = 9
assert type(made) is torch.Tensor and constant[0, 0] == 0
assert m.like(array, array).ctypes.data == array.ctypes.data
assert m.like(torch.ones(1), array).data_ptr() == array.ctypes.data
assert type(m.like(b"", array)) is type(tensor) and type(m.like(tensor, array)) is type(tensor)
strict = sys.modules.get("array_api_strict") or importlib.import_module("array_api_strict")
assert type(m.like(strict.ones(1), array)) is type(strict.ones(1))
tensor.__dlpack__(max_version=(1, 0))  # a capsule that is not consumed
"""


@pytest.mark.parametrize("binder", BINDERS)
def test_arguments_and_results_of_cpp_functions(binder):
    run([sys.executable, "-c", USES, binder], shares(binder))


@pytest.mark.parametrize("binder", BINDERS)
def test_hostile_structs_and_exports_of_cpp_modules(binder):
    folder = shares(binder)
    (folder / f"made_by_{binder}.py").write_text(
        f"import numpy, shares_{binder}\n"
        f"def array(): return shares_{binder}.share(numpy.arange(6, dtype='i4').reshape(2, 3))\n"
    )
    kit = [sys.executable, "-m", "dlbridge.conformance", "dlbridge", "--only-bad"]
    names = ["--consumer", f"shares_{binder}:share", "--producer", f"made_by_{binder}:array"]
    package = str(Path(dlbridge.__file__).parents[1])
    run([*kit, *names], folder, PYTHONPATH=os.pathsep.join([str(folder), package]))


def test_the_page_has_no_block_that_is_not_run():
    for title, name, language, text in blocks():
        assert language in ("sh", "rust", "python", "toml", "cpp"), (title, language)
        assert bool(name) == (language in ("toml", "cpp")) or name == "src/lib.rs", (title, text)
    fences = "".join(text for _, text in sections_of(PAGE)).count("```")
    assert fences == 2 * len(blocks())
    assert {title for title, *_ in blocks()} <= {*RUST_SECTIONS, *CPP}
    assert len(RUST_BLOCKS) > 8 and len(CPP_BLOCKS) == 3
