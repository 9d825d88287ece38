"""Format terminal output: aligned columns, metrics, counts, durations, and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from trainer.config.errors import printable
from trainer.config.terminal import holds_any_character
from trainer.runs.read import for_json


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


def print_lines(lines: Iterable[str]) -> None:
    """Print lines with escaped control characters, as these could move the cursor of a terminal."""
    print("\n".join(map(printable, lines)), flush=True)


def as_json(value: Any, indent: int | None = None) -> str:
    """Return plain containers as JSON that stdout can hold: inf and NaN become null, missing characters are escaped."""
    return json.dumps(for_json(value), ensure_ascii=not holds_any_character(sys.stdout), indent=indent)


def print_json(value: Any) -> None:
    """Print plain containers as JSON, with indentation."""
    print(as_json(value, indent=2), flush=True)
