"""A schedule that decreases after every epoch."""

from trainer.config import NonNegativeFloat, PositiveFloat
from trainer.scheduler import SCHEDULERS, Horizon, Schedule


@SCHEDULERS.register
def exponential(horizon: Horizon, *, gamma: PositiveFloat, warmup_epochs: NonNegativeFloat) -> Schedule:
    """Return a schedule with the factor ``gamma ** epoch``, like torch's ExponentialLR with one step per epoch."""
    return Schedule(lambda step, part: gamma ** (step // horizon.steps_per_epoch), horizon, warmup_epochs)
