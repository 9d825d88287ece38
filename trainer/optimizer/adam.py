"""The optimizer Adam."""

from collections.abc import Iterable

import torch

from trainer.config import Betas, NonNegativeFloat, PositiveFloat
from trainer.optimizer import OPTIMIZERS


@OPTIMIZERS.register
def adam(
    parameters: Iterable[torch.nn.Parameter],
    *,
    lr: PositiveFloat,
    betas: Betas,
    eps: PositiveFloat,
    weight_decay: NonNegativeFloat,
) -> torch.optim.Optimizer:
    """Return torch's fused Adam (Kingma and Ba 2015, algorithm 1)."""
    return torch.optim.Adam(
        parameters, lr=lr, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay, fused=True
    )
