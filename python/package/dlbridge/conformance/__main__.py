"""The command `python -m dlbridge.conformance`."""

from __future__ import annotations

import importlib.util
import pathlib
import sys

NAME = "dlbridge_conformance"  # the name of this package if the package around it is not imported


def main() -> int:
    """Runs the command, or the worker that it starts."""
    if __package__:
        from .command import main as command
        from .worker import main as worker
    else:
        folder = pathlib.Path(__file__).resolve().parent
        sys.path[:] = [path for path in sys.path if pathlib.Path(path or ".").resolve() != folder]
        spec = importlib.util.spec_from_file_location(
            NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None and spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules[NAME] = package
        spec.loader.exec_module(package)
        command = importlib.import_module(f"{NAME}.command").main
        worker = importlib.import_module(f"{NAME}.worker").main
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2:])
    return command()


if __name__ == "__main__":
    sys.exit(main())
