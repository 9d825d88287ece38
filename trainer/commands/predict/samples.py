"""Read new samples for a finished run, from files, rows and lines, in the same way as its training data.

A few threads read ahead of the model. A sample that cannot be read is still returned, with an error.
"""

from __future__ import annotations

import csv
import itertools
import os
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.commands.opened_run import OpenedRun
from trainer.commands.predict.named_files import STDIN, NamedFile, named_files, stdin_lines
from trainer.commands.predict.tables_of_files import files_of_table
from trainer.config import ConfigError, RunError
from trainer.config.errors import reason_of
from trainer.config.untrusted_files import at_home, blocks_within_memory
from trainer.data.audio import SUFFIXES as SOUND_SUFFIXES
from trainer.data.audio import read_wave
from trainer.data.image_ops import TOP
from trainer.data.readers import pictures, sounds
from trainer.data.readers.arrays import array_files
from trainer.data.readers.arrays.samples import fill_values
from trainer.data.readers.labels.file_ids import IdForm, id_of
from trainer.data.readers.labels.file_tables import is_table
from trainer.data.readers.tables import parsing, split_files
from trainer.data.readers.tables.encode_rows import NUMBERS, CellColumn, join_cells, to_raw_rows
from trainer.data.readers.tables.layout import Layout, listed, table_keys_of
from trainer.data.readers.tables.lines import PACKED
from trainer.data.readers.tables.saved_forms import with_saved_forms
from trainer.data.readers.texts import text_tables, tokens
from trainer.data.readers.texts.vocabulary import UNKNOWN
from trainer.data.sources import Inputs, collate
from trainer.data.table_encoding import ColumnKind, TableEncoding
from trainer.loss._quantiles import QuantileLoss

Item = TypeVar("Item")

BATCHES_AHEAD = 4
TOGETHER = 32  # samples that a thread reads in one task; handing over a small sample takes as long as reading it
MEMORY_OF_TABLE = 4  # memory that a byte of a table takes when it is read: a digit and a comma become 8 bytes
TABLE_SUFFIXES = (*split_files.SUFFIXES, *PACKED)


class InputSample(NamedTuple):
    """A sample that was read, or that cannot be read."""

    name: str  # a file, ``file:line``, an element of an array, or a line number of standard input
    inputs: Inputs | None  # one tensor, the raw sample without a batch axis; None for a bad sample
    error: str = ""  # why the sample cannot be used; empty for a good sample
    shown: str | None = None  # the text of the sample, for display; None if the sample is not a text
    id: str = ""  # the cell of the column that names the rows; empty without one


class _Unread(NamedTuple):
    """A sample that has not been read yet; ``read`` is None if the sample is known to be bad."""

    name: str
    read: Callable[[], Inputs] | None
    error: str = ""
    shown: str | None = None
    id: str = ""


def samples(run: OpenedRun, words: Sequence[str], batch_size: int) -> Iterator[InputSample]:
    """Yield every sample that the words name, in the order of the words.

    Args:
        run: the run, whose preprocessing and settings determine how samples are read.
        words: files, folders, and ``-`` for standard input.
        batch_size: the number of samples that the caller needs at a time; threads read several times as many ahead.

    Raises:
        ConfigError: a library that reads sounds is missing.
    """
    yield from _read_ahead(_reader_of(run)(run, words), BATCHES_AHEAD * batch_size)


def batches(found: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the samples in lists of ``size``; the last list may be shorter."""
    rest = iter(found)
    while some := list(itertools.islice(rest, size)):
        yield some


def batch_of(run: OpenedRun, good: Sequence[InputSample]) -> Inputs:
    """Return good samples as a batch of raw samples."""
    return collate([_first(sample) for sample in good], varying=run.spec.varying)


def scores(run: OpenedRun, some: Sequence[InputSample], batch_size: int) -> list[list[float] | None]:
    """Return the scores of each sample, or all its quantiles if the run has them; None for a bad sample.

    Samples of similar length share a batch. Quantiles are in the order of ``column_names``.
    """
    found: list[list[float] | None] = [None] * len(some)
    good = [at for at, sample in enumerate(some) if sample.inputs is not None]
    if run.spec.varying:
        good.sort(key=lambda at: len(_first(some[at])))
    for start in range(0, len(good), batch_size):
        batch = good[start : start + batch_size]
        answers = _answers(run, batch_of(run, [some[at] for at in batch])).tolist()
        for at, answer in zip(batch, answers, strict=True):
            found[at] = answer
    return found


@torch.inference_mode()
def _answers(run: OpenedRun, raw: Inputs) -> Tensor:
    if isinstance(run.loss, QuantileLoss):
        return run.loss.quantiles(run.outputs(run.read(raw))).flatten(1).cpu()
    return run.scores(raw)


def tokens_of(run: OpenedRun, text: str) -> list[str]:
    """Return the tokens of a text that the model of a run reads; a text that is too long for the run is cut off."""
    return tokens.Tokenizer.from_preprocessing(run.preprocessing)(text)


def _first(sample: InputSample) -> Tensor:
    assert sample.inputs is not None
    return sample.inputs[0]


def _read(unread: _Unread) -> InputSample:
    if unread.read is None:
        return InputSample(unread.name, None, unread.error, unread.shown, unread.id)
    try:
        return InputSample(unread.name, unread.read(), shown=unread.shown, id=unread.id)
    except Exception as error:  # a library may raise any exception for a bad file
        text = reason_of(error).removeprefix(f"{unread.name}: ").removeprefix("cannot be read: ")
        return InputSample(unread.name, None, text, unread.shown, unread.id)


def _read_ahead(items: Iterable[_Unread], window: int) -> Iterator[InputSample]:
    """Yield every sample in order, while a few threads read about ``window`` samples ahead."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        ahead: deque[Future[list[InputSample]]] = deque()
        try:
            for some in batches(items, TOGETHER):
                ahead.append(pool.submit(list, map(_read, some)))  # the thread takes the samples out of the iterator
                if len(ahead) * TOGETHER > window:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            for each in ahead:
                each.cancel()


def _reader_of(run: OpenedRun) -> Callable[[OpenedRun, Sequence[str]], Iterator[_Unread]]:
    """Return the function for the files of a run: pictures, sounds, texts, tables or arrays."""
    preprocessing, spec = run.preprocessing, run.spec
    if spec.kind == "tokens":
        return _texts if "vocabulary" in preprocessing else _arrays
    if preprocessing.get("sample_rate") is not None:
        return _sounds
    if preprocessing.get("columns"):
        return _rows
    if spec.kind == "image":
        return _pictures if preprocessing.get("top") is not None else _arrays
    return _arrays


def reads_whole_files(run: OpenedRun) -> bool:
    """Return whether a sample of a run is a file: a picture, a sound, or a text in a file of its own."""
    reader = _reader_of(run)
    return reader in (_pictures, _sounds) or (reader is _texts and run.preprocessing.get("unit") == "file")


def _of_files(files: Iterable[NamedFile], samples_of: Callable[[str, Path], Iterable[_Unread]]) -> Iterator[_Unread]:
    """Yield the samples of every file, given its name and path; a file that cannot be read is a bad sample."""
    for name, file, error, id in files:
        try:
            found = [_Unread(name, None, error)] if file is None else samples_of(name, file)
            yield from (each._replace(id=id) for each in found) if id else found
        except (ConfigError, RunError) as wrong:
            yield _Unread(name, None, str(wrong).replace(f"dataset.path: {file}: ", "").replace(str(file), name))


# ---- pictures and sounds


def _pictures(run: OpenedRun, words: Sequence[str]) -> Iterator[_Unread]:
    form = pictures.Form(*run.spec.shape)
    brightness = run.preprocessing["top"] / TOP  # pixels read from files are 0 to TOP; the run may have another maximum

    def picture(name: str, file: Path) -> list[_Unread]:
        reader = pictures.PictureReader((os.fspath(file),).__getitem__, [name], form)
        return [_Unread(name, lambda: (reader(0) if brightness == 1 else reader(0) * brightness,))]

    return _of_files(_files_or_tables(run, words, pictures.SUFFIXES, "picture"), picture)


def _sounds(run: OpenedRun, words: Sequence[str]) -> Iterator[_Unread]:
    sounds.need_libraries(run.spec.dataset)
    rate, longest, fine = (run.preprocessing[key] for key in ("sample_rate", "max_samples", "fine"))

    def sound(name: str, file: Path) -> list[_Unread]:
        return [_Unread(name, lambda: (read_wave(file, rate, longest, fine=fine),))]

    return _of_files(_files_or_tables(run, words, SOUND_SUFFIXES, "sound"), sound)


def _files_or_tables(run: OpenedRun, words: Sequence[str], suffixes: Sequence[str], noun: str) -> Iterator[NamedFile]:
    """Yield the files that the words name themselves, and those that the rows of a table name.

    The identifier of a file is its name in the form in which the training table names files; without such a table it
    is the name without the ending.
    """
    form: IdForm = run.preprocessing.get("id_form") or "stem"
    path = run.settings.dataset.get("path")
    folders = [Path(path)] if isinstance(path, str) and not is_table(Path(path)) else []
    for word in words:
        if is_table(Path(word)):
            yield from files_of_table(Path(word), run.settings.dataset, suffixes, noun)
            continue
        for each in named_files([word], suffixes, noun):
            known = None if each.file is None else id_of(each.file, form, [*folders, Path(word)])
            yield each if known is None else each._replace(id=known)


# ---- texts


def _texts(run: OpenedRun, words: Sequence[str]) -> Iterator[_Unread]:
    keys = run.settings.dataset
    encoding, whole = str(keys.get("encoding", "utf-8")), run.preprocessing.get("unit") == "file"
    columns = text_tables.TextColumns(
        keys.get("input"),
        keys.get("target"),
        keys.get("header", "auto"),
        keys.get("delimiter"),
        keys.get("missing_values", []),
        inputs=run.preprocessing.get("input") or [],
    )
    identifier = run.identifier
    tokenizer = tokens.Tokenizer.from_preprocessing(run.preprocessing)
    numbers = {token: number for number, token in enumerate(run.preprocessing["vocabulary"])}

    def encode(text: str) -> Inputs:
        found = [numbers.get(token, UNKNOWN) for token in tokenizer(text)]
        return (torch.tensor(found, dtype=torch.int32),)

    def unread(place: str, text: str, error: str = "", id: str = "") -> _Unread:
        reason = error or ("" if text.strip() else "no text")
        return _Unread(place, None if reason else partial(encode, text), reason, text or None, id)

    def of_file(name: str, file: Path) -> Iterator[_Unread]:
        found = text_tables.texts_without_labels(file, name, columns, encoding, whole=whole, id=identifier)
        return itertools.starmap(unread, found)

    def with_stem(each: NamedFile) -> NamedFile:
        is_text = each.file is not None and identifier is None and not columns.has_table(each.file)
        return each._replace(id=Path(each.name).stem) if is_text else each

    for word in words:
        if word != STDIN:
            files = named_files([word], text_tables.SUFFIXES, "text")
            yield from _of_files(map(with_stem, files) if whole else files, of_file)
            continue
        lines = stdin_lines()
        number, first = next(lines, (1, ""))
        if first and {*columns.inputs} & {cell.strip() for cell in next(csv.reader([first]))}:  # the header of a table
            with tempfile.NamedTemporaryFile("w", suffix=".csv", encoding="utf-8") as stored:
                stored.writelines(f"{line}\n" for line in (first, *(line for _, line in lines)))
                stored.flush()
                yield from of_file(STDIN, Path(stored.name))
        else:
            yield from (unread(str(at), line) for at, line in ((number, first), *lines) if line)


# ---- numbers


def _rows(run: OpenedRun, words: Sequence[str]) -> Iterator[_Unread]:
    return _of_files(_table_files(words), partial(_rows_of, run))


def _table_files(words: Sequence[str]) -> Iterator[NamedFile]:
    """Yield the tables that the words name; standard input is copied to a temporary file, as a table is read twice."""
    for word in words:
        if word != STDIN:
            yield from named_files([word], TABLE_SUFFIXES, "table")
            continue
        with tempfile.NamedTemporaryFile("wb", suffix=".csv") as stored:
            try:
                stored.writelines(blocks_within_memory(sys.stdin.buffer, STDIN, MEMORY_OF_TABLE))
                stored.flush()
            except OSError as error:
                yield NamedFile(STDIN, None, reason_of(error))
            else:
                yield NamedFile(STDIN, Path(stored.name))


def _rows_of(run: OpenedRun, name: str, file: Path) -> Iterator[_Unread]:
    """Yield the samples of a table: its rows, or its groups of rows if the run has ``dataset.group_by``."""
    keys, columns = run.settings.dataset, run.preprocessing["columns"]
    layout = parsing.read_layout(file, table_keys_of(keys), named=columns, lists=True)
    numbers = _columns_in(layout, columns)
    layout = with_saved_forms(layout, numbers, run.preprocessing.get("forms"), keys.get("decimal"))
    group_by, identifier = keys.get("group_by"), run.identifier
    groups, ids = dict[str, int](), dict[str, int]()
    encoding = run.normalise if isinstance(run.normalise, TableEncoding) else None
    kinds: list[ColumnKind] = ["number"] * len(columns) if encoding is None else [c.kind for c in encoding.columns]
    levels = [dict[str, int]() for kind in kinds if kind not in NUMBERS]
    texts = [at for at, kind in zip(numbers, kinds, strict=True) if kind not in NUMBERS]
    read = parsing.ColumnsToRead(
        [at for at in numbers if at not in texts],
        [] if group_by is None else [(layout.find("group_by", group_by), groups)],
        [*zip(texts, levels, strict=True)],
        missing=keys.get("missing") in ("mark", "mean"),
        names=(layout.names.index(identifier), ids) if identifier in layout.names else None,
    )
    table = parsing.read_table(layout, read)
    if encoding is None:
        values = _filled(run, table.numbers)
    else:
        known = iter(levels)
        read_columns = [CellColumn("", kind, () if kind in NUMBERS else [*next(known)]) for kind in kinds]
        values = to_raw_rows(join_cells(table.numbers, table.levels, kinds), read_columns, encoding)
    if group_by is None:
        named = [*ids, ""]  # the last one is for the code -1
        for row, line in enumerate(table.lines.tolist()):
            sample = _numbers(layout.place(line, name), _shaped(run, values[row]), table.faults.get(row, ""))
            yield sample._replace(id=named[table.names[row]]) if ids else sample
        return
    for text, number in groups.items():
        rows = np.flatnonzero(table.texts[-1] == number)
        steps = values[rows[: keys.get("max_length")]]
        fault = next((table.faults[row] for row in rows.tolist() if row in table.faults), "")
        yield _numbers(f"{name}: {text}", steps, fault or _wrong_shape(run, steps))._replace(id=text)


def _filled(run: OpenedRun, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows of numbers, the missing ones replaced as in the training of a run that encodes no columns."""
    fill = fill_values(run.preprocessing).numpy()
    is_row = fill.shape == values.shape[1:]  # samples that are made of a row have means of their channels
    return np.where(np.isnan(values), fill, values) if is_row else values


def _shaped(run: OpenedRun, row: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a row in the shape of a sample, as ``dataset.shape`` says."""
    shape = run.settings.dataset.get("shape") or run.raw_shape
    sample = row.reshape(shape)
    return sample if sample.shape == run.raw_shape else np.moveaxis(sample, -1, 0)


def _columns_in(layout: Layout, columns: Sequence[str]) -> list[int]:
    """Return the numbers of the run's columns in a file, by name or, if they have no names, by place."""
    places = layout.numbers()
    if all(column in places for column in columns):
        return [places[column] for column in columns]
    if layout.header or len(layout.names) != len(columns):
        missing = next((column for column in columns if column not in places), columns[0])
        raise ConfigError(f"has no column {missing}; columns: {listed((layout.in_file or layout).names)}")
    return [*range(len(columns))]


def _arrays(run: OpenedRun, words: Sequence[str]) -> Iterator[_Unread]:
    return _of_files(_array_files(run, words), partial(_arrays_of, run))


def _array_files(run: OpenedRun, words: Sequence[str]) -> Iterator[NamedFile]:
    """Yield the files of arrays that the words name; a folder that training could read counts as one file."""
    for word in words:
        path = Path(word) if word == STDIN else at_home(word, "FILE")
        if word != STDIN and array_files.is_one(path, run.settings.dataset.get("inputs")):
            yield NamedFile(word, path)
        else:
            yield from named_files([word], array_files.SUFFIXES, "file of arrays")


def _arrays_of(run: OpenedRun, name: str, file: Path) -> Iterator[_Unread]:
    keys = run.settings.dataset
    key, values, lengths = array_files.inputs_of_run(file, keys.get("inputs"), keys.get("lengths"), run.spec)
    for row, sample in enumerate(values):
        steps = sample if lengths is None else sample[: lengths[row]]
        fault = _wrong_shape(run, steps)
        if not fault and not np.isfinite(steps).all():
            fault = "holds a number that is not finite"
        yield _numbers(f"{name}: {key}[{row}]", steps, fault)


def _numbers(name: str, values: Any, fault: str) -> _Unread:
    return _Unread(name, None if fault else lambda: (torch.from_numpy(np.ascontiguousarray(values)),), fault)


def _wrong_shape(run: OpenedRun, sample: Any) -> str:
    """Return how the shape of an array differs from that of the run's samples; empty if the shape fits."""
    shape, wanted, varying = tuple(sample.shape), run.raw_shape, run.spec.varying
    if shape == wanted or (varying and shape[1:] == wanted[1:] and 1 <= shape[0] <= wanted[0]):
        return ""
    least = f"{'×'.join(map(str, (1, *wanted[1:])))} to " if varying else ""
    return f"is {'×'.join(map(str, shape))}; the run reads {least}{'×'.join(map(str, wanted))}"
