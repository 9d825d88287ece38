"""Tables of numbers in CSV and TSV files: detect the layout of a file, read its columns, and find bad rows."""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.config import ConfigError
from trainer.config.messages import did_you_mean
from trainer.data.readers.table_lines import check_line_lengths, chunks, each_line, opened

ColumnKey = str | int  # a column by its name, or by its number from 0
DELIMITERS = "\t;|, "  # in the order in which ``_delimiter`` tries them
WORDS = {"tab": "\t", "\\t": "\t", "space": " "}
MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))  # cells that mean a missing number
LOOKED_AT = 100  # rows from which the layout of a file is detected
MAX_LETTERS = 64  # numpy may have cut off a text of this length, which the csv module then reads
MAX_LISTED = 30  # maximum number of columns that a message lists
ESCAPED = re.compile("[\udc80-\udcff]")  # bytes outside the encoding, escaped by errors="surrogateescape"


class Layout(NamedTuple):
    """The layout of a table in a file.

    Args:
        header: whether the first line names the columns.
        names: the names of the columns; a column without a name has its number, from 0.
        counts_rows: whether the first column has no name and counts the rows from 0, like an index that pandas writes.
        first: the first rows below the header, which show the types of the columns.
    """

    file: Path
    encoding: str
    delimiter: str
    header: bool
    names: list[str]
    counts_rows: bool
    first: list[list[str]]

    def numbers(self) -> dict[str, int]:
        """Return the number of each column by its name."""
        return {name: number for number, name in enumerate(self.names)}

    def find(self, key: str, column: ColumnKey) -> int:
        """Return the number of the column that ``dataset.<key>`` names.

        Raises:
            ConfigError: there is no such column.
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

    def holds_text(self, column: int) -> bool:
        """Return whether most cells of a column in the first rows, apart from missing ones, are not numbers."""
        cells = [row[column] for row in self.first if len(row) == len(self.names)]
        present = [cell for cell in cells if not _is_missing(cell)]
        return sum(not _is_number(cell) for cell in present) * 2 > len(present)


def listed(names: Sequence[str]) -> str:
    """Return the names as one text, ``a, b, c``, which is shortened if there are many."""
    more = f", … ({len(names)} in all)" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def one_character(delimiter: str) -> str:
    """Return the character between columns that ``dataset.delimiter`` names.

    Raises:
        ConfigError: it is not one character, or a line break.
    """
    character = WORDS.get(delimiter, delimiter)
    if len(character) != 1 or character in "\r\n":
        raise ConfigError(f"dataset.delimiter: must be one character, tab or space, got {delimiter}")
    return character


def read_layout(file: Path, delimiter: str | None, header: bool | Literal["auto"], encoding: str) -> Layout:
    """Return the layout of a file; detect a ``delimiter`` of None and a ``header`` of auto from the first lines.

    The first line is detected as a header if it has a text above a number, or if it has no number at all.

    Raises:
        ConfigError: the file cannot be read as text, has no rows, or has two columns with the same name; or the
            delimiter is not one character.
    """
    with opened(file, encoding) as lines:
        some = list(islice((line for line in each_line(lines) if line.strip()), LOOKED_AT + 1))
        check_line_lengths(lines, 1, some)
    if any("\0" in line for line in some):
        raise ConfigError(f"dataset.path: {file}: is no text in {encoding}; must be a CSV or TSV file")
    if delimiter is None:
        delimiter = "\t" if file.suffix.lower() in (".tsv", ".tab") else _delimiter(some)
    delimiter = one_character(delimiter)
    rows = [cells for _, cells in _rows(file, some, delimiter)]
    if not rows:
        raise ConfigError(f"dataset.path: {file}: has no rows")
    if header == "auto":
        header = _has_header(rows)
    names = [str(number) for number in range(len(rows[0]))]
    counts_rows = False
    if header:
        counts = [row[0] for row in rows[1:]]
        counts_rows = not rows[0][0].strip() and counts == [str(number) for number in range(len(counts))]
        names = [cell.strip() or number for cell, number in zip(rows[0], names, strict=True)]
        rows = rows[1:]
    wrong = next((name for name in names if ESCAPED.search(name)), None)
    if wrong is not None:
        shown = wrong.encode(errors="surrogateescape").decode(errors="backslashreplace")
        raise ConfigError(f"dataset.encoding: {encoding}: does not fit the column {shown} of {file}; such as latin-1")
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ConfigError(f"dataset.path: {file}: has two columns called {twice}")
    return Layout(file, encoding, delimiter, header, names, counts_rows, rows)


@dataclass
class ParsedTable:
    """The chosen columns of a file, with every row of the file.

    Args:
        lines: (rows,) int64, the number of the line at which each row begins.
        numbers: (rows, columns) float32; not finite where a number is missing or wrong.
        texts: (columns, rows) int64, the code of each text: its number among the different texts of its column; -1 if
            the text is missing or wrong.
        faults: the first reason why a row cannot be used, by the number of the row.
    """

    lines: NDArray[np.int64]
    numbers: NDArray[np.float32]
    texts: NDArray[np.int64]
    faults: dict[int, str]


def read_table(
    layout: Layout, numbers: Sequence[int], texts: Sequence[tuple[int, dict[str, int]]], *, missing: bool
) -> ParsedTable:
    """Read columns of a file.

    Args:
        layout: the layout of the file.
        numbers: the columns of numbers.
        texts: the columns of texts, each with the code of every text seen so far; new texts are added.
        missing: accept rows in which numbers are missing.

    Raises:
        ConfigError: the file is not a table, or not in its encoding.
    """
    parts: list[ParsedTable] = []
    line = 1
    with opened(layout.file, layout.encoding) as file:
        for lines in chunks(file):
            chunk = _Chunk(layout, lines, line, numbers, texts, skip=int(layout.header and line == 1))
            try:
                parts.append(chunk.read_fast())
            except ValueError:  # a line is bad, or too unusual for numpy
                parts.append(chunk.read_exactly(missing=missing))
            line += len(lines)
    table = join_tables(parts)
    if not len(table.lines):
        raise ConfigError(f"dataset.path: {layout.file}: has no rows")
    return table


def join_tables(parts: Sequence[ParsedTable]) -> ParsedTable:
    """Return the rows of several tables with the same columns as one table."""
    faults: dict[int, str] = {}
    count = 0
    for part in parts:
        faults |= {row + count: reason for row, reason in part.faults.items()}
        count += len(part.lines)
    return ParsedTable(
        np.concatenate([part.lines for part in parts]),
        np.concatenate([part.numbers for part in parts]),
        np.concatenate([part.texts for part in parts], axis=-1),
        faults,
    )


@dataclass
class _Chunk:
    """Consecutive lines of a file.

    Args:
        layout: the layout of the file.
        lines: the lines, which contain whole rows.
        start: the number of the first line.
        numbers, texts: as in ``read_table``.
        skip: the number of header rows among the lines.
    """

    layout: Layout
    lines: list[str]
    start: int
    numbers: Sequence[int]
    texts: Sequence[tuple[int, dict[str, int]]]
    skip: int

    def read_fast(self) -> ParsedTable:
        """Read the lines with numpy, about three times as fast as ``read_exactly``.

        Raises:
            ValueError: a line is not a row of finite numbers and of texts shorter than ``MAX_LETTERS``.
        """
        if len(self.lines) == self.skip or self.lines[-1].isspace():
            raise ValueError("no row, or a line is blank")
        width, delimiter = len(self.layout.names), self.layout.delimiter
        kinds = dict.fromkeys(self.numbers, "f8") | {column: f"U{MAX_LETTERS}" for column, _ in self.texts}
        rows = np.loadtxt(
            self.lines,
            dtype=[(str(column), kinds.get(column, "U1")) for column in range(width)],
            comments=None,
            delimiter=None if delimiter == " " else delimiter,
            quotechar='"',
            skiprows=self.skip,
            ndmin=1,
        )
        if len(rows) != len(self.lines) - self.skip:
            raise ValueError("a line is blank, or a cell goes over several")
        block = np.empty((len(rows), len(self.numbers)), dtype=np.float32)
        for at, column in enumerate(self.numbers):
            block[:, at] = _as_float32(rows[str(column)])
        if not np.isfinite(block).all():
            raise ValueError("a number is missing, or too large")
        found = [rows[str(column)].tolist() for column, _ in self.texts]
        for cell in {cell for cells in found for cell in cells}:
            if not cell.strip() or len(cell) == MAX_LETTERS or ESCAPED.search(cell):
                raise ValueError("a text is missing, too long, or none")
        places = np.arange(self.start + self.skip, self.start + len(self.lines))
        return ParsedTable(places, block, self._encode(found), {})

    def read_exactly(self, *, missing: bool) -> ParsedTable:
        """Parse the lines with Python's csv module, which is slow but exact, and record the reason for each bad row."""
        layout, width = self.layout, len(self.layout.names)
        rows = list(_rows(layout.file, self.lines, layout.delimiter, self.start))[self.skip :]
        faults: dict[int, str] = {}
        for row, (_, cells) in enumerate(rows):
            if len(cells) != width:
                there = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
                faults[row] = f"{there} instead of {width}"
        empty = [""] * width
        columns = [*zip(*(cells if len(cells) == width else empty for _, cells in rows), strict=True)]
        columns = columns or [()] * width
        block = np.empty((len(rows), len(self.numbers)), dtype=np.float32)
        for at, column in enumerate(self.numbers):
            block[:, at] = _as_float32(_floats(columns[column]))
            for row in np.flatnonzero(~np.isfinite(block[:, at])).tolist():
                reason = _fault(columns[column][row], missing=missing)
                if reason is not None:
                    faults.setdefault(row, f"{layout.names[column]}: {reason}")
        codes = self._encode([columns[column] for column, _ in self.texts])
        for at, (column, _) in enumerate(self.texts):
            for row in _without_text(columns[column]):
                codes[at, row] = -1
                escaped = ESCAPED.search(columns[column][row])
                reason = "is empty" if escaped is None else f"byte 0x{ord(escaped[0]) - 0xDC00:02x} is no text"
                faults.setdefault(row, f"{layout.names[column]}: {reason}")
        return ParsedTable(np.array([line for line, _ in rows], dtype=np.int64), block, codes, faults)

    def _encode(self, found: Sequence[Sequence[str]]) -> NDArray[np.int64]:
        """Return the codes of the texts, (columns, rows) int64; each new text gets the next code."""
        codes = [
            [known.setdefault(cell.strip(), len(known)) for cell in cells]
            for (_, known), cells in zip(self.texts, found, strict=True)
        ]
        return np.array(codes, dtype=np.int64)


def _rows(file: Path, lines: Iterable[str], delimiter: str, start: int = 1) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of every row that is not blank, and the number of its first line, counted from ``start``."""
    if delimiter == " ":  # any number of spaces separates two columns
        lines = (line.strip() for line in lines)
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter == " ")
    line = start
    try:
        for cells in reader:
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield line, cells
            line = start + reader.line_num
    except csv.Error as error:
        raise ConfigError(f"dataset.path: {file}:{line}: cannot be read: {error}") from error


def _delimiter(lines: list[str]) -> str:
    """Return the first delimiter that splits most lines into equally many columns; a comma if there is one column."""
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
    """Return the number in a cell, or NaN. Digits with _ between them, which Python accepts, are no number here."""
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
    """Return why a cell is not a finite number; None if the number is missing and ``missing`` allows that."""
    if missing and _is_missing(cell):
        return None
    if not cell.strip():
        return "is empty"
    shown = cell.strip().encode(errors="surrogateescape").decode(errors="backslashreplace")
    if np.isnan(to_float(cell)):
        return f"{shown} is no number"
    return f"{shown} is too large" if np.isfinite(to_float(cell)) else f"{shown} is not finite"


def _without_text(cells: Sequence[str]) -> list[int]:
    wrong = {cell for cell in {*cells} if not cell.strip() or ESCAPED.search(cell)}
    return [number for number, cell in enumerate(cells) if cell in wrong] if wrong else []
