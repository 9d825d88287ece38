"""Binary cross entropy on probabilities."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from trainer.loss import LOSSES
from trainer.loss._binary import BinaryLoss
from trainer.loss._weights import ClassWeights
from trainer.spec import Spec


@LOSSES.register
def bce_prob(spec: Spec, *, weight: ClassWeights) -> BinaryLoss:
    """Return the loss of torch's BCELoss for two classes or several labels; the model ends in a sigmoid."""
    return BinaryLoss(spec, "bce_prob", _entropy, sigmoid=True, weight=weight)


def _entropy(outputs: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    # torch raises an error if an output is NaN. The result has to be NaN instead, as with every other loss, so that the
    # run can report where the NaN appeared first.
    found = F.binary_cross_entropy(outputs.nan_to_num(), targets, reduction=reduction)
    return found.masked_fill(outputs.isnan().any(), math.nan)
