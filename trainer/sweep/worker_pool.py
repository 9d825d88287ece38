"""The processes of this machine that train the runs of a sweep. Each runs one job after another and imports torch once.

The output of each run goes to a file. A process that dies fails its own run and no other. No torch in this module.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trainer.config import ConfigError, Settings
from trainer.processes.signals import INTERRUPTED, REASONS, TERMINATED
from trainer.processes.world import SECONDS_TO_SAVE, cores, job_to_plain, killed_by, signal_name
from trainer.runs.directory import LOG, note_end
from trainer.runs.read import FAILED, FINISHED, STOPPED, is_run, read_run
from trainer.sweep.drive import POLL_SECONDS, REFUSED, Outcome, SweepJob

LOGS = "logs"  # the folder inside that of the sweep for the output of each run
SECONDS_TO_EXIT = 5  # for a process that has no job, before it is killed
SERVE = "import sys; sys.path[0] = sys.argv[1]; from trainer.worker import serve; sys.exit(serve(*sys.argv[2:]))"
VISIBLE = "CUDA_VISIBLE_DEVICES"


class Resources(NamedTuple):
    """The part of the machine that one process may use.

    Args:
        cores: the numbers of the CPU cores; empty for all cores.
        devices: GPUs as ``CUDA_VISIBLE_DEVICES`` names them, or None to leave that variable as it is.
    """

    cores: tuple[int, ...] = ()
    devices: tuple[str, ...] | None = None


class WorkerPool:
    """An executor that runs as many jobs at once as there are processes.

    Args:
        resources: the part of the machine for each process; there is one process for each element.
        logs: the folder for the output of the runs.
    """

    def __init__(self, resources: Sequence[Resources], logs: Path) -> None:
        self._workers = [_Worker(each, number) for number, each in enumerate(resources)]
        self._logs, self._answers = logs, queue.SimpleQueue[_Answer]()
        self.max_jobs = len(self._workers)

    def start(self, job: SweepJob) -> None:
        """Hand a job to an idle process; start the process if it is not running."""
        worker = next(worker for worker in self._workers if worker.job is None)
        if not worker.started:
            worker.start(self._answers)
        worker.job = job
        log = str(log_of(job, self._logs))
        worker.send({"number": job.number, "argv": sys.argv, **job_to_plain(job.job), "log": log})

    def wait(self, seconds: float) -> list[tuple[SweepJob, Outcome]]:
        ended: list[tuple[SweepJob, Outcome]] = []
        deadline = time.monotonic() + seconds
        while not ended and (left := deadline - time.monotonic()) > 0:
            try:
                answer = self._answers.get(timeout=left)
            except queue.Empty:
                for dead in [worker for worker in self._workers if worker.job is not None and not worker.is_alive]:
                    # A child of the process may hold the pipe open, so that the end of the output is never read.
                    self._answers.put(_Answer(dead, dead.generation, None))
                break
            worker = answer.worker
            if answer.generation != worker.generation or not worker.started:
                continue
            job, worker.job = worker.job, None
            if answer.line is None:
                code = worker.end()
                if job is not None:
                    ended.append((job, _outcome_of_death(job, code)))
            elif job is not None:
                outcome = outcome_of(json.loads(answer.line))
                ended.append((job, outcome))
                if outcome.state == FAILED:
                    worker.end()  # its state is unknown; for example, CUDA does not work after an error in a kernel
        for job, outcome in ended:
            if outcome.state == FAILED and is_run(job.folder) and read_run(job.folder).state != FAILED:
                note_end(job.folder, FAILED, outcome.problems[0])  # the process died before it could write this
        return ended

    def stop(self, job: SweepJob) -> None:
        """Ask a job to save and end; the process stays for the next job."""
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
        started = [worker for worker in self._workers if worker.started]
        for worker in started:
            worker.ask_to_exit()
        for worker in started:
            worker.end()


def log_of(job: SweepJob, logs: Path) -> Path:
    """Return the file for the output of a job, and create its folder."""
    logs.mkdir(parents=True, exist_ok=True)
    inside = job.folder.is_relative_to(logs.parent)  # elsewhere, two run directories may have the same name
    name = "-".join(job.folder.relative_to(logs.parent).parts) if inside else f"{job.number}-{job.folder.name}"
    return logs / f"{name}.txt"


def divide_machine(jobs: Sequence[Settings]) -> list[Resources]:
    """Divide the cores and the GPUs into equal parts, one for each job that runs at once.

    Args:
        jobs: the settings of all jobs that a part may be given to.

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
    """Return the GPUs that CUDA can see, as ``CUDA_VISIBLE_DEVICES`` names them, without the slow import of torch."""
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
    """A process that runs jobs, and its current job. The process is started with its first job and after each failure.

    Args:
        resources: the part of the machine that the process may use.
        number: the number of the process, for the name of the thread that reads its answers.
    """

    def __init__(self, resources: Resources, number: int) -> None:
        self._resources, self._number = resources, number
        self.job: SweepJob | None = None
        self.generation = 0  # increases with each start, so that answers of an earlier process are ignored
        self._process: subprocess.Popen[str] | None = None

    @property
    def started(self) -> bool:
        """True from ``start`` to ``end``, even if the process has died."""
        return self._process is not None

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, answers: queue.SimpleQueue[_Answer]) -> None:
        """Start the process, which imports torch at once, and a thread that puts each line it prints in ``answers``."""
        environment = dict(os.environ)
        if self._resources.devices is not None:
            environment[VISIBLE] = ",".join(self._resources.devices)
        root = str(Path(__file__).resolve().parents[2])
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, root, ",".join(map(str, self._resources.cores))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
            start_new_session=True,  # Ctrl-C reaches only the command, which asks the processes to save
        )
        self._process, self.generation = process, self.generation + 1
        generation = self.generation

        def listen() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                answers.put(_Answer(self, generation, line))
            answers.put(_Answer(self, generation, None))

        threading.Thread(target=listen, name=f"sweep {self._number}", daemon=True).start()

    def send(self, message: dict[str, Any]) -> None:
        """Send a job, or the request to stop one; if the process is dead, the end of its output says so."""
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # ValueError: the pipe is closed
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def ask_to_exit(self) -> None:
        """Ask the process to exit, even in the middle of a job, and close its standard input."""
        assert self._process is not None and self._process.stdin is not None
        self.send({"end": True})
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def end(self) -> int:
        """Wait for the exit of the process, kill it if necessary, and return its exit code (negative for a signal)."""
        self.ask_to_exit()
        process, self._process = self._process, None
        assert process is not None
        try:
            return process.wait(SECONDS_TO_EXIT)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


class _Answer(NamedTuple):
    """A line that a worker printed, or None at the end of its output."""

    worker: _Worker
    generation: int
    line: str | None


def outcome_of(result: dict[str, Any]) -> Outcome:
    """Return the outcome of a job from the result of ``worker.result_of``."""
    if result["state"] == FINISHED:
        return Outcome(FINISHED, summary=result["summary"])
    if result["state"] == REFUSED:
        return Outcome(REFUSED, tuple(result["problems"]), 2)
    if result["state"] == STOPPED:
        code = INTERRUPTED if result["signal"] == signal.SIGINT else TERMINATED
        return Outcome(STOPPED, (), code, {"reason": REASONS[result["signal"]]})
    return Outcome(FAILED, (result["message"],), 1)


def _outcome_of_death(job: SweepJob, code: int) -> Outcome:
    """Return the outcome of a job whose process died with an exit code."""
    message = killed_by(signal_name(-code)) if code < 0 else f"its process ended with code {code}"
    if is_run(job.folder):
        message += f" (the log: {job.folder / LOG})"
    return Outcome(FAILED, (message,), 1)
