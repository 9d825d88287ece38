"""Write predictions as CSV or JSON lines, and refuse to replace a file of another origin."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from trainer.commands.text_table import as_json
from trainer.config import ConfigError
from trainer.config.errors import printable
from trainer.runs import atomic_files

if TYPE_CHECKING:
    from trainer.commands.opened_run import OpenedRun
    from trainer.commands.predict.samples import InputSample

# The possible sets of keys of a JSON line that this command writes, besides the id.
ANSWER_KEYS = [
    {"input", "error"},
    {"input", "values"},
    {"input", "prediction", "probabilities"},
    {"input", "prediction", "probability", "probabilities"},
]
FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
# The columns of a submission of files that no table names; an identifier is the name of a file without its ending.
FILES_ID, FILES_ANSWER = "id", "label"

WriteAnswer = Callable[["InputSample", "Sequence[float] | None"], None]


@contextlib.contextmanager
def replacing(output: Path) -> Iterator[IO[str]]:
    """Open the output for writing; the file gets its name when it is complete, and is deleted after any error."""
    with (
        atomic_files.replacing(output) as temporary,
        # the name of an input file, which is part of the output, need not be valid UTF-8
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        yield file


def output_format(typed: str | None, output: Path | None) -> str:
    by_name = None if output is None else FORMATS.get(output.suffix.lower())
    if output is not None and by_name is None and typed is None:
        raise ConfigError(f"--output: {output}: must end in {', '.join(FORMATS)}, or say --format")
    return typed or by_name or "csv"


def check_output(output: Path, names: Sequence[str], *, submission: bool) -> None:
    """Raise ConfigError if the output cannot be written, or would replace an input or a file of another origin."""
    mark = "" if submission else "input"  # ``check_first_line`` knows the header of a submission
    atomic_files.check_ours("--output", output, mark, within=9, what="no output")
    if not output.is_file():
        return
    given = [Path(name) for name in names if name != "-"]
    if any(
        each.exists() and (each.samefile(output) or output.resolve().is_relative_to(each.resolve())) for each in given
    ):
        raise ConfigError(f"--output: {output}: is among what is to be read; name another file")


def check_first_line(output: Path, kind: str, head: Sequence[str]) -> None:
    """Raise ConfigError if the output is there, and its first line does not show that this command wrote it."""
    if not output.is_file():
        return
    with output.open(encoding="utf-8", errors="replace") as file:
        first = file.readline()
    if not _is_ours(first, kind, head):
        raise ConfigError(f"--output: {output}: is there already, and no output of this command; name another file")


def _is_ours(first: str, kind: str, head: Sequence[str]) -> bool:
    if kind == "csv":
        found = next(csv.reader([first]), [])
        return found == [*head] or (len(found) > 2 and found[0] == "input" and found[-1] == "error")
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and {*row} - {"id"} in ANSWER_KEYS


class Submission(NamedTuple):
    """What a submission holds.

    Args:
        id: the name of the column of identifiers.
        answers: the names of the other columns.
        probabilities: whether the answers are the probabilities of the classes or labels.
        of_files: whether an identifier is the name of a file, which only one file may have.
    """

    id: str
    answers: Sequence[str]
    probabilities: bool
    of_files: bool


def submission_of(trained: OpenedRun, *, probabilities: bool) -> Submission:
    """Return what a submission of a run holds: the class, 0 and 1 for each label, the values, or the probabilities.

    Raises:
        ConfigError: the run knows no column that names the rows, or it has no probabilities.
    """
    from trainer.commands.predict.samples import reads_whole_files

    spec, identifier = trained.spec, trained.identifier
    if probabilities and spec.task == "regression":
        raise ConfigError("--probabilities: the run predicts values, which have no probabilities")
    of_files = identifier is None and reads_whole_files(trained)
    if identifier is None and not of_files:
        advice = "train with dataset.id=NAME"
        if "id" not in trained.settings.dataset:
            advice = (
                f"without --submission, the column input says which sample of dataset={spec.dataset} a row is about"
            )
        raise ConfigError(f"--submission: the run knows no column that names the rows; {advice}")
    target = trained.preprocessing.get("target") or [FILES_ANSWER if of_files else "prediction"]
    answers = target if spec.task == "classification" and not probabilities else spec.classes
    return Submission(identifier or FILES_ID, answers, probabilities, of_files)


def header_of(trained: OpenedRun, submission: Submission | None) -> list[str]:
    """Return the names of the columns that ``writer`` writes."""
    if submission is not None:
        return [submission.id, *submission.answers]
    spec, identifier = trained.spec, trained.identifier
    answers = ("prediction", "probability", *(f"p_{name}" for name in spec.classes))
    names = [] if identifier is None else [identifier]
    return ["input", *names, *(_value_names(trained) if spec.task == "regression" else answers), "error"]


def _value_names(trained: OpenedRun) -> Sequence[str]:
    """Return the names of the numbers that a run with values answers with: its values, or all their quantiles."""
    from trainer.loss._quantiles import QuantileLoss, column_names

    loss = trained.loss
    return column_names(trained.spec, loss.of_levels) if isinstance(loss, QuantileLoss) else trained.spec.classes


def writer(kind: str, file: IO[str], trained: OpenedRun, submission: Submission | None) -> WriteAnswer:
    """Return a function that writes one sample with its scores, which are None for a bad sample.

    Args:
        kind: csv or jsonl.
        file: the output.
        trained: the run.
        submission: what to write instead of all that is known; None for all.
    """
    if kind == "jsonl":

        def write_json(sample: InputSample, scores: Sequence[float] | None) -> None:
            named = {} if trained.identifier is None else {"id": sample.id}
            file.write(as_json({"input": sample.name, **named, **_as_dict(sample, scores, trained)}) + "\n")

        return write_json
    rows = csv.writer(file, lineterminator="\n")
    shown: Callable[[str], str] = printable if file.isatty() else str  # names may contain control characters

    def write_row(cells: Iterable[str]) -> None:
        rows.writerow([*map(shown, cells)])

    if submission is not None:
        return _submission_writer(write_row, trained, submission)
    head, spec = header_of(trained, None), trained.spec
    write_row(head)

    def write(sample: InputSample, scores: Sequence[float] | None) -> None:
        names = [sample.name] if trained.identifier is None else [sample.name, sample.id]
        if scores is None:
            cells = [""] * (len(head) - len(names) - 1)
        else:
            cells = _rounded(scores, trained)
            if spec.task != "regression":
                cells = [";".join(trained.predicted(scores)), f"{max(scores):.6g}", *cells]
        write_row([*names, *cells, sample.error])

    return write


def _submission_writer(
    write_row: Callable[[Iterable[str]], None], trained: OpenedRun, submission: Submission
) -> WriteAnswer:
    """Return a function that writes the identifier and the answer of a sample, and the header before the first one."""
    seen: dict[str, str] = {}  # the file of each identifier
    pending = [header_of(trained, submission)]

    def write(sample: InputSample, scores: Sequence[float] | None) -> None:
        if not sample.id:
            reason = sample.error or f"has no {submission.id}, which names the rows of a submission"
            raise ConfigError(f"--submission: {sample.name}: {reason}")
        if submission.of_files and (other := seen.setdefault(sample.id, sample.name)) != sample.name:
            raise ConfigError(f"--submission: {sample.name}: {other} has the identifier {sample.id} too")
        if pending:
            write_row(pending.pop())
        if scores is None:
            print(printable(f"trainer: {sample.name}: {sample.error}"), file=sys.stderr)
            write_row([sample.id, *("" for _ in submission.answers)])
        elif submission.probabilities:
            write_row([sample.id, *_rounded(scores, trained)])
        else:
            write_row([sample.id, *_answers(scores, trained)])

    return write


def _answers(scores: Sequence[float], trained: OpenedRun) -> list[str]:
    """Return the cells of a submission: the class, 0 or 1 for each label, or the values, of quantiles the median."""
    spec = trained.spec
    if spec.task == "regression":
        named_values = dict(zip(_value_names(trained), _rounded(scores, trained), strict=True))
        return [named_values[name] for name in spec.classes]
    named = trained.predicted(scores)
    return named if spec.task == "classification" else [str(int(name in named)) for name in spec.classes]


def _rounded(scores: Sequence[float], trained: OpenedRun) -> list[str]:
    spec = trained.spec
    if spec.task != "regression":
        return [f"{score:.6g}" for score in scores]
    of_each = len(scores) // len(spec.classes)  # quantiles of a value
    return [spec.value_text(at // of_each, value, 9) for at, value in enumerate(scores)]  # nine digits: a float32


def _as_dict(sample: InputSample, scores: Sequence[float] | None, trained: OpenedRun) -> dict[str, Any]:
    if scores is None:
        return {"error": sample.error}
    spec = trained.spec
    names = _value_names(trained) if spec.task == "regression" else spec.classes
    rounded = {name: float(text) for name, text in zip(names, _rounded(scores, trained), strict=True)}
    if spec.task == "regression":
        return {"values": rounded}
    named = trained.predicted(scores)
    if spec.task == "multilabel":
        return {"prediction": named, "probabilities": rounded}
    return {"prediction": named[0], "probability": rounded[named[0]], "probabilities": rounded}
