"""The base class of the losses for regression."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.spec import Spec


class ValueLoss(nn.Module):
    """A loss that is averaged over samples and values.

    Outputs are (batch, values). Targets are values (batch, values) or class numbers (batch,), which are converted to
    one-hot values. If the spec has the mean and standard deviation of the targets, outputs and loss are in standardised
    units. Targets and scores are always in the units of the data, as float64 if ``spec.needs_float64``, else float32.

    Args:
        spec: any data; classes and labels are treated as values.
        function: returns the mean loss of outputs and float32 targets, both (batch, values).
    """

    sigmoid = False
    mean: Tensor
    std: Tensor

    def __init__(self, spec: Spec, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.num_outputs = len(spec.classes)
        self.function = function
        real = torch.float64 if spec.needs_float64 else torch.float32
        self.register_buffer("mean", torch.tensor(spec.target_mean or 0.0, dtype=real), persistent=False)
        self.register_buffer("std", torch.tensor(spec.target_std or 1.0, dtype=real), persistent=False)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if targets.ndim == 1:
            targets = F.one_hot(targets, self.num_outputs)
        return self.function(outputs, ((targets.to(self.mean.dtype) - self.mean) / self.std).float())

    def size(self, targets: Tensor) -> Tensor | int:
        """Return the number of samples."""
        return len(targets)

    def scores(self, outputs: Tensor) -> Tensor:
        """Return the values in the units of the targets, (batch, values)."""
        return outputs * self.std + self.mean
