"""A schedule with a constant learning rate."""

from trainer.config import NonNegativeFloat
from trainer.scheduler import SCHEDULERS, Horizon, Schedule


@SCHEDULERS.register
def constant(horizon: Horizon, *, warmup_epochs: NonNegativeFloat) -> Schedule:
    """Return a schedule with a factor of 1 after warm-up."""
    return Schedule(lambda step, part: 1.0, horizon, warmup_epochs)
