"""A drop every few epochs."""

from trainer.config import NonNegativeFloat, PositiveFloat, PositiveInt
from trainer.scheduler import SCHEDULERS, Horizon, Schedule


@SCHEDULERS.register
def step(
    horizon: Horizon, *, step_epochs: PositiveInt, gamma: PositiveFloat, warmup_epochs: NonNegativeFloat
) -> Schedule:
    """``gamma ** (epoch // step_epochs)``, as torch's StepLR stepped once an epoch."""
    period = step_epochs * horizon.steps_per_epoch
    return Schedule(lambda step, part: gamma ** (step // period), horizon, warmup_epochs)
