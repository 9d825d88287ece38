"""Print what the columns of a table do for a run, and write the page. This module does not import torch."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands.pages.render import render
from trainer.commands.text_table import figure, fitted, print_json, print_lines
from trainer.config.errors import printable
from trainer.runs import atomic_files

if TYPE_CHECKING:
    from trainer.commands.explain.columns import Effect, ExplainedColumns
    from trainer.commands.opened_run import OpenedRun


def explain_columns(trained: OpenedRun, arguments: argparse.Namespace, target: int | None, page: Path | None) -> None:
    """Measure the columns named by ``--columns`` on the split named by ``--split``, and print and write the result.

    Raises:
        ConfigError: the run has no columns or none of this name, the split or the metric does not exist, or the data
            cannot be used.
    """
    from trainer.commands.evaluate.measure import part_of
    from trainer.commands.explain import columns
    from trainer.config.progress_bar import ProgressBar

    chosen = columns.find_columns(columns.columns_of(trained), arguments.columns)
    score = columns.choose_score(trained, arguments.metric)
    data = trained.data()
    split = arguments.split or ("test" if data.fingerprint() == trained.fingerprint else "all")

    def watch(some: Any) -> Any:
        return ProgressBar(some, unit=" columns", disable=None, leave=False, file=sys.stderr)

    found = columns.explain_columns(trained, part_of(data, split), chosen, score, target=target, watch=watch)
    if arguments.json:
        print_json(_to_dict(trained, found, split))
    else:
        print_lines([*_lines(trained, found, split, data.warnings)])
    if page is not None:
        atomic_files.write_text(page, _make_page(trained, found, split))
        print(
            printable(f"{page}: {len(found.columns):,} column{'s' * (len(found.columns) != 1)} explained"),
            file=sys.stderr,
        )


def _lines(trained: OpenedRun, found: ExplainedColumns, split: str, warnings: Sequence[str]) -> Iterator[str]:
    epoch = "" if trained.epoch is None else f", epoch {trained.epoch}"
    yield f"run      {trained.run.path}  (weights of step {trained.step}{epoch})"
    yield f"data     {found.measured(split)}"
    yield from (f"warning  {line}" for line in warnings)
    yield f"{found.score.name:<8} {figure(found.value)}; so much worse with the cells of a column exchanged at random:"
    if found.num_left_out:
        yield f"warning  {found.num_left_out:,} further columns are not measured; --columns NAME,NAME measures others"
    yield ""
    rows = [[each.column.name, found.said(each.importance), found.said(each.deviation)] for each in found.columns]
    yield from fitted(["column", "importance", "±"], rows, [0], elastic={0: 12})


def _to_dict(trained: OpenedRun, found: ExplainedColumns, split: str) -> dict[str, Any]:
    """Return plain containers for ``--json``."""
    from trainer.commands.explain.columns import EXCHANGES

    columns = [
        {
            "name": each.column.name,
            "kind": each.column.encoded.kind,
            "importance": each.importance,
            "deviation": each.deviation,
            **({} if each.effect is None else {"effect": _effect_to_dict(trained, each.column.encoded, each.effect)}),
        }
        for each in found.columns
    ]
    return {
        "run": str(trained.run.path),
        "step": trained.step,
        "split": split,
        "samples": found.num_samples,
        "samples_in_split": found.num_in_split,
        "metric": found.score.name,
        "value": found.value,
        "exchanges": EXCHANGES,
        "columns": columns,
        "columns_left_out": found.num_left_out,
    }


def _effect_to_dict(trained: OpenedRun, column: Any, effect: Effect) -> list[dict[str, Any]]:
    """Return a dictionary for each cell; a missing one is None, a level and a date are texts, a number is one."""
    from trainer.data.table_encoding import cell_text

    classes, found = trained.spec.classes, []
    for at, cell in enumerate(effect.cells):
        value = float(cell)
        said = None if math.isnan(value) else value if column.kind == "number" else cell_text(column, cell)
        answers = {classes[which]: float(effect.answers[at, which]) for which in effect.shown}
        found.append(
            {"cell": said, "samples": None if effect.counts is None else effect.counts[at], "answers": answers}
        )
    return found


def _make_page(trained: OpenedRun, found: ExplainedColumns, split: str) -> str:
    from trainer.commands.explain.column_figures import draw_columns

    return render(
        "columns.html",
        command="explain",
        title=f"Columns: {trained.settings.model['name']} on {trained.spec.dataset}",
        run=trained.run.path,
        step=trained.step,
        epoch=trained.epoch,
        columns=draw_columns(trained, found, split),
    )
