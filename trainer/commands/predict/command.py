"""The command ``trainer predict``: what a run says of new files. No torch here."""

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

from trainer.commands._arguments import add_checkpoint, need_both, parted
from trainer.config import ConfigError
from trainer.config.errors import printable
from trainer.runs import atomic_files
from trainer.runs.read import run_named

if TYPE_CHECKING:
    from trainer.commands.opened_run import OpenedRun
    from trainer.commands.predict.samples import Sample
    from trainer.spec import Spec

SIMILAR = 8  # batches whose samples are sorted by length, so that little is computed for padding
# the keys that a line of JSON has
ANSWERS = [
    {"input", "error"},
    {"input", "values"},
    {"input", "prediction", "probabilities"},
    {"input", "prediction", "probability", "probabilities"},
]
FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}

EPILOG = """\
A RUN is a run directory, or last. A FILE is what the run was trained on: a picture, a sound, a text file, a table; a
folder of them; or - for standard input: for texts a text a line, for tables the table, for others a file name a line.
Of a text file each line is a text, or the whole file, as it was in training.
A WORD is as for train, about what may be otherwise now: device=cpu, precision=…, dataset.input=…, plugins=[…].
The columns are input, prediction, probability, p_<class> for each class, and error. Of labels the prediction is those
above 0.5; of values there is a column for each.
examples:
  trainer predict last photos/ -o predictions.csv
  trainer predict outputs/2026-11-25/04-46-47-cnn-digits a.png b.png --format jsonl
  echo "a charming and moving film" | trainer predict last -
exit code: 0 done, 1 some could not be read: they are rows with an error; 2 the command is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Say of new files what a run says, by its own preprocessing: classes and probabilities."
    parser.epilog = EPILOG
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run directory, or last")
    parser.add_argument("words", nargs="*", metavar="FILE|WORD", help="what to predict, and what is otherwise now")
    parser.add_argument("-o", "--output", metavar="FILE", help="write there, by its suffix CSV or JSON lines")
    parser.add_argument("--format", choices=["csv", "jsonl"], help="csv or jsonl (csv)")
    parser.add_argument("--batch-size", metavar="N", help="samples at a time (those of the run's evaluation)")
    add_checkpoint(parser)


def run(arguments: argparse.Namespace) -> int:
    """Predict, write, and return the exit code: 1 where something could not be read.

    Raises:
        ConfigError: a mistake in the words, or a run that cannot be used.
    """
    names, words = parted(arguments.words)
    need_both("predict", arguments.run, names)
    output = None if arguments.output is None else Path(arguments.output)
    kind = _format(arguments.format, output)
    size = _batch_size(arguments.batch_size)
    if output is not None:
        _check_output(output, kind, names)
    found = run_named(arguments.run)
    from trainer.commands.opened_run import notes, open_run

    trained = open_run(found, checkpoint=arguments.checkpoint, words=words)
    for line in notes(trained):
        print(f"trainer: warning: {printable(line)}", file=sys.stderr)
    size = size or trained.batch_size
    started = time.perf_counter()
    with _opened(output) as file:
        write = _writer(kind, file, trained.spec)
        good, bad = _predict(trained, names, size, write, shows_bar=output is not None)
    seconds = time.perf_counter() - started
    if output is not None:
        wrong = f"; {bad:,} could not be read" if bad else ""
        print(
            f"{output}: {good:,} predicted in {seconds:.1f} s, {good / seconds:,.0f} a second{wrong}", file=sys.stderr
        )
    elif bad:
        print(f"trainer: {bad:,} of {good + bad:,} could not be read", file=sys.stderr)
    return int(bad > 0)


def _format(typed: str | None, output: Path | None) -> str:
    by_name = None if output is None else FORMATS.get(output.suffix.lower())
    if output is not None and by_name is None and typed is None:
        raise ConfigError(f"--output: {output}: must end in {', '.join(FORMATS)}, or say --format")
    return typed or by_name or "csv"


def _batch_size(typed: str | None) -> int | None:
    if typed is None:
        return None
    if not typed.isdecimal() or not 0 < int(typed) < 2**31:
        raise ConfigError(f"--batch-size: must be a whole number of at least 1, got {typed}")
    return int(typed)


def _check_output(output: Path, kind: str, names: Sequence[str]) -> None:
    """See that nothing but what this command wrote is replaced, and none of the files that are to be read.

    Raises:
        ConfigError: it would be.
    """
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
    """Whether a file begins as one that this command has written."""
    if kind == "csv":
        head = next(csv.reader([first]), [])
        return len(head) > 2 and head[0] == "input" and head[-1] == "error"
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and set(row) in ANSWERS


@contextlib.contextmanager
def _opened(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
        return
    with output.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:  # names may be no UTF-8
        yield file


Row = Callable[["Sample", "Sequence[float] | None"], None]


def _predict(trained: OpenedRun, names: Sequence[str], size: int, write: Row, *, shows_bar: bool) -> tuple[int, int]:
    """How many could be read, and how many could not."""
    from tqdm.auto import tqdm

    from trainer.commands.predict import samples

    counts = [0, 0]
    found = samples.samples(trained, names, size)
    bar = tqdm(found, unit=" samples", disable=None if shows_bar else True, leave=False, file=sys.stderr)
    at_once = size * (SIMILAR if trained.spec.varying else 1)
    for some in samples.batches(bar, at_once):
        scores = samples.scores(trained, some, size)
        for sample, answer in zip(some, scores, strict=True):
            counts[answer is None] += 1
            write(sample, answer)
    return counts[0], counts[1]


def _writer(kind: str, file: IO[str], spec: Spec) -> Row:
    """What writes a row: of a sample, and its scores; None for a bad one."""
    if kind == "jsonl":

        def write_json(sample: Sample, scores: Sequence[float] | None) -> None:
            name = sample.name.encode("utf-8", "replace").decode()  # JSON has no bytes that are no letter
            file.write(json.dumps({"input": name, **_as_dict(sample, scores, spec)}, ensure_ascii=False) + "\n")

        return write_json
    rows = csv.writer(file, lineterminator="\n")
    regression = spec.task == "regression"
    answers = spec.classes if regression else ("prediction", "probability", *(f"p_{name}" for name in spec.classes))
    rows.writerow(["input", *answers, "error"])

    def write(sample: Sample, scores: Sequence[float] | None) -> None:
        if scores is None:
            rows.writerow([sample.name, *[""] * len(answers), sample.error])
            return
        if regression:  # all that a float32 has
            rows.writerow([sample.name, *(f"{value:.9g}" for value in scores), ""])
            return
        values = [f"{value:.6g}" for value in scores]
        named = _answer(scores, spec)
        rows.writerow([sample.name, ";".join(named), f"{max(scores):.6g}", *values, ""])

    return write


def _answer(scores: Sequence[float], spec: Spec) -> list[str]:
    """The class with the highest score, or the labels above 0.5."""
    if spec.task == "multilabel":
        return [name for name, score in zip(spec.classes, scores, strict=True) if score > 0.5]
    return [spec.classes[max(range(len(scores)), key=scores.__getitem__)]]


def _as_dict(sample: Sample, scores: Sequence[float] | None, spec: Spec) -> dict[str, Any]:
    if scores is None:
        return {"error": sample.error}
    digits = 9 if spec.task == "regression" else 6
    rounded = {name: float(f"{score:.{digits}g}") for name, score in zip(spec.classes, scores, strict=True)}
    if spec.task == "regression":
        return {"values": rounded}
    named = _answer(scores, spec)
    if spec.task == "multilabel":
        return {"prediction": named, "probabilities": rounded}
    return {"prediction": named[0], "probability": rounded[named[0]], "probabilities": rounded}
