"""A schedule that decays along half a period of a cosine."""

import math

from trainer.config import NonNegativeFloat, UnitInterval
from trainer.scheduler import SCHEDULERS, Horizon, Schedule


@SCHEDULERS.register
def cosine(horizon: Horizon, *, end_factor: UnitInterval, warmup_epochs: NonNegativeFloat) -> Schedule:
    """Return a schedule with the factor ``end_factor + (1 - end_factor) * (1 + cos(pi * t / T)) / 2`` after warm-up.

    t of T steps after warm-up are done (Loshchilov and Hutter 2017, equation 5, without restarts).
    """

    def factor(step: int, part: float) -> float:
        return end_factor + (1 - end_factor) * (1 + math.cos(math.pi * part)) / 2

    return Schedule(factor, horizon, warmup_epochs)
