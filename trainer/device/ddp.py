"""Several processes, each with a replica of the model and a share of every batch."""

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
    """Use DistributedDataParallel (Li et al. 2020), which averages gradients while they are computed.

    The backend is NCCL between GPUs and gloo between CPUs.

    Raises:
        ConfigError: there are fewer GPUs than processes.
    """
    return Replicated(device_of_this_process(processes, threads), sync_batchnorm, find_unused_parameters)


@dataclass(frozen=True)
class Replicated(MultiProcess):
    """The placement of a model that is replicated in every process.

    Args:
        find_unused_parameters: whether every step looks for weights that the loss does not depend on.
    """

    find_unused_parameters: bool = False

    def wrap(self, model: nn.Module, averaged: nn.Module | None, optimizer: torch.optim.Optimizer) -> nn.Module:
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
        no_exchange = super().exchanging(wrapped, last=last, counts=counts, all_count=all_count)
        if last or not isinstance(wrapped, DistributedDataParallel):
            return no_exchange
        no_sync: contextlib.AbstractContextManager[Any] = wrapped.no_sync()
        return no_sync
