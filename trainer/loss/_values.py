"""What the losses over values share."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.spec import Spec


class ValueLoss(nn.Module):
    """A mean over samples and values; classes become one-hot values.

    Outputs are (batch, values); targets (batch, values), or (batch,) class numbers.
    """

    sigmoid = False

    def __init__(self, spec: Spec, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.num_outputs = len(spec.classes)
        self.function = function

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean, a scalar."""
        if targets.ndim == 1:
            targets = F.one_hot(targets, self.num_outputs)
        return self.function(outputs, targets.float())

    def size(self, targets: Tensor) -> Tensor | int:
        """The number of samples."""
        return len(targets)

    def scores(self, outputs: Tensor) -> Tensor:
        """The values themselves."""
        return outputs
