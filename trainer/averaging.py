"""An exponential moving average of a model's weights."""

from __future__ import annotations

import copy
import functools

import torch
from torch import Tensor, nn


class Ema:
    """A copy of a model whose weights are averaged after every step (Polyak and Juditsky 1992).

    average = d * average + (1 - d) * weights, where d = min(decay, (1 + step) / (10 + step)) is low at first, so that
    the average soon forgets the first weights (like TensorFlow's ExponentialMovingAverage). Floating-point buffers,
    such as those of BatchNorm, are averaged too; other buffers are copied. torch's AveragedModel would wait for the
    device in every step, because it reads a counter on the device.

    Args:
        model: the model whose weights are averaged.
        decay: the largest value of d, between 0 and 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self._followed = decay, model
        self.model = copy.deepcopy(model).requires_grad_(False)
        for module in self.model.modules():
            if isinstance(module, nn.RNNBase):  # copied tensors lie apart, and cuDNN would join them in every call
                module.flatten_parameters()

    @functools.cached_property
    def _pairs(self) -> tuple[list[tuple[list[Tensor], list[Tensor]]], list[tuple[Tensor, Tensor]]]:
        """The groups (averages, tensors of the model) to average, and the pairs of other tensors to copy.

        They are collected at the first update, after both models have been sharded. Parameters and buffers form
        separate groups, because parameters may be sharded and buffers never are.
        """
        ours, theirs = self.model, self._followed
        weights = list(zip(ours.parameters(), theirs.parameters(), strict=True))
        buffers = list(zip(ours.buffers(), theirs.buffers(), strict=True))
        groups = [[pair for pair in pairs if pair[0].is_floating_point()] for pairs in (weights, buffers)]
        others = [pair for pair in [*weights, *buffers] if not pair[0].is_floating_point()]
        return [([a for a, _ in group], [b for _, b in group]) for group in groups if group], others

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average after optimizer step ``step``."""
        decay = min(self.decay, (1 + step) / (10 + step))
        floating, others = self._pairs
        for averages, followed in floating:
            torch._foreach_lerp_(averages, followed, 1 - decay)
        for average, other in others:
            average.copy_(other)
