"""Mean absolute error."""

import torch.nn.functional as F

from trainer.loss import LOSSES
from trainer.loss._values import ValueLoss
from trainer.spec import Spec


@LOSSES.register
def l1(spec: Spec) -> ValueLoss:
    """Return the loss that is the mean of the absolute differences."""
    return ValueLoss(spec, F.l1_loss)
