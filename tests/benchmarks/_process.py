"""A whole process, measured: seconds, memory, and when its optimizer steps were done."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import _probe

ROWS, COLUMNS = 30, 120  # of the terminal


class Run(NamedTuple):
    """What a process took.

    Args:
        code: its exit code.
        seconds: from its start to its end.
        mebibytes: the most memory it had.
        steps: the seconds from its start to the end of each optimizer step.
        output: stdout and stderr.
    """

    code: int
    seconds: float
    mebibytes: float
    steps: list[float]
    output: str


def run(words: Sequence[str], folder: Path) -> Run:
    """Run ``-m module word…`` or ``program.py word…`` with this interpreter in ``folder``.

    It has a terminal, so that progress bars are drawn, and no GPU.
    """
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "steps.json"
        started = time.monotonic()
        environment = os.environ | {
            _probe.STARTED: repr(started),
            _probe.STEPS: str(file),
            "CUDA_VISIBLE_DEVICES": "",
        }
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        process = subprocess.Popen(
            [sys.executable, _probe.__file__, *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        output = _read(ours)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        steps = json.loads(file.read_text()) if file.exists() else []
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Run(process.returncode, seconds, usage.ru_maxrss / unit, steps, output)


def _read(terminal: int) -> str:
    """All that is written to it, until nobody has it open any more."""
    chunks = []
    with open(terminal, "rb", buffering=0) as file:
        try:
            while chunk := file.read(2**16):
                chunks.append(chunk)
        except OSError:  # how Linux says that it is closed
            pass
    return b"".join(chunks).decode(errors="replace").replace("\r\n", "\n")
