"""Commands of several processes, started with a mark in their environment, so that a process left behind is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.conftest import REPOSITORY
from tests.marked import marked

CLI = str(REPOSITORY / "cli.py")
TRAIN = [sys.executable, CLI]
DDP = ["device=ddp", "device.processes=2"]
MARK = "TRAINER_TEST_MARK"


def torchrun(count: int, *options: str) -> list[str]:
    """Return the beginning of a command under torchrun that shares no address with other commands."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", *options]


@dataclass
class Processes:
    """A command and all processes that it starts.

    Args:
        words: the command.
        folder: where it runs.
    """

    words: list[str]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mark = uuid.uuid4().hex
        environment = {**os.environ, "OMP_NUM_THREADS": "1", MARK: self.mark, **self.environment}
        self.command = subprocess.Popen(
            self.words, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def finish(self, timeout: float = 120) -> tuple[int, str, str]:
        """Wait for the end, and return the exit code, stdout and stderr."""
        out, errors = self.command.communicate(timeout=timeout)
        return self.command.returncode, out, errors

    def all(self) -> list[int]:
        """Return the ids of all processes with the mark, whatever their parents are now."""
        return marked(MARK, self.mark)

    def rank(self, rank: int) -> int | None:
        """Return the id of the process with a rank, or None."""
        for number in self.all():
            try:
                environment = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
                parent = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if f"RANK={rank}".encode() in environment and int(parent) == self.command.pid:
                return number
        return None

    def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Wait until a condition holds; raise AssertionError if the command ends first, or the time is over."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline and self.command.poll() is None, self.finish()
            time.sleep(0.02)

    def until_none_is_left(self, seconds: float = 20) -> None:
        """Wait until no process is left; raise AssertionError if the time is over."""
        deadline = time.monotonic() + seconds
        while self.all():
            assert time.monotonic() < deadline, f"left behind: {self.all()}"
            time.sleep(0.05)


@contextmanager
def started(words: list[str], folder: Path, **environment: str) -> Iterator[Processes]:
    """Start a command; none of its processes outlives the block."""
    processes = Processes(words, folder, environment)
    try:
        yield processes
    finally:
        for number in processes.all():
            os.kill(number, 9)
        processes.command.communicate()


def run(words: list[str], folder: Path, **environment: str) -> tuple[int, str, str]:
    """Run a command to its end, check that it leaves no process, and return its exit code, stdout and stderr."""
    with started(words, folder, **environment) as processes:
        finished = processes.finish()
        processes.until_none_is_left()
    return finished


def points(run_dir: Path, name: str) -> list[float]:
    """Return the values of a curve."""
    lines = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return [line[name] for line in lines if name in line]


def state(run_dir: Path, name: str = "last.pt") -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(run_dir / "checkpoints" / name, map_location="cpu", weights_only=True)
    return loaded


def summary(run_dir: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((run_dir / "summary.json").read_text())
    return loaded
