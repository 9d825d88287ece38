"""Batch normalisation (Ioffe and Szegedy 2015) of any number of samples, in one process or over several.

A single value per channel, as in a last batch of one sample after the last pooling, has no variance: torch refuses it.
The classes of this module normalise it by the running statistics, as in evaluation, and leave these as they are. The
sample counts in the loss and in the gradients like any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.processes.group import differentiable_sum


@dataclass
class MicroBatch:
    """The properties of the current micro-batch that batch normalisation depends on.

    Args:
        counts: whether this process has samples of the micro-batch.
        all_count: whether every process has samples of every micro-batch of the batch.
    """

    counts: bool = True
    all_count: bool = True


def accept_single_values(model: nn.Module) -> nn.Module:
    """Make the batch normalisation of a model accept a single value per channel, in place; return the model."""
    for module in model.modules():
        if type(module) in PLAIN:
            module.__class__ = PLAIN[type(module)]
    return model


def synchronise(model: nn.Module, micro_batch: MicroBatch, device: torch.device) -> nn.Module:
    """Make batch normalisation use the samples of all processes, in place where possible; return the model.

    Args:
        model: a newly built model.
        micro_batch: describes the current micro-batch whenever the model is called.
        device: the device of this process.
    """
    if device.type != "cpu":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.SyncBatchNorm:
            module.__class__ = _FastSyncBatchNorm
        elif type(module) in PLAIN:
            module.__class__ = _SyncBatchNorm
        if isinstance(module, _SyncBatchNorm | _FastSyncBatchNorm):
            module.micro_batch = micro_batch
    return model


class _SingleValues(_BatchNorm):
    """Batch normalisation over the samples of one process; a single value per channel uses the running statistics."""

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training and self.running_mean is not None and inputs.numel() == inputs.shape[1]:
            self._check_input_dim(inputs)  # type: ignore[no-untyped-call]
            return nn.functional.batch_norm(
                inputs, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        outputs: Tensor = super().forward(inputs)
        return outputs


class _BatchNorm1d(_SingleValues, nn.BatchNorm1d):
    """``nn.BatchNorm1d`` that accepts a single value per channel."""


class _BatchNorm2d(_SingleValues, nn.BatchNorm2d):
    """``nn.BatchNorm2d`` that accepts a single value per channel."""


class _BatchNorm3d(_SingleValues, nn.BatchNorm3d):
    """``nn.BatchNorm3d`` that accepts a single value per channel."""


PLAIN: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: _BatchNorm1d,
    nn.BatchNorm2d: _BatchNorm2d,
    nn.BatchNorm3d: _BatchNorm3d,
}


class _SyncBatchNorm(_BatchNorm):
    """Batch normalisation over the samples of all processes, also on the CPU.

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
    """``nn.SyncBatchNorm``, except in micro-batches that it cannot normalise.

    These are the micro-batches of which some process has no samples, and a single value per channel in one process.
    """

    micro_batch: MicroBatch

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            single = inputs.numel() == inputs.shape[1] and torch.distributed.get_world_size() == 1
            if single or not self.micro_batch.all_count:
                return _normalised(self, inputs, self.micro_batch)
        outputs: Tensor = super().forward(inputs)
        return outputs


def _normalised(module: _BatchNorm, inputs: Tensor, micro_batch: MicroBatch) -> Tensor:
    """Normalise ``inputs`` (batch, channels, …) with statistics over all processes, computed in float32."""
    values = inputs.float()
    axes = [axis for axis in range(inputs.ndim) if axis != 1]
    counts = float(micro_batch.counts)
    here = torch.cat([values.sum(axes), values.new_full((1,), inputs.numel() / inputs.shape[1])]) * counts
    total, count = differentiable_sum(here).split([inputs.shape[1], 1])
    mean = total / count
    centred = values - mean.view(1, -1, *[1] * (inputs.ndim - 2))
    variance = differentiable_sum(centred.square().sum(axes) * counts) / count
    return normalise_by(module, values, mean, variance, count).to(inputs.dtype)


def normalise_by(module: _BatchNorm, values: Tensor, mean: Tensor, variance: Tensor, count: Tensor) -> Tensor:
    """Normalise a batch by its statistics, which the running statistics follow, as ``nn.BatchNorm2d`` does.

    A single value per channel is normalised by the running statistics, which stay as they are. The device selects,
    so that nothing waits for it.

    Args:
        module: the layer, with its weights and running statistics.
        values: (batch, channels, …).
        mean, variance: (channels,).
        count: the number of values per channel that the statistics are of, () or (1,).
    """
    shape, several = [1, -1, *[1] * (values.ndim - 2)], count > 1
    centred, spread = values - mean.view(shape), variance
    if module.running_mean is not None and module.running_var is not None:
        centred = torch.where(several, centred, values - module.running_mean.to(values.dtype).view(shape))
        spread = torch.where(several, variance, module.running_var.to(values.dtype))
    outputs = centred * (spread + module.eps).rsqrt().view(shape)
    with torch.no_grad():
        _follow(module, mean, variance * (count / (count - 1).clamp_min(1)), several)
    if module.affine:
        outputs = outputs * module.weight.view(shape) + module.bias.view(shape)
    return outputs


def _follow(module: _BatchNorm, mean: Tensor, variance: Tensor, several: Tensor) -> None:
    """Update the running statistics, if there are ``several`` values per channel, a bool of shape () or (1,)."""
    if not module.track_running_stats or module.num_batches_tracked is None:
        return
    module.num_batches_tracked.add_(several.squeeze(0))
    rate = 1 / module.num_batches_tracked.clamp_min(1).float() if module.momentum is None else module.momentum
    for running, now in ((module.running_mean, mean), (module.running_var, variance)):
        if running is not None:
            running.lerp_(torch.where(several, now.to(running.dtype), running), rate)
