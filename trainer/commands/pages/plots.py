"""Plot runs: curves over the steps, and a metric against the values of a key. This module does not import torch.

matplotlib is imported only when a plot is drawn. ``pyplot`` is not used, because it keeps every figure in memory.
"""

from __future__ import annotations

import io
import math
import re
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from trainer.config.errors import printable
from trainer.runs import atomic_files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

BLUE, QUIET, AXIS, GRID = "#0072b2", "#5b6570", "#b8c0c8", "#e8ecf0"
# The palette of Okabe and Ito (2008), for colour-blind readers; further curves repeat the colours with dashed lines.
COLORS = (BLUE, "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", QUIET)
STYLES = ("-", "--", ":", "-.")
# In an HTML page these colours become CSS variables, whose values differ in dark mode.
VARIABLES = {BLUE: "--plot-blue", QUIET: "--plot-quiet", AXIS: "--plot-axis", GRID: "--plot-grid"}
MAX_NAMED = 12  # maximum number of curves that are all named in the legend
MAX_POINTS = 500  # of a curve; a longer curve is subsampled
MAX_WORDS = 12  # maximum number of tick labels on a categorical axis
DECADES = 1  # number of decades that positive numbers must span for a logarithmic axis
LARGEST = 1e100  # larger numbers are not drawn, as matplotlib cannot scale an axis near the largest float
JITTER = 0.12  # maximum horizontal offset of a dot on a categorical axis, whose categories are at distance 1


@dataclass(frozen=True)
class Curve:
    """A metric of a run over its optimizer steps."""

    name: str  # of the run, in the legend
    points: Sequence[tuple[float, float]]  # pairs of (step, value)
    stands_out: bool = False  # whether to draw the curve thicker and above the other curves
    family: int | None = None  # curves of one family have the same colour; None gives the curve its own colour


def plot_curves(curves: Sequence[Curve], metric: str, size: tuple[float, float] = (7.2, 3.6)) -> Figure:
    """Plot several curves in one figure; points that are not finite are omitted.

    Args:
        curves: the curves; empty curves are not drawn.
        metric: the label of the y-axis, such as ``val/loss``.
        size: width and height in inches.
    """
    figure, axes = _make_figure(size)
    shown = [(curve, points) for curve in curves if (points := _select_points(curve.points))]
    handles: list[Line2D] = []
    for number, (curve, points) in enumerate(shown):
        family = number if curve.family is None else curve.family
        handles += axes.plot(
            *zip(*points, strict=True),
            color=COLORS[family % len(COLORS)],
            linestyle=STYLES[family // len(COLORS) % len(STYLES)],
            linewidth=2.2 if curve.stands_out else 1.1,
            alpha=1.0 if curve.stands_out or len(shown) <= MAX_NAMED else 0.55,
            zorder=3 if curve.stands_out else 2,
            marker="o" if len(points) == 1 else None,
            markersize=4,
        )
    if "loss" in metric:
        _maybe_log(axes, "y", [value for _, points in shown for _, value in points])
    axes.set(xlabel="step", ylabel=_shorten(metric))
    names = [_shorten(curve.name) for curve, _ in shown]  # matplotlib omits a label= that begins with _ from a legend
    if len(handles) > MAX_NAMED:  # name only the curve that stands out, or else the first
        first = min(range(len(shown)), key=lambda at: not shown[at][0].stands_out)
        handles, names = handles[first : first + 1], names[first : first + 1]
    if len(names) > 1 or (names and len(shown) > 1):
        axes.legend(handles, names, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    return figure


def plot_against(points: Sequence[tuple[str, float]], key: str, metric: str, best: int | None = None) -> Figure:
    """Plot a metric against the values of a key: a dot for each run, and the mean for each value.

    Args:
        points: pairs of (value of the key as typed, metric).
        key: the label of the x-axis, such as ``optimizer.lr``.
        metric: the label of the y-axis.
        best: the index of the best point, which is circled; None circles no point.
    """
    figure, axes = _make_figure((3.4, 2.8))
    kept = [(word, value, at == best) for at, (word, value) in enumerate(points) if _is_drawn(value)]
    numbers = [number for word, _, _ in kept if (number := _parse_number(word)) is not None]
    are_numbers = bool(kept) and len(numbers) == len(kept)
    if are_numbers:
        across = numbers
        _maybe_log(axes, "x", across)
    else:
        across = _lay_out_words(axes, [word for word, _, _ in kept])
    values = [value for _, value, _ in kept]
    dots = across if are_numbers else _spread_dots(across)
    axes.scatter(dots, values, s=22, color=COLORS[0], alpha=0.65, linewidths=0, zorder=2)
    means = {place: [value for at, value in zip(across, values, strict=True) if at == place] for place in set(across)}
    if len(means) < len(across):
        places = sorted(means)
        heights = [math.fsum(means[at]) / len(means[at]) for at in places]
        if are_numbers:
            axes.plot(places, heights, color=QUIET, linewidth=1, zorder=1)
        else:  # categories have no order, so their means are not connected by a line
            axes.scatter(places, heights, s=400, marker="_", color=QUIET, linewidths=1, zorder=1)
    for at, (_, value, is_best) in zip(dots, kept, strict=True):
        if is_best:
            axes.scatter([at], [value], s=60, facecolors="none", edgecolors=COLORS[1], linewidths=1.8, zorder=3)
    if "loss" in metric:
        _maybe_log(axes, "y", values)
    axes.set(xlabel=_shorten(key), ylabel=_shorten(metric))
    return figure


def _lay_out_words(axes: Axes, words: Sequence[str]) -> list[float]:
    """Label the x-axis with words as categories, and return the x-coordinate of each word."""
    names = list(dict.fromkeys(words))
    shown = names[:: math.ceil(len(names) / MAX_WORDS) or 1]
    rotated: dict[str, Any] = {}
    if max(map(len, shown), default=0) * len(shown) > 30:  # rotate long labels, so that they do not overlap
        rotated = {"rotation": 30, "horizontalalignment": "right"}
    axes.set_xticks([names.index(word) for word in shown], [_shorten(word, 24) for word in shown], **rotated)
    axes.set_xlim(-0.6, max(len(names) - 0.4, 0.6))
    return [float(names.index(word)) for word in words]


def to_svg(figure: Figure, title: str) -> Markup:
    """Return a plot as SVG that can be embedded in a page.

    The result is deterministic. The background is transparent, the colours in ``VARIABLES`` are CSS variables, and the
    ids begin with the title, so that no two plots of a page share an id.

    Args:
        title: the description for screen readers, which must be unique within the page.
    """
    title = printable(title)
    prefix = f"{re.sub(r'[^A-Za-z0-9]+', '-', title)}-{zlib.crc32(title.encode()):x}"
    text = io.StringIO()
    _write(figure, text, "svg", {"Date": None, "Creator": None}, transparent=True)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for color, variable in VARIABLES.items():
        svg = re.sub(rf"(fill|stroke): {color}", rf"\1: var({variable}, {color})", svg)
    ids = set(re.findall(r'\bid="([^"]+)"', svg))
    svg = re.sub(
        r'(\bid="|url\(#|href="#)([^")]+)',
        lambda found: f"{found[1]}{prefix}-{found[2]}" if found[2] in ids else found[0],
        svg,
    )
    return Markup(svg.replace(">", f' role="img" aria-label="{escape(title)}">', 1))


def save(figure: Figure, path: Path, program: str) -> None:
    """Write a plot to a PNG or SVG file, whose metadata names the program.

    Raises:
        OSError: the file cannot be written.
        ValueError: matplotlib does not support the extension.
    """
    kind = path.suffix.lower().removeprefix(".")
    metadata = {"Software": program} if kind == "png" else {"Creator": program, "Date": None}
    atomic_files.write(path, lambda temporary: _write(figure, temporary, kind, metadata))


def _write(
    figure: Figure,
    file: Path | io.StringIO,
    kind: str,
    metadata: Mapping[str, str | None],
    *,
    transparent: bool = False,
) -> None:
    """Write a plot to a file; the content of the file is deterministic.

    The warning about characters that matplotlib's font lacks is ignored, because a browser uses another font for them.
    """
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "trainer"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(file, format=kind, dpi=150, metadata=dict(metadata), transparent=transparent)


def _make_figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Return an empty figure with one pair of axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(AXIS)
    axes.tick_params(colors=QUIET, labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    axes.grid(color=GRID, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    return figure, axes


def _maybe_log(axes: Axes, which: str, values: Sequence[float]) -> None:
    """Make an axis logarithmic if its numbers are positive and span at least a decade."""
    if values and min(values) > 1 / LARGEST and math.log10(max(values) / min(values)) > DECADES - 1e-9:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")


def _select_points(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    kept = [(step, value) for step, value in points if _is_drawn(step) and _is_drawn(value)]
    every = math.ceil(len(kept) / MAX_POINTS) or 1
    return kept[(len(kept) - 1) % every :: every] if kept else []  # the last point is always kept


def _is_drawn(value: float) -> bool:
    """Return whether a number can be drawn, which is false for NaN, infinity and numbers beyond ``LARGEST``."""
    return -LARGEST <= value <= LARGEST


def _spread_dots(places: Sequence[float]) -> list[float]:
    """Shift dots with equal x-coordinates side by side, deterministically; the first dot is not shifted."""
    seen: dict[float, int] = {}
    found = []
    for place in places:
        number = seen[place] = seen.get(place, -1) + 1
        # The fractional parts of the multiples of the golden ratio are evenly distributed for any number of dots.
        found.append(place + JITTER * 2 * ((0.618034 * number + 0.5) % 1 - 0.5))
    return found


def _parse_number(word: str) -> float | None:
    try:
        number = float(word)
    except ValueError:
        return None
    return number if _is_drawn(number) else None


def _shorten(text: str, max_letters: int = 48) -> str:
    """Shorten a text, and escape its dollar signs, which matplotlib would interpret as formulas."""
    text = printable(text)
    text = text if len(text) <= max_letters else f"{text[: max_letters - 1]}…"
    return text.replace("$", r"\$")
