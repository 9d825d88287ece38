"""The progress bar of every command; importing it takes 0.07 s, so only what shows a bar imports it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from tqdm.auto import tqdm


class ProgressBar(tqdm):  # type: ignore[type-arg]
    """A bar of tqdm that goes away without a trace, even if Ctrl-C ends the command: the terminal writes ^C behind it.

    The bar leaves two columns for these characters, which would else continue on the next line of the terminal.
    """

    @property
    def format_dict(self) -> Any:
        values = super().format_dict
        if values["ncols"]:
            values["ncols"] -= 2
        return values

    def display(self, msg: str | None = None, pos: int | None = None, **keys: Any) -> Any:
        """Draw the bar, or ``msg`` instead of the bar; an empty message clears the whole line."""
        return super().display(" " * (self.ncols or 0) if msg == "" else msg, pos, **keys)


class TimeLeft:
    """Estimates the time until the end of the run from the mean duration of the steps of this command.

    Args:
        num_steps: the number of optimizer steps of the whole run; None if it is unknown.
    """

    def __init__(self, num_steps: int | None) -> None:
        self._num_steps, self._first, self._since = num_steps, 0, 0.0
        self.step = 0  # the number of steps done

    def count_step(self) -> None:
        self.step += 1
        if not self._first:  # the first step may compile the model, so the time begins at its end
            self._first, self._since = self.step, time.perf_counter()

    def text(self) -> Iterator[str]:
        """Yield the time left, for the progress bar, from the second step on."""
        if self._num_steps is not None and self.step > self._first:
            mean = (time.perf_counter() - self._since) / (self.step - self._first)
            yield f"run ends in {ProgressBar.format_interval(mean * (self._num_steps - self.step))}"
