"""Read columns of tables: numbers as float32, and texts as codes; find the rows that cannot be used."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.config import ConfigError
from trainer.data.readers.encodings import ESCAPED
from trainer.data.readers.tables import formats
from trainer.data.readers.tables.arrow_cells import is_text, numbers_of, texts_of
from trainer.data.readers.tables.foreign import refuse_foreign
from trainer.data.readers.tables.layout import ColumnKey, Layout, TableKeys, text_layout
from trainer.data.readers.tables.lines import Block, blocks, plain_suffix
from trainer.data.readers.tables.list_columns import NUMBERS_AT_A_TIME, numbers_of_lists, with_lists
from trainer.data.readers.tables.number_cells import LEVELS, MISSING, PLAIN_FORM, NumberForm
from trainer.data.readers.tables.rows import split_rows

ESCAPE = re.compile(r"\0'\\udc(..)'")  # what ``_without_escapes`` writes for a byte outside the encoding
NO_NUMBER = " is no number"  # the end of a fault
EMPTY = "is empty"
ROWS = 65_536  # rows of a file that is no text that are read at a time


def read_layout(
    file: Path,
    keys: TableKeys,
    *,
    quotes_in_tabs: bool = True,
    named: Sequence[ColumnKey | None] = (),
    lists: bool = False,
) -> Layout:
    """Return the layout of a table in any format; the arguments are those of ``text_layout``.

    With ``lists``, each number of a column whose cells are lists of numbers is a column.

    Raises:
        ConfigError: the file cannot be read, or has no rows.
    """
    if plain_suffix(file) in formats.SUFFIXES:
        layout = formats.read_layout(file, keys, lists=lists)
    else:
        refuse_foreign(file)
        layout = text_layout(file, keys, quotes_in_tabs=quotes_in_tabs, named=named)
    separator = keys.get("label_separator")
    return with_lists(layout, named, None if separator is None else str(separator)) if lists else layout


@dataclass
class ParsedTable:
    """The chosen columns of a file, with every row of the file.

    Args:
        lines: (rows,) int64, the number of the line at which each row begins, or of the row if the file has no lines.
        numbers: (rows, columns) float32; not finite where a number is missing or wrong.
        texts: (columns, rows) int64, the code of each text: its number among the different texts of its column; -1 if
            the text is missing or wrong.
        faults: the first reason why a row cannot be used, by the number of the row.
        levels: (columns, rows) int64, like ``texts`` for the columns of levels.
        exact: (rows, columns) float64, the numbers of the columns that were asked for in this precision.
        exact_faults: why a number of ``exact`` cannot be used, by the number of its row and its column.
        names: (rows,) int64, the code of the cell that names each row; -1 without one.
    """

    lines: NDArray[np.int64]
    numbers: NDArray[np.float32]
    texts: NDArray[np.int64]
    levels: NDArray[np.int64]
    faults: dict[int, str]
    exact: NDArray[np.float64]
    exact_faults: dict[tuple[int, int], str]
    names: NDArray[np.int64]


@dataclass(frozen=True)
class ColumnsToRead:
    """The columns that are read from a file.

    Args:
        numbers: the columns of numbers.
        texts: the columns of texts, each with the code of every text seen so far; new texts are added.
        levels: the columns of texts that are features, with codes like those of ``texts``.
        missing: accept rows in which numbers or levels are missing.
        exact: the columns that are read as float64, in which any cell is accepted.
        may_be_empty: accept rows in which texts are missing.
        names: the column of texts that name the rows, any of which is accepted, with the codes of the texts.
    """

    numbers: Sequence[int]
    texts: Sequence[tuple[int, dict[str, int]]]
    levels: Sequence[tuple[int, dict[str, int]]] = ()
    missing: bool = False
    exact: Sequence[int] = ()
    may_be_empty: bool = False
    names: tuple[int, dict[str, int]] | None = None

    def all(self) -> list[int]:
        """Return the numbers of all columns, each once, in order."""
        names = [] if self.names is None else [self.names[0]]
        return sorted({*self.numbers, *self.exact, *names, *(column for column, _ in (*self.texts, *self.levels))})


def read_table(layout: Layout, columns: ColumnsToRead) -> ParsedTable:
    """Read columns of a file.

    Raises:
        ConfigError: the file is not a table, or not in its encoding.
    """
    parts = _parts_of_rows(layout, columns) if layout.rows is not None else _parts_of_lines(layout, columns)
    table = join_tables(list(parts))
    if not len(table.lines):
        raise ConfigError(f"dataset.path: {layout.file}: has no rows")
    return table


def join_tables(parts: Sequence[ParsedTable]) -> ParsedTable:
    """Return the rows of several tables with the same columns as one table."""
    if len(parts) == 1:
        return parts[0]
    faults, exact_faults = dict[int, str](), dict[tuple[int, int], str]()
    count = 0
    for part in parts:
        faults |= {row + count: reason for row, reason in part.faults.items()}
        exact_faults |= {(row + count, column): reason for (row, column), reason in part.exact_faults.items()}
        count += len(part.lines)
    return ParsedTable(
        np.concatenate([part.lines for part in parts]),
        np.concatenate([part.numbers for part in parts]),
        np.concatenate([part.texts for part in parts], axis=-1),
        np.concatenate([part.levels for part in parts], axis=-1),
        faults,
        np.concatenate([part.exact for part in parts]),
        exact_faults,
        np.concatenate([part.names for part in parts]),
    )


# ---- files of text


def _parts_of_lines(layout: Layout, columns: ColumnsToRead) -> Iterator[ParsedTable]:
    for block in blocks(layout.file, layout.encoding, quote=layout.quote):
        skip = max(0, layout.skip + 1 - block.start)
        yield _read_block(layout, block.without_first(skip) if skip else block, columns)


def _read_block(layout: Layout, block: Block, columns: ColumnsToRead) -> ParsedTable:
    """Read lines with arrow's parser or, if one is blank, bad, or goes on behind a line break, one by one."""
    if layout.comment:
        sign = re.escape(layout.comment.encode())
        block = block._replace(content=re.sub(rb"(?m)^[ \t]*" + sign + rb".*$", b"", block.content))
    block = block._replace(content=_without_empty_rows(layout.in_file or layout, block.content))
    places, listed = layout.places(), layout.in_lists()
    wanted = sorted({places[column] for column in columns.all()})
    numbers = {*columns.numbers} - {column for column, _ in (*columns.texts, *columns.levels)} - listed
    plain_numbers = {places[column] for column in numbers if layout.forms[column] == PLAIN_FORM}
    for plain in (plain_numbers, set[int]()):
        rows = _split_fast(layout.in_file or layout, block, wanted, plain)
        if rows is not None:
            table = _parse(layout, rows, np.arange(block.start, block.start + rows.num_rows), columns, {})
            if not plain or not table.faults:  # a message shows a number as it is written
                return table
    alone: set[int] = set()
    while True:
        table, several = _read_exactly(layout, block, columns, alone)
        # a bad row of several lines may be an open quote: its first line alone is bad, and the others are rows
        bad = {int(table.lines[row]) for row in table.faults} & several
        if not bad:
            return table
        alone |= bad


def _without_empty_rows(layout: Layout, content: bytes) -> bytes:
    """Blank the rows that are nothing but delimiters, as spreadsheets write below a table."""
    empty = (layout.delimiter * (len(layout.names) - 1)).encode()
    if empty in (b"", b" " * len(empty)) or not (content.startswith(empty) or b"\n" + empty in content):
        return content
    return re.sub(rb"(?m)^" + re.escape(empty) + rb"[ \t]*(?=\r?$)", b"", content)


def _split_fast(layout: Layout, block: Block, columns: Sequence[int], plain: set[int]) -> Any:
    """Return the columns of some lines as an arrow table of texts; None if not every line is a whole row.

    The columns ``plain`` are numbers; None if a cell of them holds no number, and does not mean a missing one.
    """
    import pyarrow as pa
    from pyarrow import csv

    has_quote = bool(layout.quote) and layout.quote.encode() in block.content
    if not block.num_lines or layout.delimiter == " " or b"\r" in block.content:
        return None
    if has_quote and block.content.count(layout.quote.encode()) % 2:  # one is not closed
        return None
    names = [str(number) for number in range(len(layout.names))]
    try:
        found = csv.read_csv(
            pa.BufferReader(block.content),
            read_options=csv.ReadOptions(column_names=names),
            parse_options=csv.ParseOptions(
                delimiter=layout.delimiter,
                quote_char=layout.quote or False,
                newlines_in_values=has_quote,
            ),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()) | {names[column]: pa.float64() for column in plain},
                null_values=_as_written(layout.missing),  # of numbers alone
                include_columns=[names[column] for column in columns] or names[:1],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    return found if found.num_rows == block.num_lines else None


def _as_written(missing: Collection[str]) -> list[str]:
    """Return cells that mean a missing number in the usual spellings: na is written NA and Na too, and nan NaN."""
    return sorted({spelling for cell in missing for spelling in (cell, cell.upper(), cell.title())} | {"NaN", "-NaN"})


def _read_exactly(
    layout: Layout, block: Block, columns: ColumnsToRead, alone: set[int]
) -> tuple[ParsedTable, set[int]]:
    """Return the rows of some lines, and the numbers of the lines at which rows of several lines begin."""
    import pyarrow as pa

    places = layout.places()
    width = places[-1] + 1
    rows = list(split_rows(block.lines(), layout.delimiter, layout.quote, start=block.start, alone=alone))
    faults: dict[int, str] = {}
    for at, row in enumerate(rows):
        if len(row.cells) != width:
            there = "1 column" if len(row.cells) == 1 else f"{len(row.cells)} columns"
            faults[at] = row.fault or f"{there} instead of {width}"
    empty = [""] * width
    columns_of = [*zip(*(row.cells if len(row.cells) == width else empty for row in rows), strict=True)]
    found = columns_of or [()] * width
    texts = {
        str(at): pa.array([_without_escapes(cell) for cell in found[at]], pa.string())
        for at in {places[column] for column in columns.all()}
    }
    lines = np.array([row.first_line for row in rows], dtype=np.int64)
    table = _parse(layout, pa.table(texts), lines, columns, faults)
    return table, {row.first_line for row in rows if row.last_line > row.first_line}


def _without_escapes(cell: str) -> str:
    """Return a cell that arrow can hold; ``_fault_of_text`` says which byte was no text."""
    return cell if cell.isascii() or not ESCAPED.search(cell) else ESCAPED.sub(lambda found: f"\0{found[0]!a}", cell)


# ---- files of other formats


def _parts_of_rows(layout: Layout, columns: ColumnsToRead) -> Iterator[ParsedTable]:
    names = [str(number) for number in range(layout.rows.num_columns)]
    count = min(ROWS, max(1, NUMBERS_AT_A_TIME // len(layout.names))) if layout.lists else ROWS
    for start in range(0, layout.rows.num_rows, count):
        rows = layout.rows.slice(start, count).rename_columns(names)
        lines = np.arange(start + 1, start + 1 + rows.num_rows)
        if layout.lines is not None:
            lines = layout.lines[start : start + count]
        yield _parse(
            layout,
            rows,
            lines,
            columns,
            {at - start: layout.faults[at] for at in layout.faults if start <= at < start + count},
        )


# ---- cells


def _parse(
    layout: Layout, rows: Any, lines: NDArray[np.int64], columns: ColumnsToRead, faults: dict[int, str]
) -> ParsedTable:
    """Return the numbers and the codes of the texts of some rows, and add the reasons for bad rows to ``faults``."""
    places = layout.places()
    wanted = {*columns.all()} if layout.lists else set[int]()
    of_lists = numbers_of_lists(layout, rows, wanted, faults, missing=columns.missing)

    def cells_of(column: int) -> Any:
        return _as_cells(of_lists[column]) if column in of_lists else _whole(rows.column(str(places[column])))

    block = np.empty((len(lines), len(columns.numbers)), dtype=np.float32)
    for at, column in enumerate(columns.numbers):
        if column in of_lists:  # their faults are found
            block[:, at] = of_lists[column]
            continue
        cells = cells_of(column)
        with np.errstate(over="ignore"):
            block[:, at] = _numbers(layout, column, cells)
        for row, reason in _faults_of_numbers(layout, column, cells, block[:, at], missing=columns.missing):
            faults.setdefault(row, reason)
    exact = np.empty((len(lines), len(columns.exact)), dtype=np.float64)
    exact_faults = dict[tuple[int, int], str]()
    for at, column in enumerate(columns.exact):
        cells = cells_of(column)
        exact[:, at] = _numbers(layout, column, cells)
        for row, reason in _faults_of_numbers(layout, column, cells, exact[:, at], missing=columns.missing):
            exact_faults[row, at] = reason
    codes = np.empty((len(columns.texts), len(lines)), dtype=np.int64)
    for at, (column, known) in enumerate(columns.texts):
        codes[at], wrong = _codes(layout, cells_of(column), known)
        _add_faults(faults, wrong, layout.names[column], may_be_empty=columns.may_be_empty)
    levels = np.empty((len(columns.levels), len(lines)), dtype=np.int64)
    for at, (column, known) in enumerate(columns.levels):
        levels[at], wrong = _codes(layout, cells_of(column), known, no_text=layout.missing - LEVELS)
        _add_faults(faults, wrong, layout.names[column], may_be_empty=columns.missing)
    names = np.full(len(lines), -1)
    if columns.names is not None:
        names, _ = _codes(layout, cells_of(columns.names[0]), columns.names[1])
    return ParsedTable(lines, block, codes, levels, faults, exact, exact_faults, names)


def _add_faults(faults: dict[int, str], wrong: Mapping[int, str], name: str, *, may_be_empty: bool) -> None:
    """Add the reasons for wrong texts of a column to the faults of rows that have none yet."""
    for row, reason in wrong.items():
        if reason != EMPTY or not may_be_empty:
            faults.setdefault(row, f"{name}: {reason}")


def _as_cells(numbers: NDArray[np.float64]) -> Any:
    """Return numbers as arrow texts, as a file writes them; null for NaN."""
    import pyarrow as pa

    texts = [None if np.isnan(number) else f"{number:.17g}" for number in numbers.tolist()]
    return pa.array(texts, pa.string())


def _whole(column: Any) -> Any:
    found = column.combine_chunks()
    found = found.chunk(0) if hasattr(found, "num_chunks") and found.num_chunks else found
    return texts_of(found) if is_text(found) else found


def _numbers(layout: Layout, column: int, cells: Any) -> NDArray[np.float64]:
    """Return the numbers of a column; NaN where a cell is missing or holds no number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    form = layout.forms[column] or PLAIN_FORM
    values = form.parse(cells) if is_text(cells) else numbers_of(cells) - form.origin
    if layout.blank:
        texts = pc.utf8_lower(pc.utf8_trim_whitespace(texts_of(cells)))
        values = np.where(
            pc.is_in(texts, pa.array(sorted(layout.blank))).to_numpy(zero_copy_only=False), np.nan, values
        )
        numbers = form.numbers([*layout.blank])
        values[np.isin(values, [number for number in numbers if not np.isnan(number)])] = np.nan
    return values


def _are_missing(layout: Layout, cells: Any) -> NDArray[np.bool_]:
    """Return whether each cell means a missing number by its text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    missing = pc.is_null(cells)
    if is_text(cells):
        texts = pc.utf8_lower(pc.utf8_trim_whitespace(cells))
        missing = pc.or_(missing, pc.is_in(texts, pa.array(sorted(layout.missing))))
    return np.asarray(missing.to_numpy(zero_copy_only=False))


def _codes(
    layout: Layout, cells: Any, known: dict[str, int], no_text: Collection[str] = ()
) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Return the codes of texts, (cells,), and why a cell has none; each new text gets the next code.

    The cells ``no_text``, in lower case, are missing texts, besides those that ``dataset.missing_values`` names.
    """
    import pyarrow.compute as pc

    encoded = pc.dictionary_encode(texts_of(cells))
    reasons: dict[int, str] = {}
    table = np.full(len(encoded.dictionary) + 1, -1)  # the last entry is for a null
    for number, text in enumerate(encoded.dictionary.to_pylist()):
        if text in known:
            table[number] = known[text]
            continue
        reason = EMPTY if text.strip().lower() in no_text else _fault_of_text(layout, text)
        if reason:
            reasons[number] = reason
        else:
            table[number] = known.setdefault(text.strip(), len(known))
    indices = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    reasons[-1] = EMPTY
    bad = np.flatnonzero(np.isin(indices, [*reasons])).tolist()
    return table[indices], {row: reasons[int(indices[row])] for row in bad}


def _fault_of_text(layout: Layout, text: str) -> str:
    """Return why a cell has no text; empty if it has one."""
    if not text.strip() or text.strip().lower() in layout.blank:
        return EMPTY
    escaped = ESCAPE.search(text)
    return "" if escaped is None else f"byte 0x{escaped[1]} is no text"


def is_missing(reason: str) -> bool:
    """Return whether the reason for a bad row is a missing number, which ``ColumnsToRead.missing`` accepts."""
    cell = reason.rpartition(": ")[2]
    return cell == EMPTY or cell.endswith("means a missing number") or cell.removesuffix(NO_NUMBER).lower() in MISSING


def _faults_of_numbers(
    layout: Layout, column: int, cells: Any, numbers: NDArray[Any], *, missing: bool
) -> Iterator[tuple[int, str]]:
    """Yield each row whose cell in a column cannot be used, and why; ``numbers`` are those that the cells hold."""
    bad = ~np.isfinite(numbers)
    if missing and bad.any():
        bad &= ~_are_missing(layout, cells)
    for row in np.flatnonzero(bad).tolist():
        reason = _fault_of_number(layout, column, cells[row].as_py(), missing=missing)
        if reason is not None:
            yield row, f"{layout.names[column]}: {reason}"


def _fault_of_number(layout: Layout, column: int, cell: Any, *, missing: bool) -> str | None:
    """Return why a cell is not a finite number; None if the number is missing and ``missing`` allows that."""
    text = "" if cell is None else ESCAPE.sub(r"\\x\1", str(cell)).strip()
    is_missing = text.lower() in layout.missing
    if missing and is_missing:
        return None
    if not text:
        return EMPTY
    form: NumberForm = layout.forms[column] or PLAIN_FORM
    value = form.numbers([text])[0]
    if not is_missing and value in form.numbers([*layout.blank]):  # -999 means a missing number as -999.0 too
        return None if missing else f"{text} means a missing number"
    if is_missing or np.isnan(value):
        return text + NO_NUMBER
    return f"{text} is too large" if np.isfinite(value) else f"{text} is not finite"
