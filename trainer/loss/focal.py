"""Focal loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from trainer.config import NonNegativeFloat
from trainer.loss import LOSSES
from trainer.loss._classes import ClassLoss
from trainer.loss._weights import ClassWeights
from trainer.spec import Spec


@LOSSES.register
class Focal(ClassLoss):
    """``-(1 - p) ** gamma * log p``, where p is the softmax probability of the true class (Lin et al. 2017, eq. 4).

    Outputs are logits (batch, classes). Targets are class numbers (batch,) or shares of the classes (batch, classes).
    With shares, the loss of a sample is the sum of the losses of the classes times their shares. The class weights are
    alpha in the paper. The mean over the samples is weighted, so that ``gamma=0`` is cross entropy.
    """

    def __init__(self, spec: Spec, *, gamma: NonNegativeFloat, weight: ClassWeights) -> None:
        super().__init__(spec, "focal", weight)
        self.gamma = gamma

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        shares = F.one_hot(targets, self.num_outputs) if targets.ndim == 1 else targets
        log_p = outputs.log_softmax(1)
        # expm1 computes 1 - p precisely for p near 1. The result is clamped because the gradient of 0 ** gamma is
        # infinite for gamma < 1.
        losses = -shares * ((-log_p.expm1()).clamp_min(1e-12) ** self.gamma) * log_p
        if self.weight is not None:
            losses = losses * self.weight
        return losses.sum() / self.size(targets)
