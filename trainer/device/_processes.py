"""What the devices of several processes share: which GPU is whose, the threads, batch normalisation over all."""

from __future__ import annotations

import os
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer import distributed
from trainer.config import ConfigError
from trainer.launch import world


def device_of_this_process(processes: int | Literal["auto"], threads: int | None) -> torch.device:
    """The GPU with this process's number on its machine, or the CPU where there is none.

    Args:
        processes: as the config has it.
        threads: of this process; None divides the cores between the processes of the machine, unless
            OMP_NUM_THREADS has done so.

    Raises:
        ConfigError: others were started than the config says, or there are fewer GPUs.
    """
    here = world()
    if here is None:
        raise ConfigError("device: this one is for the processes that train or torchrun start")
    if processes not in ("auto", here.size):
        raise ConfigError(f"device.processes: is {processes}, but torchrun has started {here.size}; leave it out")
    if torch.cuda.is_available():
        if here.local_rank >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise ConfigError(f"device.processes: must be at most {count}, the number of GPUs, got {here.local_size}")
        torch.cuda.set_device(here.local_rank)
        return torch.device("cuda", here.local_rank)
    if threads is not None:
        torch.set_num_threads(threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // here.local_size))
    return torch.device("cpu")


def synchronized(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with batch normalisation over the samples of all processes; its weights and names stay."""
    if device.type != "cpu":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return converted
    for module in model.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            module.__class__ = _SyncBatchNorm
    return model


class _SyncBatchNorm(_BatchNorm):
    """What torch's SyncBatchNorm, which needs GPUs, does there (Ioffe and Szegedy 2015, over all processes)."""

    def _check_input_dim(self, inputs: Tensor) -> None:
        """Of any number of axes."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, channels, …) -> the same."""
        if not self.training and self.running_mean is not None:
            outputs: Tensor = super().forward(inputs)
            return outputs
        axes = [axis for axis in range(inputs.ndim) if axis != 1]
        shape = [1, -1, *[1] * (inputs.ndim - 2)]
        here = torch.cat([inputs.sum(axes), inputs.new_tensor([inputs.numel() / inputs.shape[1]])])
        total, count = distributed.differentiable_sum(here).split([inputs.shape[1], 1])
        mean = total / count
        centred = inputs - mean.view(shape)
        variance = distributed.differentiable_sum(centred.square().sum(axes)) / count
        outputs = centred * (variance + self.eps).rsqrt().view(shape)
        self._follow(mean, variance * (count / (count - 1).clamp_min(1)))
        if self.affine:
            outputs = outputs * self.weight.view(shape) + self.bias.view(shape)
        return outputs

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Keep the running statistics, as ``nn.BatchNorm2d`` does."""
        if not self.track_running_stats or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        for running, now in ((self.running_mean, mean), (self.running_var, variance)):
            if running is not None:
                running.lerp_(now.to(running.dtype), rate)
