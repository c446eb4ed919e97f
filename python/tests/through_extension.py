"""Runs tests of `dlbridge.from_dlpack` through an extension module that is made with the crate `dlbridge-pyo3`.

With `pytest -p through_extension`, `dlbridge.from_dlpack` passes its argument through the class `Batch` of the example in
examples/extension. Each exception must name the argument `images`, in its text or in a note. Calls with options, which an
argument of a function does not have, stay as they are.
"""

import functools
from pathlib import Path

import dlbridge
import image_batches

FOLDER = Path(__file__).parent
# Texts of programs that tests run in other processes.
PROGRAMS = ["PREAMBLE", "LYING_BUFFERS"]
BEGIN = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import through_extension\n"

COUNT = 0


def shared(x):
    """The tensor that the module makes of its argument `images`."""
    global COUNT
    COUNT += 1
    try:
        return image_batches.Batch(x).images
    except BaseException as error:
        text = "\n".join([str(error), *getattr(error, "__notes__", [])])
        assert "images" in text, repr(error)
        raise


def through_the_module(function):
    @functools.wraps(function)
    def call(x, /, *arguments, **options):
        return function(x, *arguments, **options) if arguments or options else shared(x)

    return call


dlbridge.from_dlpack = through_the_module(dlbridge.from_dlpack)


def pytest_collection_modifyitems(items):
    for module in {item.module for item in items}:
        for name in set(PROGRAMS) & vars(module).keys():
            setattr(module, name, BEGIN + getattr(module, name))


def pytest_sessionfinish():
    assert COUNT, "no test imported an array through the module"
