"""Text tables: aligned columns, figures, counts and durations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def figure(value: float | None) -> str:
    """A metric as it is printed."""
    if value is None:
        return ""
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.3e}"


def counted(number: float | None) -> str:
    """How many, as it is printed."""
    return "" if number is None else f"{number:,}" if isinstance(number, int) else f"{number:,.0f}"


def lasted(seconds: float | None) -> str:
    """How long, as it is printed."""
    return "" if seconds is None else f"{seconds:.1f}"


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], left: Iterable[int]) -> list[str]:
    """Columns of text, to the right but for those in ``left``."""
    widths = [max(len(name), *(len(row[at]) for row in rows), 0) if rows else len(name) for at, name in enumerate(head)]
    left = set(left)
    return [
        "  ".join(
            f"{cell:<{width}}" if at in left else f"{cell:>{width}}"
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]
