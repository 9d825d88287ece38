"""The registry of learning-rate schedules: ``component(horizon, *, keys)`` returns a ``Scheduler``.

A schedule multiplies the optimizer's own learning rate by a factor that is a pure function of the step, so there
is no state to save; only ``plateau`` looks at a metric and has some.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from trainer.config.registry import Registry

SCHEDULERS = Registry("scheduler", __path__)


class Horizon(NamedTuple):
    """The length of a run, in optimizer steps."""

    total_steps: int
    steps_per_epoch: int


class Scheduler(Protocol):
    """What the engine asks of a schedule."""

    observes: bool  # it needs the monitored metric, so there must be a val split

    def factor(self, step: int) -> float:
        """What to multiply the learning rate with at optimizer step ``step``, counted from 0."""

    def observe(self, value: float, higher_is_better: bool) -> None:
        """Learn the monitored metric after an evaluation."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""


class Schedule:
    """A factor that is a function of the step alone.

    Args:
        factor: of the step, and of the part of the run after warm-up that is done, from 0 to 1.
        horizon: length of the run.
        warmup_epochs: the factor first rises linearly to 1 over so many epochs.
    """

    observes = False

    def __init__(self, factor: Callable[[int, float], float], horizon: Horizon, warmup_epochs: float = 0.0) -> None:
        self._factor = factor
        self._warmup = round(warmup_epochs * horizon.steps_per_epoch)
        self._steps = max(1, horizon.total_steps - self._warmup)

    def factor(self, step: int) -> float:
        """The factor at optimizer step ``step``, counted from 0."""
        if step < self._warmup:
            return (step + 1) / self._warmup
        return self._factor(step, min(1.0, (step - self._warmup) / self._steps))

    def observe(self, value: float, higher_is_better: bool) -> None:
        """A pure function of the step has nothing to learn from a metric."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the step is enough."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take over."""
