"""Cross entropy over classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from trainer.config import Fraction
from trainer.loss import LOSSES
from trainer.loss._classes import ClassLoss
from trainer.loss._weights import ClassWeights
from trainer.spec import Spec


@LOSSES.register
class CrossEntropy(ClassLoss):
    """``-log softmax(outputs)[class]`` with label smoothing (Szegedy et al. 2016) and class weights, as in torch.

    Outputs are logits (batch, classes). Targets are class numbers (batch,) or shares of the classes (batch, classes).
    The mean over the samples is weighted in both cases, whereas torch divides by the number of samples if targets are
    shares.
    """

    def __init__(self, spec: Spec, *, label_smoothing: Fraction, weight: ClassWeights) -> None:
        super().__init__(spec, "cross_entropy", weight)
        self.label_smoothing = label_smoothing

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        reduction = "mean" if targets.ndim == 1 else "sum"
        loss = F.cross_entropy(
            outputs, targets, weight=self.weight, label_smoothing=self.label_smoothing, reduction=reduction
        )
        return loss if targets.ndim == 1 else loss / self.size(targets)
