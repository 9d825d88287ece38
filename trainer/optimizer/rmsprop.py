"""The optimizer RMSprop."""

from collections.abc import Iterable

import torch

from trainer.config import Fraction, NonNegativeFloat, PositiveFloat
from trainer.optimizer import OPTIMIZERS


@OPTIMIZERS.register
def rmsprop(
    parameters: Iterable[torch.nn.Parameter],
    *,
    lr: PositiveFloat,
    alpha: Fraction,
    eps: PositiveFloat,
    momentum: Fraction,
    weight_decay: NonNegativeFloat,
) -> torch.optim.Optimizer:
    """Return torch's RMSprop (Tieleman and Hinton 2012, lecture 6.5)."""
    return torch.optim.RMSprop(parameters, lr=lr, alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay)
