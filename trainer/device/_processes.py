"""What the devices of several processes share: which GPU is whose, the threads, batch normalisation over all."""

from __future__ import annotations

import os
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


class SyncBatchNorm(nn.SyncBatchNorm):
    """torch's, which normalises over the samples of all processes, and the same on the CPU, where torch has none."""

    @classmethod
    def convert(cls, model: nn.Module) -> nn.Module:
        """The model with its layers of batch normalisation exchanged; weights and names stay."""
        synchronized: nn.Module = cls.convert_sync_batchnorm(model)
        for module in synchronized.modules():
            if type(module) is nn.SyncBatchNorm:
                module.__class__ = cls
        return synchronized

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, channels, …) -> the same; a share may be empty."""
        if inputs.device.type != "cpu" or not self.training:
            outputs: Tensor = super().forward(inputs)
            return outputs
        axes = [axis for axis in range(inputs.ndim) if axis != 1]
        shape = [1, -1, *[1] * (inputs.ndim - 2)]
        here = torch.cat([inputs.sum(axes), inputs.new_tensor([inputs.numel() / inputs.shape[1]])])
        *sums, count = distributed.differentiable_sum(here).split([inputs.shape[1], 1])
        mean = sums[0] / count
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
