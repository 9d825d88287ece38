"""Write predictions as CSV or JSON lines, and refuse to replace a file of another origin."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from trainer.commands.text_table import as_json
from trainer.config import ConfigError
from trainer.config.errors import printable
from trainer.runs import atomic_files

if TYPE_CHECKING:
    from trainer.commands.opened_run import OpenedRun
    from trainer.commands.predict.samples import InputSample
    from trainer.spec import Spec

# The possible sets of keys of a JSON line that this command writes, besides the id.
ANSWER_KEYS = [
    {"input", "error"},
    {"input", "values"},
    {"input", "prediction", "probabilities"},
    {"input", "prediction", "probability", "probabilities"},
]
FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}

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


def header_of(trained: OpenedRun, *, submission: bool) -> list[str]:
    """Return the names of the columns that ``writer`` writes.

    Raises:
        ConfigError: a submission needs a column that names the rows, and the run knows none.
    """
    spec, identifier = trained.spec, trained.identifier
    if submission:
        if identifier is None:
            has_key = "id" in trained.settings.dataset
            advice = "train with dataset.id=NAME" if has_key else "train with a table of the files, dataset.labels"
            raise ConfigError(f"--submission: the run knows no column that names the rows; {advice}")
        if spec.task != "classification":
            return [identifier, *spec.classes]
        return [identifier, *(trained.preprocessing.get("target") or ["prediction"])]
    answers = ("prediction", "probability", *(f"p_{name}" for name in spec.classes))
    names = [] if identifier is None else [identifier]
    return ["input", *names, *(spec.classes if spec.task == "regression" else answers), "error"]


def writer(kind: str, file: IO[str], trained: OpenedRun, head: Sequence[str], *, submission: bool) -> WriteAnswer:
    """Return a function that writes one sample with its scores, which are None for a bad sample.

    Args:
        kind: csv or jsonl.
        file: the output.
        trained: the run.
        head: the names of the columns, as ``header_of`` returns them.
        submission: write the identifiers and the answers alone: the class, 0 and 1 for each label, or the values.
    """
    has_id = trained.identifier is not None
    if kind == "jsonl":

        def write_json(sample: InputSample, scores: Sequence[float] | None) -> None:
            named = {"id": sample.id} if has_id else {}
            file.write(as_json({"input": sample.name, **named, **_as_dict(sample, scores, trained)}) + "\n")

        return write_json
    rows, spec = csv.writer(file, lineterminator="\n"), trained.spec
    shown: Callable[[str], str] = printable if file.isatty() else str  # names may contain control characters
    regression = spec.task == "regression"
    pending = [[*map(shown, head)]]
    if not submission:
        rows.writerow(pending.pop())

    def write(sample: InputSample, scores: Sequence[float] | None) -> None:
        if submission and not sample.id:
            reason = sample.error or f"has no {head[0]}, which names the rows of a submission"
            raise ConfigError(f"--submission: {sample.name}: {reason}")
        if pending:
            rows.writerow(pending.pop())
        names = [sample.id] if has_id else []
        if scores is None and submission:
            print(printable(f"trainer: {sample.name}: {sample.error}"), file=sys.stderr)
        if scores is None:
            cells = [""] * (len(head) - len(names) - 2 * (not submission))
        elif submission:
            cells = _as_submission(scores, trained)
        else:
            said = [] if regression else [";".join(trained.predicted(scores)), f"{max(scores):.6g}"]
            cells = [*said, *_rounded(scores, spec)]
        whole = [*names, *cells] if submission else [sample.name, *names, *cells, sample.error]
        rows.writerow([*map(shown, whole)])

    return write


def _as_submission(scores: Sequence[float], trained: OpenedRun) -> list[str]:
    spec, named = trained.spec, trained.predicted(scores)
    if spec.task == "multilabel":
        return [str(int(name in named)) for name in spec.classes]
    return named if spec.task == "classification" else _rounded(scores, spec)


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
