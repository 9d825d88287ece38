"""Worker processes on this machine that train the runs of a sweep.

A worker imports torch once and then runs one job after another. The output of each run is redirected to a file. If a
worker dies, only its current run fails. This module itself does not import torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trainer.config import ConfigError, Settings
from trainer.processes.signals import Stopped
from trainer.processes.world import SECONDS_TO_SAVE, cores, job_to_plain, killed_by, signal_name
from trainer.runs.directory import LOG, note_end
from trainer.runs.read import FAILED, FINISHED, STOPPED, is_run, read_run
from trainer.sweep.drive import POLL_SECONDS, REFUSED, Executor, Outcome, SweepJob

LOGS = "logs"  # subfolder of the sweep's folder with the output of each run
SECONDS_TO_EXIT = 5  # time limit for a worker to exit, after which it is killed
SERVE = "import sys; sys.path[0] = sys.argv[1]; from trainer.worker import serve; sys.exit(serve(*sys.argv[2:]))"
VISIBLE = "CUDA_VISIBLE_DEVICES"


class Resources(NamedTuple):
    """The CPU cores and GPUs that one worker may use.

    Args:
        cores: the numbers of the CPU cores; empty for all cores.
        devices: the GPUs as in ``CUDA_VISIBLE_DEVICES``; None to leave that variable unchanged.
    """

    cores: tuple[int, ...] = ()
    devices: tuple[str, ...] | None = None


class WorkerPool(Executor):
    """An executor with a pool of worker processes, each of which runs one job at a time.

    Args:
        resources: the cores and GPUs of each worker; their number is the maximum number of workers.
        logs: the folder for the output of the runs.
    """

    def __init__(self, resources: Sequence[Resources], logs: Path) -> None:
        self.max_jobs = len(resources)
        self._unused, self._workers = list(resources), list[_Worker]()
        self._logs, self._answers = logs, queue.SimpleQueue[tuple[_Worker, str | None]]()

    def start(self, job: SweepJob) -> None:
        """Send a job to an idle worker, or to a new worker if none is idle."""
        worker = next((worker for worker in self._workers if worker.job is None), None)
        if worker is None:
            worker = _Worker(self._unused.pop(0), self._answers)
            self._workers.append(worker)
        worker.job = job
        log = str(log_of(job, self._logs))
        worker.send({"number": job.number, "argv": sys.argv, **job_to_plain(job.job), "log": log})

    def wait(self, seconds: float) -> list[tuple[SweepJob, Outcome]]:
        ended: list[tuple[SweepJob, Outcome]] = []
        deadline = time.monotonic() + seconds
        while not ended and (left := deadline - time.monotonic()) > 0:
            try:
                worker, line = self._answers.get(timeout=left)
            except queue.Empty:
                for worker in self._workers:
                    if worker.job is not None and worker.process.poll() is not None:
                        # The worker is dead, but a child of it may keep the pipe open, so that EOF never arrives.
                        self._answers.put((worker, None))
                break
            if worker not in self._workers:  # the worker was removed earlier
                continue
            job, worker.job = worker.job, None
            if line is None:
                code = self._remove(worker)
                if job is not None:
                    ended.append((job, _outcome_of_death(job, code)))
            elif job is not None:
                outcome = outcome_of(json.loads(line))
                ended.append((job, outcome))
                if outcome.state == FAILED:
                    self._remove(worker)  # do not reuse it: for example, CUDA is unusable after a failed kernel
        for job, outcome in ended:
            if outcome.state == FAILED and is_run(job.folder) and read_run(job.folder).state != FAILED:
                note_end(job.folder, FAILED, outcome.problems[0])  # the worker died before it could record the failure
        return ended

    def stop(self, job: SweepJob) -> None:
        """Ask a job to save a checkpoint and to end; its worker stays alive for the next job."""
        for worker in self._workers:
            if worker.job is job:
                worker.send({"stop": job.number})

    def close(self) -> None:
        for worker in self._workers:
            if worker.job is not None:
                self.stop(worker.job)
        deadline = time.monotonic() + SECONDS_TO_SAVE
        while any(worker.job is not None for worker in self._workers) and time.monotonic() < deadline:
            self.wait(POLL_SECONDS)
        for worker in self._workers:
            worker.ask_to_exit()
        for worker in list(self._workers):
            self._remove(worker)

    def _remove(self, worker: _Worker) -> int:
        """End a worker, release its cores and GPUs for another worker, and return its exit code."""
        self._workers.remove(worker)
        self._unused.append(worker.resources)
        return worker.end()


def log_of(job: SweepJob, logs: Path) -> Path:
    """Return the path of the file for the output of a job, and create the folder of this file."""
    logs.mkdir(parents=True, exist_ok=True)
    return logs / f"{'-'.join(job.path_in(logs.parent).parts)}.txt"


def divide_machine(jobs: Sequence[Settings]) -> list[Resources]:
    """Divide the cores and the GPUs into equal parts, one for each job that runs at the same time.

    Args:
        jobs: the settings of the jobs; ``sweep.parallel`` and ``sweep.devices_per_job`` are read from the first job.

    Raises:
        ConfigError: there are not enough GPUs.
    """
    count, wanted = jobs[0].sweep["parallel"], jobs[0].sweep["devices_per_job"]
    devices = [job.device for job in jobs]
    if wanted is None:
        processes = [device.get("processes", 1) for device in devices]
        wanted = max(number if isinstance(number, int) else 1 for number in processes) if count > 1 else 0
    own_cores = cores()
    size = max(1, len(own_cores) // count)
    parts: list[tuple[int, ...]] = [()]
    if count > 1:
        parts = [tuple(own_cores[(n * size + at) % len(own_cores)] for at in range(size)) for n in range(count)]
    needs_no_gpu = all(device["name"] in ("cpu", "mps") for device in devices)
    gpus = [] if needs_no_gpu or wanted == 0 else visible_gpus()
    if not gpus:
        return [Resources(part) for part in parts]
    if count * wanted > len(gpus):
        raise ConfigError(
            f"sweep.parallel: {count} jobs at once with {wanted} of CUDA's devices each need {count * wanted}, and "
            f"{len(gpus)} are there; sweep.devices_per_job=0 lets all jobs see all of them"
        )
    return [Resources(part, tuple(gpus[at * wanted : (at + 1) * wanted])) for at, part in enumerate(parts)]


def visible_gpus() -> list[str]:
    """Return the GPUs that CUDA can use, as in ``CUDA_VISIBLE_DEVICES``, without the slow import of torch."""
    if VISIBLE in os.environ:
        return [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip() not in ("", "-1")]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(number) for number, line in enumerate(line for line in listed.splitlines() if line.startswith("GPU "))]


class _Worker:
    """A worker process, and the job that it is running.

    Args:
        resources: the cores and GPUs that the process may use.
        answers: receives (this worker, line) for each line that the process prints, and (this worker, None) at EOF.
    """

    def __init__(self, resources: Resources, answers: queue.SimpleQueue[tuple[_Worker, str | None]]) -> None:
        self.resources = resources
        self.job: SweepJob | None = None
        environment = dict(os.environ)
        if resources.devices is not None:
            environment[VISIBLE] = ",".join(resources.devices)
        root = str(Path(__file__).resolve().parents[2])
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, root, ",".join(map(str, resources.cores))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
            start_new_session=True,  # Ctrl-C must reach only the command, which asks the workers to save
        )

        def listen() -> None:
            assert self.process.stdout is not None
            for line in self.process.stdout:
                answers.put((self, line))
            answers.put((self, None))

        threading.Thread(target=listen, name="sweep worker", daemon=True).start()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message, such as a job; ignore a closed pipe, as the death of a worker is detected by its output."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # ValueError: the pipe is closed
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def ask_to_exit(self) -> None:
        """Ask the process to exit immediately, even during a job, and close its standard input."""
        assert self.process.stdin is not None
        self.send({"end": True})
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def end(self) -> int:
        """Ask the process to exit, kill it after a time limit, and return its exit code (negative for a signal)."""
        self.ask_to_exit()
        try:
            return self.process.wait(SECONDS_TO_EXIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def outcome_of(result: dict[str, Any]) -> Outcome:
    """Convert the result of ``worker.result_of`` into the outcome of the job."""
    if result["state"] == FINISHED:
        return Outcome(FINISHED, summary=result["summary"])
    if result["state"] == REFUSED:
        return Outcome(REFUSED, tuple(result["problems"]), 2)
    if result["state"] == STOPPED:
        stopped = Stopped(result["signal"])
        return Outcome(STOPPED, (), stopped.code, {"reason": str(stopped)})
    return Outcome(FAILED, (result["message"],), 1)


def _outcome_of_death(job: SweepJob, code: int) -> Outcome:
    """Return the outcome of a job whose worker died with the exit code ``code``."""
    message = killed_by(signal_name(-code)) if code < 0 else f"its process ended with code {code}"
    if is_run(job.folder):
        message += f" (the log: {job.folder / LOG})"
    return Outcome(FAILED, (message,), 1)
