"""The runs of a sweep in this process, which torchrun has started with the others that take part in them."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

from trainer.processes.signals import CLOCK, Stopped
from trainer.runs.read import STOPPED
from trainer.sweep.drive import Outcome, SweepJob
from trainer.sweep.worker_pool import LOGS, log_of, outcome_of
from trainer.worker import listening, printing_to, result_of


class Here:
    """Runs one job at a time; what it prints goes to a file.

    Args:
        folder: of the sweep.
    """

    room = 1

    def __init__(self, folder: Path) -> None:
        self._logs, self._jobs = folder / LOGS, list[SweepJob]()

    def start(self, job: SweepJob) -> None:
        """Keep it for ``wait``."""
        self._jobs.append(job)

    def wait(self, seconds: float) -> list[tuple[SweepJob, Outcome]]:
        """Do it.

        Raises:
            Stopped: a signal has come, which is for all jobs; ``max_time`` is for its own alone.
        """
        ended = []
        while self._jobs:
            job = self._jobs.pop()
            with printing_to(log_of(job, self._logs)):
                result = result_of(functools.partial(_train, job))
                sys.stdout.flush()
            if result["state"] == STOPPED and result["signal"] != CLOCK:
                raise Stopped(result["signal"])
            ended.append((job, outcome_of(result)))
        return ended

    def stop(self, job: SweepJob) -> None:
        """Nothing is under way while this is asked."""

    def close(self) -> None:
        """Nothing is under way here either."""


def _train(job: SweepJob) -> dict[str, Any]:
    with listening():
        from trainer.runner import run

        return run(job.job).summary
