"""An exponential moving average of a model's weights."""

from __future__ import annotations

import copy
import functools

import torch
from torch import Tensor, nn


class Ema:
    """average = decay * average + (1 - decay) * weights, after every step (Polyak and Juditsky 1992).

    The decay starts low and rises, min(decay, (1 + step) / (10 + step)), so that the first weights are soon forgotten
    (as TensorFlow's ExponentialMovingAverage). Floating-point buffers, such as BatchNorm's, are averaged too; others
    are copied. torch's own AveragedModel reads a counter from the device in every step.

    Args:
        model: whose weights to follow.
        decay: between 0 and 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self._followed = decay, model
        self.model = copy.deepcopy(model).requires_grad_(False)

    @functools.cached_property
    def _pairs(self) -> tuple[list[tuple[list[Tensor], list[Tensor]]], list[tuple[Tensor, Tensor]]]:
        """Averages and weights, and what is copied; known once both models lie on the devices for good.

        Weights may be pieces, and buffers never are, so they are averaged apart.
        """
        ours, theirs = self.model, self._followed
        weights = list(zip(ours.parameters(), theirs.parameters(), strict=True))
        buffers = list(zip(ours.buffers(), theirs.buffers(), strict=True))
        groups = [[pair for pair in pairs if pair[0].is_floating_point()] for pairs in (weights, buffers)]
        others = [pair for pair in [*weights, *buffers] if not pair[0].is_floating_point()]
        return [([a for a, _ in group], [b for _, b in group]) for group in groups if group], others

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the model after ``step`` optimizer steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        floating, others = self._pairs
        for averages, followed in floating:
            torch._foreach_lerp_(averages, followed, 1 - decay)
        for average, other in others:
            average.copy_(other)
