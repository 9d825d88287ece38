"""Draw the importance of columns as bars, and their effects as curves over numbers or as bars of levels."""

from __future__ import annotations

import math
from typing import NamedTuple

from markupsafe import Markup

from trainer.commands.explain.columns import EXCHANGES, Effect, ExplainedColumns
from trainer.commands.opened_run import OpenedRun
from trainer.commands.pages.render import draw
from trainer.commands.text_table import figure
from trainer.data.table_encoding import EncodedColumn, cell_text
from trainer.loss._probabilities import gives_probabilities
from trainer.spec import Spec

WIDTH, HEIGHT = 340, 150  # of the drawing of curves, in pixels
LEFT, RIGHT, TOP, BOTTOM = 58, 8, 10, 32  # the margins around the curves, which hold text
FOR_MISSING = 56  # pixels to the right of the curves for the answer with a missing cell
MAX_ROWS = 60  # columns that have a bar


def draw_columns(trained: OpenedRun, found: ExplainedColumns, split: str) -> Markup:
    """Return the importance of columns and their effects as HTML, with a sentence about each.

    Args:
        split: the name of the split that was measured.
    """
    spec = trained.spec
    drawn = "in every step of a sample" if spec.kind == "sequence" else "in a column"
    about = {
        "importance": f"How much worse the {found.score.name} is with the cells of a column exchanged at random among "
        f"the samples: {figure(found.value)} on {found.measured(split)}. The mean of {EXCHANGES} exchanges, ± their "
        "standard deviation (permutation importance: Breiman 2001; Fisher, Rudin and Dominici 2019). Columns that say "
        "the same share their importance, as the model reads from one what is lost in the other.",
        "effect": f"The effect of a column: the mean answer if all samples had the same cell {drawn} (partial "
        "dependence: Friedman 2001). Ticks are quantiles of the numbers; the bar of a level starts at the mean answer "
        "without a change. The numbers tell what this model does, not what is true of the world.",
    }
    quantity = "probability" if gives_probabilities(trained.loss, spec) else "value"
    effects = _draw_effects(found, spec, quantity)
    return draw("columns", about=about, bars=_draw_importance(found), effects=effects)


def _draw_importance(found: ExplainedColumns) -> Markup:
    largest = max((each.importance for each in found.columns if math.isfinite(each.importance)), default=0.0)
    rows = []
    for each in found.columns[:MAX_ROWS]:
        share = min(1.0, each.importance / largest) if largest > 0 and each.importance > 0 else 0.0
        rows.append(([each.column.name, found.said(each.importance), f"± {found.said(each.deviation)}"], 100 * share))
    num_more = len(found.columns) - len(rows)
    return draw("importance", rows=rows, rest=f"and {num_more:,} less important columns" if num_more else "")


def _draw_effects(found: ExplainedColumns, spec: Spec, quantity: str) -> list[Markup]:
    """Return a figure for each effect; those of one class have one scale, so that a small effect looks small."""
    explained = [(each, each.effect) for each in found.columns if each.effect is not None]
    answers: dict[int, list[float]] = {}
    for _, effect in explained:
        for which in effect.shown:
            answers.setdefault(which, [float(found.answer[which])]).extend(effect.answers[:, which].tolist())
    figures = []
    for each, effect in explained:
        together = [value for which in effect.shown for value in answers[which] if math.isfinite(value)] or [0.0]
        limits = min(together), max(together)
        drawing = _Drawing(each.column.encoded, effect, found.answer.tolist(), limits, spec)
        figures.append(drawing.draw(quantity, found.said(each.importance)))
    return figures


class _Drawing(NamedTuple):
    """The drawing of an effect."""

    column: EncodedColumn
    effect: Effect
    answer: list[float]  # without a change, of each class, label or value
    limits: tuple[float, float]  # the lowest and the highest answer that the drawing has room for
    spec: Spec

    def draw(self, quantity: str, importance: str) -> Markup:
        """Return the figure; ``quantity`` names what the answers are."""
        names = [self.spec.classes[which] for which in self.effect.shown]
        return draw(
            "effect",
            name=self.column.name,
            importance=importance,
            caption=f"mean {quantity} of ",
            classes=names,
            drawing=self._curves() if self.column.is_number else self._levels(names),
            is_colored=self.column.is_number,
        )

    def _levels(self, names: list[str]) -> Markup:
        """Draw a table with a row for each level, and bars from the mean answer without a change."""
        largest = max(abs(end - self.answer[which]) for end in self.limits for which in self.effect.shown)
        rows = []
        for at, text in enumerate(self._texts()):
            bars = []
            for which in self.effect.shown:
                answer = float(self.effect.answers[at, which])
                change = answer - self.answer[which]
                width = 0.0 if self._is_flat() or not math.isfinite(change) else 50 * change / largest
                bars.append((self._said(which, answer), width))
            rows.append((text, f"{self.effect.counts[at]:,}" if self.effect.counts else "", bars))
        return draw("levels", head=["", "samples", *(names if len(names) > 1 else [""])], rows=rows)

    def _curves(self) -> Markup:
        """Draw a curve for each class over the numbers of a column, and dots for a missing cell."""
        cells, texts = self.effect.cells.tolist(), self._texts()
        numbers = [cell for cell in cells if not math.isnan(cell)]
        has_missing = len(numbers) < len(cells)
        right = WIDTH - RIGHT - FOR_MISSING * has_missing
        curves = []
        for which in self.effect.shown:
            points = []
            for cell, text, answer in zip(cells, texts, self.effect.answers[:, which].tolist(), strict=True):
                if not math.isfinite(answer):
                    continue
                x = WIDTH - RIGHT - FOR_MISSING / 3
                if not math.isnan(cell):
                    x = LEFT + (cell - numbers[0]) / ((numbers[-1] - numbers[0]) or 1.0) * (right - LEFT)
                low, high = self.limits
                share = 0.5 if self._is_flat() else (answer - low) / (high - low)
                y = HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
                points.append((x, y, f"{text}: {self._said(which, answer)}", not math.isnan(cell)))
            curves.append(points)
        return draw(
            "curves",
            size=(WIDTH, HEIGHT, LEFT, right, TOP, BOTTOM),
            curves=curves,
            ends=[self._said(self.effect.shown[0], end) for end in self.limits],
            texts=[texts[at] for at in sorted({0, len(numbers) - 1}) if numbers],
            has_missing=has_missing,
        )

    def _is_flat(self) -> bool:
        """Return whether all answers read the same, so that a curve would show how they are rounded."""
        first = self.effect.shown[0]
        return self._said(first, self.limits[0]) == self._said(first, self.limits[1])

    def _texts(self) -> list[str]:
        return [cell_text(self.column, cell) for cell in self.effect.cells]

    def _said(self, which: int, answer: float) -> str:
        return self.spec.value_text(which, answer) if self.spec.task == "regression" else f"{answer:.3f}"
