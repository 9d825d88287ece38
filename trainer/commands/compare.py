"""The command ``trainer compare``: what was different between runs, and what came of it. No torch here."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.commands.text_table import aligned, counted, figure, lasted
from trainer.config import ConfigError
from trainer.config.errors import printable
from trainer.config.messages import did_you_mean
from trainer.runs import atomic_files
from trainer.runs.directory import ENVIRONMENT, read_json
from trainer.runs.read import Run, as_number, for_json, metric_names, runs_named, values_of, varied_keys

PICTURE = "compare.png"
PROGRAM = "trainer compare"  # tells a picture of ours
MAX_COLUMNS = 6  # runs side by side; more of them have a row each
KINDS = (".png", ".svg")
OF_A_RUN = ("run_dir", "resume", "sweep_dir", "sweep")  # keys that are different between any two

EPILOG = """\
A RUN is a run directory, a folder of runs such as a sweep's, or last, the newest under outputs.
examples:
  trainer compare last outputs/2026-11-24/10-39-34-cnn-digits
  trainer compare outputs/sweeps/2026-11-24/10-41-02-113355 --metric val/loss --picture losses.svg
exit code: 0; 2 the command is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Lay runs side by side: config, versions, metrics, and their curves in one picture."
    parser.epilog = EPILOG
    parser.add_argument("runs", nargs="*", metavar="RUN", help="at least two of them in all")
    parser.add_argument("--metric", metavar="NAME", help="the curve to draw, such as train/loss; by default monitor's")
    parser.add_argument("--picture", metavar="FILE", default=PICTURE, help="where it goes, .png or .svg (%(default)s)")
    parser.add_argument("--no-picture", action="store_true", help="draw none")
    parser.add_argument("--json", action="store_true", help="print all of it for a program, and draw nothing")


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison, draw the curves, and return the exit code, 0.

    Raises:
        ConfigError: there are not two runs, no such metric, or another file stands where the picture goes.
    """
    found = runs_named(arguments.runs)
    if len(found) < 2:
        raise ConfigError(f"compare: needs two runs or more, or a folder with as many, got {len(found)}")
    metric = _metric(found, arguments.metric)
    if arguments.json:
        print(json.dumps(for_json(as_dict(found, metric)), ensure_ascii=False, indent=2))
        return 0
    picture = None if arguments.no_picture or metric is None else Path(arguments.picture)
    if picture is not None:
        _check_picture(picture)
    print("\n".join(map(printable, _lines(found))))
    if picture is not None and metric is not None:
        _draw(found, metric, picture)
        print(printable(f"picture  {picture}"))
    return 0


def as_dict(found: Sequence[Run], metric: str | None) -> dict[str, Any]:
    """All of it, for a program; the curves are those of ``metric``, lists of [step, value]."""
    return {
        "runs": [
            {
                "path": str(each.path),
                "state": each.state,
                "monitor": each.monitor,
                "metrics": each.metrics,
                "steps": each.summary.get("steps"),
                "seconds": each.summary.get("seconds"),
                "curve": [] if metric is None else [list(point) for point in each.curve(metric)],
            }
            for each in found
        ],
        "metric": metric,
        "config": {row.name: list(row.values) for row in _different([_config(each) for each in found])},
        "environment": {row.name: list(row.values) for row in _different([_environment(each) for each in found])},
    }


@dataclass(frozen=True)
class _Row:
    """Something that every run has a value of; None where one has none."""

    name: str
    values: tuple[Any, ...]


def _lines(found: Sequence[Run]) -> list[str]:
    """What is printed: a column for each run, or of many a row."""
    config = _different([_config(each) for each in found])
    environment = _different([_environment(each) for each in found])
    rows = [_Row("state", tuple(each.state for each in found)), *config, *environment]
    cells = [(row.name, [_text(value) for value in row.values]) for row in rows]
    best = _best(found)
    for name in metric_names(found, {each.monitor for each in found}):
        marked = [best is each and name == each.monitor for each in found]
        figures = [figure(each.metrics.get(name)) for each in found]
        cells.append((name, [f"{text} *" if mark else text for text, mark in zip(figures, marked, strict=True)]))
    steps, seconds = ([as_number(each.summary.get(key)) for each in found] for key in ("steps", "seconds"))
    cells.append(("steps", [counted(each) for each in steps]))
    cells.append(("seconds", [lasted(each) for each in seconds]))
    said = [] if config else ["config   the same"]
    if len(found) > MAX_COLUMNS:
        head = [*(name for name, _ in cells), "run"]
        body = [[values[at] for _, values in cells] + [str(each.path)] for at, each in enumerate(found)]
        return [*aligned(head, body, {0, len(head) - 1}), *said]
    legend = [f"{number:<8} {each.path}" for number, each in enumerate(found, 1)]
    head = ["", *(str(number) for number in range(1, len(found) + 1))]
    return [*legend, "", *aligned(head, [[name, *values] for name, values in cells], {0}), *said]


def _best(found: Sequence[Run]) -> Run | None:
    """The best of them; None where they have no metric in common that says which."""
    if len({each.monitor for each in found if each.monitor is not None}) != 1:
        return None
    best = max(found, key=lambda each: each.score)
    return None if best.best is None else best


def _config(run: Run) -> dict[str, Any]:
    return {key: value for key, value in run.config.items() if key.partition(".")[0] not in OF_A_RUN}


def _environment(run: Run) -> dict[str, Any]:
    """What it ran on."""
    found = read_json(run.path / ENVIRONMENT)
    git = found.get("git")
    commit = str(git.get("commit") or "")[:10] or None if isinstance(git, dict) else None
    device, versions = found.get("device"), found.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    named = {f"version of {name}": version for name, version in versions.items()}
    data = hashlib.sha256(json.dumps(found.get("data"), sort_keys=True).encode()).hexdigest()[:10]
    kind = device.get("name") if isinstance(device, dict) else None
    return {"python": found.get("python"), **named, "hardware": kind, "commit": commit, "data": data}


def _different(each: Sequence[Mapping[str, Any]]) -> list[_Row]:
    """The keys of which not all have the same value."""
    keys = dict.fromkeys(key for found in each for key in found)
    rows = [_Row(key, tuple(found.get(key) for found in each)) for key in keys]
    return [row for row in rows if len({json.dumps(value, sort_keys=True, default=str) for value in row.values}) > 1]


def _text(value: Any) -> str:
    """A value as it is typed, or not at all."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _metric(found: Sequence[Run], wanted: str | None) -> str | None:
    """The curve to draw; None where no run has one.

    Raises:
        ConfigError: no run has the one that is wanted.
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
        raise ConfigError(f"--metric: {wanted}: no run has it{near} metrics: {', '.join(known) or 'none'}")
    return wanted


def _check_picture(path: Path) -> None:
    """Raises ConfigError where a picture cannot be written, or something else stands there."""
    if path.suffix.lower() not in KINDS:
        raise ConfigError(f"--picture: {path}: must end in {' or '.join(KINDS)}")
    atomic_files.check_ours("--picture", path, PROGRAM, within=4000, what="none")


def _draw(found: Sequence[Run], metric: str, path: Path) -> None:
    """The curves over each other."""
    from trainer.commands.pages import plots

    differing = varied_keys([each.words for each in found])
    best = _best(found)
    lines = []
    for number, each in enumerate(found, 1):
        values = values_of(each.words)
        said = " ".join(f"{key}={values[key]}" for key in differing if key in values) or each.path.name
        name = f"{number}  {said}" if len(found) <= MAX_COLUMNS else said
        lines.append(plots.Curve(name, each.curve(metric), stands_out=each is best))
    plots.save(plots.curves(lines, metric, (9, 4.5)), path, PROGRAM)
