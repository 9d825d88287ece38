"""The command ``trainer evaluate``: compute the metrics of trained runs. This module does not import torch."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.commands._arguments import add_checkpoint, describe, parted
from trainer.commands.text_table import aligned, fitted, print_json, print_lines
from trainer.config import ConfigError
from trainer.config.terminal import columns, loading
from trainer.runs.read import runs_named

if TYPE_CHECKING:
    from trainer.commands.evaluate.measure import Measured
    from trainer.commands.opened_run import OpenedRun

MAX_ROWS = 20  # maximum number of classes in the table on the terminal; if there are more, those with the lowest F1
MAX_PAIRS = 5  # maximum number of pairs of classes in the line about mistakes

EPILOG = """\
A RUN is a run directory, a folder of runs such as a sweep's, or last. Several runs are measured as an ensemble, by the
mean of their probabilities. A WORD is an override that still applies after training: dataset.path=… (where the data is
now, or other data), dataset=…, device=cpu, batch_size=…, limit_batches=…, precision=…, thresholds=…, calibrate=none,
plugins=[…]. Labels are predicted above the thresholds that the run has chosen on val, or thresholds=0.5 above 0.5.
examples:
  trainer evaluate last
  trainer evaluate last --split val --metrics accuracy,top3,auroc,ece
  trainer evaluate outputs/sweeps/2026-11-25/12-41-24-992028
exit code: 0 done; 1 the evaluation failed; 2 the command is wrong, or the run or its data cannot be used."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    describe(parser, "Measure a run on any split of its data, or on other data, with its own preprocessing.", EPILOG)
    parser.add_argument("words", nargs="*", metavar="RUN|WORD", help="one or more runs, and overrides")
    parser.add_argument("--split", help="train, val, test or all (test for the run's own data, all for other data)")
    parser.add_argument("--metrics", metavar="NAME,NAME", help="compute only these: any metric, or topK")
    add_checkpoint(parser)
    parser.add_argument("--json", action="store_true", help="print all numbers with all digits as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the metrics of the runs, and return the exit code, 0.

    Raises:
        ConfigError: the arguments are wrong, or a run or the data cannot be used.
    """
    names, words = parted(arguments.words)
    if not names:
        raise ConfigError("evaluate: needs a RUN: a run directory, or last")
    if arguments.split not in (None, "train", "val", "test", "all"):
        raise ConfigError(f"--split: must be one of train, val, test, all, got {arguments.split}")
    metrics = None if arguments.metrics is None else [each.strip() for each in arguments.metrics.split(",") if each]
    found = runs_named(names)
    with loading():
        from trainer.commands.evaluate.measure import measure
        from trainer.commands.opened_run import open_run

    models = [open_run(each, checkpoint=arguments.checkpoint, words=words) for each in found]
    measured = measure(models, arguments.split, metrics)
    if arguments.json:
        about = [{"path": str(each.run.path), "state": each.run.state, "step": each.step} for each in models]
        print_json({"runs": about, **measured.to_dict()})
    else:
        print_lines(_lines(models, measured))
    return 0


def _lines(models: Sequence[OpenedRun], measured: Measured) -> list[str]:
    from trainer.commands.opened_run import calibrated_line, notes

    lines = []
    for model in models:
        epoch = "" if model.epoch is None else f", epoch {model.epoch}"
        lines.append(f"run      {model.run.path}  (weights of step {model.step}{epoch})")
        lines += [f"warning  {line}" for line in notes(model)]
    own = "" if measured.own else "; other data than that of the run"
    lines.append(f"data     {measured.data.spec}; {measured.split} {len(measured.targets):,}{own}")
    lines += [f"warning  {line}" for line in measured.data.warnings]
    if measured.num_in_own_path:
        among = f"{measured.num_in_own_path:,} of {len(measured.targets):,} samples"
        advice = "put new samples into a folder or file of their own"
        lines.append(f"warning  {among} are in the run's own data path and may have been trained on; {advice}")
    if measured.num_left_out:
        limit = f"limit_batches={models[0].settings.limit_batches} of the run leaves out"
        lines.append(f"warning  {limit} {measured.num_left_out:,} samples; limit_batches=null evaluates all")
    lines += [f"warning  {line}" for line in measured.notes()]
    lines += [f"scores   {calibrated_line(model)}" for model in models if model.temperature is not None]
    if measured.thresholds:
        lines.append(f"labels   {_thresholds(models, measured)}")
    ensemble = f"{len(models)} runs as one: " if len(models) > 1 else ""
    values = [f"{name} {value:.4f}" for name, value in measured.values.items()]
    lines.append(f"{measured.split:<8} {ensemble}{'  '.join(values)}")
    lines += [] if measured.interval is None else [f"interval {measured.interval}"]
    lines += _compare_with_summary(models, measured)
    if measured.spec.task != "regression":
        lines += ["", *_classes(measured)]
    if measured.spec.task == "classification":
        lines += ["", *_confusion(measured)]
    return lines


def _thresholds(models: Sequence[OpenedRun], measured: Measured) -> str:
    from trainer.metrics import shown_thresholds

    shown = f"predicted above {shown_thresholds(measured.spec.classes, measured.thresholds)}"
    if not any(model.thresholds_chosen for model in models):
        none = any(model.settings.thresholds == "auto" for model in models)
        return shown + ": the run has chosen no thresholds on val" * none
    return f"{shown}: the {'highest f1 on val' if len(models) == 1 else 'mean of the thresholds of the runs'}"


def _compare_with_summary(models: Sequence[OpenedRun], measured: Measured) -> list[str]:
    """Return lines that compare the metrics of a single run with the test metrics in its summary.json."""
    from trainer.commands.evaluate.measure import differences

    found = differences(measured, models[0]) if len(models) == 1 else None
    if found is None:
        return []
    if not found:
        return ["equal    to the last digit with summary.json"]
    return [f"differs  {name}: {now!r}, but {before!r} in summary.json" for name, (before, now) in found.items()]


def _classes(measured: Measured) -> list[str]:
    """Return a table with the metrics of each class; of more than ``MAX_ROWS`` classes, those with the lowest F1."""
    rows, f1, more = measured.class_rows(), measured.by_class.f1.tolist(), list[str]()
    if len(rows) > MAX_ROWS:
        worst = sorted(range(len(rows)), key=lambda at: (math.isnan(f1[at]), f1[at]))[:MAX_ROWS]
        more = [f"… and {len(rows) - MAX_ROWS} more with a better f1"]
        rows = [rows[at] for at in worst]
    return [*fitted(measured.class_head, rows, [0], elastic={0: 12}), *more]


def _confusion(measured: Measured) -> list[str]:
    """Return the confusion matrix if it fits on a terminal, and the pairs of classes that are confused most often."""
    sums, names = measured.sums, measured.spec.classes
    lines: list[str] = []
    width = max(map(len, names))
    if len(names) <= MAX_ROWS and (len(names) + 1) * (max(width, 4) + 2) <= min(120, columns() or 120):
        rows: list[list[Any]] = [[name, *map(str, row)] for name, row in zip(names, sums.tolist(), strict=True)]
        lines = aligned(["is, taken for", *names], rows, [0])
    pairs = [f"{name} for {other} ({count}×)" for name, other, count in measured.confused(MAX_PAIRS)]
    total = f"mistaken {int(sums.sum() - sums.trace()):,} of {int(sums.sum()):,}"
    return [*lines, total + (f": {', '.join(pairs)}" if pairs else "")]
