"""Run the jobs of a sweep in this process, which is rank 0 of the processes that torchrun started."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

from trainer.processes.signals import CLOCK, Stopped
from trainer.runs.read import STOPPED
from trainer.sweep.drive import Executor, Outcome, SweepJob
from trainer.sweep.worker_pool import LOGS, log_of, outcome_of
from trainer.worker import listening, printing_to, result_of, train_job


class InProcess(Executor):
    """An executor that runs one job at a time in this process, with its output in a file in the sweep's folder."""

    max_jobs = 1

    def __init__(self, folder: Path) -> None:
        self._logs, self._jobs = folder / LOGS, list[SweepJob]()

    def start(self, job: SweepJob) -> None:
        self._jobs.append(job)

    def wait(self, seconds: float) -> list[tuple[SweepJob, Outcome]]:
        """Run the queued jobs to their end, and return the jobs with their outcomes.

        Raises:
            Stopped: a signal ends the sweep; a job that ends because of ``max_time`` is returned as stopped instead.
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


def _train(job: SweepJob) -> dict[str, Any]:
    with listening():
        return train_job(job.job)
