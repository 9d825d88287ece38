"""The HTML page of a sweep: the best run, a table of all runs, and plots. This module does not import torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

from trainer.commands.pages.plots import Curve, plot_against, plot_curves, to_svg
from trainer.commands.pages.render import render
from trainer.sweep.table import SEED, SweepRow, SweepTable, describe_best, train_command

if TYPE_CHECKING:
    from markupsafe import Markup

PAGE = "summary.html"
MAX_CURVES = 100  # in a plot: those of the best runs


def make_page(table: SweepTable) -> str:
    """Return the page as HTML."""
    best = table.best
    return render(
        "sweep.html",
        command="sweep",
        title=str(table.folder),
        table=table,
        states=dict.fromkeys(row.state for row in table.rows),
        best=None if best is None else describe_best(table),
        train_command=None if best is None else train_command(table, best),
        groups=table.groups if table.has_seeds and table.monitor is not None else [],
        plots=[] if table.monitor is None else [*_draw_plots(table, table.monitor)],
        link=lambda row: f"{quote(os.fsencode(os.path.relpath(row.folder, table.folder)))}/",
    )


def _draw_plots(table: SweepTable, monitor: str) -> Iterator[Markup]:
    """Yield plots of the curves of the best runs, and of the monitored metric against each key that varies."""
    rows = [row for row in table.ordered if row.run is not None][:MAX_CURVES]
    families = {id(row): number for number, group in enumerate(table.groups) for row in group.rows}
    for metric in dict.fromkeys([monitor, "val/loss"]):
        curves = [
            Curve(_label(table, row), row.run.curve(metric), row is table.best, families[id(row)])
            for row in rows
            if row.run is not None
        ]
        if any(curve.points for curve in curves):
            yield to_svg(plot_curves(curves, metric), f"{metric} of all runs over their steps")
    finished = [(row, row.value) for row in rows if row.value is not None]
    best = next((number for number, (row, _) in enumerate(finished) if row is table.best), None)
    for at, key in enumerate(table.keys):
        if key != SEED and len(finished) > 1:
            points = [(table.values(row)[at], value) for row, value in finished]
            yield to_svg(plot_against(points, key, monitor, best), f"{monitor} against {key}")


def _label(table: SweepTable, row: SweepRow) -> str:
    values = [f"{key.rpartition('.')[2]}={value}" for key, value in zip(table.keys, table.values(row), strict=True)]
    return " ".join(values) or row.folder.name
