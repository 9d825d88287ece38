"""Code shared by ddp and fsdp: the device and threads of a process, and what they have in common as placements."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from trainer.config import ConfigError
from trainer.device._batch_norm import MicroBatch, accept_single_values, synchronise
from trainer.device._placement import Placement
from trainer.processes.world import current_world


def device_of_this_process(processes: int | Literal["auto"], threads: int | None) -> torch.device:
    """Return the GPU with the local rank of this process, or the CPU if the machine has no GPU.

    Args:
        processes: the value of ``device.processes`` in the config.
        threads: the number of threads of this process; None divides the cores between the processes of the machine,
            unless OMP_NUM_THREADS is set.

    Raises:
        ConfigError: this process has no rank, torchrun has started another number of processes, or there are fewer
            GPUs than processes.
    """
    world = current_world()
    if world is None:
        raise ConfigError("device: this one needs the processes that train or torchrun start")
    if processes not in ("auto", world.size):
        raise ConfigError(f"device.processes: is {processes}, but torchrun has started {world.size}; leave it out")
    if torch.cuda.is_available():
        if world.local_rank >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise ConfigError(f"device.processes: must be at most {count}, the number of GPUs, got {world.local_size}")
        torch.cuda.set_device(world.local_rank)
        return torch.device("cuda", world.local_rank)
    if threads is not None:
        torch.set_num_threads(threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // world.local_size))
    return torch.device("cpu")


@dataclass(frozen=True)
class MultiProcess(Placement):
    """The placement of a model that several processes train.

    Args:
        sync_batchnorm: whether batch normalisation uses the samples of all processes, not only those of its own.
    """

    processes = True
    sync_batchnorm: bool = True
    micro_batch: MicroBatch = field(default_factory=MicroBatch, init=False)

    def prepare(self, model: nn.Module) -> nn.Module:
        if not self.sync_batchnorm:
            return accept_single_values(model)
        return synchronise(model, self.micro_batch, self.device)

    def normalised_together(self, count: int) -> int:
        world = current_world()
        return count if self.sync_batchnorm or world is None else -(-count // world.size)

    def exchanging(
        self, wrapped: nn.Module, *, last: bool, counts: bool, all_count: bool
    ) -> contextlib.AbstractContextManager[Any]:
        self.micro_batch.counts, self.micro_batch.all_count = counts, all_count
        return contextlib.nullcontext()
