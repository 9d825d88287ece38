"""Format terminal output: aligned columns, metrics, counts, durations, and JSON."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainer.config.errors import printable
from trainer.config.terminal import columns, holds_any_character
from trainer.runs.read import for_json

MIN_LETTERS = 8  # to which a text is shortened at most
MAX_NAMED = 8  # maximum number of columns that a table names which it leaves out


def figure(value: float | None) -> str:
    """Format a metric with four decimal places, or in scientific notation if tiny or huge; None as an empty string."""
    if value is None:
        return ""
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.3e}"


def counted(number: float | None) -> str:
    """Format a count with thousands separators; None as an empty string."""
    return "" if number is None else f"{number:,}" if isinstance(number, int) else f"{number:,.0f}"


def lasted(seconds: float | None) -> str:
    """Format a duration in seconds with one decimal place; None as an empty string."""
    return "" if seconds is None else f"{seconds:.1f}"


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], left: Iterable[int]) -> list[str]:
    """Return the lines of a table; ``left`` holds the indices of the columns that are not right-aligned."""
    head, rows = [*map(printable, head)], [[*map(printable, row)] for row in rows]
    widths = [max(len(name), *(len(row[at]) for row in rows), 0) if rows else len(name) for at, name in enumerate(head)]
    left = set(left)
    return [
        "  ".join(
            f"{cell:<{width}}" if at in left else f"{cell:>{width}}"
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]


def fitted(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: Iterable[int],
    *,
    elastic: Mapping[int, int],
    shortest: int = MIN_LETTERS,
    least: Sequence[int] = (),
    where: str = "a wider terminal or | cat",
) -> list[str]:
    """Return the lines of a table as ``aligned`` does, no wider than the terminal if stdout is one.

    Args:
        head: the names of the columns.
        rows: the cells.
        left: the indices of the columns that are not right-aligned.
        elastic: the columns whose cells may be shortened, and to how many characters before another is left out.
        shortest: to how many characters at least, if every column in ``least`` is left out and the rest is too wide.
        least: the columns that may be left out, the least useful first; a last line names those that are.
        where: what shows the columns that are left out, for this line.
    """
    whole, width, left = aligned(head, rows, left), columns(), {*left}
    if width is None or max(map(len, whole)) <= width:
        return whole
    table, kept = [*zip(head, *rows, strict=True)], list(range(len(head)))
    widths = {at: max(len(printable(cell)) for cell in column) for at, column in enumerate(table)}
    for dropped in (None, *least):
        kept = [at for at in kept if at != dropped]
        if sum(min(widths[at], elastic.get(at, widths[at])) + 2 for at in kept) - 2 <= width:
            break
    excess = sum(widths[at] + 2 for at in kept) - 2 - width
    for floors in (elastic, dict.fromkeys(elastic, shortest)):
        for at in sorted(elastic.keys() & {*kept}, key=lambda at: -widths[at]):
            cut = max(0, min(excess, widths[at] - floors[at]))
            widths[at], excess = widths[at] - cut, excess - cut
    shown = [[shortened(cell, widths[at]) for cell in table[at]] for at in kept]
    new_head, *new_rows = zip(*shown, strict=True)
    lines = aligned(new_head, new_rows, {number for number, at in enumerate(kept) if at in left})
    out = [head[at] for at in least if at not in kept]
    more = [f"{len(out) - MAX_NAMED} more"] if len(out) > MAX_NAMED else []
    named = ", ".join([*out[:MAX_NAMED], *more])
    return [*lines, *textwrap.wrap(f"left out {named}: see {where}", width)] if out else lines


def shortened(text: str, width: int) -> str:
    """Cut a text to a number of characters: a path at its beginning, any other text at its end."""
    text = printable(text)
    if len(text) <= width:
        return text
    return f"…{text[1 - width :]}" if "/" in text and " " not in text else f"{text[: width - 1]}…"


def print_lines(lines: Iterable[str]) -> None:
    """Print lines with escaped control characters, as these could move the cursor of a terminal."""
    print("\n".join(map(printable, lines)), flush=True)


def as_json(value: Any, indent: int | None = None) -> str:
    """Return plain containers as JSON that stdout can hold: inf and NaN become null, missing characters are escaped."""
    return json.dumps(for_json(value), ensure_ascii=not holds_any_character(sys.stdout), indent=indent)


def print_json(value: Any) -> None:
    """Print plain containers as JSON, with indentation."""
    print(as_json(value, indent=2), flush=True)
