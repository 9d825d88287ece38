"""Huber loss."""

from functools import partial

import torch.nn.functional as F

from trainer.config import PositiveFloat
from trainer.loss import LOSSES
from trainer.loss._values import ValueLoss
from trainer.spec import Spec


@LOSSES.register
def huber(spec: Spec, *, delta: PositiveFloat) -> ValueLoss:
    """Return the loss ``d**2 / 2`` if ``|d| <= delta``, else ``delta * (|d| - delta / 2)`` (Huber 1964).

    d is the difference between output and target.
    """
    return ValueLoss(spec, partial(F.huber_loss, delta=delta))
