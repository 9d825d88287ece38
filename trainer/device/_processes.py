"""Code shared by ddp and fsdp: the device and threads of a process, and batch normalisation over all processes."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.config import ConfigError
from trainer.device._placement import Placement
from trainer.processes.group import differentiable_sum
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


@dataclass
class MicroBatch:
    """The properties of the current micro-batch that batch normalisation depends on.

    Args:
        counts: whether this process has samples of the micro-batch.
        all_count: whether every process has samples of every micro-batch of the batch.
    """

    counts: bool = True
    all_count: bool = True


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
            return model
        if self.device.type != "cpu":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        for module in model.modules():
            if type(module) is nn.SyncBatchNorm:
                module.__class__ = _FastSyncBatchNorm
            elif type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
                module.__class__ = _SyncBatchNorm
            if isinstance(module, _SyncBatchNorm | _FastSyncBatchNorm):
                module.micro_batch = self.micro_batch
        return model

    def exchanging(
        self, wrapped: nn.Module, *, last: bool, counts: bool, all_count: bool
    ) -> contextlib.AbstractContextManager[Any]:
        self.micro_batch.counts, self.micro_batch.all_count = counts, all_count
        return contextlib.nullcontext()


class _SyncBatchNorm(_BatchNorm):
    """Batch normalisation (Ioffe and Szegedy 2015) over the samples of all processes, also on the CPU.

    A process without samples of a micro-batch takes part, but does not change the statistics.
    """

    micro_batch: MicroBatch

    def _check_input_dim(self, inputs: Tensor) -> None:
        """Accept any number of axes."""

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training and self.running_mean is not None:
            outputs: Tensor = super().forward(inputs)
            return outputs
        return _normalised(self, inputs, self.micro_batch)


class _FastSyncBatchNorm(nn.SyncBatchNorm):
    """``nn.SyncBatchNorm``, except in batches with a micro-batch of which some process has no samples."""

    micro_batch: MicroBatch

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or self.micro_batch.all_count:
            outputs: Tensor = super().forward(inputs)
            return outputs
        return _normalised(self, inputs, self.micro_batch)


def _normalised(module: _BatchNorm, inputs: Tensor, micro_batch: MicroBatch) -> Tensor:
    """Normalise ``inputs`` (batch, channels, …) with statistics over all processes, computed in float32."""
    values = inputs.float()
    axes = [axis for axis in range(inputs.ndim) if axis != 1]
    shape = [1, -1, *[1] * (inputs.ndim - 2)]
    counts = float(micro_batch.counts)
    here = torch.cat([values.sum(axes), values.new_full((1,), inputs.numel() / inputs.shape[1])]) * counts
    total, count = differentiable_sum(here).split([inputs.shape[1], 1])
    mean = total / count
    centred = values - mean.view(shape)
    variance = differentiable_sum(centred.square().sum(axes) * counts) / count
    outputs = centred * (variance + module.eps).rsqrt().view(shape)
    with torch.no_grad():
        _follow(module, mean, variance * (count / (count - 1).clamp_min(1)))
    if module.affine:
        outputs = outputs * module.weight.view(shape) + module.bias.view(shape)
    result: Tensor = outputs.to(inputs.dtype)
    return result


def _follow(module: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Update the running statistics like ``nn.BatchNorm2d``."""
    if not module.track_running_stats or module.num_batches_tracked is None:
        return
    module.num_batches_tracked.add_(1)
    rate = 1 / float(module.num_batches_tracked) if module.momentum is None else module.momentum
    for running, now in ((module.running_mean, mean), (module.running_var, variance)):
        if running is not None:
            running.lerp_(now.to(running.dtype), rate)
