"""The progress bar of every command; importing it takes 0.07 s, so only what shows a bar imports it."""

from __future__ import annotations

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
