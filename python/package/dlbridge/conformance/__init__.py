"""Runs hostile and odd DLPack structs against array libraries: `python -m dlbridge.conformance`.

Consumers (`from_dlpack`) meet structs that break rules or that few producers make. Producers
(`__dlpack__`) export arrays, and what they export is checked. Each case runs in a child process, so
that a crash or a hang is a result. `docs/conformance.md` of the repository is the guide.
"""
