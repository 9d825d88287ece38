"""Mean squared error."""

import torch.nn.functional as F

from trainer.loss import LOSSES
from trainer.loss._values import ValueLoss
from trainer.spec import Spec


@LOSSES.register
def mse(spec: Spec) -> ValueLoss:
    """Return the loss that is the mean of the squared differences."""
    return ValueLoss(spec, F.mse_loss)
