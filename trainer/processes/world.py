"""Who this process is among the processes of a run, and the job files it shares with them. No torch."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trainer.config import ConfigError, Job, RunError, Settings

JOB, RESULT, RUN_DIR, FAILED = "job.json", "result.json", "run_dir", "failed"
FOLDER = "TRAINER_JOB"  # the variable that tells a process which folder those stand in
IN_VAIN, GONE = "in vain", "another process is gone"  # of a process that does not answer, or is not there any more
SECONDS_TO_SAVE = 120  # that a process has after a signal, before it is killed


class World(NamedTuple):
    """The processes of a run, as torchrun tells each of them."""

    rank: int
    size: int
    local_rank: int  # on this machine
    local_size: int
    host: str  # where the processes meet
    port: int
    hosted: bool  # by torchrun, so that the place outlives the processes
    attempt: int  # 0, or how often they have been started again
    most_attempts: int


def world() -> World | None:
    """The processes that this one is of; None where it is alone.

    Raises:
        ConfigError: the variables of torchrun are there and hold something else.
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


def folder() -> Path | None:
    """Where a process that ``launch`` has started finds its job and leaves its result."""
    return Path(os.environ[FOLDER]) if FOLDER in os.environ else None


def last_failure() -> str:
    """Why the attempt before this one has ended, as far as that is known."""
    place = folder()
    if place is None or not (place / FAILED).is_file():
        return "a process has failed"
    return (place / FAILED).read_text()


def job_from_plain(plain: Mapping[str, Any]) -> Job:
    """Return the job that ``job_to_plain`` has written down."""
    return Job(Settings(**plain["settings"]), tuple(plain["words"]), plain["fixed_run_dir"], tuple(plain["varied"]))


def job_to_plain(job: Job) -> dict[str, Any]:
    """Return a job as plain containers, which JSON can hold, for another process."""
    return {
        "settings": job.settings.to_dict(),
        "words": job.words,
        "fixed_run_dir": job.fixed_run_dir,
        "varied": job.varied,
    }


def cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def signal_name(number: int) -> str:
    """``SIGKILL`` of 9; those for real time have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def killed_by(name: str) -> str:
    """What is said of a process that a signal has ended, by its name."""
    return f"was killed ({name})" + ("; out of memory?" if name == "SIGKILL" else "")


class RemoteError(Exception):
    """The traceback of another process, as the cause of an error here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def remote_error(message: str, text: str | None) -> RunError:
    """An error that another process reports, with its traceback as the cause, if there is one."""
    error = RunError(message)
    error.__cause__ = None if text is None else RemoteError(text)
    return error
