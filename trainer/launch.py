"""Where the processes of a run come from: torchrun, or this command, which starts them and waits for them. No torch.

One that this command starts does ``trainer.worker``: it is told of its job by a file, and of the others by torch's
elastic agent, which runs in the command itself, as it would in torchrun.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from trainer import rundir
from trainer.config import ConfigError, RunError, Settings, registry
from trainer.garbage import collect_garbage
from trainer.interrupt import CLOCK, INTERRUPTED, REASONS, Stopped

JOB, RESULT, RUN_DIR, FAILED = "job.json", "result.json", "run_dir", "failed"
FOLDER = "TRAINER_JOB"  # the variable that tells a process which folder those stand in
WORK = "import sys; sys.path[0] = sys.argv[2]; from trainer.worker import work; sys.exit(work(sys.argv[1]))"
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


def needed(settings: Settings) -> bool:
    """Whether a run needs processes that are not there yet."""
    return "processes" in settings.device and world() is None


def launch(settings: Settings) -> dict[str, Any]:
    """Start the processes of a run and wait for them; whatever happens, none is left.

    Returns:
        what summary.json holds.

    Raises:
        ConfigError, RunError, Stopped: as ``run``.
    """
    count = _number_of_processes(settings)
    _check_components(settings)
    with tempfile.TemporaryDirectory(prefix="train-processes-") as name:
        place = Path(name)
        (place / JOB).write_text(json.dumps({"argv": sys.argv, **as_job(settings)}))
        with _environment(count, place), _own_signals():
            failure = _run_agent(settings, count, place)
        result = rundir.read_json(place / RESULT)
        if failure is not None:
            raise _failed(failure, result, place)
    if not result:
        raise RunError("the processes have ended without a result")
    if result["state"] == "refused":
        raise ConfigError(*result["problems"])
    if result["state"] == "stopped":
        raise Stopped(result["signal"])
    summary: dict[str, Any] = result["summary"]
    return summary


def settings_of(job: dict[str, Any]) -> Settings:
    """The settings that ``as_job`` has written down."""
    values = dict(job["settings"])
    overrides, varied = (tuple(values.pop(name)) for name in ("overrides", "varied"))
    return Settings(**values, overrides=overrides, varied=varied)


def as_job(settings: Settings) -> dict[str, Any]:
    """Settings as plain containers, for another process."""
    own = {name: getattr(settings, name) for name in ("overrides", "fixed_run_dir", "varied")}
    return {"settings": {**settings.to_dict(), **own}}


def noted(name: str) -> Any:
    """What an earlier attempt has noted: ``ended``, the code that every attempt would end with, or ``sweep_dir``."""
    here = world()
    if here is None or here.attempt == 0:
        return None
    from trainer.distributed import Crew, processes

    crew = processes()
    return crew.noted(name) if isinstance(crew, Crew) else None


def note(name: str, value: str) -> None:
    """Something for an attempt after this one."""
    from trainer.distributed import Crew, processes

    crew = processes()
    if isinstance(crew, Crew):
        crew.note(name, value)


def dismiss(code: int, *, final: bool, stopped: bool) -> None:
    """Tell the others that the first process has no more jobs.

    Args:
        code: what they are to end with.
        final: another attempt would end alike.
        stopped: by a signal, of which the others have heard too, so that they may never come.
    """
    with contextlib.suppress(Exception):  # a signal may have cut the import of torch in two
        from trainer.distributed import Crew, have_met, processes

        if stopped and not have_met():
            return
        crew = processes()
        if isinstance(crew, Crew):
            crew.dismiss(code, final=final)


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


def _number_of_processes(settings: Settings) -> int:
    """Raises ConfigError where it cannot be told."""
    wanted = settings.device["processes"]
    if isinstance(wanted, int):
        return wanted
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        name = settings.device["name"]
        raise ConfigError(
            f"device.processes: torch {torch.__version__} sees no GPU, so say how many, such as "
            f"device={name} device.processes=2; every process takes a share of the {os.cpu_count()} cores"
        )
    return count


def _check_components(settings: Settings) -> None:
    """Raises ConfigError for what is registered in this process and nowhere else, such as in a notebook."""
    chosen = {group: [getattr(settings, group)["name"]] for group in ("model", "dataset", "loss", "optimizer")}
    chosen |= {"scheduler": [settings.scheduler["name"]], "logger": list(settings.logger)}
    problems = [
        f"{group}={name}: is known to this process only; device={settings.device['name']} needs it in a file that "
        "plugins=[…] names"
        for group, names in chosen.items()
        for name in names
        if registry(group).file(name) is None
    ]
    if problems:
        raise ConfigError(*problems)


def _run_agent(settings: Settings, count: int, place: Path) -> Any:
    """Returns torch's ChildFailedError, or None.

    Raises:
        Stopped: a signal has come; all processes have heard of it, and have ended.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is said by us, once
    watched = logging.getLogger("torch.distributed.elastic.multiprocessing.api")
    watched.setLevel(logging.ERROR)
    watched.propagate, watched.handlers = False, [_Failures(place / FAILED)]
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=settings.device["max_restarts"],
        monitor_interval=0.1,
        logs_specs=DefaultLogsSpecs(log_dir=str(place)),
        signals_to_handle="SIGQUIT",  # the others are heard once, and then no more
        shutdown_timeout=SECONDS_TO_SAVE,
    )
    root = str(Path(__file__).resolve().parent.parent)
    heard: list[int] = []

    def hear(number: int, _: FrameType | None) -> None:
        if not heard:
            heard.append(number)
            raise SignalException(f"heard {number}", signal.Signals(number))
        if number == signal.SIGINT:
            os.write(2, b"\ntrain: interrupted\n")
            os._exit(INTERRUPTED)  # the processes see it, and end

    with contextlib.suppress(ValueError):  # not the main thread, which hears nothing
        for number in REASONS:
            if number != CLOCK and signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
                signal.signal(number, hear)
    try:
        collect_garbage()
        elastic_launch(config, sys.executable)("-c", WORK, str(place), root)
    except ChildFailedError as failure:
        return failure
    except SignalException as caught:
        raise Stopped(int(caught.sigval)) from None
    return None


class _Failures(logging.Handler):
    """Keeps what the agent logs of a process that has failed, for the attempt after it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        found = re.search(r"exitcode: (-?\d+)\) local_rank: (\d+)", record.getMessage())
        if found:
            code, rank = map(int, found.groups())
            how = f"was killed ({signal_name(-code)})" if code < 0 else f"has ended with code {code}"
            self._path.write_text(f"rank {rank} {how}")


def _failed(failure: Any, result: dict[str, Any], place: Path) -> RunError:
    """What ended a run: a process that was killed, or else the first error of all."""
    run_dir = Path((place / RUN_DIR).read_text()) if (place / RUN_DIR).is_file() else None
    rank, first = failure.get_first_failure()
    said: str = result.get("message") or _said(first)
    killed = {
        rank: each for rank, each in failure.failures.items() if each.exitcode < 0 and each.signal_name() != "SIGTERM"
    }
    if killed and IN_VAIN in said:  # by the agent, as it did not answer
        message = f"rank {next(iter(killed))} did not answer; {said.partition(' (the log')[0]}"
    elif killed and (not said or GONE in said):
        rank, first = next(iter(killed.items()))
        message = f"rank {rank} {killed_by(first.signal_name())}"
    elif "message" in result:
        return remote_error(said, result.get("traceback"))
    else:
        message = f"rank {rank}: {said}" if said else f"rank {rank} ended with code {first.exitcode}"
    if run_dir is not None and run_dir.is_dir():
        rundir.note_end(run_dir, "failed", message)
        message += f" (the log: {run_dir / rundir.LOG})"
    return remote_error(message, result.get("traceback"))


def _said(failure: Any) -> str:
    """What a process has left about its failure."""
    message = failure.error_file_data.get("message") if failure.error_file_data else None
    return str(message.get("message", "")) if isinstance(message, dict) else ""


@contextlib.contextmanager
def _environment(count: int, place: Path) -> Iterator[None]:
    """What the processes inherit: where their job stands, and their share of the cores."""
    before = dict(os.environ)
    os.environ[FOLDER] = str(place)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(cores()) // count)))  # read once, when torch is imported
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """The agent hears signals while it is at work; before and after they are the command's."""
    quit_number = [signal.SIGQUIT] if hasattr(signal, "SIGQUIT") else []  # torch's, see _run_agent
    before = {number: signal.getsignal(number) for number in [*REASONS, *quit_number]}
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not the main thread, which hears nothing
            for number, handler in before.items():
                signal.signal(number, handler)
