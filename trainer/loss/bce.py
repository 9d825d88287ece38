"""Binary cross entropy on logits."""

import torch.nn.functional as F

from trainer.loss import LOSSES
from trainer.loss._binary import BinaryLoss
from trainer.loss._weights import ClassWeights
from trainer.spec import Spec


@LOSSES.register
def bce(spec: Spec, *, weight: ClassWeights) -> BinaryLoss:
    """Return the loss of torch's BCEWithLogitsLoss for two classes or several labels, weighted as ``BinaryLoss``."""
    return BinaryLoss(spec, "bce", F.binary_cross_entropy_with_logits, sigmoid=False, weight=weight)
