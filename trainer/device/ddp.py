"""Several processes, each with a copy of the model and a share of every batch."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trainer.config import Duration, NonNegativeInt, Processes, Threads
from trainer.device import DEVICES
from trainer.device._placement import Placement
from trainer.device._processes import MultiProcess, device_of_this_process


@DEVICES.register
def ddp(
    *,
    processes: Processes | Literal["auto"],
    threads: Threads | None,
    timeout: Duration,
    max_restarts: NonNegativeInt,
    sync_batchnorm: bool,
    find_unused_parameters: bool,
) -> Placement:
    """DistributedDataParallel (Li et al. 2020): gradients are averaged while they are computed.

    NCCL between GPUs, gloo between CPUs.

    Raises:
        ConfigError: there are fewer GPUs than processes.
    """
    device = device_of_this_process(processes, threads)
    return Replicated(device, True, sync_batchnorm, find_unused_parameters)


@dataclass(frozen=True)
class Replicated(MultiProcess):
    """A copy in every process.

    Args:
        find_unused_parameters: look in every step for weights that the loss does not depend on.
    """

    find_unused_parameters: bool = False

    def wrap(self, model: nn.Module, averaged: nn.Module | None, optimizer: torch.optim.Optimizer) -> nn.Module:
        """The copies start from that of the first process."""
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return model
        return DistributedDataParallel(
            model,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            find_unused_parameters=self.find_unused_parameters,
        )

    def exchanging(
        self, wrapped: nn.Module, *, last: bool, counts: bool, all_count: bool
    ) -> contextlib.AbstractContextManager[Any]:
        """No gradient is sent before the last micro-batch."""
        nothing = super().exchanging(wrapped, last=last, counts=counts, all_count=all_count)
        if last or not isinstance(wrapped, DistributedDataParallel):
            return nothing
        no_sync: contextlib.AbstractContextManager[Any] = wrapped.no_sync()
        return no_sync
