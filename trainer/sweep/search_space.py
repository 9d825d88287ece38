"""The search space of a key: the values that a search may try.

This module does not import torch, and imports Optuna only when a distribution is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Choice:
    """A search space of listed values.

    Args:
        words: the values, as typed on the command line.
    """

    words: tuple[str, ...]

    def __str__(self) -> str:
        return ",".join(self.words)

    def __contains__(self, value: object) -> bool:
        return value in self.words

    def as_word(self, value: Any) -> str:
        return str(value)

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.words)


@dataclass(frozen=True)
class Interval:
    """A search space of the numbers from ``low`` to ``high``, both included; of integers if both are integers.

    Args:
        low: the smallest value.
        high: the largest value.
        step: the distance between neighbouring values; None allows all values.
        log: sample uniformly on a logarithmic scale.

    Raises:
        ValueError: the interval is empty, or the options contradict each other.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError(f"the first number must be less than the second, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithm needs numbers above 0, got {self.low}")
        if self.log and self.step is not None:
            raise ValueError("a range cannot be logarithmic; write tag(log,interval(…))")

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        ends = f"{self.low},{self.high}"
        text = f"interval({ends})" if self.step is None else f"range({ends},{self.step})"
        return f"tag(log,{text})" if self.log else text

    def as_word(self, value: Any) -> str:
        """Return a value as typed on the command line.

        Floats are rounded to six significant digits, unless the rounded value is outside the interval.
        """
        if not isinstance(value, float):
            return str(value)
        rounded = f"{value:.6g}"
        return rounded if float(rounded) in self else repr(value)

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import FloatDistribution, IntDistribution

        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)
