"""Binary cross entropy on logits."""

import torch.nn.functional as F

from trainer.loss import LOSSES
from trainer.loss._binary import BinaryLoss
from trainer.spec import Spec


@LOSSES.register
def bce(spec: Spec) -> BinaryLoss:
    """Return the loss of torch's BCEWithLogitsLoss for two classes or several labels."""
    return BinaryLoss(spec, "bce", F.binary_cross_entropy_with_logits, sigmoid=False)
