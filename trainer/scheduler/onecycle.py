"""A schedule that rises and falls once."""

import math

from trainer.config import OpenUnitInterval, PositiveFloat
from trainer.scheduler import SCHEDULERS, Horizon, Schedule


@SCHEDULERS.register
def onecycle(
    horizon: Horizon, *, pct_start: OpenUnitInterval, div_factor: PositiveFloat, final_div_factor: PositiveFloat
) -> Schedule:
    """Return a schedule that rises to 1 and falls along half cosines, like torch's OneCycleLR (Smith and Topin 2018).

    The first factor is ``1 / div_factor``, the last one ``1 / (div_factor * final_div_factor)``. The momentum is
    constant, unlike with OneCycleLR.
    """
    first, last = 1 / div_factor, 1 / (div_factor * final_div_factor)
    end = horizon.total_steps - 1
    peak = pct_start * horizon.total_steps - 1

    def factor(step: int, part: float) -> float:
        if step < peak:
            return _cosine(first, 1.0, step / peak)
        return _cosine(1.0, last, min((step - peak) / (end - peak), 1.0))

    return Schedule(factor, horizon)


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2
