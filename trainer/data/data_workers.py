"""The data workers of a DataLoader: what happens in them, and to their run, when one of them fails.

A thread of ``multiprocessing`` that cannot hand out a batch prints a traceback, drops the batch and goes on, so that
the run waits in vain. Here the data worker reports the reason to its run and ends.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import multiprocessing
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.queues import Queue
from pathlib import Path
from types import TracebackType

from trainer.config import RunError
from trainer.config.errors import one_line
from trainer.processes.signals import defer_in_data_worker

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

TOO_MANY_FILES = os.strerror(errno.EMFILE)
SHARED = Path("/dev/shm")  # where data workers put their batches on Linux


@functools.cache
def _reasons() -> tuple[Connection, Connection]:
    """Return the two ends of the pipe through which the data workers of this process report why they end."""
    return multiprocessing.Pipe(duplex=False)


def initializer() -> Callable[[int], None]:
    """Return a ``worker_init_fn`` for a ``DataLoader``, for this process's data workers."""
    receiver, sender = _reasons()
    while receiver.poll():  # what an earlier run has not read
        receiver.recv_bytes()
    return functools.partial(_start, sender)


def _start(sender: Connection, _: int) -> None:
    """Defer signals, and let an error in any thread of this data worker end the data worker."""
    defer_in_data_worker()

    def end(error: BaseException) -> None:
        if not isinstance(error, (EOFError, ConnectionError)):  # else the run is ending while it fetches a batch
            sender.send_bytes(one_line(error, 1000).encode())
            os._exit(1)

    def end_by_hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        end(error)

    sys.excepthook = end_by_hook  # called by the thread that hands out the batches
    Queue._on_queue_feeder_error = staticmethod(lambda error, _: end(error))  # type: ignore[attr-defined]


@contextlib.contextmanager
def starting_workers() -> Iterator[None]:
    """Kill the data workers started within this context if it fails, because Python would wait for them on exit."""
    before = multiprocessing.active_children()
    try:
        yield
    except BaseException:
        for child in set(multiprocessing.active_children()).difference(before):
            child.kill()
        raise


@contextlib.contextmanager
def watched_workers(*, fetching: bool = False) -> Iterator[None]:
    """Convert the exception about a data worker that failed, died or hangs into a RunError with the known details.

    torch reports a dead worker in a signal handler, so any code of the main process may raise the exception.

    Args:
        fetching: the block starts the workers or waits for a batch of theirs, so that a broken connection means a dead
            worker, and an error of the operating system is about the exchange of batches.
    """
    try:
        yield
    except Exception as error:
        report = str(error)
        if "in DataLoader worker process" in report or "in pin memory thread" in report:
            if isinstance(error, RunError):  # torch has put a traceback before its message, which is one line
                raise RunError(report.rstrip().rpartition("RunError: ")[2]) from error
            what = _in_a_worker(report)
        elif report.startswith("DataLoader "):
            what = " ".join(report.partition("Details are lost")[0].split()).rstrip(".")
        elif fetching and isinstance(error, (EOFError, ConnectionError, FileNotFoundError)):
            what = "DataLoader worker ended before its batch was read"
        elif fetching and report.startswith(TOO_MANY_FILES):  # torch's own advice for this does not apply here
            what = TOO_MANY_FILES
        elif fetching and (isinstance(error, OSError) or re.search(r"\(\d+\)$", report)):  # torch appends errno
            what = one_line(error)
        else:
            raise
        receiver, _ = _reasons()
        if receiver.poll():
            what = receiver.recv_bytes().decode()
        raise RunError(f"a data worker failed: {what}{_advice(what)}") from error


def _advice(what: str) -> str:
    """Return what the user can do about the failure of a data worker, after a semicolon; empty if that is not known."""
    free = shutil.disk_usage(SHARED).free >> 20 if SHARED.is_dir() else None
    if TOO_MANY_FILES in what:
        limit = "" if resource is None else f" of {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}"
        return f"; the limit{limit} open files is too low: raise it (ulimit -n), or take fewer dataset.workers"
    if free is not None and (os.strerror(errno.ENOSPC) in what or "Bus error" in what):
        return (
            f"; {SHARED}, where data workers put batches, is full ({free:,} MiB free now): make it larger (docker run "
            "--shm-size=1g), or take fewer dataset.workers or a smaller batch_size"
        )
    if what.startswith("DataLoader "):
        memory = "" if free is None else f" ({free:,} MiB free in {SHARED})"
        return f"; out of memory? fewer dataset.workers need less{memory}; with dataset.workers=0 the message says more"
    return ""


def _in_a_worker(report: str) -> str:
    """Return the error and its file and line from the text of a worker's traceback."""
    lines = report.rstrip().splitlines()
    start = max((number + 1 for number, line in enumerate(lines) if line.startswith("    ")), default=0)
    places = re.findall(r'^  File "(.+)", line (\d+)', report, flags=re.MULTILINE)
    place = f" in {places[-1][0]}, line {places[-1][1]}" if places else ""
    return " ".join(" ".join(lines[start:]).split()) + place
