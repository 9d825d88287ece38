"""The optimizer Adagrad."""

from collections.abc import Iterable

import torch

from trainer.config import NonNegativeFloat, PositiveFloat
from trainer.optimizer import OPTIMIZERS


@OPTIMIZERS.register
def adagrad(
    parameters: Iterable[torch.nn.Parameter],
    *,
    lr: PositiveFloat,
    lr_decay: NonNegativeFloat,
    eps: PositiveFloat,
    weight_decay: NonNegativeFloat,
) -> torch.optim.Optimizer:
    """Return torch's Adagrad (Duchi, Hazan and Singer 2011)."""
    return torch.optim.Adagrad(parameters, lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay)
