"""Pictures of runs: their curves over each other, and a metric against what was varied. No torch.

matplotlib is imported where something is drawn, and never its ``pyplot``, which would keep what it has drawn.
"""

from __future__ import annotations

import io
import math
import re
import warnings
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.config.errors import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Okabe and Ito's colours, which those who see fewer can tell apart; then the same with dashes.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b6570")
STYLES = ("-", "--", ":", "-.")
QUIET = "#5b6570"
MAX_NAMED = 12  # lines that a legend names
MAX_POINTS = 500  # of a line; longer ones are thinned
MAX_WORDS = 12  # on an axis of words
DECADES = 1  # that positive numbers have to span for a logarithmic axis
LARGEST = 1e100  # that is drawn; no axis can be laid for numbers near the largest ones
JITTER = 0.12  # by which dots of one word stand apart at most, where two words are 1 apart


@dataclass(frozen=True)
class Curve:
    """A metric of a run over its optimizer steps.

    Args:
        name: of the run, for the legend.
        points: (step, value).
        stands_out: it is drawn above the others, and thicker.
        family: lines of one family have one colour; None for a colour of its own.
    """

    name: str
    points: Sequence[tuple[float, float]]
    stands_out: bool = False
    family: int | None = None


def curves(lines: Sequence[Curve], metric: str, size: tuple[float, float] = (7.2, 3.6)) -> Figure:
    """The curves of several runs over each other; points that are no finite number are left out.

    Args:
        lines: a curve each.
        metric: what they show, such as ``val/loss``.
        size: width and height in inches.
    """
    figure, axes = _figure(size)
    shown = [(line, _finite(line.points)) for line in lines]
    shown = [(line, points) for line, points in shown if points]
    handles: list[Line2D] = []
    for number, (line, points) in enumerate(shown):
        family = number if line.family is None else line.family
        handles += axes.plot(
            *zip(*points, strict=True),
            color=COLORS[family % len(COLORS)],
            linestyle=STYLES[family // len(COLORS) % len(STYLES)],
            linewidth=2.2 if line.stands_out else 1.1,
            alpha=1.0 if line.stands_out or len(shown) <= MAX_NAMED else 0.55,
            zorder=3 if line.stands_out else 2,
            marker="o" if len(points) == 1 else None,
            markersize=4,
        )
    if "loss" in metric:
        _maybe_log(axes, "y", [value for _, points in shown for _, value in points])
    axes.set_xlabel("step")
    axes.set_ylabel(_cut(metric))
    names = [_cut(line.name) for line, _ in shown]  # not by label=, which hides a name that begins with _
    if len(handles) > MAX_NAMED:  # by family, the one that stands out first
        order = sorted(range(len(shown)), key=lambda at: not shown[at][0].stands_out)
        handles, names = [handles[at] for at in order[:1]], [names[at] for at in order[:1]]
    if len(names) > 1 or (names and len(shown) > 1):
        axes.legend(handles, names, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    return figure


def against(
    points: Sequence[tuple[str, float]],
    key: str,
    metric: str,
    best: int | None = None,
    size: tuple[float, float] = (3.4, 2.8),
) -> Figure:
    """A metric against what a key was set to, a dot for each run, and the mean of each value.

    Args:
        points: (the value as it was typed, the metric).
        key: what was varied.
        metric: what is compared.
        best: which of the points is the best.
        size: width and height in inches.
    """
    figure, axes = _figure(size)
    kept = [(word, value, at == best) for at, (word, value) in enumerate(points) if _is_drawn(value)]
    numbers = [_number(word) for word, _, _ in kept]
    are_numbers = bool(kept) and all(number is not None for number in numbers)
    if are_numbers:
        across = [number for number in numbers if number is not None]
        _maybe_log(axes, "x", across)
    else:
        words = list(dict.fromkeys(word for word, _, _ in kept))
        across = [float(words.index(word)) for word, _, _ in kept]
        shown = words if len(words) <= MAX_WORDS else words[:: math.ceil(len(words) / MAX_WORDS)]
        turned = max(map(len, shown), default=0) * len(shown) > 30
        axes.set_xticks([words.index(word) for word in shown], [_cut(word, 24) for word in shown])
        axes.tick_params(axis="x", labelrotation=30 if turned else 0)
        if turned:
            for label in axes.get_xticklabels():
                label.set_horizontalalignment("right")
        axes.set_xlim(-0.6, max(len(words) - 0.4, 0.6))
    values = [value for _, value, _ in kept]
    dots = across if are_numbers else _jittered(across)
    axes.scatter(dots, values, s=22, color=COLORS[0], alpha=0.65, linewidths=0, zorder=2)
    means = {place: [value for at, value in zip(across, values, strict=True) if at == place] for place in set(across)}
    if len(means) < len(across):
        places = sorted(means)
        heights = [math.fsum(means[at]) / len(means[at]) for at in places]
        if are_numbers:
            axes.plot(places, heights, color=QUIET, linewidth=1, zorder=1)
        else:  # between two words there is nothing
            axes.scatter(places, heights, s=400, marker="_", color=QUIET, linewidths=1, zorder=1)
    for at, (_, value, is_best) in zip(dots, kept, strict=True):
        if is_best:
            axes.scatter([at], [value], s=60, facecolors="none", edgecolors=COLORS[1], linewidths=1.8, zorder=3)
    if "loss" in metric:
        _maybe_log(axes, "y", values)
    axes.set_xlabel(_cut(key))
    axes.set_ylabel(_cut(metric))
    return figure


def as_svg(figure: Figure, title: str) -> str:
    """A picture as a part of a page: the same for the same numbers, and with names of its own for its parts."""
    title = printable(title)
    safe = f"{re.sub(r'[^A-Za-z0-9]+', '-', title)}-{zlib.crc32(title.encode()):x}"
    text = io.StringIO()
    _write(figure, text, "svg", {"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    names = set(re.findall(r'\bid="([^"]+)"', svg))
    svg = re.sub(r'(\bid="|url\(#|href="#)([^")]+)', lambda found: _own(found, names, safe), svg)
    return svg.replace(">", f' role="img" aria-label="{escape(title)}">', 1)


def save(figure: Figure, path: Path, program: str) -> None:
    """Write a picture, PNG or SVG by its ending, that names the program that drew it.

    Raises:
        OSError: it cannot be written.
        ValueError: the ending is of no kind of picture.
    """
    is_png = path.suffix.lower() == ".png"
    _write(figure, path, None, {"Software": program} if is_png else {"Creator": program, "Date": None})


def _write(figure: Figure, file: Path | io.StringIO, kind: str | None, metadata: Mapping[str, str | None]) -> None:
    """The same for the same numbers; a letter that the font lacks is no warning, and a browser has it."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "trainer"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(file, format=kind, dpi=150, metadata=dict(metadata))


def _figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    """An empty picture with one pair of axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b8c0c8")
    axes.tick_params(colors=QUIET, labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    axes.grid(color="#e8ecf0", linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    return figure, axes


def _maybe_log(axes: Axes, which: str, values: Sequence[float]) -> None:
    """A logarithmic axis, where numbers are positive and span enough for one."""
    if values and min(values) > 1 / LARGEST and math.log10(max(values) / min(values)) > DECADES - 1e-9:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    kept = [(step, value) for step, value in points if _is_drawn(step) and _is_drawn(value)]
    every = math.ceil(len(kept) / MAX_POINTS) or 1
    return kept[(len(kept) - 1) % every :: every] if kept else []  # the last one stays


def _is_drawn(value: float) -> bool:
    """Whether there is a place for a number; an int of hundreds of digits is one that has none."""
    return -LARGEST <= value <= LARGEST


def _jittered(places: Sequence[float]) -> list[float]:
    """Dots of one place side by side, the first in its middle; always the same."""
    seen: dict[float, int] = {}
    found = []
    for place in places:
        number = seen[place] = seen.get(place, -1) + 1
        # multiples of the golden ratio, less whole numbers, lie evenly however many there are
        found.append(place + JITTER * 2 * ((0.618034 * number + 0.5) % 1 - 0.5))
    return found


def _number(word: str) -> float | None:
    try:
        number = float(word)
    except ValueError:
        return None
    return number if _is_drawn(number) else None


def _cut(text: str, most: int = 48) -> str:
    """A text that is drawn as it stands: a dollar would begin a formula."""
    text = printable(text)
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return text.replace("$", r"\$")


def _own(found: re.Match[str], names: Collection[str], prefix: str) -> str:
    return f"{found[1]}{prefix}-{found[2]}" if found[2] in names else found[0]
