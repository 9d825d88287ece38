"""Texts in the columns of tables, and texts without labels for a finished run."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from trainer.config import ConfigError
from trainer.config.errors import reason_of
from trainer.config.messages import did_you_mean
from trainer.data.readers.files import Item, Problems
from trainer.data.readers.table_layout import ESCAPED, ColumnKey, one_character
from trainer.data.readers.text_files import (
    DOCUMENT,
    fault_of,
    is_good,
    read_text,
)

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
SURROGATE = re.compile("[\ud800-\udfff]")
JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (DOCUMENT, *DELIMITERS, *JSON_LINES)
# The usual names of columns. Where no key names a column, the first of these names that a table has is used.
TEXT_NAMES = ("text", "sentence", "review", "content", "document", "comment", "tweet", "message", "input", "title")
LABEL_NAMES = ("label", "class", "target", "category", "sentiment", "polarity", "language", "intent", "tag", "y")
LOOKED_AT = 100  # rows from which the columns of texts and labels are detected


class TextColumns(NamedTuple):
    """The columns of a table, as ``dataset.input``, ``target``, ``header`` and ``delimiter`` describe them."""

    input: ColumnKey | list[ColumnKey] | None
    target: ColumnKey | None
    header: bool | Literal["auto"]
    delimiter: str | None

    @property
    def inputs(self) -> list[ColumnKey]:
        """The columns that ``dataset.input`` names."""
        return [self.input] if isinstance(self.input, str | int) else self.input or []

    def has_table(self, file: Path) -> bool:
        """Return whether a file is read as a table; if ``dataset.delimiter`` is set, every file is."""
        return file.suffix.lower() in (*DELIMITERS, *JSON_LINES) or self.delimiter is not None


# ---- labelled texts, for a data set


def table_texts(split: str, file: Path, columns: TextColumns, encoding: str, problems: Problems) -> Iterator[Item]:
    """Yield every labelled text of a table or a file of JSON lines.

    Raises:
        ConfigError: the file has no known format, or a column is missing.
    """
    if not columns.has_table(file):
        raise ConfigError(
            f"dataset.path: {file}: must end in {', '.join([*DELIMITERS, *JSON_LINES])}, or be a folder of <class>.txt "
            "with a text a line, or of class folders with a text a file; dataset.delimiter reads any file as a table"
        )
    labelled = _labelled_objects if file.suffix.lower() in JSON_LINES else _labelled_rows
    for place, text, label in labelled(file, columns, encoding, problems):
        if is_good(text, place, encoding, problems):
            if label.strip():
                yield Item(split, label.strip(), place, text)
            else:
                problems.add(place, "no label")


def _labelled_objects(
    file: Path, columns: TextColumns, encoding: str, problems: Problems
) -> Iterator[tuple[str, str, str]]:
    """Yield the place, the text and the label of each line of a JSON lines file."""
    rows: list[tuple[str, dict[str, str]]] = []
    for place, row, fault in _json_objects(file, encoding):
        if fault:
            problems.add(place, fault)
        else:
            rows.append((place, row))
    if not rows:
        return
    names = list(dict.fromkeys(name for _, row in rows[:LOOKED_AT] for name in row))
    texts, target = _choose(file, columns, names, [[*row.values()] for _, row in rows[:LOOKED_AT]], named=True)
    for place, row in rows:
        missing = [name for name in (*texts, target) if name not in row]
        if missing:
            problems.add(place, f"no {missing[0]}; keys: {', '.join(row)}")
        else:
            yield place, " ".join(row[name] for name in texts), row[target]


def _labelled_rows(
    file: Path, columns: TextColumns, encoding: str, problems: Problems
) -> Iterator[tuple[str, str, str]]:
    """Yield the place, the text and the label of each row of a table."""
    rows = _csv_rows(file, columns, encoding)
    if not rows:
        return
    first = rows[0].cells
    header = columns.header
    if header == "auto":
        header = _has_usual_name(first) or any(isinstance(key, str) for key in (*columns.inputs, columns.target))
    names = [cell.strip() for cell in first] if header else [str(number) for number in range(len(first))]
    rows = rows[header:]
    texts, target = _choose(file, columns, names, [row.cells for row in rows[:LOOKED_AT]], named=header)
    chosen, label = [names.index(name) for name in texts], names.index(target)
    if columns.header == "auto" and not header and _is_header(first, [row.cells for row in rows[1:]], label):
        rows = rows[1:]
    for row in rows:
        place, cells = f"{file}:{row.first_line}", row.cells
        if len(cells) != len(names):
            count = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
            problems.add(place, f"{count} instead of {len(names)}")
        else:
            yield place, " ".join(cells[at] for at in chosen), cells[label]


def _is_header(first: Sequence[str], rows: Sequence[Sequence[str]], label: int) -> bool:
    """Return whether the first line is a header: no other line has its label, while the other labels repeat."""
    labels = [cells[label] for cells in rows if len(cells) == len(first)]
    return first[label] not in labels and len({*labels}) * 2 <= len(labels)


def _choose(
    file: Path, columns: TextColumns, names: Sequence[str], rows: Sequence[Sequence[str]], *, named: bool
) -> tuple[list[str], str]:
    """Return the names of the text columns and of the label column; guess the columns that no key names.

    Raises:
        ConfigError: a column does not exist, or cannot be guessed.
    """

    def find(key: str, wanted: ColumnKey) -> str:
        if isinstance(wanted, int):
            if 0 <= wanted < len(names):
                return names[wanted]
            raise ConfigError(f"dataset.{key}: {wanted}: {file} has the columns 0 to {len(names) - 1}")
        if not named:
            raise ConfigError(f"dataset.{key}: {wanted}: with dataset.header=false a column is a number, from 0")
        if wanted not in names:
            hint = did_you_mean(wanted, names) or ";"
            raise ConfigError(f"dataset.{key}: {wanted}: {file} has no such column{hint} columns: {', '.join(names)}")
        return wanted

    texts = [find("input", each) for each in columns.inputs]
    target = None if columns.target is None else find("target", columns.target)
    by_name = {name.lower(): name for name in reversed(names) if named}
    if target is None:
        target = next((by_name[name] for name in LABEL_NAMES if name in by_name and by_name[name] not in texts), None)
    if not texts:
        texts = [by_name[name] for name in TEXT_NAMES if name in by_name and by_name[name] != target][:1]
    others = [name for name in names if name != target and name not in texts]
    if not texts and target is None and len(names) == 2:  # the column with the longer cells holds the texts
        length = [sum(len(row[at]) for row in rows if len(row) == 2) for at in (0, 1)]
        texts = [names[length.index(max(length))]]
        others = [name for name in names if name not in texts]
    if not texts and len(others) == 1:
        texts = others
    elif target is None and len(others) == 1:
        target = others[0]
    if texts and target is not None:
        return texts, target
    key, what = ("target", "label") if texts else ("input", "text")
    hint = "; is the sign between them another one? dataset.delimiter=';'" if len(names) == 1 else ""
    raise ConfigError(
        f"dataset.{key}: null: which column of {file} holds the {what}? columns: {', '.join(names)}{hint}"
    )


# ---- texts without labels, for a finished run


def texts_without_labels(
    file: Path, name: str, columns: TextColumns, encoding: str, *, whole: bool
) -> Iterator[tuple[str, str, str]]:
    """Yield the place of each text in a file, the text, and the reason why it cannot be used; empty for a good text.

    Args:
        file: a table, a file of JSON lines, or a text file.
        name: the file as the user named it.
        columns: the columns of the training data.
        encoding: the encoding of the file.
        whole: read a text file as one text; otherwise each of its lines is a text.

    Raises:
        ConfigError: the file cannot be read.
    """
    if columns.has_table(file):
        yield from _rows_without_labels(file, columns, encoding)
        return
    content = read_text(file, encoding)
    if "\0" in content:
        yield name, "", "is no text"
    elif whole:
        yield name, content.strip(), fault_of(content, encoding)
    else:
        for number, line in enumerate(content.split("\n"), 1):
            if line.strip():
                yield f"{name}:{number}", line.strip(), fault_of(line, encoding)


def _rows_without_labels(file: Path, columns: TextColumns, encoding: str) -> Iterator[tuple[str, str, str]]:
    if file.suffix.lower() in JSON_LINES:
        rows = list(_json_objects(file, encoding))
    else:
        table = _csv_rows(file, columns, encoding)
        names = [cell.strip() for cell in table[0].cells] if table else []
        header = columns.header
        if header == "auto":  # unlike in training, a column that a key names may be missing
            header = _has_usual_name(names) or any(key in names for key in (*columns.inputs, columns.target))
        if not header:
            names = [str(number) for number in range(len(names))]
        rows = []
        for row in table[header:]:
            count = len(row.cells)
            fault = "" if count == len(names) else f"{count} columns instead of {len(names)}"
            rows.append((f"{file}:{row.last_line}", dict(zip(names, row.cells, strict=False)), fault))
    names = [*dict.fromkeys(name for _, cells, _ in rows for name in cells)]
    chosen = _known_columns(columns, names) or (names if len(names) == 1 else [])
    if rows and not chosen:
        yield str(file), "", f"which column holds the text? dataset.input=NAME says so; columns: {', '.join(names)}"
        return
    for place, cells, fault in rows:
        missing = [name for name in chosen if name not in cells]
        reason = fault or (f"no {missing[0]}" if missing else "")
        yield place, "" if reason else " ".join(cells[name] for name in chosen), reason


def _known_columns(columns: TextColumns, names: Sequence[str]) -> list[str]:
    """Return the text columns that ``dataset.input`` names, or else the one with a usual name; empty if not found."""
    if columns.inputs:
        found = [names[key] if isinstance(key, int) and 0 <= key < len(names) else key for key in columns.inputs]
        return [str(name) for name in found] if all(name in names for name in found) else []
    lower = {name.lower(): name for name in reversed(names)}
    return [lower[name] for name in TEXT_NAMES if name in lower][:1]


# ---- files


class _CsvRow(NamedTuple):
    """A row of a table; it may span several lines, as a cell in quotes may."""

    first_line: int
    last_line: int
    cells: list[str]


def _csv_rows(file: Path, columns: TextColumns, encoding: str) -> list[_CsvRow]:
    """Return the rows of a CSV or TSV file, without blank rows."""
    delimiter = one_character(columns.delimiter or DELIMITERS[file.suffix.lower()])
    csv.field_size_limit(sys.maxsize)
    # Quotes are ordinary characters in tab-separated values (IANA text/tab-separated-values).
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(io.StringIO(read_text(file, encoding), newline=""), delimiter=delimiter, quoting=quoting)
    rows = []
    line = 1
    try:
        for cells in reader:
            if cells:
                rows.append(_CsvRow(line, reader.line_num, cells))
            line = reader.line_num + 1
    except csv.Error as error:  # a null byte, before Python 3.11
        raise ConfigError(f"dataset.path: {file}:{line}: cannot be read: {error}") from error
    return rows


def _json_objects(file: Path, encoding: str) -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield the place of each line of a JSON lines file, its values as texts, and why it is bad, if it is."""
    for number, line in enumerate(read_text(file, encoding).split("\n"), 1):
        if not line.strip():
            continue
        place = f"{file}:{number}"
        try:
            row = json.loads(line)
            cells = {name: _as_text(value) for name, value in row.items()} if isinstance(row, dict) else None
        except (ValueError, RecursionError) as error:
            yield place, {}, f"no JSON: {reason_of(error)}"
            continue
        if cells is not None and SURROGATE.search("".join(cells.values())) and not ESCAPED.search(line):
            yield place, {}, "holds a lone surrogate, such as \\ud800, which is half of a character"
        elif cells is not None:
            yield place, cells, ""
        else:
            yield place, {}, f"must be an object with keys, got {type(row).__name__}"


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _has_usual_name(cells: Sequence[str]) -> bool:
    return any(cell.strip().lower() in (*TEXT_NAMES, *LABEL_NAMES) for cell in cells)
