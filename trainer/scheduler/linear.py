"""A schedule that decays along a straight line."""

from trainer.config import NonNegativeFloat, UnitInterval
from trainer.scheduler import SCHEDULERS, Horizon, Schedule


@SCHEDULERS.register
def linear(horizon: Horizon, *, end_factor: UnitInterval, warmup_epochs: NonNegativeFloat) -> Schedule:
    """Return a schedule from 1 after warm-up to ``end_factor``, like torch's LinearLR with ``start_factor=1``."""

    def factor(step: int, part: float) -> float:
        return 1 + (end_factor - 1) * part

    return Schedule(factor, horizon, warmup_epochs)
