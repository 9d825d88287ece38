"""An exponential moving average of a model's weights."""

from __future__ import annotations

import copy
from typing import Any

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
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)
        pairs = list(zip(_tensors(self.model), _tensors(model), strict=True))
        self._averages = [average for average, _ in pairs if average.is_floating_point()]
        self._weights = [weight for average, weight in pairs if average.is_floating_point()]
        self._others = [(average, other) for average, other in pairs if not average.is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the model after ``step`` optimizer steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
        for average, other in self._others:
            average.copy_(other)

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights, with the model's own names."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over saved averages."""
        self.model.load_state_dict(state)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
