"""The command ``trainer explain``: show which parts of each file led to a run's prediction, or what columns do.

This module does not import torch.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from trainer.commands._arguments import add_checkpoint, describe, need_both, parted, whole_number
from trainer.commands.explain.columns_command import explain_columns
from trainer.commands.pages.render import mark, render
from trainer.commands.text_table import as_json
from trainer.config import ConfigError
from trainer.config.errors import printable
from trainer.config.messages import did_you_mean
from trainer.config.terminal import loading
from trainer.runs import atomic_files
from trainer.runs.read import run_named

if TYPE_CHECKING:
    from trainer.commands.explain.attribution import Attribution
    from trainer.commands.opened_run import OpenedRun
    from trainer.commands.predict.samples import InputSample

PAGE = "explain.html"
MAX_SAMPLES = 200  # maximum number of samples on the page
MAX_PARTS = 5  # maximum number of parts named in a sample's line of output
MAX_STEPS = 10_000
AT_ONCE = 64  # maximum number of samples in memory

EPILOG = """\
A RUN is a run directory, or last. A FILE is what trainer predict reads: a picture, a sound, a text file, a table; a
folder of them; or - for standard input. A WORD is an override that still applies after training, such as device=cpu or
plugins=[…].
The attributions are integrated gradients (Sundararajan et al. 2017), computed by Captum: how much each pixel, band,
token, step or column adds to the log odds of the class on the way from a baseline to the sample. The baseline is a
sample of zeros, which is the mean of the training data where the data are normalised, or a text of padding. The
attributions add up to the difference between the log odds of the sample and of the baseline.
With --json each sample is a line: {"input", "target", "prediction", "probability", "output", "baseline", "delta",
"names", "attributions"}, and a page is written only if -o names it.
With --columns the columns of a table are explained on a split of the data: the permutation importance of each, which
is how much worse a metric is with the cells of the column exchanged at random among the samples, and its effect, the
mean answer if all samples had the same cell (partial dependence). --target chooses the class that the effects show.
examples:
  trainer explain last photos/ -o why.html
  trainer explain last cat.png --target dog
  echo "a charming and moving film" | trainer explain last -
  trainer explain last --columns
  trainer explain last --columns age,fare --split val --metric loss
exit code: 0 done, 1 some samples could not be read and are lines with an error, 2 the command is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    describe(parser, "Explain a run's answers for files: a page, and for texts and tables also lines.", EPILOG)
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run directory, or last")
    parser.add_argument("words", nargs="*", metavar="FILE|WORD", help="the files to explain, and overrides")
    parser.add_argument("-o", "--output", metavar="FILE", help=f"the page ({PAGE}), of at most {MAX_SAMPLES} samples")
    add_checkpoint(parser)
    parser.add_argument(
        "--target", metavar="CLASS", help="the class, label or value to explain (that with the highest score)"
    )
    parser.add_argument("--steps", metavar="N", help="steps of the integral (64, or as many as it needs, up to 1024)")
    parser.add_argument(
        "--columns",
        nargs="?",
        const="",
        metavar="NAME,NAME",
        help="explain the columns of a table, or these, not files",
    )
    parser.add_argument("--split", help="with --columns: train, val, test or all (test, or all of other data)")
    parser.add_argument("--metric", metavar="NAME", help="with --columns: what gets worse (the monitor, or loss, …)")
    parser.add_argument("--json", action="store_true", help="print all numbers, one line for each sample")


def run(arguments: argparse.Namespace) -> int:
    """Explain samples, print a line for each, write the page, and return the exit code: 1 if a sample cannot be read.

    With ``--columns``, explain the columns of a split instead.

    Raises:
        ConfigError: the arguments are wrong, the run cannot be used, or Captum is missing.
    """
    names, words = parted(arguments.words)
    _check_words(arguments, names)
    steps = whole_number("--steps", arguments.steps, MAX_STEPS, f"from 1 to {MAX_STEPS:,}")
    page = None if arguments.json and arguments.output is None else Path(arguments.output or PAGE)
    if page is not None:
        atomic_files.check_ours("--output", page, mark("explain"), within=500, what="no page")
    opened = run_named(arguments.run)
    with loading():
        from trainer.commands.explain.attribution import need_captum
        from trainer.commands.opened_run import notes, open_run

    if arguments.columns is None:
        need_captum()
    trained = open_run(opened, checkpoint=arguments.checkpoint, words=words)
    for line in notes(trained):
        print(f"trainer: warning: {printable(line)}", file=sys.stderr)
    target = _find_target(trained, arguments.target)
    if arguments.columns is not None:
        explain_columns(trained, arguments, target, page)
        return 0
    cards, good, bad = list[dict[str, Any]](), 0, 0
    as_text = _as_json if arguments.json else _as_line
    for sample, attribution, figure in _explain(trained, names, target, steps, draws=page is not None):
        good, bad = good + (attribution is not None), bad + (attribution is None)
        print(as_text(trained, sample, attribution), flush=True)
        if page is not None and len(cards) < MAX_SAMPLES:
            answer = "" if attribution is None else _answer(trained, attribution)
            cards.append({"name": sample.name, "error": sample.error, "answer": answer, "figure": figure})
    if page is not None and good:
        html = _make_page(trained, cards, good + bad)
        atomic_files.write_text(page, html)
        more = f", the first {MAX_SAMPLES} samples on it" if good + bad > MAX_SAMPLES else ""
        print(printable(f"{page}: {good:,} explained{more}"), file=sys.stderr)
    if bad:
        print(f"trainer: {bad:,} of {good + bad:,} could not be read", file=sys.stderr)
    return int(bad > 0)


def _check_words(arguments: argparse.Namespace, names: Sequence[str]) -> None:
    """Raise ConfigError if words are missing on the command line, or exclude each other."""
    typed = arguments.columns
    if typed is None:
        for option in ("split", "metric"):
            if getattr(arguments, option) is not None:
                raise ConfigError(f"--{option}: is for columns; leave it out, or write --columns in place of the files")
        need_both("explain", arguments.run, names)
    elif arguments.run is None:
        again = f"{typed} --columns" if typed == "last" or Path(typed).is_dir() else f"last --columns {typed}"
        raise ConfigError(f"explain: needs a RUN before --columns, as in trainer explain {again.strip()}")
    elif names:
        if typed and not any(Path(name).exists() for name in names):
            raise ConfigError(
                f"--columns: names are separated by commas: --columns {shlex.quote(','.join([typed, *names]))}"
            )
        raise ConfigError(
            f"--columns: explains the columns of the data and no files; leave out {shlex.join(names)}, or --columns"
        )
    elif arguments.steps is not None:
        raise ConfigError("--steps: is for files; leave it out with --columns")
    elif arguments.split not in (None, "train", "val", "test", "all"):
        raise ConfigError(f"--split: must be one of train, val, test, all, got {arguments.split}")


def _find_target(trained: OpenedRun, typed: str | None) -> int | None:
    classes = trained.spec.classes
    if typed is None or typed in classes:
        return None if typed is None else classes.index(typed)
    noun = {"classification": "class", "multilabel": "label", "regression": "value"}[trained.spec.task]
    near = did_you_mean(typed, classes) or ";"
    known = ", ".join(classes[:20]) + (f" and {len(classes) - 20:,} more" if len(classes) > 20 else "")
    raise ConfigError(f"--target: {typed}: no such {noun}{near} the run has {known}")


def _explain(
    trained: OpenedRun, names: Sequence[str], target: int | None, steps: int | None, *, draws: bool
) -> Iterator[tuple[InputSample, Attribution | None, Markup | str]]:
    """Yield every sample of the files, in order, with its attributions (None for a bad sample) and their figure.

    Args:
        target: the index of the class, label or value to explain; None for the one with the highest score.
        steps: the number of steps of the integral; None for as many as needed.
        draws: whether to draw figures for the first ``MAX_SAMPLES`` samples; the figures of all others are empty.
    """
    import torch

    from trainer.commands.explain import heatmaps
    from trainer.commands.explain.attribution import attribute
    from trainer.commands.predict import samples
    from trainer.config.progress_bar import ProgressBar

    size, count = min(AT_ONCE, trained.batch_size), 0
    bar = ProgressBar(
        samples.samples(trained, names, size), unit=" samples", disable=None, leave=False, file=sys.stderr
    )
    with bar:
        for some in samples.batches(bar, size):
            good = [sample for sample in some if sample.inputs is not None]
            attributions, figures = list["Attribution"](), [""] * len(good)
            if good:
                inputs = samples.batch_of(trained, good)
                targets = None if target is None else torch.full((len(good),), target)
                attributions = attribute(trained, inputs, targets, steps)
                if draws and count < MAX_SAMPLES:
                    figures = [
                        *heatmaps.draw_attributions(trained, inputs, attributions, [each.shown for each in good])
                    ]
            explained = iter(zip(attributions, figures, strict=True))
            for sample in some:
                yield sample, *((None, "") if sample.inputs is None else next(explained))
            count += len(some)


def _answer(trained: OpenedRun, attribution: Attribution) -> str:
    """Return the prediction of the run, and the explained class or label if it may be a different one."""
    classes, scores, target = trained.spec.classes, attribution.scores.tolist(), attribution.target
    if trained.spec.task == "regression":
        return f"{classes[target]} {trained.spec.value_text(target, scores[target])}"
    said = attribution.predicted
    if trained.spec.task == "multilabel":
        by_name = dict(zip(classes, scores, strict=True))
        answer = ", ".join(f"{name} {by_name[name]:.2f}" for name in trained.predicted(scores)) or "no label"
    else:
        answer = f"{classes[said]} {scores[said]:.2f}"
    other = trained.spec.task == "multilabel" or said != target
    return answer + (f"; explained: {classes[target]} {scores[target]:.2f}" if other else "")


def _as_line(trained: OpenedRun, sample: InputSample, attribution: Attribution | None) -> str:
    """Return the name of a sample, the prediction, and the tokens, columns or steps with the largest attributions."""
    from trainer.commands.explain.attribution import name_parts

    if attribution is None:
        return printable(f"{sample.name}: error: {sample.error}")
    found = sorted(name_parts(trained, attribution, sample.shown), key=lambda part: -abs(part[1]))[:MAX_PARTS]
    strongest = "  ".join(f"{'-' if value < 0 else '+'}{name} {abs(value):.2g}" for name, value in found)
    return printable(f"{sample.name}: {_answer(trained, attribution)}{'  ' * bool(found)}{strongest}")


def _as_json(trained: OpenedRun, sample: InputSample, attribution: Attribution | None) -> str:
    from trainer.commands.explain.attribution import name_parts, name_quantity

    if attribution is None:
        return as_json({"input": sample.name, "error": sample.error})
    classes, predicted = trained.spec.classes, attribution.predicted
    scores = dict(zip(classes, attribution.scores.tolist(), strict=True))
    answer: dict[str, Any] = {"values": scores}
    if trained.spec.task != "regression":
        answer = {"prediction": classes[predicted], "probability": float(attribution.scores[predicted])}
    names = [name for name, _ in name_parts(trained, attribution, sample.shown)]
    row = {
        "input": sample.name,
        "target": classes[attribution.target],
        **answer,
        "explained": name_quantity(trained),
        "output": attribution.output,
        "baseline": attribution.baseline,
        "delta": attribution.delta,
        **({"names": names} if names else {}),
        "attributions": attribution.values.tolist(),
    }
    return as_json(row)


# ---- the page


def _make_page(trained: OpenedRun, cards: Sequence[dict[str, Any]], num_samples: int) -> str:
    """Return the page as HTML; ``cards`` may be fewer than ``num_samples``, as the page shows a limited number."""
    from trainer.commands.explain.attribution import name_quantity

    units = {"image": "pixel", "spectrogram": "band of each frame", "tokens": "token", "table": "column"}
    quantities = {
        "log odds": "the log odds of the class, log p / (1 − p)",
        "value": "the value",
        "score": "the score of the class",
    }
    baseline = "zeros" if trained.normalise is None else "the mean of the training data"
    return render(
        "explain.html",
        command="explain",
        title=f"What counted: {trained.settings.model['name']} on {trained.spec.dataset}",
        run=trained.run.path,
        step=trained.step,
        epoch=trained.epoch,
        is_wide=trained.spec.kind in ("tokens", "sequence"),
        has_vocabulary="vocabulary" in trained.preprocessing,
        unit=units.get(trained.spec.kind, "column of each step" if trained.features is None else "step"),
        quantity=quantities[name_quantity(trained)],
        baseline="a text of padding" if trained.spec.kind == "tokens" else baseline,
        num_samples=num_samples,
        cards=cards,
    )
