"""What the losses over values share."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.spec import Spec


class ValueLoss(nn.Module):
    """A mean over samples and values; classes become one-hot values.

    Outputs are (batch, values); targets (batch, values), or (batch,) class numbers. Where the spec says what the
    values are like, outputs and loss are in units of their standard deviation from their mean; targets and scores are
    not.
    """

    sigmoid = False
    mean: Tensor
    std: Tensor

    def __init__(self, spec: Spec, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.num_outputs = len(spec.classes)
        self.function = function
        self.register_buffer("mean", torch.tensor(spec.target_mean or 0.0), persistent=False)
        self.register_buffer("std", torch.tensor(spec.target_std or 1.0), persistent=False)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean, a scalar."""
        if targets.ndim == 1:
            targets = F.one_hot(targets, self.num_outputs)
        return self.function(outputs, (targets.float() - self.mean) / self.std)

    def size(self, targets: Tensor) -> Tensor | int:
        """The number of samples."""
        return len(targets)

    def scores(self, outputs: Tensor) -> Tensor:
        """The values themselves, in the units of the targets."""
        return outputs * self.std + self.mean
