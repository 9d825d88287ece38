"""A straight line."""

from trainer.config import NonNegativeFloat, UnitInterval
from trainer.scheduler import SCHEDULERS, Horizon, Schedule


@SCHEDULERS.register
def linear(horizon: Horizon, *, end_factor: UnitInterval, warmup_epochs: NonNegativeFloat) -> Schedule:
    """From 1 to ``end_factor`` over the run, as torch's LinearLR with ``start_factor=1``."""

    def factor(step: int, part: float) -> float:
        return 1 + (end_factor - 1) * part

    return Schedule(factor, horizon, warmup_epochs)
