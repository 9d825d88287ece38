"""A schedule that drops at each milestone."""

from trainer.config import NonNegativeFloat, PositiveFloat, PositiveInt
from trainer.scheduler import SCHEDULERS, Horizon, Schedule


@SCHEDULERS.register
def multistep(
    horizon: Horizon, *, milestones: list[PositiveInt], gamma: PositiveFloat, warmup_epochs: NonNegativeFloat
) -> Schedule:
    """Return a schedule with factor ``gamma ** milestones passed``.

    The schedule equals torch's MultiStepLR stepped once an epoch.
    """
    drops = [milestone * horizon.steps_per_epoch for milestone in milestones]
    return Schedule(lambda step, part: gamma ** sum(step >= drop for drop in drops), horizon, warmup_epochs)
