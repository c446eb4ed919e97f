"""Runs the tests of CUDA devices in a process that has the fake CUDA driver, which runs work as late, and frees memory
as early, as CUDA's rules let it.

A process has the fake driver from its start or not at all. By hand:
`LD_LIBRARY_PATH=$DLBRIDGE_FAKE_CUDA pytest python/tests/test_cuda_*.py`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fake_cuda

if not fake_cuda.IS_HERE:

    @pytest.mark.skipif(
        fake_cuda.FOLDER is None, reason="DLBRIDGE_FAKE_CUDA does not name the fake driver's folder"
    )
    @pytest.mark.parametrize(
        "file", sorted(Path(__file__).parent.glob("test_cuda_*.py")), ids=lambda file: file.stem
    )
    def test_on_the_fake_driver(file):
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", file],
            env={**os.environ, "LD_LIBRARY_PATH": fake_cuda.FOLDER},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout + run.stderr
