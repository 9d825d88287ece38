"""Entry points of the processes that torchrun, ``launch`` or a sweep starts. The module does not import torch."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import logging
import os
import queue
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.compose import plugins
from trainer.config import ConfigError, Job, RunError
from trainer.config.errors import one_line
from trainer.config.terminal import loading, prepare_streams
from trainer.memory import wait_with_garbage
from trainer.processes.job_folder import hold
from trainer.processes.launch import launch, needs_launch
from trainer.processes.leader import dismiss_followers
from trainer.processes.signals import INTERRUPTED, Interrupts, Stopped, ignore
from trainer.processes.world import JOB, RESULT, current_world, job_from_plain
from trainer.runs import atomic_files


def follow() -> int:
    """Take part in every job of rank 0, and return the exit code that rank 0 announces after the last job."""
    try:
        with Interrupts() as interrupts:
            with interrupts.held, loading():  # an interrupted import of torch cannot be repeated
                from trainer.processes.store import LostError
                from trainer.processes.team import Follower, get_team
                from trainer.runner import take_part
            team = get_team()
            assert isinstance(team, Follower)
            _silence()
            try:
                while not isinstance(settings := team.wait_for_job(), int):
                    take_part(settings, team)
                    team.wait_for_end()
            except LostError:
                return 1
            return settings
    except KeyboardInterrupt as stopped:
        return getattr(stopped, "code", INTERRUPTED)


def _silence() -> None:
    """Suppress the output of this process, because rank 0 prints; torch's C++ code still reports crashes on stderr."""
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115


def work(folder: str) -> int:
    """Do the job of a process that ``launch`` has started, and return the exit code.

    The exit code is 1 if the processes should be started again, and 0 otherwise. Rank 0 writes its result to a file.

    Args:
        folder: the folder of the job files.
    """
    wait_with_garbage()
    prepare_streams()
    job, command = json.loads((Path(folder) / JOB).read_text()), os.getppid()
    sys.argv = job["argv"]
    _lock = hold(Path(folder))
    threading.Thread(target=_end_with, args=(command, folder), name="command", daemon=True).start()
    _use_loopback()
    world = current_world()
    assert world is not None
    if world.rank > 0:
        return follow()

    def train() -> dict[str, Any]:
        with Interrupts() as interrupts:
            with interrupts.held, loading():  # an interrupted import of torch cannot be repeated
                from trainer import runner

            (Path(folder) / RESULT).unlink(missing_ok=True)
            return runner.run(job_with_plugins(job)).summary

    result = result_of(train)
    code = int(result["state"] == "failed")
    atomic_files.write(Path(folder) / RESULT, lambda path: path.write_text(json.dumps(result)))
    dismiss_followers(code, final=False, stopped=result["state"] == "stopped")
    if os.getppid() != command:  # the command was killed, so it cannot delete the folder
        shutil.rmtree(folder, ignore_errors=True)
    return code


def _end_with(command: int, folder: str) -> None:
    """Exit when the command that started this process has died; after the processes have met, the watchdog does so."""
    while os.getppid() == command:
        time.sleep(0.5)
    team = sys.modules.get("trainer.processes.team")
    if team is None or not hasattr(team, "have_met") or not team.have_met():
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)


def serve(cores: str) -> int:
    """Do the jobs of a sweep, which arrive as lines of JSON on standard input, one after the other.

    The result of each job is a line of JSON on standard output; everything that the job prints goes to its log file.
    The process exits as soon as the sweep's command has died: the current job can be resumed from its last checkpoint.

    Args:
        cores: the numbers of the CPU cores to use, such as ``0,1``; empty for all cores.
    """
    wait_with_garbage()
    prepare_streams()
    ignore()  # only a job handles signals, see _Jobs.do
    _use_cores([int(core) for core in cores.split(",") if core])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    jobs = _Jobs()
    os.dup2(2, 1)
    import torch

    import trainer.runner  # noqa: F401  # while the process waits for its first job

    def train(plain: dict[str, Any]) -> dict[str, Any]:
        return train_job(job_with_plugins(plain))

    folder, threads = Path.cwd(), torch.get_num_threads()
    while (job := jobs.next()) is not None:
        os.chdir(folder)  # the previous job may have changed the working directory
        sys.argv = job["argv"]
        with printing_to(Path(job["log"])):
            result = result_of(functools.partial(jobs.do, job["number"], functools.partial(train, job)))
            sys.stdout.flush()
        answers.write(json.dumps(result) + "\n")
        answers.flush()
        _forget(threads)
    os._exit(0)  # everything is written, and tearing torch down takes long


def _forget(threads: int) -> None:
    """Undo what a run has changed in this process: restore the number of threads, and free memory."""
    import torch

    torch.set_num_threads(threads)
    gc.collect()  # else a model in a reference cycle would stay in memory during the next run
    if torch.cuda.is_initialized():
        with contextlib.suppress(RuntimeError):  # a broken GPU; this process gets no further job
            torch.cuda.empty_cache()
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    with contextlib.suppress(OSError):  # resets the peak memory of the process; exists on Linux only
        Path("/proc/self/clear_refs").write_text("5")


class _Jobs:
    """The queue of jobs from standard input, where a message can also ask the current job to stop."""

    def __init__(self) -> None:
        self._waiting = queue.SimpleQueue[dict[str, Any] | None]()
        self._lock = threading.Lock()
        self._number: int | None = None  # of the current job
        self._stopped = set[int]()
        threading.Thread(target=self._listen, name="jobs", daemon=True).start()

    def next(self) -> dict[str, Any] | None:
        """Wait for the next job and return it; None after the last job."""
        return self._waiting.get()

    def do(self, number: int, train: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Call ``train`` as job ``number``, which a message on standard input can stop.

        Raises:
            Stopped: a message or a signal stopped the job.
            Exception: an error of ``train``.
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
        os._exit(1)  # the command has died, or does not wait for the current job


def train_job(job: Job) -> dict[str, Any]:
    """Train a job, in processes of its own if its device needs several, and return the summary of the run."""
    if needs_launch(job.settings):
        return launch(job)
    with loading():
        from trainer.runner import run

    return run(job).summary


def job_with_plugins(plain: Mapping[str, Any]) -> Job:
    """Return the job that ``job_to_plain`` has converted in another process, after importing its plugins.

    Raises:
        ConfigError: a plugin cannot be imported.
    """
    job = job_from_plain(plain)
    plugins.require(job.settings.plugins)
    return job


def result_of(train: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Call ``train`` and return how it ended, in plain containers that can be sent to another process."""
    try:
        return {"state": "finished", "summary": train()}
    except ConfigError as error:
        return {"state": "refused", "problems": error.problems}
    except Stopped as stopped:
        return {"state": "stopped", "signal": stopped.signal_number}
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # a model may raise these too
        return {"state": "failed", "message": one_line(error), "traceback": traceback.format_exc()}


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Handle signals; after a signal, raise ``Stopped`` in place of an error, which may be a side effect of the signal.

    Raises:
        Stopped: a signal has arrived.
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
    """Append the output of Python and of C libraries within this context to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:  # such as a full disk; the run reports it
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
    """Restrict this process to some CPU cores; call before the import of torch, which starts a thread for each core."""
    if not cores:
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    else:
        os.environ.setdefault("OMP_NUM_THREADS", str(len(cores)))


def _use_loopback() -> None:
    """Make gloo use the loopback interface: the host name may resolve to a wrong address or to none."""
    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
