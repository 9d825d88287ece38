"""Focal loss."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.config import NonNegativeFloat, PositiveFloat
from trainer.loss import LOSSES
from trainer.loss._classes import class_weights, need_classes, size_of_classes
from trainer.spec import Spec


@LOSSES.register
class Focal(nn.Module):
    """``-(1 - p) ** gamma * log p`` of the right class's probability: Lin et al. 2017, equation 4, over a softmax.

    Outputs are (batch, classes) logits, targets (batch,) class numbers, or (batch, classes) shares, for which the
    losses of the classes are summed. With weights (the paper's alpha) the mean is the weighted one, so that
    ``gamma=0`` is cross entropy.
    """

    sigmoid = False
    weight: Tensor | None

    def __init__(
        self,
        spec: Spec,
        *,
        gamma: NonNegativeFloat,
        weight: list[PositiveFloat] | Literal["balanced"] | None,
    ) -> None:
        super().__init__()
        need_classes("focal", spec)
        self.num_outputs = len(spec.classes)
        self.gamma = gamma
        self.register_buffer("weight", class_weights(weight, spec))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The weighted mean, a scalar."""
        shares = F.one_hot(targets, self.num_outputs) if targets.ndim == 1 else targets
        log_p = outputs.log_softmax(1)
        # 1 - p by expm1, and kept above 0: the gradient of 0 ** gamma is infinite for gamma < 1
        losses = -shares * ((-log_p.expm1()).clamp_min(1e-12) ** self.gamma) * log_p
        if self.weight is not None:
            losses = losses * self.weight
        return losses.sum() / self.size(targets)

    def size(self, targets: Tensor) -> Tensor | int:
        """The sum of the samples' weights."""
        return size_of_classes(targets, self.weight)

    def scores(self, outputs: Tensor) -> Tensor:
        """Probabilities, (batch, classes)."""
        return outputs.softmax(1)
