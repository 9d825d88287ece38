"""A schedule that decreases at each milestone."""

from trainer.config import NonNegativeFloat, PositiveFloat, PositiveInt
from trainer.scheduler import SCHEDULERS, Horizon, Schedule


@SCHEDULERS.register
def multistep(
    horizon: Horizon, *, milestones: list[PositiveInt], gamma: PositiveFloat, warmup_epochs: NonNegativeFloat
) -> Schedule:
    """Return a schedule with the factor ``gamma ** n`` after n milestones, which are numbers of epochs.

    The factor is that of torch's MultiStepLR with one step per epoch.
    """
    drops = [milestone * horizon.steps_per_epoch for milestone in milestones]
    return Schedule(lambda step, part: gamma ** sum(step >= drop for drop in drops), horizon, warmup_epochs)
