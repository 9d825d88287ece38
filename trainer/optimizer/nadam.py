"""The optimizer NAdam."""

from collections.abc import Iterable

import torch

from trainer.config import Betas, NonNegativeFloat, PositiveFloat
from trainer.optimizer import OPTIMIZERS


@OPTIMIZERS.register
def nadam(
    parameters: Iterable[torch.nn.Parameter],
    *,
    lr: PositiveFloat,
    betas: Betas,
    eps: PositiveFloat,
    weight_decay: NonNegativeFloat,
) -> torch.optim.Optimizer:
    """Return torch's NAdam (Dozat 2016, algorithm 2)."""
    return torch.optim.NAdam(parameters, lr=lr, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay)
