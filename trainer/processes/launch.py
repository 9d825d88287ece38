"""Start the processes of a run, unless torchrun has started them, and wait for their end.

A started process runs ``trainer.worker.work``, which reads its job from a file. torch's elastic agent, the core of
torchrun, runs in this command; it tells each process its rank and the address of rank 0 in environment variables.
Importing this module does not import torch.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from trainer.config import ConfigError, Job, RunError, Settings
from trainer.config.registry import registry
from trainer.config.terminal import loading
from trainer.memory import collect_garbage
from trainer.processes.job_folder import temporary_job_folder
from trainer.processes.signals import CLOCK, INTERRUPTED, REASONS, Stopped
from trainer.processes.world import (
    CONNECTION_LOST,
    FAILED,
    FOLDER,
    JOB,
    NO_ANSWER,
    RESULT,
    RUN_DIR,
    SECONDS_TO_SAVE,
    cores,
    current_world,
    environment_variables,
    job_to_plain,
    killed_by,
    remote_error,
    signal_name,
)
from trainer.runs.directory import LOG, note_end, read_json

WORK = "import sys; sys.path[0] = sys.argv[2]; from trainer.worker import work; sys.exit(work(sys.argv[1]))"


def needs_launch(settings: Settings) -> bool:
    """Return whether a run needs processes that have not been started yet."""
    return "processes" in settings.device and current_world() is None


def launch(job: Job) -> dict[str, Any]:
    """Start the processes of a run and wait for their end; no process is left running, whatever happens.

    Returns:
        the content of summary.json.

    Raises:
        ConfigError: the config is wrong.
        RunError: the run has failed.
        Stopped: a signal has ended the run.
    """
    settings = job.settings
    count = _number_of_processes(settings)
    _check_components(settings)
    with temporary_job_folder() as folder:
        (folder / JOB).write_text(json.dumps({"argv": sys.argv, **job_to_plain(job)}))
        inherited = {
            "TORCH_CPP_LOG_LEVEL": "ERROR",
            "OMP_NUM_THREADS": str(max(1, len(cores()) // count)),  # torch reads this variable only at import
            **os.environ,
            FOLDER: str(folder),
        }
        with environment_variables(inherited), _own_signals():
            failure = _run_agent(settings, count, folder)
        result = read_json(folder / RESULT)
        if failure is not None:
            raise _failed(failure, result, folder)
    if not result:
        raise RunError("the processes have ended without a result")
    if result["state"] == "refused":
        raise ConfigError(*result["problems"])
    if result["state"] == "stopped":
        raise Stopped(result["signal"])
    summary: dict[str, Any] = result["summary"]
    return summary


def _number_of_processes(settings: Settings) -> int:
    """Return ``device.processes``, or the number of GPUs if the key is ``auto``.

    Raises:
        ConfigError: the key is ``auto``, and torch sees no GPU.
    """
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
    """Check that other processes can import all chosen components.

    Raises:
        ConfigError: a component is registered in this process only, for example by a notebook.
    """
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


def _run_agent(settings: Settings, count: int, folder: Path) -> Any:
    """Run torch's elastic agent until all processes have ended, and return its ``ChildFailedError``, or None.

    Raises:
        Stopped: a signal has arrived; the agent has passed it on to all processes, and they have ended.
    """
    with loading():
        from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, PContext, SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # this program reports the errors itself
    watched = logging.getLogger("torch.distributed.elastic.multiprocessing.api")
    watched.setLevel(logging.ERROR)
    watched.propagate, watched.handlers = False, [_Failures(folder / FAILED)]
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
        logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
        signals_to_handle="SIGQUIT",  # hear() below handles all other signals
        **_time_to_save(LaunchConfig, PContext),
    )
    root = str(Path(__file__).resolve().parents[2])
    heard: list[int] = []

    def hear(number: int, _: FrameType | None) -> None:
        if not heard:
            heard.append(number)
            raise SignalException(f"heard {number}", signal.Signals(number))
        if number == signal.SIGINT:
            os.write(2, b"\ntrain: interrupted\n")
            os._exit(INTERRUPTED)  # the processes notice that this command has ended, and end too

    with contextlib.suppress(ValueError):  # only the main thread may set signal handlers
        for number in REASONS:
            if number != CLOCK and signal.getsignal(number) is not signal.SIG_IGN:  # nohup: SIGHUP stays ignored
                signal.signal(number, hear)
    try:
        collect_garbage()
        elastic_launch(config, sys.executable)("-c", WORK, str(folder), root)
    except ChildFailedError as failure:
        return failure
    except SignalException as caught:
        raise Stopped(int(caught.sigval)) from None
    return None


def _time_to_save(config: Any, processes: Any) -> dict[str, Any]:
    """Return the keys of torch's ``LaunchConfig`` that leave processes SECONDS_TO_SAVE after a signal.

    Args:
        config: the class ``LaunchConfig``; that of torch 2.11 and earlier has no such key.
        processes: the class ``PContext``, whose default value torch 2.11 uses.
    """
    if "shutdown_timeout" in config.__dataclass_fields__:
        return {"shutdown_timeout": SECONDS_TO_SAVE}
    processes.close.__defaults__ = (None, SECONDS_TO_SAVE)
    return {}


class _Failures(logging.Handler):
    """A logging handler that saves a failure logged by the agent in a file, for the report of the next attempt."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        found = re.search(r"exitcode: (-?\d+)\) local_rank: (\d+)", record.getMessage())
        if found:
            code, rank = map(int, found.groups())
            how = f"was killed ({signal_name(-code)})" if code < 0 else f"has ended with code {code}"
            self._path.write_text(f"rank {rank} {how}")


def _failed(failure: Any, result: dict[str, Any], folder: Path) -> RunError:
    """Return the error that ended a run: the death of a killed process, or else the first error of any process.

    Args:
        failure: torch's ``ChildFailedError``.
        result: the content of the result file of rank 0; empty if rank 0 has not written the file.
        folder: the folder of the job files.
    """
    run_dir = Path(os.fsdecode((folder / RUN_DIR).read_bytes())) if (folder / RUN_DIR).is_file() else None
    rank, first = failure.get_first_failure()
    reported: str = result.get("message") or _reported_message(first)
    killed = {
        rank: each for rank, each in failure.failures.items() if each.exitcode < 0 and each.signal_name() != "SIGTERM"
    }
    if killed and NO_ANSWER in reported:  # a process hung until the agent killed it
        message = f"rank {next(iter(killed))} did not answer; {reported.partition(' (the log')[0]}"
    elif killed and (not reported or CONNECTION_LOST in reported):
        rank, first = next(iter(killed.items()))
        message = f"rank {rank} {killed_by(first.signal_name())}"
    elif "message" in result:
        return remote_error(reported, result.get("traceback"))
    else:
        message = f"rank {rank}: {reported}" if reported else f"rank {rank} ended with code {first.exitcode}"
    if run_dir is not None and run_dir.is_dir():
        note_end(run_dir, "failed", message)
        message += f" (the log: {run_dir / LOG})"
    return remote_error(message, result.get("traceback"))


def _reported_message(failure: Any) -> str:
    """Return the message that a process has written to its error file."""
    message = failure.error_file_data.get("message") if failure.error_file_data else None
    return str(message.get("message", "")) if isinstance(message, dict) else ""


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Restore the command's signal handlers on exit, because the agent replaces them."""
    quit_number = [signal.SIGQUIT] if hasattr(signal, "SIGQUIT") else []  # handled by the agent, see _run_agent
    before = {number: signal.getsignal(number) for number in [*REASONS, *quit_number]}
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # only the main thread may set signal handlers
            for number, handler in before.items():
                signal.signal(number, handler)
