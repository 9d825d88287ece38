"""The command ``trainer predict``, which writes a run's predictions for new files; its import loads no torch."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commands._arguments import add_checkpoint, describe, need_both, parted, whole_number
from trainer.commands.predict.output import (
    WriteAnswer,
    check_first_line,
    check_output,
    header_of,
    output_format,
    replacing,
    submission_of,
    writer,
)
from trainer.config import ConfigError
from trainer.config.errors import printable
from trainer.config.terminal import loading
from trainer.runs.read import run_named

if TYPE_CHECKING:
    from trainer.commands.opened_run import OpenedRun

SORTED_TOGETHER = 8  # number of batches whose samples are sorted by length together, so that there is little padding
EPILOG = """\
A RUN is a run directory, or last. A FILE holds what the run was trained on: a picture, a sound, texts, a table, arrays.
A folder stands for the files in it; - stands for standard input: a text on each line, a table, or a file name on each
line. Each line of a text file is a text, or the whole file is one, as in training.
A WORD is an override that still applies after training: device=cpu, precision=…, dataset.input=…, plugins=[…].
The columns are input, prediction, probability, p_<class> for each class, and error. For labels the prediction is all
labels above their thresholds, which the run has chosen on val (thresholds=0.5: above 0.5); for values each value has a
column, and with loss=quantile each quantile has one (price_q10, price for the median, price_q90). Of a table with a
column that names its rows (dataset.id), this column follows input.
A submission is what competitions want: the column that names the rows, and the class, 0 or 1 for each label, or the
values; with --probabilities, the probability of each class or label under its name. Where no table named the files in
training, the columns are id, the name of the file without its ending, and label.
examples:
  trainer predict last photos/ -o predictions.csv
  trainer predict outputs/2026-11-25/04-46-47-cnn-digits a.png b.png --format jsonl
  trainer predict last test.csv -o submission.csv --submission
  trainer predict last test/ -o submission.csv --submission --probabilities
  echo "a charming and moving film" | trainer predict last -
exit code: 0 done; 1 some samples could not be read, and are rows with an error; 2 the command is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    describe(parser, "Predict classes, labels or values for new files, with the run's own preprocessing.", EPILOG)
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run directory, or last")
    parser.add_argument("words", nargs="*", metavar="FILE|WORD", help="files to predict, and overrides")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to a file, as CSV or JSON lines by its suffix")
    parser.add_argument("--format", choices=["csv", "jsonl"], help="csv or jsonl, if the suffix does not say so (csv)")
    parser.add_argument(
        "--submission", action="store_true", help="write a CSV of the column that names the rows and the target alone"
    )
    parser.add_argument(
        "--probabilities", action="store_true", help="with --submission: a column for each class or label instead"
    )
    parser.add_argument("--batch-size", metavar="N", help="samples at a time (as many as in the run's evaluation)")
    add_checkpoint(parser)


def run(arguments: argparse.Namespace) -> int:
    """Predict, write the predictions, and return the exit code: 1 if a sample could not be read, else 0.

    Raises:
        ConfigError: an argument is wrong, or the run cannot be used.
    """
    names, words = parted(arguments.words)
    need_both("predict", arguments.run, names)
    output = None if arguments.output is None else Path(arguments.output)
    kind = output_format(arguments.format, output)
    if arguments.submission and kind != "csv":
        raise ConfigError(f"--submission: is written as CSV, got {kind}")
    if arguments.probabilities and not arguments.submission:
        raise ConfigError("--probabilities: goes with --submission; the usual output has the probabilities")
    size = whole_number("--batch-size", arguments.batch_size, 2**31 - 1)
    if output is not None:
        check_output(output, names, submission=arguments.submission)
    found = run_named(arguments.run)
    with loading():
        from trainer.commands.opened_run import notes, open_run

    trained = open_run(found, checkpoint=arguments.checkpoint, words=words)
    for line in notes(trained):
        print(f"trainer: warning: {printable(line)}", file=sys.stderr)
    submission = submission_of(trained, probabilities=arguments.probabilities) if arguments.submission else None
    if output is not None:
        check_first_line(output, kind, header_of(trained, submission))
    size = size or trained.batch_size
    started = time.perf_counter()
    with contextlib.nullcontext(sys.stdout) if output is None else replacing(output) as file:
        write = writer(kind, file, trained, submission)
        good, bad = _predict(trained, names, size, write, shows_bar=output is not None)
    seconds = time.perf_counter() - started
    if output is not None:
        wrong = f"; {bad:,} could not be read" if bad else ""
        line = f"{output}: {good:,} predicted in {seconds:.1f} s, {good / seconds:,.0f} a second{wrong}"
        print(printable(line), file=sys.stderr)
    elif bad:
        print(f"trainer: {bad:,} of {good + bad:,} could not be read", file=sys.stderr)
    return int(bad > 0)


def _predict(
    trained: OpenedRun, names: Sequence[str], size: int, write: WriteAnswer, *, shows_bar: bool
) -> tuple[int, int]:
    """Write the prediction of every sample; return how many samples could be read, and how many could not."""
    from trainer.commands.predict import samples
    from trainer.config.progress_bar import ProgressBar

    counts = [0, 0]
    found = samples.samples(trained, names, size)
    at_once = size * (SORTED_TOGETHER if trained.spec.varying else 1)
    with ProgressBar(found, unit=" samples", disable=None if shows_bar else True, leave=False, file=sys.stderr) as bar:
        for some in samples.batches(bar, at_once):
            scores = samples.scores(trained, some, size)
            for sample, answer in zip(some, scores, strict=True):
                counts[answer is None] += 1
                write(sample, answer)
    return counts[0], counts[1]
