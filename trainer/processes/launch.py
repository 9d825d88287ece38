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
from typing import Any

from trainer.config import ConfigError, Job, RunError, Settings
from trainer.config.registry import registry
from trainer.memory import collect_garbage
from trainer.processes.signals import CLOCK, INTERRUPTED, REASONS, Stopped
from trainer.processes.world import (
    FAILED,
    FOLDER,
    GONE,
    IN_VAIN,
    JOB,
    RESULT,
    RUN_DIR,
    SECONDS_TO_SAVE,
    cores,
    job_to_plain,
    killed_by,
    remote_error,
    signal_name,
    world,
)
from trainer.runs.directory import LOG, note_end, read_json

WORK = "import sys; sys.path[0] = sys.argv[2]; from trainer.worker import work; sys.exit(work(sys.argv[1]))"


def needed(settings: Settings) -> bool:
    """Whether a run needs processes that are not there yet."""
    return "processes" in settings.device and world() is None


def launch(job: Job) -> dict[str, Any]:
    """Start the processes of a run and wait for them; whatever happens, none is left.

    Returns:
        what summary.json holds.

    Raises:
        ConfigError, RunError, Stopped: as ``run``.
    """
    settings = job.settings
    count = _number_of_processes(settings)
    _check_components(settings)
    with tempfile.TemporaryDirectory(prefix="train-processes-") as name:
        place = Path(name)
        (place / JOB).write_text(json.dumps({"argv": sys.argv, **job_to_plain(job)}))
        with _environment(count, place), _own_signals():
            failure = _run_agent(settings, count, place)
        result = read_json(place / RESULT)
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
    root = str(Path(__file__).resolve().parents[2])
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
        note_end(run_dir, "failed", message)
        message += f" (the log: {run_dir / LOG})"
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
