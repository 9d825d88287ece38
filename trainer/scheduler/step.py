"""A schedule that drops every few epochs."""

from trainer.config import NonNegativeFloat, PositiveFloat, PositiveInt
from trainer.scheduler import SCHEDULERS, Horizon, Schedule


@SCHEDULERS.register
def step(
    horizon: Horizon, *, step_epochs: PositiveInt, gamma: PositiveFloat, warmup_epochs: NonNegativeFloat
) -> Schedule:
    """Return a schedule with factor ``gamma ** (epoch // step_epochs)``, like torch's StepLR stepped once an epoch."""
    period = step_epochs * horizon.steps_per_epoch
    return Schedule(lambda step, part: gamma ** (step // period), horizon, warmup_epochs)
