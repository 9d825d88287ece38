"""The figures of importance and effects have one scale, and stay whole whatever the numbers are."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
import torch

from tests.html_page import Page
from tests.made import Made
from trainer.commands.explain import column_figures
from trainer.commands.explain.column_figures import draw_columns
from trainer.commands.explain.columns import Column, Effect, ExplainedColumn, ExplainedColumns, choose_score
from trainer.commands.opened_run import OpenedRun, load
from trainer.data.table_encoding import EncodedColumn

NAN, PLACE = math.nan, slice(0, 1)


@pytest.fixture
def trained(made: Made) -> OpenedRun:
    """A run on rows of three classes."""
    return load(str(made.run("cnn", "table")))


def explained(
    name: str, cells: list[float], second: list[float], worse: float = 0.1, **keys: object
) -> ExplainedColumn:
    """A column with an effect on the second of three classes."""
    column = Column(dataclasses.replace(EncodedColumn(name), **keys), PLACE)  # type: ignore[arg-type]
    answers = torch.tensor([[0, value, 0] for value in second], dtype=torch.float64)
    counts = None if not keys else [1] * len(cells)
    effect = Effect(torch.tensor(cells), counts, answers, [1])
    return ExplainedColumn(column, torch.full((5,), worse, dtype=torch.float64), effect)


def drawn(trained: OpenedRun, *columns: ExplainedColumn) -> str:
    """Return the HTML of columns."""
    answer = torch.tensor([0, 0.5, 0], dtype=torch.float64)
    found = ExplainedColumns(columns, choose_score(trained), 0.75, 50, 50, 0, answer)
    return str(draw_columns(trained, found, "test"))


def heights(html: str) -> list[list[float]]:
    """The heights of the points of each drawing."""
    svgs = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    return [[float(y) for y in re.findall(r'cy="([-\d.]+)"', svg)] for svg in svgs]


def test_a_small_effect_looks_small_beside_a_large_one(trained: OpenedRun) -> None:
    html = drawn(trained, explained("large", [0, 1], [0.1, 0.9]), explained("small", [0, 1], [0.5, 0.51]))
    large, small = heights(html)
    assert large[0] - large[1] == pytest.approx(80 * (small[0] - small[1]), rel=0.2)
    assert html.count(">0.100</text>") == html.count(">0.900</text>") == 2


def test_answers_that_read_the_same_are_drawn_as_a_level_line(trained: OpenedRun) -> None:
    ((first, second),) = heights(drawn(trained, explained("none", [0, 1], [0.5000001, 0.5000002])))
    assert first == second


def test_a_missing_cell_is_a_point_beside_the_curve(trained: OpenedRun) -> None:
    html = drawn(trained, explained("size", [2, 4, NAN], [0.1, 0.2, 0.3]))
    (curve,) = re.findall(r'<polyline points="([^"]+)"', html)
    assert len(curve.split()) == 2
    assert html.count("<circle") == 3
    assert "missing: 0.300" in html
    assert ">missing</text>" in html


def test_levels_have_bars_to_both_sides_of_the_mean_answer(trained: OpenedRun) -> None:
    cells = [0.0, 1.0, -1.0, NAN]
    column = explained("color", cells, [0.9, 0.3, 0.5, 0.5], kind="category", levels=("red", "blue"), other=True)
    html = drawn(trained, column)
    rows = re.findall(r"<tr><td>(.+?)</td><td>1</td><td>(.+?)</td>", html)
    assert rows == [("red", "0.900"), ("blue", "0.300"), ("another level", "0.500"), ("missing", "0.500")]
    bars = re.findall(r'class="(for|against)" style="left: ([\d.]+)%; width: ([\d.]+)%', html)
    assert bars[0] == ("for", "50.00", "50.00")
    assert bars[1] == ("against", "25.00", "25.00")
    assert {width for _, _, width in bars[2:]} == {"0.00"}


def test_answers_and_importances_that_are_no_numbers_are_left_out(trained: OpenedRun) -> None:
    columns = [explained("a", [0, 1, 2], [NAN, 0.2, math.inf], NAN), explained("b", [NAN], [NAN], -1.0)]
    html = drawn(trained, *columns, explained("c", [0.0], [NAN], math.inf, kind="category", levels=("x",)))
    assert len(Page(html).named("circle")) == 1
    assert not re.search(r"(?:left|width|c[xy]): ?(?:nan|inf)|\"(?:nan|inf)", html)


def test_many_columns_have_a_bar_each_up_to_a_limit(trained: OpenedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_figures, "MAX_ROWS", 2)
    columns = [dataclasses.replace(explained(f"c{at}", [0], [0.5], 0.4 - at / 10), effect=None) for at in range(4)]
    html = drawn(trained, *columns)
    assert re.findall(r'<i style="width: ([\d.]+)%', html) == ["100.00", "75.00"]
    assert "and 2 less important columns" in html
    assert "<figure" not in html
