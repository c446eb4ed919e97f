"""The exchange matrix has no WRONG outcome, leaves out no library, and detects wrong exchanges."""

import itertools
import subprocess
import sys
from functools import cache

import pytest

from dlbridge import matrix

BY_NAME = {library.name: library for library in matrix.LIBRARIES}
EVERYTHING = (*(library.module for library in matrix.LIBRARIES), "ml_dtypes")

# The number of conversions times 9 layouts, 17 types and 3 values of `copy=`, and the number of these
# for which the library has no array.
NUMBERS = {
    "numpy": (3 * 9 * 17 * 3, 0),
    "torch": (3 * 9 * 17 * 3, 2 * 17 * 3),
    "jax": (2 * 9 * 17 * 3, 5 * 17 * 3),
    "tvm-ffi": (2 * 9 * 17 * 3, 2 * 17 * 3),
    "memoryview": (2 * 9 * 17 * 3, 9 * 3 * 3),
    "pyarrow": (2 * 9 * 17 * 3, 9 * 6 * 3 + 11 * 3),
    "array-api-strict": (2 * 9 * 17 * 3, 9 * 4 * 3),
}


@cache
def cases_of(name):
    library = BY_NAME[name]
    if matrix.load(library.module) is None:
        pytest.skip(f"{library.module} is not installed")
    return list(matrix.run(library))


def needs(*modules):
    missing = [module for module in modules if matrix.load(module) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {missing}")


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("layout", matrix.LAYOUTS)
@pytest.mark.parametrize("way", matrix.WAYS)
def test_every_case_has_the_expected_outcome(way, layout):
    cases = [
        case
        for case in cases_of(matrix.WAYS[way][0].name)
        if (case.way, case.layout) == (way, layout)
    ]
    assert len(cases) == 17 * 3
    assert [str(case) for case in cases if case.wrong] == []


@pytest.mark.parametrize("name", BY_NAME)
def test_no_case_is_missing(name):
    cases = cases_of(name)
    total, absent = NUMBERS[name]
    cells = {(case.way, case.layout, case.dtype.name, case.copy) for case in cases}
    assert len(cases) == len(cells) == total
    absent += 9 * 3 * 3 if name == "numpy" and matrix.load("ml_dtypes") is None else 0
    from_version_0_12_on = absent - 17 * 3 if name == "jax" else absent
    assert sum(case.got == matrix.NONE for case in cases) in (absent, from_version_0_12_on)


def test_case_counts_cover_all_libraries():
    assert list(NUMBERS) == list(BY_NAME)
    assert sum(total for total, _ in NUMBERS.values()) == 7344


def test_rules_name_existing_ways_layouts_and_dtypes():
    names = {*matrix.LAYOUTS, *(dtype.name for dtype in matrix.DTYPES)}
    for rule in matrix.RULES:
        assert set(rule.ways.split()) <= set(matrix.WAYS), rule
        assert set(rule.where.split()) <= names, rule


@needs(*EVERYTHING)
def test_every_rule_applies_to_some_case():
    """A rule for a missing module applies only if a module is missing."""
    cases = itertools.chain.from_iterable(map(cases_of, BY_NAME))
    reasons = {case.why for case in cases}
    for rule in matrix.RULES:
        decides = f"{rule.where}: {rule.outcome} ({rule.why})" in reasons
        assert decides == (rule.without is None), rule


WRONG_RULES = {
    "outcome": (matrix.Rule("numpy", "row-major", "copied", "", (None,)), "shared", "copied"),
    "refused": (
        matrix.Rule("numpy", "0-d", "refused OSError", "", (True,)),
        "copied",
        "refused OSError",
    ),
    "read-only": (
        matrix.Rule("numpy", "0-d", "shared read-only", "", (None,)),
        "shared",
        "shared read-only",
    ),
    "absent": (matrix.Rule("numpy", "empty", matrix.NONE, "", (None,)), "empty", matrix.NONE),
}


@needs("numpy", "ml_dtypes")
@pytest.mark.parametrize("kind", WRONG_RULES)
def test_a_wrong_expectation_is_reported(kind, monkeypatch, capsys):
    rule, got, expected = WRONG_RULES[kind]
    monkeypatch.setattr(matrix, "RULES", [rule, *matrix.RULES])
    monkeypatch.setattr(matrix, "LIBRARIES", [matrix.NUMPY])
    assert matrix.main([]) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG: ")]
    copy = rule.copies[0]
    assert wrong == [
        f"WRONG: numpy, {rule.where}, {dtype.name}, copy={copy}: {got}, expected {expected}"
        for dtype in matrix.DTYPES
    ]


@needs("numpy", "ml_dtypes")
def test_the_table_marks_what_is_wrong(monkeypatch, capsys):
    rule = matrix.Rule("numpy", "float32", "copied", "on purpose", (None,))
    monkeypatch.setattr(matrix, "RULES", [rule, *matrix.RULES])
    monkeypatch.setattr(matrix, "LIBRARIES", [matrix.NUMPY])
    assert matrix.main([]) == 1
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("  row-major "))
    assert row.split() == ["row-major", *["SSC"] * 10, "!SC", *["SSC"] * 6]
    assert "  * float32: copied (on purpose)\n" in out
    assert out.endswith("; 8 WRONG\n")  # an empty array is neither shared nor copied


def swapped(tensor, _):
    return tensor.numpy()[::-1]


def one_written(tensor, _):
    array = tensor.clone().numpy()
    array[1, 2] = 0
    return array


def read_only(tensor, _):
    array = tensor.numpy()
    array.flags.writeable = False
    return array


WRONG_WAYS = {
    "copies": (lambda tensor, _: tensor.clone().numpy(), "copied"),
    "shares something else": (swapped, "other elements"),
    "copies wrongly": (one_written, "other elements"),
    "changes the type": (lambda tensor, _: tensor.numpy().view("int32"), "int32 of shape (2, 3)"),
    "changes the shape": (lambda tensor, _: tensor.numpy()[:1], "float32 of shape (1, 3)"),
    "forbids to write": (read_only, "shared read-only"),
    "fails": (lambda tensor, _: tensor.no_such_method(), "refused AttributeError"),
}


@needs("numpy")
@pytest.mark.parametrize("kind", WRONG_WAYS)
def test_wrong_exchanges_are_detected(kind, monkeypatch):
    exchange, got = WRONG_WAYS[kind]
    monkeypatch.setitem(matrix.WAYS, "tensor.numpy()", (matrix.NUMPY, exchange))
    dtype = next(dtype for dtype in matrix.DTYPES if dtype.name == "float32")
    case = matrix.Case("tensor.numpy()", "row-major", dtype, None)
    case.got, (case.expected, case.why) = matrix.exchange(case), matrix.expectation(case)
    assert (case.got, case.expected, case.wrong) == (got, "shared", True)


@needs("numpy")
@pytest.mark.parametrize(("start", "stride"), [(7, 3), (0, 7)])
def test_displaced_elements_are_not_reported_as_a_copy(start, stride, monkeypatch):
    """Checks addresses, because the values of the elements repeat after seven."""
    dtype = next(dtype for dtype in matrix.DTYPES if dtype.name == "uint8")
    layout = "row-major" if stride == 3 else "broadcast"
    storage = matrix.memory_of(dtype, layout).storage
    displaced = matrix.load("numpy").ndarray((2, 3), "uint8", storage, start, (stride, 1))
    monkeypatch.setitem(
        matrix.WAYS, "tensor.numpy()", (matrix.NUMPY, lambda tensor, copy: displaced)
    )
    for copy in matrix.COPIES:
        assert matrix.exchange(matrix.Case("tensor.numpy()", layout, dtype, copy)) == "displaced"


@pytest.fixture(scope="module")
def printed():
    return run("-m", "dlbridge.matrix")


def test_the_command_prints_the_table(printed):
    assert printed.returncode == 0, printed.stdout + printed.stderr
    lines = printed.stdout.splitlines()
    installed = [library for library in matrix.LIBRARIES if matrix.load(library.module)]
    for way, (library, _) in matrix.WAYS.items():
        heads = [line for line in lines if line.startswith(f"{way} ")]
        assert len(heads) == (library in installed)
        assert all(line.split()[1:] == [dtype.short for dtype in matrix.DTYPES] for line in heads)
    assert lines[-1].endswith("; 0 WRONG")
    assert lines[-1].startswith(
        f"{sum(NUMBERS[library.name][0] for library in installed)} cases in "
    )
    assert "!" not in printed.stdout.replace("! WRONG", "")


def test_the_command_prints_library_versions(printed):
    versions = printed.stdout.splitlines()[0]
    for module in EVERYTHING:
        found = matrix.load(module)
        assert f", {module} {found.__version__ if found else 'not installed'}" in versions


def test_the_command_prints_its_progress(printed):
    assert [line.strip() for line in printed.stderr.splitlines()] == list(BY_NAME)


def test_lines_have_at_most_120_columns(printed):
    rows = [
        line for line in printed.stdout.splitlines() if line.startswith("  ") and "*" not in line
    ]
    assert max(map(len, rows)) <= 120


@needs("numpy")
def test_verbose_lists_every_case(monkeypatch, capsys):
    monkeypatch.setattr(matrix, "LIBRARIES", [matrix.BUFFER])
    assert matrix.main(["--verbose"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line for line in lines if line.startswith("memoryview") and ", copy=" in line]
    assert len(listed) == NUMBERS["memoryview"][0]
    assert "memoryview(), x[::-1], float32, copy=None: shared" in listed


def test_libraries_are_imported_only_when_run():
    code = "import sys, dlbridge.matrix; print(*{'numpy', 'torch', 'jax', 'tvm_ffi', 'pyarrow'} & set(sys.modules))"
    assert run("-c", code).stdout == "\n"


@pytest.mark.parametrize(
    "missing", [("numpy",), ("numpy", "torch", "tvm_ffi"), ("ml_dtypes", "torch")]
)
def test_missing_libraries_are_listed(missing):
    hide = f"import sys, runpy; sys.modules.update(dict.fromkeys({missing!r}))"
    done = run("-c", f"{hide}; runpy.run_module('dlbridge.matrix', run_name='__main__')")
    assert done.returncode == 0, done.stdout + done.stderr
    for module in missing:
        assert f", {module} not installed" in done.stdout
    assert "; 0 WRONG" in done.stdout
