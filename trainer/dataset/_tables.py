"""Tables of numbers in text files: how a file is written, its columns, and what is wrong with a row."""

from __future__ import annotations

import csv
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from trainer.config import ConfigError, did_you_mean

Column = str | int
DELIMITERS = "\t;|, "  # the first that parts the first lines into equal numbers of columns
WORDS = {"tab": "\t", "\\t": "\t", "space": " "}
# What stands in a cell without a number.
MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))
LOOKED_AT = 100  # rows, to see how a file is written
CHUNK = 65536  # rows that are read at a time
MOST_LETTERS = 64  # of a text that the fast way reads
MOST_LISTED = 30  # columns in a message
ESCAPED = re.compile("[\udc80-\udcff]")  # what stands for a byte that is no text


class Layout(NamedTuple):
    """How a file is written.

    Args:
        names: of the columns; their numbers where no line names them.
        first: rows behind the header, to see what the columns hold.
    """

    file: Path
    encoding: str
    delimiter: str
    header: bool
    names: list[str]
    first: list[list[str]]

    def find(self, key: str, column: Column) -> int:
        """The number of a column that ``dataset.<key>`` asks for: by its name, or by its number, from 0.

        Raises:
            ConfigError: there is none.
        """
        if str(column) in self.names:
            return self.names.index(str(column))
        count = len(self.names)
        if isinstance(column, int):
            if 0 <= column < count:
                return column
            raise ConfigError(f"dataset.{key}: {column}: {self.file} has the columns 0 to {count - 1}")
        if not self.header:
            raise ConfigError(f"dataset.{key}: {column}: {self.file} names no columns; say a number, 0 to {count - 1}")
        hint = did_you_mean(column, self.names) or ";"
        raise ConfigError(
            f"dataset.{key}: {column}: {self.file} has no such column{hint} columns: {listed(self.names)}"
        )

    @property
    def counts_rows(self) -> bool:
        """Whether the first column has no name and counts from 0, as tables are often written."""
        cells = [row[0] for row in self.first]
        return self.header and self.names[0] == "0" and cells == [str(number) for number in range(len(cells))]

    def holds_text(self, column: int) -> bool:
        """Whether most of the first cells of a column are neither numbers nor missing."""
        cells = [row[column] for row in self.first if len(row) == len(self.names)]
        present = [cell for cell in cells if not _is_missing(cell)]
        return sum(not _is_number(cell) for cell in present) * 2 > len(present)


def listed(names: Sequence[str]) -> str:
    """``a, b, c``, or the first of many."""
    more = f", … ({len(names)} in all)" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


def look(file: Path, delimiter: str | None, header: bool | Literal["auto"], encoding: str) -> Layout:
    """How a file is written; what is None or ``auto`` is found out.

    A first line is a header where it has a text above a number, or no number at all.

    Raises:
        ConfigError: it is no text file, has no rows, or names two columns alike.
    """
    try:
        with _opened(file, encoding) as lines:
            some = list(islice((line for line in lines if line.strip()), LOOKED_AT + 1))
    except UnicodeError as error:
        raise ConfigError(f"dataset.encoding: {encoding}: does not fit {file}: {error}") from error
    if any("\0" in line for line in some):
        raise ConfigError(f"dataset.path: {file}: is no text in {encoding}; must be a CSV or TSV file")
    if delimiter is None:
        delimiter = "\t" if file.suffix.lower() in (".tsv", ".tab") else _delimiter(some)
    delimiter = WORDS.get(delimiter, delimiter)
    if len(delimiter) != 1:
        raise ConfigError(f"dataset.delimiter: must be one character, tab or space, got {delimiter}")
    rows = [cells for _, cells in _rows(file, some, delimiter)]
    if not rows:
        raise ConfigError(f"dataset.path: {file}: has no rows")
    if header == "auto":
        header = _has_header(rows)
    names = [str(number) for number in range(len(rows[0]))]
    if header:
        names = [cell.strip() or number for cell, number in zip(rows[0], names, strict=True)]
        rows = rows[1:]
    wrong = next((name for name in names if ESCAPED.search(name)), None)
    if wrong is not None:
        shown = wrong.encode(errors="surrogateescape").decode(errors="backslashreplace")
        raise ConfigError(f"dataset.encoding: {encoding}: does not fit the column {shown} of {file}; such as latin-1")
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise ConfigError(f"dataset.path: {file}: has two columns called {twice}")
    return Layout(file, encoding, delimiter, header, names, rows)


@dataclass
class Table:
    """What was read of a file. A row that cannot be used keeps its place.

    Args:
        file: where it stood.
        lines: (rows,) int64, where each begins in the file.
        numbers: (rows, columns) float32; nan where a number is missing or wrong.
        texts: (columns, rows) int64: which of the different texts of a column; -1 where a row does not have it.
        faults: of rows that cannot be used, the first reason.
    """

    file: Path
    lines: NDArray[np.int64]
    numbers: NDArray[np.float32]
    texts: NDArray[np.int64]
    faults: dict[int, str]


def read(
    layout: Layout, numbers: Sequence[int], texts: Sequence[tuple[int, dict[str, int]]], *, missing: bool
) -> Table:
    """Read columns of a file.

    Args:
        layout: of the file.
        numbers: the columns of numbers.
        texts: the columns of texts, each with the texts that are known; new ones are added.
        missing: numbers may be.

    Raises:
        ConfigError: it is not a table, or not in its encoding.
    """
    try:
        table = _read_fast(layout, numbers, texts)
    except ValueError:  # something is wrong, or only unusual
        table = _read_exactly(layout, numbers, texts, missing=missing)
    return table


def _read_fast(layout: Layout, numbers: Sequence[int], texts: Sequence[tuple[int, dict[str, int]]]) -> Table:
    """By numpy's own reader: about three times as fast.

    Raises:
        ValueError: not every cell is a finite number, or a text that is not too long.
    """
    kinds = dict.fromkeys(numbers, "f8") | {column: f"U{MOST_LETTERS}" for column, _ in texts}
    record = np.dtype([(str(column), kinds.get(column, "U1")) for column in range(len(layout.names))])
    blank: list[int] = []
    found: list[NDArray[np.float32]] = []
    codes: list[list[NDArray[np.int64]]] = [[] for _ in texts]
    count = 0
    with _opened(layout.file, layout.encoding) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of no rows
        lines = _Counted(file, blank)
        while True:
            rows = np.loadtxt(
                lines,
                dtype=record,
                comments=None,
                delimiter=None if layout.delimiter == " " else layout.delimiter,
                quotechar='"',
                skiprows=int(layout.header and count == 0),
                max_rows=CHUNK,
                ndmin=1,
            )
            if not len(rows):
                break
            count += len(rows)
            found.append(np.stack([_as_float32(rows[str(column)]) for column in numbers], axis=1))
            if not np.isfinite(found[-1]).all():
                raise ValueError("a number is missing, or too large")
            for (column, known), parts in zip(texts, codes, strict=True):
                cells = rows[str(column)].tolist()
                if any(not cell.strip() or len(cell) == MOST_LETTERS or ESCAPED.search(cell) for cell in {*cells}):
                    raise ValueError("a text is missing, too long, or none")
                parts.append(_encode(cells, known))
    if count + layout.header + len(blank) != lines.count:
        raise ValueError("a cell goes over several lines")
    places = np.setdiff1d(np.arange(1, lines.count + 1), blank)[int(layout.header) :]
    return Table(layout.file, places, np.concatenate(found), _stacked(codes, count), {})


def _read_exactly(
    layout: Layout, numbers: Sequence[int], texts: Sequence[tuple[int, dict[str, int]]], *, missing: bool
) -> Table:
    """By Python's own reader, with a reason for every row that cannot be used."""
    names, width = layout.names, len(layout.names)
    places: list[int] = []
    found: list[NDArray[np.float32]] = []
    codes: list[list[NDArray[np.int64]]] = [[] for _ in texts]
    faults: dict[int, str] = {}
    with _opened(layout.file, layout.encoding) as file:
        rows = _rows(layout.file, file, layout.delimiter)
        for _ in islice(rows, int(layout.header)):
            pass
        while chunk := list(islice(rows, CHUNK)):
            start = len(places)
            places += [line for line, _ in chunk]
            for number, (_, cells) in enumerate(chunk):
                if len(cells) != width:
                    there = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
                    faults[start + number] = f"{there} instead of {width}"
            empty = [""] * width
            columns = [*zip(*(cells if len(cells) == width else empty for _, cells in chunk), strict=True)]
            block = np.empty((len(chunk), len(numbers)), dtype=np.float32)
            for at, column in enumerate(numbers):
                block[:, at] = _as_float32(_floats(columns[column]))
                for number in np.flatnonzero(~np.isfinite(block[:, at])).tolist():
                    reason = _fault(columns[column][number], missing=missing)
                    if reason is not None:
                        faults.setdefault(start + number, f"{names[column]}: {reason}")
            found.append(block)
            for (column, known), parts in zip(texts, codes, strict=True):
                parts.append(_encode(columns[column], known))
                for number in _without_text(columns[column]):
                    parts[-1][number] = -1
                    escaped = ESCAPED.search(columns[column][number])
                    reason = "is empty" if escaped is None else f"byte 0x{ord(escaped[0]) - 0xDC00:02x} is no text"
                    faults.setdefault(start + number, f"{names[column]}: {reason}")
    if not places:
        raise ConfigError(f"dataset.path: {layout.file}: has no rows")
    return Table(layout.file, np.array(places), np.concatenate(found), _stacked(codes, len(places)), faults)


class _Counted:
    """The lines of a file that are not blank; ``count`` says how many were read, ``blank`` which of them were."""

    def __init__(self, file: TextIO, blank: list[int]) -> None:
        self._file, self._blank, self.count = file, blank, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for line in self._file:
            self.count += 1
            if not line.isspace():
                return line
            self._blank.append(self.count)
        raise StopIteration


def _opened(file: Path, encoding: str) -> TextIO:
    """A byte that is no text stands in it escaped; a byte order mark does not."""
    name = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
    if file.is_dir():
        raise ConfigError(f"dataset.path: {file}: is a folder; must be a file, or {{train: …, test: …}}")
    try:
        return file.open(encoding=name, errors="surrogateescape", newline="")
    except LookupError as error:
        raise ConfigError(f"dataset.encoding: {encoding}: no such encoding; such as utf-8, latin-1, cp1252") from error
    except OSError as error:
        raise ConfigError(f"dataset.path: {file}: cannot be read: {error.strerror}") from error


def _rows(file: Path, lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Every row that is not blank, with the line where it begins."""
    if delimiter == " ":  # any number of them
        lines = (line.strip() for line in lines)
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter == " ")
    line = 1
    try:
        for cells in reader:
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield line, cells
            line = reader.line_num + 1
    except (csv.Error, UnicodeError) as error:
        raise ConfigError(f"dataset.path: {file}:{line}: cannot be read: {error}") from error


def _delimiter(lines: list[str]) -> str:
    """What parts the first lines; a comma where nothing does, as in a table of one column."""
    for delimiter in DELIMITERS:
        widths = [len(cells) for _, cells in _rows(Path(), lines[:LOOKED_AT], delimiter)]
        if widths and widths[0] > 1 and widths.count(widths[0]) * 2 > len(widths):
            return delimiter
    return ","


def _has_header(rows: list[list[str]]) -> bool:
    first = rows[0]
    named = [bool(cell.strip()) and not _is_missing(cell) and not _is_number(cell) for cell in first]
    below = next((row for row in rows[1:] if len(row) == len(first)), None)
    if below is not None and any(text and _is_number(cell) for text, cell in zip(named, below, strict=True)):
        return True
    return not any(_is_number(cell) for cell in first)


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in MISSING


def _is_number(cell: str) -> bool:
    return not _is_missing(cell) and not np.isnan(to_float(cell))


def to_float(cell: str) -> float:
    """The number in a cell; nan where there is none. Python's own digits with _ between them are names."""
    try:
        return np.nan if "_" in cell else float(cell)
    except ValueError:
        return np.nan


def _floats(cells: Sequence[str]) -> NDArray[np.float64]:
    if not any("_" in cell for cell in cells):
        try:
            return np.fromiter(map(float, cells), np.float64, len(cells))
        except ValueError:
            pass
    return np.fromiter(map(to_float, cells), np.float64, len(cells))


def _as_float32(numbers: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)


def _fault(cell: str, *, missing: bool) -> str | None:
    """Why a cell is no finite number; None where it may be missing."""
    if missing and _is_missing(cell):
        return None
    if not cell.strip():
        return "is empty"
    shown = cell.strip().encode(errors="surrogateescape").decode(errors="backslashreplace")
    if np.isnan(to_float(cell)):
        return f"{shown} is no number"
    return f"{shown} is too large" if np.isfinite(to_float(cell)) else f"{shown} is not finite"


def _encode(cells: Iterable[str], known: dict[str, int]) -> NDArray[np.int64]:
    return np.array([known.setdefault(cell.strip(), len(known)) for cell in cells], dtype=np.int64)


def _without_text(cells: Sequence[str]) -> list[int]:
    wrong = {cell for cell in {*cells} if not cell.strip() or ESCAPED.search(cell)}
    return [number for number, cell in enumerate(cells) if cell in wrong] if wrong else []


def _stacked(codes: list[list[NDArray[np.int64]]], rows: int) -> NDArray[np.int64]:
    whole = [np.concatenate(parts) for parts in codes]
    return np.stack(whole) if whole else np.empty((0, rows), dtype=np.int64)
