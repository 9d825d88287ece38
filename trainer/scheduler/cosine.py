"""A schedule along half a cosine."""

import math

from trainer.config import NonNegativeFloat, UnitInterval
from trainer.scheduler import SCHEDULERS, Horizon, Schedule


@SCHEDULERS.register
def cosine(horizon: Horizon, *, end_factor: UnitInterval, warmup_epochs: NonNegativeFloat) -> Schedule:
    """Return a schedule with factor ``end + (1 - end)(1 + cos(pi t / T)) / 2``.

    Loshchilov and Hutter 2017, equation 5, without restarts.
    """

    def factor(step: int, part: float) -> float:
        return end_factor + (1 - end_factor) * (1 + math.cos(math.pi * part)) / 2

    return Schedule(factor, horizon, warmup_epochs)
