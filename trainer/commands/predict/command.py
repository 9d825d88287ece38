"""The command ``trainer predict``, which writes a run's predictions for new files; its import loads no torch."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from trainer.commands._arguments import add_checkpoint, describe, need_both, parted, whole_number
from trainer.commands.text_table import as_json
from trainer.config import ConfigError
from trainer.config.errors import printable
from trainer.config.terminal import loading
from trainer.runs import atomic_files
from trainer.runs.read import run_named

if TYPE_CHECKING:
    from trainer.commands.opened_run import OpenedRun
    from trainer.commands.predict.samples import InputSample
    from trainer.spec import Spec

SORTED_TOGETHER = 8  # number of batches whose samples are sorted by length together, so that there is little padding
# The possible sets of keys of a JSON line that this command writes.
ANSWER_KEYS = [
    {"input", "error"},
    {"input", "values"},
    {"input", "prediction", "probabilities"},
    {"input", "prediction", "probability", "probabilities"},
]
FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}

EPILOG = """\
A RUN is a run directory, or last. A FILE holds what the run was trained on: a picture, a sound, texts, a table, arrays.
A folder stands for the files in it; - stands for standard input: a text on each line, a table, or a file name on each
line. Each line of a text file is a text, or the whole file is one, as in training.
A WORD is an override that still applies after training: device=cpu, precision=…, dataset.input=…, plugins=[…].
The columns are input, prediction, probability, p_<class> for each class, and error. For labels the prediction is all
labels above their thresholds, which the run has chosen on val (thresholds=0.5: above 0.5); for values each value has a
column.
examples:
  trainer predict last photos/ -o predictions.csv
  trainer predict outputs/2026-11-25/04-46-47-cnn-digits a.png b.png --format jsonl
  echo "a charming and moving film" | trainer predict last -
exit code: 0 done; 1 some samples could not be read, and are rows with an error; 2 the command is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    describe(parser, "Predict classes, labels or values for new files, with the run's own preprocessing.", EPILOG)
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run directory, or last")
    parser.add_argument("words", nargs="*", metavar="FILE|WORD", help="files to predict, and overrides")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to a file, as CSV or JSON lines by its suffix")
    parser.add_argument("--format", choices=["csv", "jsonl"], help="csv or jsonl, if the suffix does not say so (csv)")
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
    kind = _format(arguments.format, output)
    size = whole_number("--batch-size", arguments.batch_size, 2**31 - 1)
    if output is not None:
        _check_output(output, kind, names)
    found = run_named(arguments.run)
    with loading():
        from trainer.commands.opened_run import notes, open_run

    trained = open_run(found, checkpoint=arguments.checkpoint, words=words)
    for line in notes(trained):
        print(f"trainer: warning: {printable(line)}", file=sys.stderr)
    size = size or trained.batch_size
    started = time.perf_counter()
    with contextlib.nullcontext(sys.stdout) if output is None else _replacing(output) as file:
        write = _writer(kind, file, trained)
        good, bad = _predict(trained, names, size, write, shows_bar=output is not None)
    seconds = time.perf_counter() - started
    if output is not None:
        wrong = f"; {bad:,} could not be read" if bad else ""
        line = f"{output}: {good:,} predicted in {seconds:.1f} s, {good / seconds:,.0f} a second{wrong}"
        print(printable(line), file=sys.stderr)
    elif bad:
        print(f"trainer: {bad:,} of {good + bad:,} could not be read", file=sys.stderr)
    return int(bad > 0)


@contextlib.contextmanager
def _replacing(output: Path) -> Iterator[IO[str]]:
    """Open the output for writing; the file gets its name when it is complete, and is deleted after any error."""
    with (
        atomic_files.replacing(output) as temporary,
        # the name of an input file, which is part of the output, need not be valid UTF-8
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        yield file


def _format(typed: str | None, output: Path | None) -> str:
    by_name = None if output is None else FORMATS.get(output.suffix.lower())
    if output is not None and by_name is None and typed is None:
        raise ConfigError(f"--output: {output}: must end in {', '.join(FORMATS)}, or say --format")
    return typed or by_name or "csv"


def _check_output(output: Path, kind: str, names: Sequence[str]) -> None:
    """Raise ConfigError if the output cannot be written, or would replace an input or a file of another origin."""
    atomic_files.check_ours("--output", output, "input", within=9, what="no output")
    if not output.is_file():
        return
    given = [Path(name) for name in names if name != "-"]
    if any(
        each.exists() and (each.samefile(output) or output.resolve().is_relative_to(each.resolve())) for each in given
    ):
        raise ConfigError(f"--output: {output}: is among what is to be read; name another file")
    with output.open(encoding="utf-8", errors="replace") as file:
        first = file.readline()
    if not _is_ours(first, kind):
        raise ConfigError(f"--output: {output}: is there already, and no output of this command; name another file")


def _is_ours(first: str, kind: str) -> bool:
    """Return whether the first line of a file shows that this command wrote the file."""
    if kind == "csv":
        head = next(csv.reader([first]), [])
        return len(head) > 2 and head[0] == "input" and head[-1] == "error"
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and set(row) in ANSWER_KEYS


WriteAnswer = Callable[["InputSample", "Sequence[float] | None"], None]


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


def _writer(kind: str, file: IO[str], trained: OpenedRun) -> WriteAnswer:
    """Return a function that writes one sample with its scores, which are None for a bad sample."""
    if kind == "jsonl":

        def write_json(sample: InputSample, scores: Sequence[float] | None) -> None:
            file.write(as_json({"input": sample.name, **_as_dict(sample, scores, trained)}) + "\n")

        return write_json
    rows, spec = csv.writer(file, lineterminator="\n"), trained.spec
    shown: Callable[[str], str] = printable if file.isatty() else str  # names may contain control characters
    regression = spec.task == "regression"
    answers = spec.classes if regression else ("prediction", "probability", *(f"p_{name}" for name in spec.classes))
    rows.writerow([*map(shown, ("input", *answers, "error"))])

    def write(sample: InputSample, scores: Sequence[float] | None) -> None:
        if scores is None:
            cells = [""] * len(answers)
        else:
            said = [] if regression else [";".join(trained.predicted(scores)), f"{max(scores):.6g}"]
            cells = [*said, *_rounded(scores, spec)]
        rows.writerow([*map(shown, (sample.name, *cells, sample.error))])

    return write


def _rounded(scores: Sequence[float], spec: Spec) -> list[str]:
    if spec.task != "regression":
        return [f"{score:.6g}" for score in scores]
    return [spec.value_text(at, value, 9) for at, value in enumerate(scores)]  # nine digits identify a float32


def _as_dict(sample: InputSample, scores: Sequence[float] | None, trained: OpenedRun) -> dict[str, Any]:
    if scores is None:
        return {"error": sample.error}
    spec = trained.spec
    rounded = {name: float(text) for name, text in zip(spec.classes, _rounded(scores, spec), strict=True)}
    if spec.task == "regression":
        return {"values": rounded}
    named = trained.predicted(scores)
    if spec.task == "multilabel":
        return {"prediction": named, "probabilities": rounded}
    return {"prediction": named[0], "probability": rounded[named[0]], "probabilities": rounded}
