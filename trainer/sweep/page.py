"""The page of a sweep: its answer, its runs, and pictures of them, in one file that needs no other. No torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from trainer.commands.pages import plots
from trainer.commands.pages.plots import Curve
from trainer.commands.text_table import counted, figure, lasted
from trainer.runs.read import FINISHED, PRUNED
from trainer.sweep.table import SEED, SweepRow, SweepTable, describe_best, train_command

PAGE = "summary.html"
MARK = '<meta name="generator" content="trainer sweep">'
MAX_CURVES = 100  # of the best runs

STYLE = """
body { margin: 0 auto; max-width: 76rem; padding: 1rem 1.25rem 3rem; background: #fff; color: #1c2127;
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: .5rem 0 0; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; } .quiet { color: #5b6570; } .answer { font-size: 1.15rem; margin-top: .75rem; }
code.again { display: block; background: #f4f6f8; border: 1px solid #e3e7eb; padding: .5rem .75rem; margin: .4rem 0;
  overflow-x: auto; white-space: pre; user-select: all; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .2rem .9rem .2rem 0; text-align: right; white-space: nowrap; font-weight: 400; }
th { color: #5b6570; border-bottom: 1px solid #d5dadf; } td.text, th.text { text-align: left; }
tr.best td { font-weight: 600; } tr.reason td { text-align: left; color: #5b6570; white-space: normal;
  padding-top: 0; font-size: .85rem; overflow-wrap: anywhere; }
.finished { color: #1b6e41; } .failed, .refused, .killed { color: #b3261e; } .stopped, .waiting { color: #8a5a00; }
.pruned { color: #5b6570; } .pictures { display: flex; flex-wrap: wrap; gap: .75rem; align-items: flex-start; }
.pictures svg { max-width: 100%; height: auto; } a { color: #0b5cad; }
@media (max-width: 48rem) { .pictures { display: block; overflow-x: auto; } .pictures svg { max-width: none; } }
"""


def page(table: SweepTable) -> str:
    """A whole HTML page, readable without a network."""
    title = escape(str(table.folder))
    best = table.best
    if best is not None:
        answer = f"<p class=answer>Best: <b>{escape(describe_best(table))}</b></p>"
        answer += f"<code class=again>{escape(train_command(table, best))}</code>"
    elif len(table.monitors) > 1:
        answer = "<p class=answer>The runs are compared by different metrics, so none is called the best, "
        answer += "and no picture compares them.</p>"
    else:
        answer = "<p class=answer>No run has finished.</p>"
    states = dict.fromkeys(row.state for row in table.rows)
    counts = ", ".join(f"<span class={state}>{table.count(state)} {state}</span>" for state in states)
    parts = [
        f"<h1>{title}</h1>",
        f"<p class=quiet>{len(table.rows)} run{'s' * (len(table.rows) != 1)}: {counts}</p>",
        answer,
    ]
    if table.has_seeds and table.monitor is not None:
        parts.append(f"<h2>Over the seeds</h2>{_folded(table)}")
    parts += [_pictures(table), f"<h2>Runs</h2>{_runs(table)}"]
    content = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{MARK}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )
    return content.encode("utf-8", "replace").decode()  # a folder's name may hold bytes that are no letter


def _folded(table: SweepTable) -> str:
    keys = table.group_keys
    rows = []
    for number, group in enumerate(table.groups):
        deviation = "" if group.deviation is None else f"± {group.deviation:.4f}"
        cells = [group.values.get(key, "") for key in keys]
        css = " class=best" if number == 0 and group.mean is not None else ""
        rows.append(
            f"<tr{css}>{_cells(cells, text=True)}"
            f"{_cells([figure(group.mean), deviation, f'{len(group.results)} of {group.num_seeds}'])}</tr>"
        )
    head = _cells(keys, "th", text=True) + _cells([f"{table.monitor}, mean", "deviation", "seeds"], "th")
    return _table(head, rows)


def _runs(table: SweepTable) -> str:
    best, names = table.best, table.metrics
    rows = []
    for row in table.ordered:
        numbers = [*(figure(row.metrics.get(name)) for name in names), counted(row.steps), lasted(row.seconds)]
        place = os.path.relpath(row.folder, table.folder)
        link = f'<a href="{quote(os.fsencode(place))}/">{escape(row.folder.name)}</a>'
        folder = link if row.run is not None else escape(row.folder.name)
        css = " class=best" if row is best else ""
        state = f'<td class="text {row.state}">{row.state}</td><td class=text>{folder}</td>'
        rows.append(f"<tr{css}>{_cells(table.values(row), text=True)}{_cells(numbers)}{state}</tr>")
        if row.reason and row.state not in (FINISHED, PRUNED):
            rows.append(
                f"<tr class=reason><td colspan={len(table.keys) + len(names) + 4}>{escape(row.reason)}</td></tr>"
            )
    head = _cells(table.keys, "th", text=True) + _cells([*names, "steps", "seconds"], "th")
    return _table(head + _cells(["state", "folder"], "th", text=True), rows)


def _pictures(table: SweepTable) -> str:
    """The curves, and the metric against each key that varies."""
    monitor = table.monitor
    if monitor is None:
        return ""
    rows = [row for row in table.ordered if row.run is not None][:MAX_CURVES]
    families = {id(row): number for number, group in enumerate(table.groups) for row in group.rows}
    drawn = []
    for metric in dict.fromkeys([monitor, "val/loss"]):
        lines = [
            Curve(_label(table, row), row.run.curve(metric), row is table.best, families[id(row)])
            for row in rows
            if row.run is not None
        ]
        if any(line.points for line in lines):
            drawn.append(plots.as_svg(plots.curves(lines, metric), f"{metric} of all runs over their steps"))
    finished = [row for row in rows if row.value is not None]
    for at, key in enumerate(table.keys):
        points = [(table.values(row)[at], row.value) for row in finished if row.value is not None]
        if key == SEED or len(points) < 2:
            continue
        best = next((number for number, row in enumerate(finished) if row is table.best), None)
        picture = plots.against(points, key, monitor, best)
        drawn.append(plots.as_svg(picture, f"{monitor} against {key}"))
    return f"<h2>Pictures</h2><div class=pictures>{''.join(drawn)}</div>" if drawn else ""


def _label(table: SweepTable, row: SweepRow) -> str:
    values = [f"{key.rpartition('.')[2]}={value}" for key, value in zip(table.keys, table.values(row), strict=True)]
    return " ".join(values) or row.folder.name


def _cells(texts: Sequence[str], tag: str = "td", *, text: bool = False) -> str:
    css = " class=text" if text else ""
    return "".join(f"<{tag}{css}>{escape(each)}</{tag}>" for each in texts)


def _table(head: str, rows: Sequence[str]) -> str:
    return f"<div class=scroll><table><tr>{head}</tr>{''.join(rows)}</table></div>"
