"""Run ``train`` in a fork of this process, which has imported torch already: a tenth of the time of a new process."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cli
from trainer.compose import plugins

for _slow in ("torch.utils.tensorboard", "torch._dynamo"):  # a run imports both; once here instead of in each fork
    importlib.import_module(_slow)


def forked(
    words: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] = os.environ,
    main: Callable[[], int] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``train`` in a process of its own, so that what it imports and registers is forgotten.

    The start of the interpreter and the imports are not part of it; a test of those starts a process with subprocess.

    Args:
        words: the words after ``train``.
        folder: the working directory.
        environment: the environment variables.
        main: the main function of the command; None for ``train``.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            end_as_command(words, folder, dict(environment), out.fileno(), err.fileno(), main)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([*words], code, out.read(), err.read())


def end_as_command(
    words: Sequence[str],
    folder: Path,
    environment: dict[str, str],
    out: int,
    err: int,
    main: Callable[[], int] | None = None,
    *,
    stdin: int | None = None,
) -> None:
    """Run the command and end this process, whatever happens."""
    code = 1
    try:
        for place, file in enumerate((os.open(os.devnull, os.O_RDONLY) if stdin is None else stdin, out, err)):
            os.dup2(file, place)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(place, "r" if place == 0 else "w") for place in range(3))
        _show_warnings_as_a_new_process()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[1:1] = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
        for remembered in (plugins._installed, plugins._warn):  # what this process has read with another path
            remembered.cache_clear()
        sys.argv = ["train", *words]
        code = (main or cli.main)()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _show_warnings_as_a_new_process() -> None:
    """Write warnings to stderr, with Python's filters instead of pytest's."""
    warnings.resetwarnings()
    for hidden in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", hidden)
    warnings.showwarning = lambda *told: print(warnings.formatwarning(*told[:4]), end="", file=sys.stderr)
