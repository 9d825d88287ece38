"""The command ``trainer evaluate``: measures runs that have trained. No torch here."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.commands.text_table import aligned
from trainer.config import ConfigError
from trainer.config.errors import printable
from trainer.runs.read import for_json, runs_named

if TYPE_CHECKING:
    from trainer.commands.evaluate.measure import Measured
    from trainer.commands.opened_run import OpenedRun
from trainer.commands._arguments import add_checkpoint, parted

MAX_ROWS = 20  # classes of a table on a terminal; of more, the worst
MAX_PAIRS = 5  # classes that were taken for each other

EPILOG = """\
A RUN is a run directory, a folder of runs such as a sweep's, or last. Several runs answer as one, with the mean of
their probabilities. A WORD is as for train, about what may be otherwise now: dataset.path=… (the data have moved, or
are others), dataset=…, device=cpu, batch_size=…, limit_batches=…, precision=…, plugins=[…].
examples:
  trainer evaluate last
  trainer evaluate last --split val --metrics accuracy,top3,auroc,ece
  trainer evaluate outputs/sweeps/2026-11-25/12-41-24-992028
exit code: 0 done, 1 it failed, 2 the command is wrong, or the run or its data cannot be used."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Measure a run on any split of its data, or on others, by its own preprocessing."
    parser.epilog = EPILOG
    parser.add_argument("words", nargs="*", metavar="RUN|WORD", help="one or more runs, and what is otherwise now")
    parser.add_argument("--split", help="train, val, test or all (test; of other data all)")
    parser.add_argument("--metrics", metavar="NAME,NAME", help="these alone; topK, auroc and ece too")
    add_checkpoint(parser)
    parser.add_argument("--json", action="store_true", help="print all numbers in full, for a program")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, and return the exit code, 0.

    Raises:
        ConfigError: a mistake in the words, a run or data that cannot be used.
    """
    names, words = parted(arguments.words)
    if not names:
        raise ConfigError("evaluate: needs a RUN: a run directory, or last")
    if arguments.split not in (None, "train", "val", "test", "all"):
        raise ConfigError(f"--split: must be one of train, val, test, all, got {arguments.split}")
    metrics = None if arguments.metrics is None else [each.strip() for each in arguments.metrics.split(",") if each]
    found = runs_named(names)
    from trainer.commands.evaluate.measure import measure
    from trainer.commands.opened_run import open_run

    models = [open_run(each, checkpoint=arguments.checkpoint, words=words) for each in found]
    measured = measure(models, arguments.split, metrics)
    if arguments.json:
        about = [{"path": str(each.run.path), "state": each.run.state, "step": each.step} for each in models]
        print(json.dumps(for_json({"runs": about, **measured.to_dict()}), ensure_ascii=False, indent=2))
    else:
        print("\n".join(map(printable, _lines(models, measured))))
    return 0


def _lines(models: Sequence[OpenedRun], measured: Measured) -> list[str]:
    from trainer.commands.opened_run import notes

    lines = []
    for model in models:
        epoch = "" if model.epoch is None else f", epoch {model.epoch}"
        lines.append(f"run      {model.run.path}  (weights of step {model.step}{epoch})")
        lines += [f"warning  {line}" for line in notes(model)]
    own = "" if measured.own else "; not the samples of the run"
    lines.append(f"data     {measured.data.spec}; {measured.split} {len(measured.targets):,}{own}")
    lines += [f"warning  {line}" for line in measured.data.warnings]
    if measured.num_left_out:
        limit = f"limit_batches={models[0].settings.limit_batches} of the run leaves out"
        lines.append(f"warning  {limit} {measured.num_left_out:,} samples; limit_batches=null takes all")
    as_one = f"{len(models)} runs as one: " if len(models) > 1 else ""
    values = [f"{name} {value:.4f}" for name, value in measured.values.items()]
    lines.append(f"{measured.split:<8} {as_one}{'  '.join(values)}")
    lines += _compared(models, measured)
    if measured.spec.task != "regression":
        lines += ["", *_classes(measured)]
    if measured.spec.task == "classification":
        lines += ["", *_confusion(measured)]
    return lines


def _compared(models: Sequence[OpenedRun], measured: Measured) -> list[str]:
    """Whether the numbers are those of the run's own test."""
    from trainer.commands.evaluate.measure import differences

    found = differences(measured, models[0]) if len(models) == 1 else None
    if found is None:
        return []
    if not found:
        return ["equal    to the last digit with summary.json"]
    return [f"differs  {name}: {here!r}, but {there!r} in summary.json" for name, (there, here) in found.items()]


def _classes(measured: Measured) -> list[str]:
    """A row for each class; of many, those with the least F1."""
    found, names = measured.of_classes(), measured.spec.classes
    order = list(range(len(names)))
    if len(order) > MAX_ROWS:
        order = sorted(order, key=lambda at: _last_if_nan(float(found.f1[at])))[:MAX_ROWS]
    rows = [
        [names[at], *(_number(float(each[at])) for each in found[:4]), f"{int(found.samples[at]):,}"] for at in order
    ]
    noun = "class" if measured.spec.task == "classification" else "label"
    more = [f"… and {len(names) - MAX_ROWS} more, with a better f1"] if len(names) > MAX_ROWS else []
    return [*aligned([noun, "precision", "recall", "f1", "auroc", "samples"], rows, [0]), *more]


def _confusion(measured: Measured) -> list[str]:
    """The matrix where it fits a terminal, and which classes were most often taken for which."""
    sums, names = measured.sums, measured.spec.classes
    lines: list[str] = []
    width = max(map(len, names))
    if len(names) <= MAX_ROWS and (len(names) + 1) * (max(width, 4) + 2) <= 120:
        rows: list[list[Any]] = [[name, *map(str, row)] for name, row in zip(names, sums.tolist(), strict=True)]
        lines = aligned(["is, taken for", *names], rows, [0])
    wrong = sums.clone().fill_diagonal_(0).flatten()
    pairs = []
    for at in wrong.argsort(descending=True, stable=True)[:MAX_PAIRS].tolist():
        if wrong[at] > 0:
            pairs.append(f"{names[at // len(names)]} for {names[at % len(names)]} ({int(wrong[at])}×)")
    return [
        *lines,
        f"mistaken {int(wrong.sum()):,} of {int(sums.sum()):,}" + (f": {', '.join(pairs)}" if pairs else ""),
    ]


def _number(value: float) -> str:
    return "" if value != value else f"{value:.4f}"


def _last_if_nan(value: float) -> float:
    return 2.0 if value != value else value
