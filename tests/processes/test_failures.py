"""Which failure of several processes came first, and which are only its consequences."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from trainer.config import RunError
from trainer.processes.failures import describe_loss, is_lost, tell_failure, told_failure
from trainer.processes.store import LostError, Store, TCPStore


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (LostError("timed out waiting for rank 1"), True),
        (dist.DistNetworkError("reset"), True),
        (RuntimeError("[/pytorch/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1234"), True),
        (RuntimeError("NCCL communicator was aborted"), True),
        (RuntimeError("Timed out waiting 5000ms for recv operation to complete"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("Connection closed by peer"), False),
        (RunError("rank 1: ValueError: timed out"), False),
    ],
)
def test_a_lost_process_is_told_from_an_error_of_its_own(error: Exception, lost: bool) -> None:
    assert is_lost(error) is lost


def test_a_process_that_does_not_answer_is_told_from_one_that_has_died() -> None:
    slow = "timed out after 2.5 s waiting for another process (device.timeout)"
    assert describe_loss(RuntimeError("Timed out waiting"), 2.5) == slow
    assert describe_loss(RuntimeError("Connection closed by peer"), 2.5) == "lost the connection to another process"


def test_the_first_of_several_failures_is_told_with_its_traceback() -> None:
    job = Store(TCPStore("localhost", 0, is_master=True, wait_for_workers=False))
    assert told_failure(job, ValueError("mine")) is None
    tell_failure(job, 2, "ValueError: first", ValueError("first"))
    tell_failure(job, 1, "ValueError: second", ValueError("second"))
    told = told_failure(job, RuntimeError("Connection closed by peer"))
    assert str(told) == "rank 2: ValueError: first"
    assert told is not None and "ValueError: first" in str(told.__cause__)
