"""What a process does that others have started: by torchrun, or by ``launch``. No torch until it has heard of a job."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from trainer import files, plugins
from trainer.config import ConfigError, registries
from trainer.garbage import wait_with_garbage
from trainer.interrupt import Interrupts, Stopped
from trainer.launch import JOB, RESULT, dismiss, settings_of, world


def follow() -> int:
    """Take part in the jobs of the first process of ``torchrun``; returns the exit code."""
    try:
        with Interrupts() as interrupts:
            with interrupts.held:  # torch cannot be imported by half
                from trainer import runner

            return runner.follow()
    except Stopped as stopped:
        return stopped.code


def work(place: str) -> int:
    """What each process does that ``launch`` has started; returns its exit code.

    It is 0 unless it should be started again: what the first process has to say stands in a file.
    """
    wait_with_garbage()
    job, command = json.loads((Path(place) / JOB).read_text()), os.getppid()
    sys.argv = job["argv"]
    _use_loopback()
    result: dict[str, Any] = {}
    here = world()
    assert here is not None
    if here.rank > 0:
        return follow()
    try:
        with Interrupts() as interrupts:
            with interrupts.held:  # torch cannot be imported by half
                from trainer import runner

            (Path(place) / RESULT).unlink(missing_ok=True)
            settings = settings_of(job)
            problems = plugins.declare(settings.plugins, registries(), load=True)
            if problems:
                raise ConfigError(*problems)
            result = {"state": "finished", "summary": runner.run(settings).summary}
    except ConfigError as error:
        result = {"state": "refused", "problems": error.problems}
    except Stopped as stopped:
        result = {"state": "stopped", "signal": stopped.signal_number}
    except Exception as error:
        result = {"state": "failed", "message": str(error), "traceback": traceback.format_exc()}
    code = int(result["state"] == "failed")
    files.write(Path(place) / RESULT, lambda path: path.write_text(json.dumps(result)))
    dismiss(code, final=False, stopped=result["state"] == "stopped")
    if os.getppid() != command:  # it was killed, and nobody else will
        shutil.rmtree(place, ignore_errors=True)
    return code


def _use_loopback() -> None:
    """All processes are on this machine, whose name may resolve to anything, or to nothing."""
    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
