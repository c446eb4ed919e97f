"""The conformance kit reports no fault of dlbridge, and reports each fault of faulty libraries."""

import json
import pathlib
import subprocess
import sys

import pytest

import dlbridge
from dlbridge.conformance import command, report, verdicts
from dlbridge.conformance.cases import ACCEPT, CONSUMER_CASES, EITHER, REFUSE
from dlbridge.conformance.lifetimes import PRODUCER_CASES

HERE = pathlib.Path(__file__).parent
FOLDER = pathlib.Path(dlbridge.__file__).parent / "conformance"


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """The kit finds the modules of tested functions in the working directory."""
    monkeypatch.chdir(HERE)


def results_of(path):
    return {
        (result["library"].partition(":")[2] or result["library"], result["case"]): result
        for result in json.loads(path.read_text())["results"]
    }


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command, and returns its exit status and results."""

    def run(*arguments):
        path = tmp_path / "results.json"
        status = command.main([*arguments, "--json", str(path)])
        return status, results_of(path)

    return run


def consumer(name):
    return ["--consumer", f"bad_libraries:{name}"]


def producer(name):
    return ["--producer", f"bad_libraries:{name}"]


def cases(*names):
    return [word for name in names for word in ("--case", name)]


# -- what is proper
# ---------------------------------------------------------------------------------------------------


def test_dlbridge_passes_every_case(run):
    pytest.importorskip("numpy")  # makes the arrays that are exported
    status, results = run("dlbridge")
    assert [result for result in results.values() if result["bad"]] == []
    assert status == 0
    assert {case for _, case in results} == command.CASES.keys()
    assert {result["verdict"] for result in results.values()} == {"accepted", "refused"}


def test_careful_functions_pass_every_case(run, tmp_path):
    known = tmp_path / "known"
    known.write_text(
        "bad_libraries:Good export/exception/*  # its destructor is written in Python\n"
    )
    status, results = run(*consumer("careful"), *producer("Good"), "--known", str(known))
    bad = {case for (_, case), result in results.items() if result["bad"]}
    assert bad == {"export/exception/legacy", "export/exception/versioned"} and status == 0
    assert {case for name, case in results if name == "careful"} == CONSUMER_CASES.keys()
    assert {case for name, case in results if name == "Good"} == PRODUCER_CASES.keys()


# -- each verdict
# ---------------------------------------------------------------------------------------------------

CONSUMERS = {  # for a struct that every consumer should take
    "careful": ("accepted", ""),
    "unreadable": ("accepted", "values not compared"),
    "old": ("n/a", "asks for DLManagedTensor only"),
    "gives_no_array": ("leaked", "deleter never called; accepted: values not compared"),
    "leaks": ("leaked", "deleter never called; accepted"),
    "takes_and_raises": ("leaked", "deleter never called; refused legal: BufferError: no"),
    "frees_twice": ("double-freed", "deleter called 2 times; accepted"),
    "frees_and_raises": ("double-freed", "deleter called 2 times; refused legal"),
    "frees_early": ("freed early", "bytes 80 81 82 83 84 85 86 87 88 89 8a 8b, found shape (3,), "),
    "reads_elsewhere": ("wrong values", "found shape (3,), bytes 84 85 86 87"),
    "refuses": ("refused legal", "BufferError: no"),
    "masks": ("wrong error", "SystemError: returned NULL"),
    "panics": ("wrong error", "Panic: on purpose"),
    "crashes": ("crashed", "SIGSEGV"),
    "aborts": ("crashed", "SIGABRT; what():  on purpose"),
    "exits": ("crashed", "exit status 3"),
}


def test_each_fault_of_a_consumer_is_named(run):
    arguments = [word for name in CONSUMERS for word in consumer(name)]
    status, results = run(*arguments, *cases("import/version/1.3"))
    found = {name: result["verdict"] for (name, _), result in results.items()}
    assert found == {name: verdict for name, (verdict, _) in CONSUMERS.items()}
    for name, (verdict, detail) in CONSUMERS.items():
        result = results[name, "import/version/1.3"]
        assert detail in result["detail"], result
        assert result["bad"] is (verdict not in verdicts.PROPER)
    assert status == 1


def test_a_consumer_that_hangs_is_ended(run):
    names = ["import/version/1.2", "import/version/1.3"]
    status, results = run(*consumer("hangs_once"), *cases(*names), "--timeout", "0.5")
    first, second = (results["hangs_once", name] for name in names)
    assert (first["verdict"], first["detail"]) == ("hung", "no answer in 0.5 s")
    assert (second["verdict"], status) == ("accepted", 1)


def test_consumers_that_take_hostile_structs_are_named(run):
    status, results = run(
        *consumer("careless"), *cases("import/hostile/*-size/*", "import/version/?.[03]")
    )
    hostile = [case for _, case in results if "hostile" in case]
    assert len(hostile) == 4 and status == 1
    assert {results["careless", case]["verdict"] for case in hostile} == {"accepted hostile"}
    assert results["careless", "import/version/1.3"]["verdict"] == "accepted"
    assert results["careless", "import/version/2.0"]["verdict"] == "accepted hostile"


def test_a_consumer_of_legacy_structs_gets_them_where_the_case_does_not_say_which(run):
    names = ["import/dtype/int8", "import/hostile/null-shape/versioned", "import/flags/copied"]
    _, results = run(*consumer("old"), *cases(*names))
    found = [results["old", name]["verdict"] for name in names]
    assert found == ["accepted", "n/a", "n/a"]


def test_a_crash_costs_one_case_only(run):
    _, results = run(
        *consumer("crashes_on_offsets"), *cases("import/offset/*", "import/version/1.*")
    )
    for (_, case), result in results.items():
        assert result["verdict"] == ("crashed" if "offset" in case else "accepted"), case
    assert len(results) == 11


def test_a_crash_after_a_fault_is_tried_alone(run):
    names = ["import/version/1.0", "import/version/1.1"]
    _, results = run(*consumer("crashes_later"), *cases(*names))
    first, second = (results["crashes_later", name] for name in names)
    assert (first["verdict"], second["verdict"]) == ("double-freed", "crashed")
    expected = (
        "SIGABRT (only after other faults in one process; alone: double-freed: deleter called"
    )
    assert second["detail"].startswith(expected)


PRODUCERS = {  # the fault, and a case that names it
    "Shares": ("copy-true", "wrong struct", "copy=True, and the memory is shared"),
    "Silent": ("copy-true", "wrong struct", "the flag IS_COPIED is not set"),
    "Newer": ("version-1.3", "wrong struct", "the struct's version is (2, 0)"),
    "WithoutStrides": ("version-1.3", "wrong struct", "strides are NULL in a struct of version"),
    "Elsewhere": ("version-1.3", "wrong struct", "device is (2, 0), __dlpack_device__ says (1, 0)"),
    "Shifted": ("legacy", "wrong values", "the struct shape (2, 3), bytes 01 00 00 00"),
    "AlwaysVersioned": ("legacy", "wrong struct", "the capsule's name is b'dltensor_versioned'"),
    "OtherName": ("legacy", "wrong struct", "the capsule's name is b'tensor'"),
    "NoCapsule": ("legacy", "wrong struct", "NoCapsule is not a capsule"),
    "AnyDevice": ("dl-device-unknown", "accepted hostile", "asked for device (99, 0), got (1, 0)"),
    "OtherError": ("dl-device-unknown", "wrong error", "RuntimeError: no such device"),
    "Masking": ("legacy", "wrong error", "SystemError: on purpose"),
    "Crashing": ("legacy", "crashed", "SIGSEGV"),
    "OneStruct": ("two-capsules/legacy", "double-freed", "both capsules hold the same struct"),
    "Hoarding": ("leak-consumed/legacy", "leaked", "48 arrays of 4 MiB leave"),
    "Borrowed": ("array-first/legacy", "wrong values", "the struct shape (2, 3), bytes ee"),
    "FreesConsumed": ("legacy", "double-freed", "the destructor of a consumed capsule frees"),
    "Device": ("device-query", "wrong struct", "'cpu'"),
}


def test_each_fault_of_a_producer_is_named(run):
    arguments = [word for name in PRODUCERS for word in producer(name)]
    names = {f"export/{case}" for case, _, _ in PRODUCERS.values()}
    status, results = run(*arguments, *cases(*sorted(names)))
    for name, (case, verdict, detail) in PRODUCERS.items():
        result = results[name, f"export/{case}"]
        assert (result["verdict"], detail in result["detail"]) == (verdict, True), result
    assert status == 1


# -- the command
# ---------------------------------------------------------------------------------------------------


def test_cases_say_what_is_proper_and_why(capsys):
    assert command.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    sources = ("dlpack.h", "DLPack's Python", "array API", "Sizes", "C: ")
    for name, case in command.CASES.items():
        assert f"{name}: {case.allowed}" in lines
        assert case.allowed in (ACCEPT, EITHER, REFUSE)
        assert case.why.startswith(sources) and case.why.endswith("."), name
        assert " " not in name
    assert command.main(["--list", "--producers"]) == 0
    assert "import/" not in capsys.readouterr().out


WRONG = {
    "no such library": ["arrays"],
    "a library that is not installed": ["cupy"],
    "no such case": ["numpy", "--case", "import/nothing"],
    "no function": consumer("no_function"),
    "no such function": consumer("nothing"),
    "no such module": ["--consumer", "no_such_module:nothing"],
    "no path to a function": ["--consumer", "bad_libraries"],
    "no such file": ["numpy", "--known", "no_such_file"],
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_usage_is_reported(wrong, capsys):
    if wrong == "a library that is not installed" and command.BY_NAME["cupy"].installed():
        pytest.skip("CuPy is installed")
    pytest.importorskip("numpy")
    arguments = (
        WRONG[wrong] if "--case" in WRONG[wrong] else [*WRONG[wrong], *cases("import/shape/1")]
    )
    assert command.main(arguments) == 2
    written = capsys.readouterr()
    assert written.err.startswith("python -m dlbridge.conformance: ") and written.out == ""


def test_known_faults_do_not_fail(tmp_path, run, capsys):
    known = tmp_path / "known"
    known.write_text(
        "# ours\n\nbad_libraries:refuses import/version/1.[23]  # issue 7\n* export/*\n"
    )
    names = ["import/version/1.2", "import/version/1.3"]
    status, results = run(*consumer("refuses"), *cases(*names), "--known", str(known))
    assert [results["refuses", name]["known"] for name in names] == [True, True] and status == 0
    assert {result["bad"] for result in results.values()} == {True}
    written = capsys.readouterr()
    assert "not a fault any more: * export/*\n" in written.err
    assert "(REFUSED)" in written.out and ": refused legal: BufferError: no (known)" in written.out
    more = [*names, "import/version/1.0"]
    status, results = run(*consumer("refuses"), *cases(*more), "--known", str(known))
    assert [results["refuses", name]["known"] for name in more] == [
        True,
        True,
        False,
    ] and status == 1
    known.write_text("bad_libraries:refuses\n")
    assert command.main([*consumer("refuses"), *cases(*names), "--known", str(known)]) == 2
    assert "line 1: expected a library and a case" in capsys.readouterr().err


def test_tables(capsys):
    arguments = [
        *consumer("careful"),
        *consumer("refuses"),
        *cases("import/version/1.3", "import/version/2.0"),
    ]
    assert command.main(arguments) == 1
    written = capsys.readouterr()
    lines = written.out.splitlines()
    assert "import/version/1.3  ok                     REFUSED" in lines
    assert "import/version/2.0  refused                refused" in lines
    at = lines.index("bad_libraries:refuses: import/version/1.3: refused legal: BufferError: no")
    assert lines[at + 1].startswith("    Proper: accept. dlpack.h")
    assert "bad_libraries:refuses : 2 cases, 1 with faults" in written.err.replace("\r", "")
    assert command.main([*arguments, "--only-bad"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("import/version/1.3 ") for line in lines)
    assert not any(line.startswith("import/version/2.0 ") for line in lines)
    assert command.main([*arguments, "--markdown"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "| `import/version/1.3` | ok | REFUSED | accept |" in lines
    assert "| refused legal |  | 1 |" in lines and "| refused | 1 | 1 |" in lines


def test_every_verdict_has_a_word_and_a_meaning():
    assert set(report.SHORT) == set(verdicts.MEANINGS) == set(verdicts.VERDICTS)


FIELDS = {
    "library": str,
    "case": str,
    "verdict": str,
    "detail": str,
    "bad": bool,
    "known": bool,
    "allowed": str,
    "why": str,
}


def test_json(capsys):
    assert command.main([*consumer("refuses"), *cases("import/version/*"), "--json", "-"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["tool"], document["format"]) == ("dlbridge.conformance", 1)
    assert document["libraries"] == {"bad_libraries:refuses": ""}
    assert document.keys() == {
        "tool",
        "format",
        "date",
        "python",
        "platform",
        "libraries",
        "results",
    }
    assert len(document["results"]) == 9
    for result in document["results"]:
        assert {name: type(value) for name, value in result.items()} == FIELDS
        assert result["verdict"] in verdicts.VERDICTS


def test_the_kit_runs_beside_a_broken_dlbridge(tmp_path):
    pytest.importorskip("numpy")
    (tmp_path / "dlbridge").mkdir()
    (tmp_path / "dlbridge" / "__init__.py").write_text("raise ImportError('broken on purpose')")
    code = f"import runpy, sys; sys.path.insert(0, {str(tmp_path)!r}); "
    code += f"runpy.run_path({str(FOLDER)!r}, run_name='__main__')"
    arguments = [sys.executable, "-c", code, *cases("import/version/1.3"), "--json", "-"]
    environment = {"PYTHONPATH": str(tmp_path)}
    for library, status in (("numpy", 0), ("dlbridge", 1)):
        done = subprocess.run(
            [*arguments, library], capture_output=True, text=True, env=environment, timeout=60
        )
        assert done.returncode == status, done.stderr
        verdict = [result["verdict"] for result in json.loads(done.stdout)["results"]]
        assert verdict == (["accepted"] if library == "numpy" else [])
    assert "dlbridge cannot be imported: ImportError: broken on purpose" in done.stderr
