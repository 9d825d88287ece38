"""Runs a program and notes when each of its optimizer steps was done; knows nothing else about it.

    python _probe.py -m cli model=cnn
    python _probe.py program.py word word

The hook is torch's own, for all optimizers, and is set when the program imports them, so that nothing is imported that
the program does not import, and nothing sooner. What stands in the environment is set by ``_process.run``.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

STARTED = "BENCHMARK_STARTED"  # when the process was started, on the clock of time.monotonic
STEPS = "BENCHMARK_STEPS"  # the file that gets a JSON list, the seconds from then to the end of each step
OPTIMIZERS = "torch.optim.optimizer"

_times: list[float] = []


class _Loader(SourceFileLoader):
    """Sets the hook in the module that has it."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        module.register_optimizer_step_post_hook(lambda *_: _times.append(time.monotonic()))


class _Finder(MetaPathFinder):
    """Finds one module and leaves all others to Python."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != OPTIMIZERS:
            return None
        spec = PathFinder.find_spec(name, path)
        assert spec is not None and spec.origin is not None
        spec.loader = _Loader(name, spec.origin)
        return spec


def main() -> None:
    """Become the program of the command line."""
    started, file = float(os.environ.pop(STARTED)), Path(os.environ.pop(STEPS))
    if sys.path[0] == str(Path(__file__).parent):
        del sys.path[0]  # the program does not see our files
    sys.meta_path.insert(0, _Finder())
    del sys.argv[0]
    try:
        if sys.argv[0] == "-m":
            del sys.argv[0]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        file.write_text(json.dumps([now - started for now in _times]))


if __name__ == "__main__":
    main()
