"""NumPy's own tests of DLPack, run with dlbridge as producer and consumer.

The tests of the installed NumPy are loaded with another `np`:

* two hops: an array goes to dlbridge, and from there to NumPy, for each `np.from_dlpack`;
* substitution: dlbridge imports instead of NumPy, and exports instead of the arrays.
"""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

import dlbridge as dl

# Intended differences of dlbridge, and their reasons.
DEVIATIONS = {
    "two hops": {},
    "substitution": {
        "test_dunder_dlpack_stream": "a stream that a device has not is a ValueError, as NumPy 2.5 has it too",
        "test_dunder_dlpack_copy": "an argument of the wrong type is a TypeError",
        "test_buffererror_bad_dtype": "DLPack has no type code 123, so dlbridge takes no such elements",
    },
}


class TwoHops:
    """NumPy with another `from_dlpack`."""

    def __getattr__(self, name):
        return getattr(np, name)

    @staticmethod
    def from_dlpack(x, **options):
        return np.from_dlpack(dl.from_dlpack(x, **options))


class Bridged(np.ndarray):
    """An array that dlbridge exports."""

    def __dlpack__(self, **options):
        return dl.from_dlpack(self.view(np.ndarray)).__dlpack__(**options)

    def __dlpack_device__(self):
        return dl.from_dlpack(self.view(np.ndarray)).__dlpack_device__()

    @classmethod
    def owning(cls, array):
        """A copy that owns its memory, so that it is the base of its views."""
        new = np.ndarray.__new__(cls, array.shape, array.dtype)
        new[...] = array
        return new


class Substitution:
    """NumPy whose `from_dlpack` is that of dlbridge, and whose new arrays dlbridge exports."""

    def __getattr__(self, name):
        known = getattr(np, name)
        if name not in ("arange", "array", "zeros", "asarray"):
            return known
        return lambda *arguments, **options: Bridged.owning(known(*arguments, **options))

    @staticmethod
    def from_dlpack(x, **options):
        return dl.from_dlpack(x, **options).numpy()


KINDS = {"two hops": TwoHops(), "substitution": Substitution()}


@pytest.mark.parametrize("kind", KINDS)
def test_numpys_dlpack_tests_pass(kind, tmp_path):
    source = pathlib.Path(np.__file__).parent / "_core/tests/test_dlpack.py"
    text = source.read_text()
    line = "import numpy as np\n"
    assert text.count(line) == 1
    here = pathlib.Path(__file__)
    replaced = f"import sys; sys.path.insert(0, {str(here.parent)!r}); import {here.stem}; np = {here.stem}.KINDS[{kind!r}]\n"
    (tmp_path / "test_dlpack.py").write_text(text.replace(line, replaced))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rA",
        "-p",
        "no:cacheprovider",
        "test_dlpack.py",
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    outcomes = [
        line.split()
        for line in run.stdout.splitlines()
        if line.startswith(("PASSED", "FAILED", "ERROR"))
    ]
    names = {
        name.split("::")[-1].split("[")[0] for outcome, name, *_ in outcomes if outcome != "PASSED"
    }
    # Some tests are new in NumPy 2.5.
    deviations = {name for name in DEVIATIONS[kind] if f"def {name}(" in text}
    assert names == deviations, run.stdout
    assert len(outcomes) >= 80, run.stdout
