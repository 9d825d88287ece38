"""The search space: the values that a search may try for a key. No torch; Optuna is imported when a search starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Choice:
    """One of several values.

    Args:
        words: the values as they were typed.
    """

    words: tuple[str, ...]

    def __str__(self) -> str:
        return ",".join(self.words)

    def __contains__(self, value: object) -> bool:
        return value in self.words

    @property
    def example(self) -> str:
        """A value of this space, as it is typed."""
        return self.words[0]

    def as_word(self, value: Any) -> str:
        return str(value)

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.words)


@dataclass(frozen=True)
class Interval:
    """A number from ``low`` to ``high``, both included; a whole number if both are whole numbers.

    Args:
        low: the smallest value.
        high: the largest value.
        step: distance between two values; None allows all values between.
        log: draw the logarithm of the number uniformly.

    Raises:
        ValueError: no number can be drawn from this interval.
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

    @property
    def example(self) -> str:
        """A value of this space, as it is typed."""
        return repr(self.low)

    def as_word(self, value: Any) -> str:
        """Return a value as it is typed, with six significant digits: a run cannot tell nearer values apart."""
        if not isinstance(value, float):
            return str(value)
        rounded = f"{value:.6g}"
        return rounded if float(rounded) in self else repr(value)

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import FloatDistribution, IntDistribution

        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)
