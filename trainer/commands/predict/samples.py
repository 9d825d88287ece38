"""New samples for a model that has trained: files, folders, rows, lines, read as those of its run were.

Each is read when it is needed, some ahead of the others by a few threads, and a bad one is a sample with its error.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainer.commands.opened_run import OpenedRun
from trainer.config import ConfigError, RunError
from trainer.config.messages import did_you_mean
from trainer.data.audio import SUFFIXES as SOUNDS
from trainer.data.audio import read_wave
from trainer.data.image_ops import TOP
from trainer.data.readers import files, pictures, sounds, tables, texts, tokens
from trainer.data.sources import Inputs

STDIN = "-"
AHEAD = 4  # batches that are read ahead
TOGETHER = 32  # samples that a thread is handed at once: small ones are read in the time that handing over takes
ARRAYS = (".npz", ".npy")
TABLES = (".csv", ".tsv", ".tab", ".txt", ".data")

Read = Callable[[], Inputs]


class Sample(NamedTuple):
    """A sample that was read, or not.

    Args:
        name: where it stands: a file, ``file:line``, or the number of a line of standard input.
        inputs: raw, without the axis of the batch, and the number of its steps where these vary; None for a bad one.
        error: why it cannot be used; empty for a good one.
        shown: what one who looks at it wants to see: a text; else None.
    """

    name: str
    inputs: Inputs | None
    error: str = ""
    shown: str | None = None


class _Waiting(NamedTuple):
    """A sample that is still to be read, or is known to be bad."""

    name: str
    read: Read | None
    error: str = ""
    shown: str | None = None


def kind_of(trained: OpenedRun) -> str:
    """What a run reads: pictures, sounds, texts, rows or arrays."""
    learned, spec = trained.learned, trained.spec
    if spec.kind == "tokens":
        return "texts" if "vocabulary" in learned else "arrays"
    if learned.get("sample_rate") is not None:
        return "sounds"
    if spec.kind == "image":
        return "pictures" if learned.get("top") is not None else "arrays"
    return "rows" if learned.get("columns") else "arrays"


def samples(trained: OpenedRun, words: Sequence[str], batch_size: int) -> Iterator[Sample]:
    """Every sample that the words name, in their order.

    Args:
        trained: says how they are read.
        words: files, folders, and ``-`` for standard input.
        batch_size: how many are wanted at a time.

    Raises:
        ConfigError: the run reads nothing of the kind.
    """
    for_kind: dict[str, Callable[[OpenedRun, Sequence[str]], Iterator[_Waiting]]] = {
        "pictures": _picture_files,
        "sounds": _sound_files,
        "texts": _text_lines,
        "rows": _table_rows,
        "arrays": _array_rows,
    }
    waiting = for_kind[kind_of(trained)](trained, words)
    yield from _read_ahead(waiting, AHEAD * batch_size)


def batches(found: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """So many samples at a time."""
    some: list[Sample] = []
    for sample in found:
        some.append(sample)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some


def collate(trained: OpenedRun, good: Sequence[Sample]) -> Inputs:
    """A batch of samples that were read, as ``OpenedRun.read`` takes it; padded with zeros where their steps vary."""
    first = [_first(sample) for sample in good]
    if not trained.spec.varying:
        return (torch.stack(first),)
    return torch.nn.utils.rnn.pad_sequence(first, batch_first=True), torch.tensor([len(each) for each in first])


def scores(trained: OpenedRun, some: Sequence[Sample], batch_size: int) -> list[list[float] | None]:
    """The scores of each sample, None for a bad one; so many at a time, those of similar length together."""
    found: list[list[float] | None] = [None] * len(some)
    good = [at for at, sample in enumerate(some) if sample.inputs is not None]
    if trained.spec.varying:
        good.sort(key=lambda at: len(_first(some[at])))
    for start in range(0, len(good), batch_size):
        batch = good[start : start + batch_size]
        answers = trained.scores(collate(trained, [some[at] for at in batch])).tolist()
        for at, answer in zip(batch, answers, strict=True):
            found[at] = answer
    return found


def _first(sample: Sample) -> Tensor:
    assert sample.inputs is not None
    return sample.inputs[0]


def _finish(waiting: _Waiting) -> Sample:
    if waiting.read is None:
        return Sample(waiting.name, None, waiting.error, waiting.shown)
    try:
        return Sample(waiting.name, waiting.read(), shown=waiting.shown)
    except Exception as error:  # whatever a bad file does to what reads it
        text = " ".join(str(error).split()) or type(error).__name__
        text = text.removeprefix(f"{waiting.name}: ").removeprefix("cannot be read: ")
        return Sample(waiting.name, None, text, waiting.shown)


def _read_ahead(items: Iterable[_Waiting], window: int) -> Iterator[Sample]:
    """Every item read, in order, by a few threads, about so many ahead of who asks."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        ahead: deque[Future[list[Sample]]] = deque()
        rest = iter(items)
        try:
            while some := list(itertools.islice(rest, TOGETHER)):
                ahead.append(pool.submit(_finish_all, some))
                if len(ahead) * TOGETHER > window:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            for each in ahead:
                each.cancel()


def _finish_all(some: Sequence[_Waiting]) -> list[Sample]:
    return [_finish(each) for each in some]


# ---- files


def _files(words: Sequence[str], suffixes: Sequence[str], noun: str) -> Iterator[tuple[str, Path | None, str]]:
    """(name, file, error) of every file that is meant: of folders those whose names end so.

    Of standard input each line is a file. A file that is named is read whatever its name.
    """
    for word in words:
        if word == STDIN:
            for line in sys.stdin:
                if line.strip():
                    yield from _files([line.strip()], suffixes, noun)
            continue
        try:
            path = Path(word).expanduser()
            is_folder, is_there = path.is_dir(), path.exists()
        except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, ~nobody
            yield word, None, getattr(error, "strerror", None) or str(error)
            continue
        if is_folder:
            found = [file for file in files.files_below(path) if file.suffix.lower() in suffixes]
            if not found:
                yield word, None, f"a folder without a {noun}"
            yield from ((os.fspath(file), file, "") for file in found)
        elif is_there:
            yield word, path, ""
        else:
            yield word, None, _not_there(path)


def _not_there(path: Path) -> str:
    beside: list[str] = []
    with contextlib.suppress(OSError):
        beside = [each.name for each in path.parent.iterdir()]
    return f"no such file or folder{did_you_mean(path.name, beside)}".rstrip(";")


def _picture_files(trained: OpenedRun, words: Sequence[str]) -> Iterator[_Waiting]:
    form = pictures.Form(*trained.spec.shape)
    brightness = trained.learned["top"] / TOP
    for name, file, error in _files(words, pictures.SUFFIXES, "picture"):
        if file is None:
            yield _Waiting(name, None, error)
        else:
            reader = pictures.PictureReader((os.fspath(file),).__getitem__, [name], form)
            yield _Waiting(name, partial(_picture, reader, brightness))


def _picture(reader: pictures.PictureReader, brightness: float) -> Inputs:
    """In the units of the run's own pictures."""
    pixels = reader(0)
    return (pixels if brightness == 1 else pixels * brightness,)


def _sound_files(trained: OpenedRun, words: Sequence[str]) -> Iterator[_Waiting]:
    sounds.need_libraries(trained.spec.dataset)
    for name, file, error in _files(words, SOUNDS, "sound"):
        yield _Waiting(name, None if file is None else partial(_sound, trained.learned, file), error)


def _sound(learned: Any, file: Path) -> Inputs:
    return (read_wave(file, learned["sample_rate"], learned["max_samples"], fine=learned["fine"]),)


# ---- texts


def _text_lines(trained: OpenedRun, words: Sequence[str]) -> Iterator[_Waiting]:
    tokenizer = tokens.Tokenizer.of(trained.learned)
    numbers = {token: number for number, token in enumerate(trained.learned["vocabulary"])}
    for place, text, error in _texts_of(trained, words):
        reason = error or ("" if text.strip() else "no text")
        read = None if reason else partial(_tokens_of, tokenizer, numbers, text)
        yield _Waiting(place, read, reason, text or None)


def _tokens_of(tokenizer: tokens.Tokenizer, numbers: dict[str, int], text: str) -> Inputs:
    found = [numbers.get(token, tokens.UNKNOWN) for token in tokenizer(text)]
    return (torch.tensor(found, dtype=torch.int32),)


def tokens_of(trained: OpenedRun, text: str) -> list[str]:
    """The tokens of a text, as a run that reads texts cuts it; at most as many as it reads."""
    return tokens.Tokenizer.of(trained.learned)(text)


def _texts_of(trained: OpenedRun, words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(place, text, error) of every text: lines, whole files, or the rows of a table, as the run had them."""
    whole = trained.learned.get("unit") == "file"
    encoding = str(trained.settings.dataset.get("encoding", "utf-8"))
    suffixes = (texts.DOCUMENT, *texts.TABLES, *texts.LINES_OF_JSON)
    for word in words:
        if word == STDIN:
            for number, line in enumerate(sys.stdin, 1):
                if line.strip():
                    yield str(number), line.strip(), ""
            continue
        for name, file, error in _files([word], suffixes, "text"):
            if file is None:
                yield name, "", error
                continue
            try:
                is_table = file.suffix.lower() in (*texts.TABLES, *texts.LINES_OF_JSON)
                if is_table or trained.settings.dataset.get("delimiter") is not None:  # then any file is one
                    yield from _rows_of_texts(trained, file, encoding)
                    continue
                text = texts.read_text(file, encoding)
            except ConfigError as wrong:
                yield name, "", str(wrong).removeprefix(f"dataset.path: {file}: ")
                continue
            if "\0" in text:
                yield name, "", "is no text"
                continue
            lines = [(name, text)] if whole else [(f"{name}:{at}", line) for at, line in enumerate(text.split("\n"), 1)]
            for place, line in lines:
                if whole or line.strip():
                    problems = files.Problems(trained.spec.dataset, "skip")
                    texts.is_text(line, "", encoding, problems)
                    yield place, line.strip(), (problems.found or [""])[0].removeprefix(": ")


def _rows_of_texts(trained: OpenedRun, file: Path, encoding: str) -> Iterator[tuple[str, str, str]]:
    """(place, text, error) of each row of a table or of lines of JSON."""
    content = texts.read_text(file, encoding)
    rows: list[tuple[str, dict[str, str], str]] = []
    if file.suffix.lower() in texts.LINES_OF_JSON:
        for number, line in enumerate(content.split("\n"), 1):
            if line.strip():
                rows.append((f"{file}:{number}", *_json_row(line)))
    else:
        delimiter = trained.settings.dataset.get("delimiter") or texts.TABLES[file.suffix.lower()]
        csv.field_size_limit(sys.maxsize)
        quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
        reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, quoting=quoting)
        cells = [(reader.line_num, row) for row in reader if row]
        header = trained.settings.dataset.get("header", "auto")
        names = [cell.strip() for cell in cells[0][1]] if cells else []
        if header is False or (header == "auto" and not _names_columns(trained, names)):
            names = [str(number) for number in range(len(names))]
        else:
            cells = cells[1:]
        for number, row in cells:
            wrong = "" if len(row) == len(names) else f"{len(row)} columns instead of {len(names)}"
            rows.append((f"{file}:{number}", dict(zip(names, row, strict=False)), wrong))
    names = [*dict.fromkeys(name for _, row, _ in rows for name in row)]
    chosen = _text_columns(trained, names) or (names if len(names) == 1 else [])
    if rows and not chosen:
        yield str(file), "", f"which column holds the text? dataset.input=NAME says so; columns: {', '.join(names)}"
        return
    for place, row_of, wrong in rows:
        missing = [name for name in chosen if name not in row_of]
        reason = wrong or (f"no {missing[0]}" if missing else "")
        yield place, "" if reason else " ".join(row_of[name] for name in chosen), reason


def _json_row(line: str) -> tuple[dict[str, str], str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {}, f"no JSON: {error}"
    if not isinstance(row, dict):
        return {}, f"must be an object with keys, got {type(row).__name__}"
    return {name: texts.as_text(value) for name, value in row.items()}, ""


def _text_columns(trained: OpenedRun, names: Sequence[str]) -> list[str]:
    """Those of a table's columns that hold the text, as the run was told, or as they are usually called."""
    asked = trained.settings.dataset.get("input")
    if asked is not None:
        wanted = [_column(each, names) for each in (asked if isinstance(asked, list) else [asked])]
        return [name for name in wanted if name is not None] if None not in wanted else []
    lower = {name.lower(): name for name in reversed(names)}
    return [lower[name] for name in texts.TEXT_NAMES if name in lower][:1]


def _column(asked: str | int, names: Sequence[str]) -> str | None:
    """The name of a column that is asked for by its name or, from 0, by its number; None where there is none."""
    if isinstance(asked, int):
        return names[asked] if 0 <= asked < len(names) else None
    return asked if asked in names else None


def _names_columns(trained: OpenedRun, first: Sequence[str]) -> bool:
    """Whether the first line of a table names its columns, by what training goes by."""
    keys = trained.settings.dataset
    asked = keys.get("input")
    typed = [*(asked if isinstance(asked, list) else [asked]), keys.get("target")]
    usual = {cell.strip().lower() for cell in first} & {*texts.TEXT_NAMES, *texts.LABEL_NAMES}
    return bool(usual) or any(isinstance(each, str) and each in first for each in typed)


# ---- numbers


def _table_rows(trained: OpenedRun, words: Sequence[str]) -> Iterator[_Waiting]:
    for name, file, error in _tables_of(words):
        if file is None:
            yield _Waiting(name, None, error)
            continue
        try:
            yield from _rows(trained, name, file)
        except ConfigError as wrong:
            shown = str(wrong).replace(f"dataset.path: {file}: ", "").replace(str(file), name)
            yield _Waiting(name, None, shown)


def _tables_of(words: Sequence[str]) -> Iterator[tuple[str, Path | None, str]]:
    """As ``_files``; standard input is a table itself, kept in a file while it is read, as it is read twice."""
    for word in words:
        if word != STDIN:
            yield from _files([word], TABLES, "table")
            continue
        with tempfile.NamedTemporaryFile("wb", suffix=".csv") as kept:
            shutil.copyfileobj(sys.stdin.buffer, kept)
            kept.flush()
            yield STDIN, Path(kept.name), ""


def _rows(trained: OpenedRun, name: str, file: Path) -> Iterator[_Waiting]:
    """The samples of a table: its rows, or, with ``group_by``, the rows that are alike there."""
    keys, columns = trained.settings.dataset, trained.learned["columns"]
    layout = tables.look(file, keys.get("delimiter"), keys.get("header", "auto"), str(keys.get("encoding", "utf-8")))
    by_name = all(column in layout.names for column in columns)
    if not by_name and (layout.header or len(layout.names) != len(columns)):
        missing = next((column for column in columns if column not in layout.names), columns[0])
        raise ConfigError(f"has no column {missing}; columns: {tables.listed(layout.names)}")
    numbers = [layout.names.index(column) for column in columns] if by_name else [*range(len(columns))]
    group_by, most = keys.get("group_by"), keys.get("max_length")
    own: dict[str, int] = {}
    grouping = [] if group_by is None else [(layout.find("group_by", group_by), own)]
    table = tables.read(layout, numbers, grouping, missing=keys.get("missing") == "mean")
    fill = trained.learned["fill"] or trained.learned["normalise"]["mean"]
    values = np.where(np.isnan(table.numbers), np.array(fill, dtype=np.float32), table.numbers)
    if group_by is None:
        for row, line in enumerate(table.lines.tolist()):
            wrong = table.faults.get(row, "")
            yield _Waiting(f"{name}:{line}", None if wrong else partial(_tensor, values[row]), wrong)
        return
    groups = table.texts[-1]
    for text, number in own.items():
        rows = np.flatnonzero(groups == number)
        wrong = next((table.faults[row] for row in rows.tolist() if row in table.faults), "")
        steps = values[rows[:most]]
        wrong = wrong or _wrong_shape(trained, steps)
        yield _Waiting(f"{name}: {text}", None if wrong else partial(_tensor, steps), wrong)


def _tensor(values: Any) -> Inputs:
    return (torch.from_numpy(np.ascontiguousarray(values)),)


def _wrong_shape(trained: OpenedRun, sample: Any) -> str:
    """Why an array is no sample of the run; empty where it is."""
    shape, wanted = tuple(sample.shape), trained.spec.shape
    there = (1, *wanted[1:]) if trained.spec.varying else wanted
    if trained.spec.varying and shape[1:] == wanted[1:] and 1 <= shape[0] <= wanted[0]:
        return ""
    if shape == wanted:
        return ""
    least = f"{'×'.join(map(str, there))} to " if trained.spec.varying else ""
    return f"is {'×'.join(map(str, shape))}; the run reads {least}{'×'.join(map(str, wanted))}"


def _array_rows(trained: OpenedRun, words: Sequence[str]) -> Iterator[_Waiting]:
    for name, file, error in _files(words, ARRAYS, "file of arrays"):
        if file is None:
            yield _Waiting(name, None, error)
            continue
        try:
            key, values, lengths = _arrays(trained, file)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, RunError) as wrong:
            text = str(wrong) if isinstance(wrong, RunError) else "no .npz or .npy file, as numpy writes them"
            yield _Waiting(name, None, text)
            continue
        for row, sample in enumerate(values):
            steps = sample if lengths is None else sample[: lengths[row]]
            reason = _wrong_shape(trained, steps)
            if not reason and not np.isfinite(steps).all():
                reason = "holds a number that is not finite"
            yield _Waiting(f"{name}: {key}[{row}]", None if reason else partial(_tensor, steps), reason)


def _arrays(trained: OpenedRun, file: Path) -> tuple[str, Any, Any]:
    """The name of the array of inputs, itself as raw samples, and the lengths where there are some.

    Raises:
        RunError: it is not there, or holds no numbers.
    """
    spec, keys = trained.spec, trained.settings.dataset
    found = np.load(file, allow_pickle=False)
    arrays = {name: found[name] for name in found.files} if hasattr(found, "files") else {file.stem: found}
    wanted = str(keys.get("inputs", "x"))
    key = wanted if wanted in arrays else f"{wanted}_test" if f"{wanted}_test" in arrays else ""
    key = key or (next(iter(arrays)) if len(arrays) == 1 else "")
    if not key:
        raise RunError(f"has no array {wanted}; arrays: {', '.join(arrays)}")
    values = arrays[key]
    if values.dtype.kind not in "biuf":
        raise RunError(f"{key} must hold numbers, got {values.dtype}")
    if values.ndim == len(spec.shape):  # one channel, or steps of one number
        values = values[:, None] if spec.kind == "image" else values[..., None]
    if spec.kind == "image" and values.shape[1:] != spec.shape and values.ndim == 4:
        values = np.moveaxis(values, 3, 1)
    if spec.kind == "tokens":
        values = values.astype(np.int64)
    elif not (spec.kind == "image" and values.dtype == np.uint8):
        values = values.astype(np.float32)
    lengths = arrays.get(str(keys.get("lengths")))
    return key, values, lengths
