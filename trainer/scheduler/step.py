"""A schedule that decreases every few epochs."""

from trainer.config import NonNegativeFloat, PositiveFloat, PositiveInt
from trainer.scheduler import SCHEDULERS, Horizon, Schedule


@SCHEDULERS.register
def step(
    horizon: Horizon, *, step_epochs: PositiveInt, gamma: PositiveFloat, warmup_epochs: NonNegativeFloat
) -> Schedule:
    """Return a schedule with the factor ``gamma ** (epoch // step_epochs)``.

    The factor is that of torch's StepLR with one step per epoch.
    """
    period = step_epochs * horizon.steps_per_epoch
    return Schedule(lambda step, part: gamma ** (step // period), horizon, warmup_epochs)
