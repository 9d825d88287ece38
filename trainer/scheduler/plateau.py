"""A scheduler that reduces the learning rate when the monitored metric stops improving."""

import math
from typing import Any

from trainer.config import NonNegativeFloat, NonNegativeInt, OpenUnitInterval, UnitInterval
from trainer.scheduler import SCHEDULERS, Horizon, Scheduler


@SCHEDULERS.register
class Plateau(Scheduler):
    """Multiply the learning rate by ``factor`` after more than ``patience`` evaluations without improvement.

    The rule is that of torch's ReduceLROnPlateau with a relative threshold.
    """

    observes = True

    def __init__(
        self,
        horizon: Horizon,
        *,
        factor: OpenUnitInterval,
        patience: NonNegativeInt,
        threshold: NonNegativeFloat,
        min_factor: UnitInterval,
    ) -> None:
        self._drop, self._patience, self._threshold, self._min = factor, patience, threshold, min_factor
        self._current = 1.0
        self._best: float | None = None
        self._waited = 0

    def factor(self, step: int) -> float:
        """Return the current factor, which does not depend on the step."""
        return self._current

    def observe(self, value: float, higher_is_better: bool) -> None:
        """Reduce the factor after more than ``patience`` successive evaluations without improvement."""
        sign = 1 if higher_is_better else -1
        first = self._best is None and not math.isnan(value)
        if first or (self._best is not None and sign * value > sign * self._best * (1 + sign * self._threshold)):
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited > self._patience:
            self._current, self._waited = max(self._current * self._drop, self._min), 0

    def state_dict(self) -> dict[str, Any]:
        return {"current": self._current, "best": self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._current, self._best, self._waited = state["current"], state["best"], state["waited"]
