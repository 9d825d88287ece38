"""The rank of this process and the world size, and the job files that the processes share. Does not import torch."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trainer.config import ConfigError, Job, RunError, Settings

JOB, RESULT, RUN_DIR, FAILED = "job.json", "result.json", "run_dir", "failed"
FOLDER = "TRAINER_JOB"  # the environment variable that names the folder of the job files
# Parts of messages about another process, by which ``launch`` recognises these messages.
NO_ANSWER, CONNECTION_LOST = "waiting for another process (device.timeout)", "lost the connection to another process"
SECONDS_TO_SAVE = 120  # seconds from a signal until the process is killed


class World(NamedTuple):
    """The processes of a run, as torchrun describes them to each process."""

    rank: int
    size: int
    local_rank: int  # the rank among the processes of this machine
    local_size: int
    host: str  # the address of the store in which the processes meet
    port: int
    hosted: bool  # whether torchrun hosts the store, so that the store outlives the processes
    attempt: int  # the number of restarts so far
    most_attempts: int


def current_world() -> World | None:
    """Return the world that torchrun's environment variables describe, or None if they are not set.

    Raises:
        ConfigError: the value of a numeric variable, such as ``RANK``, is not a number.
    """
    found = os.environ
    if not all(name in found for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")):
        return None
    try:
        rank, size = int(found["RANK"]), int(found["WORLD_SIZE"])
        return World(
            rank=rank,
            size=size,
            local_rank=int(found.get("LOCAL_RANK", rank)),
            local_size=int(found.get("LOCAL_WORLD_SIZE", size)),
            host=found["MASTER_ADDR"],
            port=int(found["MASTER_PORT"]),
            hosted=found.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            attempt=int(found.get("TORCHELASTIC_RESTART_COUNT", 0)),
            most_attempts=int(found.get("TORCHELASTIC_MAX_RESTARTS", 0)),
        )
    except ValueError as error:
        raise ConfigError(
            f"RANK, WORLD_SIZE and MASTER_PORT must be numbers, as torchrun sets them: {error}"
        ) from error


@contextlib.contextmanager
def environment_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and restore the whole environment on exit."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def job_folder() -> Path | None:
    """Return the folder of the job files, or None in a process that ``launch`` has not started."""
    return Path(os.environ[FOLDER]) if FOLDER in os.environ else None


def last_failure() -> str:
    """Return why the previous attempt ended."""
    folder = job_folder()
    return (folder / FAILED).read_text() if folder and (folder / FAILED).is_file() else "a process has failed"


def job_from_plain(plain: Mapping[str, Any]) -> Job:
    """Return the job that ``job_to_plain`` has converted to ``plain``."""
    return Job(Settings(**plain["settings"]), tuple(plain["words"]), plain["fixed_run_dir"], tuple(plain["varied"]))


def job_to_plain(job: Job) -> dict[str, Any]:
    """Return a job as plain containers, which JSON can hold, for another process."""
    return {**vars(job), "settings": job.settings.to_dict()}


def cores() -> list[int]:
    """Return the numbers of the CPU cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def signal_name(number: int) -> str:
    """Return the name of a signal, such as ``SIGKILL`` for 9; real-time signals have no names."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def killed_by(name: str) -> str:
    """Return the phrase for a process that was killed by the signal ``name``, such as ``SIGKILL``."""
    return f"was killed ({name})" + ("; out of memory?" if name == "SIGKILL" else "")


class RemoteError(Exception):
    """The traceback of another process, as the cause of an error in this process."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def remote_error(message: str, text: str | None) -> RunError:
    """Return an error that another process has reported, with that process's traceback, if any, as the cause."""
    error = RunError(message)
    error.__cause__ = None if text is None else RemoteError(text)
    return error
