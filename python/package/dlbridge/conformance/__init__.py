"""Tests array libraries with invalid and unusual DLPack structs: `python -m dlbridge.conformance`.

Consumers (`from_dlpack`) import valid, unusual and invalid structs. Producers (`__dlpack__`) export
arrays, and the kit checks their structs. Each case runs in a child process, so that a crash or a hang
is a result. The guide is `docs/conformance.md` in the repository.
"""
