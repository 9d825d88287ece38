"""What a process does that others have started: by torchrun, or by ``launch``. No torch until it has heard of a job."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import queue
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trainer.compose import plugins
from trainer.config import ConfigError, Job, RunError
from trainer.memory import wait_with_garbage
from trainer.processes.launch import launch, needed
from trainer.processes.leader import dismiss
from trainer.processes.signals import Interrupts, Stopped, ignore
from trainer.processes.world import JOB, RESULT, job_from_plain, world
from trainer.runs import atomic_files


def follow() -> int:
    """Take part in the jobs of the first process of ``torchrun``; returns the exit code."""
    try:
        with Interrupts() as interrupts:
            with interrupts.held:  # torch cannot be imported by half
                from trainer import follower

            return follower.follow()
    except Stopped as stopped:
        return stopped.code


def work(place: str) -> int:
    """What each process does that ``launch`` has started; returns its exit code.

    It is 0 unless it should be started again: what the first process has to say stands in a file.
    """
    wait_with_garbage()
    job, command = json.loads((Path(place) / JOB).read_text()), os.getppid()
    sys.argv = job["argv"]
    threading.Thread(target=_end_with, args=(command, place), name="command", daemon=True).start()
    _use_loopback()
    here = world()
    assert here is not None
    if here.rank > 0:
        return follow()

    def train() -> dict[str, Any]:
        with Interrupts() as interrupts:
            with interrupts.held:  # torch cannot be imported by half
                from trainer import runner

            (Path(place) / RESULT).unlink(missing_ok=True)
            return runner.run(_job(job)).summary

    result = result_of(train)
    code = int(result["state"] == "failed")
    atomic_files.write(Path(place) / RESULT, lambda path: path.write_text(json.dumps(result)))
    dismiss(code, final=False, stopped=result["state"] == "stopped")
    if os.getppid() != command:  # it was killed, and nobody else will
        shutil.rmtree(place, ignore_errors=True)
    return code


def _end_with(command: int, place: str) -> None:
    """End this process when the command that started it is gone, until it has met the others; then they see to that."""
    while os.getppid() == command:
        time.sleep(0.5)
    team = sys.modules.get("trainer.processes.team")
    if team is None or not hasattr(team, "have_met") or not team.have_met():
        shutil.rmtree(place, ignore_errors=True)
        os._exit(1)


def serve(cores: str) -> int:
    """What each process of a sweep does: the jobs that standard input names, one after the other, until it says so.

    How each has ended goes to standard output, a line each; what a job itself prints, to the file that it names. Where
    the command is gone, so is this process, at once: what it has saved is enough to go on from.

    Args:
        cores: that it may use, by number, such as ``0,1``; none for all.
    """
    wait_with_garbage()
    ignore()  # a signal is for the job that it comes in
    _use_cores([int(core) for core in cores.split(",") if core])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    jobs = _Jobs()
    os.dup2(2, 1)
    import torch

    from trainer import runner

    def train(plain: dict[str, Any]) -> dict[str, Any]:
        job = _job(plain)
        return launch(job) if needed(job.settings) else runner.run(job).summary

    folder, threads = Path.cwd(), torch.get_num_threads()
    while (job := jobs.next()) is not None:
        os.chdir(folder)  # whatever the job before has done
        sys.argv = job["argv"]
        with printing_to(Path(job["log"])):
            result = result_of(functools.partial(jobs.do, job["number"], functools.partial(train, job)))
            sys.stdout.flush()
        answers.write(json.dumps(result) + "\n")
        answers.flush()
        _forget(threads)
    os._exit(0)  # nothing is left to be written, and torch takes its time to end


def _forget(threads: int) -> None:
    """Let the next run begin as the first did: with its number of threads, and the memory of the one before."""
    import torch

    torch.set_num_threads(threads)
    gc.collect()  # a model in a cycle would stay while the next one trains
    if torch.cuda.is_initialized():
        with contextlib.suppress(RuntimeError):  # of a GPU that works no more; this process is not given another run
            torch.cuda.empty_cache()
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    with contextlib.suppress(OSError):  # Linux alone has it: the most memory so far is what there is now
        Path("/proc/self/clear_refs").write_text("5")


class _Jobs:
    """The jobs that standard input names, and the one under way, which it may ask to stop."""

    def __init__(self) -> None:
        self._waiting = queue.SimpleQueue[dict[str, Any] | None]()
        self._lock = threading.Lock()
        self._number: int | None = None  # of the job under way
        self._stopped = set[int]()
        threading.Thread(target=self._listen, name="jobs", daemon=True).start()

    def next(self) -> dict[str, Any] | None:
        """The next one; None where there are no more."""
        return self._waiting.get()

    def do(self, number: int, train: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do a job, which can be asked to stop from here on.

        Raises:
            Stopped: it was, and all that ``train`` raises.
        """
        with listening():
            try:
                with self._lock:
                    self._number = number
                if number in self._stopped:
                    raise Stopped(signal.SIGTERM)
                return train()
            finally:
                with self._lock:
                    self._number = None

    def _listen(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if "stop" in message:
                with self._lock:
                    self._stopped.add(message["stop"])
                    if self._number == message["stop"]:
                        os.kill(os.getpid(), signal.SIGTERM)
            elif "end" not in message:
                self._waiting.put(message)
            elif self._number is None:
                self._waiting.put(None)
                return
        os._exit(1)  # the command is gone, or waits no longer


def _job(plain: dict[str, Any]) -> Job:
    """Return the job that another process has described, its plugins imported.

    Raises:
        ConfigError: they cannot be.
    """
    job = job_from_plain(plain)
    plugins.require(job.settings.plugins)
    return job


def result_of(train: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """How a run has ended, for another process."""
    try:
        return {"state": "finished", "summary": train()}
    except ConfigError as error:
        return {"state": "refused", "problems": error.problems}
    except Stopped as stopped:
        return {"state": "stopped", "signal": stopped.signal_number}
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # a model may raise these too
        message = str(error) if isinstance(error, RunError) else f"{type(error).__name__}: {error}".rstrip(": ")
        return {"state": "failed", "message": message, "traceback": traceback.format_exc()}


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Where a signal has come, an error of another kind is its consequence: what is cut in two fails in its own ways.

    Raises:
        Stopped: one has come.
    """
    with Interrupts() as interrupts:
        try:
            yield
        except Exception as error:
            if not isinstance(error, RunError):
                interrupts.check()
            raise


@contextlib.contextmanager
def printing_to(log: Path) -> Iterator[None]:
    """Let what is printed, by Python or by a library of C, go to the end of a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:  # a full disk; the run says so too
        handle = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        for number, saved in enumerate(before, 1):
            os.dup2(saved, number)
            os.close(saved)
        os.close(handle)


def _use_cores(cores: list[int]) -> None:
    """Before torch is imported, which makes a thread for each."""
    if not cores:
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    else:
        os.environ.setdefault("OMP_NUM_THREADS", str(len(cores)))


def _use_loopback() -> None:
    """All processes are on this machine, whose name may resolve to anything, or to nothing."""
    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
