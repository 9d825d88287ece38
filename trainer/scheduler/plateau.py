"""A drop when the metric stands still."""

import math
from typing import Annotated, Any

from msgspec import Meta

from trainer.config import NonNegativeFloat, NonNegativeInt, UnitInterval
from trainer.scheduler import SCHEDULERS, Horizon


@SCHEDULERS.register
class Plateau:
    """Multiply by ``factor`` after ``patience`` evaluations without improvement, as torch's ReduceLROnPlateau."""

    observes = True

    def __init__(
        self,
        horizon: Horizon,
        *,
        factor: Annotated[float, Meta(gt=0, lt=1)],
        patience: NonNegativeInt,
        threshold: NonNegativeFloat,
        min_factor: UnitInterval,
    ) -> None:
        self._drop, self._patience, self._threshold, self._min = factor, patience, threshold, min_factor
        self._current = 1.0
        self._best: float | None = None
        self._waited = 0

    def factor(self, step: int) -> float:
        """The factor reached so far; the step does not matter."""
        return self._current

    def observe(self, value: float, higher_is_better: bool) -> None:
        """Count an evaluation; drop when too many have brought nothing."""
        sign = 1 if higher_is_better else -1
        first = self._best is None and not math.isnan(value)
        if first or (self._best is not None and sign * value > sign * self._best * (1 + sign * self._threshold)):
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited > self._patience:
            self._current, self._waited = max(self._current * self._drop, self._min), 0

    def state_dict(self) -> dict[str, Any]:
        """The factor, the best value and the evaluations waited."""
        return {"current": self._current, "best": self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        self._current, self._best, self._waited = state["current"], state["best"], state["waited"]
