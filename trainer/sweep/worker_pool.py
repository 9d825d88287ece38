"""The processes that the runs of a sweep train in: each does one run after the other, so that torch starts once.

What a run prints goes to a file of its own. A process that dies takes its run with it and no other. No torch here.
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
from typing import Any

from trainer.config import ConfigError, Settings
from trainer.processes.signals import INTERRUPTED, REASONS, TERMINATED
from trainer.processes.world import SECONDS_TO_SAVE, cores, job_to_plain, killed_by, signal_name
from trainer.runs.directory import LOG, note_end
from trainer.runs.read import FAILED, FINISHED, STOPPED, is_run, read_run
from trainer.sweep.drive import PACE, REFUSED, Outcome, SweepJob

LOGS = "logs"  # the folder, in that of the sweep, for what each run prints
SERVE = "import sys; sys.path[0] = sys.argv[1]; from trainer.worker import serve; sys.exit(serve(*sys.argv[2:]))"
VISIBLE = "CUDA_VISIBLE_DEVICES"


class Pool:
    """Runs so many jobs at once.

    Args:
        shares: what each process sees of the machine; as many processes as there are of them.
        logs: where the files go.
    """

    def __init__(self, shares: Sequence[Share], logs: Path) -> None:
        self._workers = [_Worker(share, number) for number, share in enumerate(shares)]
        self._logs, self._said = logs, queue.SimpleQueue[tuple[_Worker, int, str | None]]()

    @property
    def room(self) -> int:
        """As many as there are processes."""
        return len(self._workers)

    def start(self, job: SweepJob) -> None:
        """Hand a job to a process that has none."""
        worker = next(worker for worker in self._workers if worker.job is None)
        if not worker.lives:
            worker.begin(self._said)
        worker.job = job
        log = str(log_of(job, self._logs))
        worker.tell({"number": job.number, "argv": sys.argv, **job_to_plain(job.job), "log": log})

    def wait(self, seconds: float) -> list[tuple[SweepJob, Outcome]]:
        """The jobs that have ended, after at most so many seconds if none has."""
        found: list[tuple[SweepJob, Outcome]] = []
        deadline = time.monotonic() + seconds
        while not found and (left := deadline - time.monotonic()) > 0:
            try:
                worker, life, line = self._said.get(timeout=left)
            except queue.Empty:
                for dead in [worker for worker in self._workers if worker.job is not None and not worker.runs]:
                    self._said.put((dead, dead.life, None))  # a child of it may hold its output open
                break
            if life != worker.life or not worker.lives:
                continue
            job, worker.job = worker.job, None
            if line is None:
                code = worker.end()
                if job is not None:
                    found.append((job, _died(job, code)))
            elif job is not None:
                outcome = outcome_of(json.loads(line))
                found.append((job, outcome))
                if outcome.state == FAILED:
                    worker.end()  # nobody knows what it has left behind; CUDA, for one, works no more in it
        for job, outcome in found:
            _note(job, outcome)
        return found

    def stop(self, job: SweepJob) -> None:
        """Ask a job to save and end; its process stays for the next one."""
        for worker in self._workers:
            if worker.job is job:
                worker.tell({"stop": job.number})

    def close(self) -> None:
        """End all; the runs under way are saved first."""
        for worker in self._workers:
            if worker.job is not None:
                self.stop(worker.job)
        deadline = time.monotonic() + SECONDS_TO_SAVE
        while any(worker.job is not None for worker in self._workers) and time.monotonic() < deadline:
            self.wait(PACE)
        alive = [worker for worker in self._workers if worker.lives]
        for worker in alive:
            worker.let_go()
        for worker in alive:
            worker.end()


def log_of(job: SweepJob, logs: Path) -> Path:
    """The file for what a job prints, in a folder that is there from now on."""
    logs.mkdir(parents=True, exist_ok=True)
    inside = job.folder.is_relative_to(logs.parent)  # else two may have one name
    name = "-".join(job.folder.relative_to(logs.parent).parts) if inside else f"{job.number}-{job.folder.name}"
    return logs / f"{name}.txt"


class Share:
    """What a process sees of the machine.

    Args:
        cores: by number; none for all of them.
        devices: of CUDA, as ``CUDA_VISIBLE_DEVICES`` names them; None for what is visible here.
    """

    def __init__(self, cores: Sequence[int] = (), devices: Sequence[str] | None = None) -> None:
        self.cores, self.devices = tuple(cores), devices


def shares(jobs: Sequence[Settings]) -> list[Share]:
    """The machine in as many equal parts as there are jobs at once.

    Args:
        jobs: the settings of those that any part may be given.

    Raises:
        ConfigError: there are not enough GPUs.
    """
    count, wanted = jobs[0].sweep["parallel"], jobs[0].sweep["devices_per_job"]
    devices = [job.device for job in jobs]
    if wanted is None:
        processes = [device.get("processes", 1) for device in devices]
        wanted = max(number if isinstance(number, int) else 1 for number in processes)
        wanted = wanted if count > 1 else 0
    mine = cores()
    size = max(1, len(mine) // count)
    parts = [[mine[(number * size + at) % len(mine)] for at in range(size)] for number in range(count)]
    parts = parts if count > 1 else [[]]
    without = all(device["name"] in ("cpu", "mps") for device in devices)
    gpus = [] if without or wanted == 0 else visible_gpus()
    if not gpus:
        return [Share(part) for part in parts]
    if count * wanted > len(gpus):
        raise ConfigError(
            f"sweep.parallel: {count} jobs at once with {wanted} of CUDA's devices each need {count * wanted}, and "
            f"{len(gpus)} are there; sweep.devices_per_job=0 lets all jobs see all of them"
        )
    return [Share(part, gpus[at * wanted : (at + 1) * wanted]) for at, part in enumerate(parts)]


def visible_gpus() -> list[str]:
    """The GPUs that CUDA would see here, as ``CUDA_VISIBLE_DEVICES`` names them; torch is not asked, as it is slow."""
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
    """A process, and what it is doing.

    Args:
        share: what it sees of the machine.
        number: of the process, for the name of its thread.
    """

    def __init__(self, share: Share, number: int) -> None:
        self._share, self._number = share, number
        self.job: SweepJob | None = None
        self.life = 0  # of a process that has died others speak no more
        self._process: subprocess.Popen[str] | None = None

    @property
    def lives(self) -> bool:
        """Whether there is one."""
        return self._process is not None

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def begin(self, said: queue.SimpleQueue[tuple[_Worker, int, str | None]]) -> None:
        """Start it; torch is imported at once. Its lines come through ``said``, and None when it is gone."""
        environment = dict(os.environ)
        if self._share.devices is not None:
            environment[VISIBLE] = ",".join(self._share.devices)
        root = str(Path(__file__).resolve().parents[2])
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, root, ",".join(map(str, self._share.cores))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
            start_new_session=True,  # Ctrl-C of a terminal is this process's; it asks the others to save
        )
        self._process, self.life = process, self.life + 1
        life = self.life

        def listen() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                said.put((self, life, line))
            said.put((self, life, None))

        threading.Thread(target=listen, name=f"sweep {self._number}", daemon=True).start()

    def tell(self, message: dict[str, Any]) -> None:
        """Hand it a job, or ask it to stop one. That it is gone is said by ``begin``'s None."""
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def let_go(self) -> None:
        """Let it end; a run that it may still be at is cut off."""
        assert self._process is not None and self._process.stdin is not None
        self.tell({"end": True})
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def end(self) -> int:
        """Wait until it is gone; returns its exit code, negative for a signal."""
        self.let_go()
        process, self._process = self._process, None
        assert process is not None
        try:
            return process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def outcome_of(result: dict[str, Any]) -> Outcome:
    """What ``worker.result_of`` says of a job."""
    if result["state"] == FINISHED:
        return Outcome(FINISHED, summary=result["summary"])
    if result["state"] == REFUSED:
        return Outcome(REFUSED, tuple(result["problems"]), 2)
    if result["state"] == STOPPED:
        code = INTERRUPTED if result["signal"] == signal.SIGINT else TERMINATED
        return Outcome(STOPPED, (), code, {"reason": REASONS[result["signal"]]})
    return Outcome(FAILED, (result["message"],), 1)


def _died(job: SweepJob, code: int) -> Outcome:
    """Of a job whose process is gone."""
    message = killed_by(signal_name(-code)) if code < 0 else f"its process ended with code {code}"
    if is_run(job.folder):
        message += f" (the log: {job.folder / LOG})"
    return Outcome(FAILED, (message,), 1)


def _note(job: SweepJob, outcome: Outcome) -> None:
    """Say in the run directory that it has failed, where what trained there could not."""
    if outcome.state == FAILED and is_run(job.folder) and read_run(job.folder).state != FAILED:
        note_end(job.folder, FAILED, outcome.problems[0])
