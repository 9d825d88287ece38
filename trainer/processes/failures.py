"""Failures of other processes: the reports that they leave in the store, and lost connections."""

from __future__ import annotations

import contextlib
import re
import time
import traceback

import torch.distributed as dist

from trainer.config import RunError
from trainer.processes.store import LostError, Store
from trainer.processes.watchdog import PATIENCE
from trainer.processes.world import CONNECTION_LOST, NO_ANSWER, remote_error

# Error messages of torch, gloo and NCCL if another process has died or does not answer.
LOST = re.compile(r"gloo|NCCL|Connection (closed|reset|refused)|Broken pipe|[Tt]imed? ?out|Socket|recvValue", re.DOTALL)
TIMED_OUT = re.compile(r"[Tt]imed? ?out")


def is_lost(error: BaseException) -> bool:
    """Return whether an error only shows that another process has died or does not answer."""
    if isinstance(error, LostError | dist.DistError):
        return True
    return isinstance(error, RuntimeError) and bool(LOST.search(str(error)))


def describe_loss(error: BaseException, timeout: float) -> str:
    """Return the message for another process that has died or does not answer.

    Args:
        error: an error for which ``is_lost`` returns True.
        timeout: ``device.timeout`` in seconds.
    """
    return f"timed out after {timeout:g} s {NO_ANSWER}" if TIMED_OUT.search(str(error)) else CONNECTION_LOST


def tell_failure(job: Store, rank: int, message: str, error: BaseException) -> None:
    """Report to all processes of a job that this rank has failed, unless another rank has reported a failure before."""
    text = "".join(traceback.format_exception(error))
    with contextlib.suppress(LostError):
        if job.count("failures") == 1:
            job.set("failed", {"rank": rank, "message": message, "traceback": text})


def told_failure(job: Store, error: Exception) -> RunError | None:
    """Return the failure that a process of the job has reported with ``tell_failure``, or None.

    Args:
        job: the store of the job.
        error: the error in this process. If the error only says that another process is lost, wait up to
            ``PATIENCE / 4`` seconds for the report of that process.
    """
    if is_lost(error):
        with contextlib.suppress(LostError):
            job.wait("failed", deadline=time.monotonic() + PATIENCE / 4)
    with contextlib.suppress(LostError):
        if job.has("failed"):
            failure = job.get("failed")
            return remote_error(f"rank {failure['rank']}: {failure['message']}", failure["traceback"])
    return None
