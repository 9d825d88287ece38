"""The command ``trainer compare``: show runs side by side (config, environment, metrics and curves).

This module does not import torch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.commands._arguments import describe
from trainer.commands.text_table import counted, figure, fitted, lasted, print_json, print_lines, shortened
from trainer.config import ConfigError
from trainer.config.errors import printable
from trainer.config.messages import did_you_mean
from trainer.config.terminal import columns
from trainer.runs import atomic_files
from trainer.runs.directory import ENVIRONMENT, read_json
from trainer.runs.read import Run, as_number, differing, flatten, metric_names, runs_named, values_of, varied_keys

PICTURE = "compare.png"
PROGRAM = "trainer compare"  # written into each picture; only files with this mark are overwritten
MAX_COLUMNS = 6  # up to this many runs each run has a column, otherwise a row
MIN_LETTERS = 20  # to which a text is shortened on a narrow terminal
SHORTEST = 12  # to which a text is shortened if a single run is too wide
FORMATS = (".png", ".svg")
NOT_COMPARED = ("run_dir", "resume", "sweep_dir", "sweep")  # keys that say nothing about the training

EPILOG = """\
A RUN is a run directory, a folder of runs such as a sweep's, or last for the newest one under outputs.
examples:
  trainer compare last outputs/2026-11-24/10-39-34-cnn-digits
  trainer compare outputs/sweeps/2026-11-24/10-41-02-113355 --metric val/loss --picture losses.svg
exit code: 0 done; 2 the command is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    describe(parser, "Show runs side by side: config, versions, metrics, and their curves in one picture.", EPILOG)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="at least two runs in total")
    parser.add_argument("--metric", metavar="NAME", help="the curve to draw, such as train/loss (the monitored metric)")
    parser.add_argument("--picture", metavar="FILE", default=PICTURE, help="a .png or .svg file (%(default)s)")
    parser.add_argument("--no-picture", action="store_true", help="draw no picture")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, and draw no picture")


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison, draw the curves, and return the exit code, 0.

    Raises:
        ConfigError: there are fewer than two runs, no run has the metric, or the picture would replace another file.
    """
    found = runs_named(arguments.runs)
    if len(found) < 2:
        raise ConfigError(f"compare: needs two runs or more, or a folder with as many, got {len(found)}")
    metric = _metric(found, arguments.metric)
    if arguments.json:
        print_json(as_dict(found, metric))
        return 0
    picture = None if arguments.no_picture or metric is None else Path(arguments.picture)
    if picture is not None:
        _check_picture(picture)
    print_lines(_lines(found))
    if picture is not None and metric is not None:
        _draw(found, metric, picture)
        print_lines([f"picture  {picture}"])
    return 0


def as_dict(found: Sequence[Run], metric: str | None) -> dict[str, Any]:
    """Return the comparison as plain containers for ``--json``; the curve of ``metric`` is a list of [step, value]."""
    return {
        "runs": [
            {
                "path": str(each.path),
                "state": each.state,
                "monitor": each.monitor,
                "metrics": each.metrics,
                "steps": each.summary.get("steps"),
                "seconds": each.summary.get("seconds"),
                "curve": [] if metric is None else _curve(each, metric),
            }
            for each in found
        ],
        "metric": metric,
        "config": {key: list(values) for key, values in differing([*map(_config, found)]).items()},
        "environment": {key: list(values) for key, values in differing([*map(_environment, found)]).items()},
    }


def _lines(found: Sequence[Run]) -> list[str]:
    """Return a table with a column for each run, or with a row for each run if there are more than ``MAX_COLUMNS``."""
    config = differing([*map(_config, found)])
    rows = {"state": [each.state for each in found], **config, **differing([*map(_environment, found)])}
    cells = {name: [_text(value) for value in values] for name, values in rows.items()}
    best = _best(found)
    for name in metric_names(found, {each.monitor for each in found}):
        marks = [" *" if best is each and name == each.monitor else "" for each in found]
        cells[name] = [figure(each.metrics.get(name)) + mark for each, mark in zip(found, marks, strict=True)]
    cells["steps"] = [counted(as_number(each.summary.get("steps"))) for each in found]
    cells["seconds"] = [lasted(as_number(each.summary.get("seconds"))) for each in found]
    note = [] if config else ["config   the same"]
    if len(found) > MAX_COLUMNS:
        cells["run"] = [str(each.path) for each in found]
        return [*_row_for_each_run(cells, config, {*metric_names(found, ())}), *note]
    width = columns()
    paths = [str(each.path) if width is None else shortened(str(each.path), width - 9) for each in found]
    legend = [f"{number:<8} {path}" for number, path in enumerate(paths, 1)]
    return [*legend, "", *_column_for_each_run(cells, width), *note]


def _row_for_each_run(
    cells: Mapping[str, Sequence[str]], config: Collection[str], metrics: Collection[str]
) -> list[str]:
    """Return the table of many runs; a narrow terminal leaves out the environment first, the monitored metric last."""
    names = [*cells]
    of_runs = ["seconds", "steps", "state"]
    least = [name for name in names if name not in {*of_runs, *config, *metrics, "run"}]
    first, *others = [name for name in names if name in metrics] or [""]
    least += [*of_runs, *others[::-1], *(name for name in names[::-1] if name in config), *([first] if first else [])]
    return fitted(
        names,
        [*zip(*cells.values(), strict=True)],
        {0, len(cells) - 1},
        elastic={at: MIN_LETTERS for at, name in enumerate(names) if name in config or name == "run"},
        least=[*map(names.index, least)],
        where="a wider terminal, | cat or --json",
    )


def _column_for_each_run(cells: Mapping[str, Sequence[str]], width: int | None) -> list[str]:
    """Return the table of a few runs, in several blocks below each other if a block would be too wide."""
    num_runs = len(next(iter(cells.values())))
    for size in range(num_runs, 0, -1):
        shortest = MIN_LETTERS if size > 1 else SHORTEST
        blocks = [_block(cells, range(at, min(at + size, num_runs)), shortest) for at in range(0, num_runs, size)]
        if width is None or size == 1 or max(len(line) for block in blocks for line in block) <= width:
            break
    return [line for block in blocks for line in ("", *block)][1:]


def _block(cells: Mapping[str, Sequence[str]], runs: Sequence[int], shortest: int) -> list[str]:
    rows = [[name, *(values[at] for at in runs)] for name, values in cells.items()]
    head = ["", *(str(at + 1) for at in runs)]
    return fitted(head, rows, {0}, elastic=dict.fromkeys(range(len(head)), MIN_LETTERS), shortest=shortest)


def _best(found: Sequence[Run]) -> Run | None:
    """Return the best run; None if the runs monitor different metrics, or if no run has a value."""
    if len({each.monitor for each in found if each.monitor is not None}) != 1:
        return None
    best = max(found, key=lambda each: each.score)
    return None if best.best is None else best


def _config(run: Run) -> dict[str, Any]:
    return {key: value for key, value in run.config.items() if key.partition(".")[0] not in NOT_COMPARED}


def _environment(run: Run) -> dict[str, Any]:
    environment = read_json(run.path / ENVIRONMENT)
    found = flatten(environment)
    versions = {key.replace("versions.", "version of "): found[key] for key in found if key.startswith("versions.")}
    commit = str(found.get("git.commit") or "")[:10] or None
    data = hashlib.sha256(json.dumps(environment.get("data"), sort_keys=True).encode()).hexdigest()[:10]
    hardware = found.get("device.name")
    return {"python": found.get("python"), **versions, "hardware": hardware, "commit": commit, "data": data}


def _text(value: Any) -> str:
    """Format a value of a config or an environment for the table."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _metric(found: Sequence[Run], wanted: str | None) -> str | None:
    """Return the name of the curve to draw: ``wanted``, else a monitored metric, else any curve; None without curves.

    Raises:
        ConfigError: no run has the metric ``wanted``.
    """
    monitors = [each.monitor for each in found if each.monitor is not None]
    if wanted is None and monitors:
        return monitors[0]
    known = dict.fromkeys(
        name for each in found for point in each.points() for name in point if name not in ("step", "epoch")
    )
    if wanted is None:
        return "val/loss" if "val/loss" in known else next(iter(known), None)
    if wanted not in known:
        near = did_you_mean(wanted, known) or ";"
        raise ConfigError(f"--metric: {wanted}: no run has this metric{near} metrics: {', '.join(known) or 'none'}")
    return wanted


def _curve(run: Run, metric: str) -> list[tuple[int, float]]:
    """Return the curve of a run; if it cannot be read, print a warning, and return no points."""
    try:
        return run.curve(metric)
    except ConfigError as error:
        print(f"trainer: warning: {printable(str(error))}; the comparison lacks this curve", file=sys.stderr)
        return []


def _check_picture(path: Path) -> None:
    """Raise ConfigError if the picture cannot be written, or would replace a file that this command did not write."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--picture: {path}: must end in {' or '.join(FORMATS)}")
    atomic_files.check_ours("--picture", path, PROGRAM, within=4000, what="no picture")


def _draw(found: Sequence[Run], metric: str, path: Path) -> None:
    """Draw the curves of all runs into one picture; each curve is labelled with the overrides that vary."""
    from trainer.commands.pages import plots

    varied = varied_keys([each.words for each in found])
    best = _best(found)
    lines = []
    for number, each in enumerate(found, 1):
        values = values_of(each.words)
        words = " ".join(f"{key}={values[key]}" for key in varied if key in values) or each.path.name
        name = f"{number}  {words}" if len(found) <= MAX_COLUMNS else words
        lines.append(plots.Curve(name, _curve(each, metric), stands_out=each is best))
    plots.save(plots.plot_curves(lines, metric, (9, 4.5)), path, PROGRAM)
