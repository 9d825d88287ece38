"""The registry of learning-rate schedules: ``component(horizon, *, keys)`` returns a ``Scheduler``.

A scheduler multiplies the initial learning rate of the optimizer by a factor. In a ``Schedule`` the factor depends only
on the step, so that nothing has to be saved in a checkpoint. Only ``plateau`` has a state, as it observes a metric.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from trainer.config.registry import Registry

SCHEDULERS = Registry("scheduler", __path__)


class Horizon(NamedTuple):
    """The length of a run, in optimizer steps."""

    total_steps: int
    steps_per_epoch: int


class Scheduler:
    """The interface of a scheduler; a scheduler without a state overrides only ``factor``."""

    observes = False  # True if the factor depends on the monitored metric, which requires a val split

    def factor(self, step: int) -> float:
        """Return the factor of the learning rate at optimizer step ``step``, counted from 0."""
        raise NotImplementedError

    def observe(self, value: float, higher_is_better: bool) -> None:
        """Update the state with the value of the monitored metric, after an evaluation."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs, as plain types."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that ``state_dict`` returned."""


class Schedule(Scheduler):
    """A scheduler whose factor depends only on the step.

    Args:
        factor: returns the factor after warm-up for a step, counted from the start of the run, and for the progress
            between the end of warm-up (0) and the end of the run (1).
        horizon: the length of the run.
        warmup_epochs: the number of epochs at the start in which the factor rises linearly to 1.
    """

    def __init__(self, factor: Callable[[int, float], float], horizon: Horizon, warmup_epochs: float = 0.0) -> None:
        self._factor = factor
        self._warmup = round(warmup_epochs * horizon.steps_per_epoch)
        self._steps = max(1, horizon.total_steps - self._warmup)

    def factor(self, step: int) -> float:
        if step < self._warmup:
            return (step + 1) / self._warmup
        return self._factor(step, min(1.0, (step - self._warmup) / self._steps))
