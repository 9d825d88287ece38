"""Stochastic gradient descent with momentum."""

from collections.abc import Iterable

import torch

from trainer.config import Fraction, NonNegativeFloat, PositiveFloat
from trainer.optimizer import OPTIMIZERS


@OPTIMIZERS.register
def sgd(
    parameters: Iterable[torch.nn.Parameter],
    *,
    lr: PositiveFloat,
    momentum: Fraction,
    nesterov: bool,
    weight_decay: NonNegativeFloat,
) -> torch.optim.Optimizer:
    """Return torch's fused SGD with momentum (Sutskever et al. 2013)."""
    return torch.optim.SGD(
        parameters, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, fused=True
    )
