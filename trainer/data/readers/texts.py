"""Finding labelled texts in files: columns of a table, lines of a class, documents of a class."""

from __future__ import annotations

import codecs
import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from trainer.config import ConfigError
from trainer.config.messages import did_you_mean
from trainer.data.readers.files import SPLITS, Item, Problems, class_folders, folders_in, natural, roots
from trainer.data.readers.tables import ESCAPED

TABLES = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
LINES_OF_JSON = (".jsonl", ".ndjson")
DOCUMENT = ".txt"
# What columns are called, for those that are not named; the first one found counts.
TEXT_NAMES = ("text", "sentence", "review", "content", "document", "comment", "tweet", "message", "input", "title")
LABEL_NAMES = ("label", "class", "target", "category", "sentiment", "polarity", "language", "intent", "tag", "y")
ABOUT = ("readme", "license", "licence", "changelog", "notes", "about")  # files that are no class
LOOKED_AT = 100  # rows, to tell texts from labels

Column = str | int


class Row(NamedTuple):
    """A line of a table."""

    place: str
    text: str
    label: str


class Columns(NamedTuple):
    """Which columns of a table hold what, as ``dataset.input``, ``target``, ``header`` and ``delimiter`` say."""

    input: Column | list[Column] | None
    target: Column | None
    header: bool | Literal["auto"]
    delimiter: str | None


def find_texts(dataset: str, path: Any, columns: Columns, encoding: str, problems: Problems) -> Iterator[Item]:
    """Every labelled text under ``dataset.path``, of a file or a folder, with its place (``file:line``).

    Raises:
        ConfigError: nothing of a known form is there, or a column is not.
    """
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        raise ConfigError(f"dataset.encoding: {encoding}: no such encoding; such as utf-8, latin-1, cp1252") from error
    for split, root in roots(dataset, path).items():
        if root.is_file():
            yield from _file(split, root, columns, encoding, problems)
            continue
        tables = {
            SPLITS[file.stem.lower()]: file for file in _inside(root) if _is_table(file) and file.stem.lower() in SPLITS
        }
        if not split and "train" in tables:
            for part, file in tables.items():
                yield from _file(part, file, columns, encoding, problems)
            continue
        parts = {SPLITS[folder.name.lower()]: folder for folder in folders_in(root) if folder.name.lower() in SPLITS}
        if split or "train" not in parts:
            parts = {split: root}
        for part, folder in parts.items():
            files = [file for file in _inside(folder) if file.suffix == DOCUMENT]
            classes = [file for file in files if file.stem.lower() not in ABOUT]
            documents = any(True for each in folders_in(folder) for _ in each.glob(f"*{DOCUMENT}"))
            ignored = files if documents else [file for file in files if file not in classes]
            if ignored:
                why = "stand beside class folders" if documents else "say something about the data by their names"
                names = ", ".join(file.name for file in ignored[:3])
                problems.notes.append(f"{folder}: {len(ignored)} files {why} and are left out: {names}")
            if classes and not documents:
                for file in classes:
                    yield from _lines_of_class(part, file, encoding, problems)
            else:
                yield from _documents(dataset, part, folder, encoding, problems)


def _inside(folder: Path) -> list[Path]:
    files = (file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    return sorted(files, key=lambda file: natural(file.name))


def _is_table(file: Path) -> bool:
    return file.suffix.lower() in (*TABLES, *LINES_OF_JSON)


def _file(split: str, file: Path, columns: Columns, encoding: str, problems: Problems) -> Iterator[Item]:
    if file.suffix.lower() in LINES_OF_JSON:
        rows = _json_rows(file, columns, encoding, problems)
    elif file.suffix.lower() in TABLES or columns.delimiter is not None:
        rows = _table_rows(file, columns, encoding, problems)
    else:
        raise ConfigError(
            f"dataset.path: {file}: must end in {', '.join([*TABLES, *LINES_OF_JSON])}, or be a folder of <class>.txt "
            "with a text a line, or of class folders with a text a file; dataset.delimiter reads any file as a table"
        )
    for place, text, label in rows:
        if is_text(text, place, encoding, problems):
            if label.strip():
                yield Item(split, label.strip(), place, text)
            else:
                problems.add(place, "no label")


def is_text(text: str, place: str, encoding: str, problems: Problems) -> bool:
    """Whether it is one that can be used; else a problem."""
    wrong = ESCAPED.search(text)
    if wrong is not None:
        line = text.count("\n", 0, wrong.start())
        where = f" in line {line + 1} of it" if line else ""
        hint = "; dataset.encoding=latin-1 or cp1252 may be right" if encoding.lower() in ("utf-8", "utf8") else ""
        problems.add(place, f"byte 0x{ord(wrong[0]) - 0xDC00:02x} is no {encoding}{where}{hint}")
    elif not text.strip():
        problems.add(place, "no text")
    else:
        return True
    return False


def read_text(file: Path, encoding: str) -> str:
    """The text of a file; a byte that is none stands in it escaped, so that its line can be named."""
    try:
        content = file.read_bytes().decode(encoding, errors="surrogateescape")
    except (UnicodeError, LookupError):  # of encodings that cannot escape, such as utf-16
        content = file.read_bytes().decode(encoding, errors="replace")
    except OSError as error:
        raise ConfigError(f"dataset.path: {file}: cannot be read: {error.strerror}") from error
    return content.removeprefix("\ufeff")


def _lines_of_class(split: str, file: Path, encoding: str, problems: Problems) -> Iterator[Item]:
    """A file ``<class>.txt``: each line that is not blank is a sample."""
    empty = True
    for number, line in enumerate(read_text(file, encoding).split("\n"), 1):
        text = line.strip()
        if text:
            empty = False
            if is_text(text, f"{file}:{number}", encoding, problems):
                yield Item(split, file.stem, f"{file}:{number}", text)
    if empty:
        problems.add(file, "a class without a line")


def _documents(dataset: str, split: str, folder: Path, encoding: str, problems: Problems) -> Iterator[Item]:
    """Class folders with one text in each file."""
    for item in class_folders(dataset, {"train": str(folder)}, problems):
        text = read_text(item.content, encoding)
        if is_text(text, item.place, encoding, problems):
            yield Item(split, item.label, item.place, text)


def _json_rows(file: Path, columns: Columns, encoding: str, problems: Problems) -> Iterator[Row]:
    rows: list[tuple[str, dict[str, Any]]] = []
    for number, line in enumerate(read_text(file, encoding).split("\n"), 1):
        place = f"{file}:{number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.add(place, f"no JSON: {error}")
            continue
        if isinstance(row, dict):
            rows.append((place, row))
        else:
            problems.add(place, f"must be an object with keys, got {type(row).__name__}")
    if not rows:
        return
    cells = [[as_text(value) for value in row.values()] for _, row in rows[:LOOKED_AT]]
    names = list(dict.fromkeys(name for _, row in rows[:LOOKED_AT] for name in row))
    texts, target = _pick(file, columns, names, cells, named=True)
    for place, row in rows:
        missing = [name for name in (*texts, target) if name not in row]
        if missing:
            problems.add(place, f"no {missing[0]}; keys: {', '.join(row)}")
        else:
            yield Row(place, " ".join(as_text(row[name]) for name in texts), as_text(row[target]))


def _table_rows(file: Path, columns: Columns, encoding: str, problems: Problems) -> Iterator[Row]:
    delimiter = columns.delimiter or TABLES[file.suffix.lower()]
    csv.field_size_limit(sys.maxsize)
    # quotes are no part of the format of tabs (IANA text/tab-separated-values): there they are signs like others
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(io.StringIO(read_text(file, encoding), newline=""), delimiter=delimiter, quoting=quoting)
    rows: list[tuple[str, list[str]]] = []
    line = 1
    for cells in reader:
        if cells:
            rows.append((f"{file}:{line}", cells))
        line = reader.line_num + 1
    if not rows:
        return
    first = rows[0][1]
    asked = [*(columns.input if isinstance(columns.input, list) else [columns.input]), columns.target]
    known = {cell.strip().lower() for cell in first} & {*TEXT_NAMES, *LABEL_NAMES}
    header = bool(known) or any(isinstance(name, str) for name in asked) if columns.header == "auto" else columns.header
    names = [cell.strip() for cell in first] if header else [str(number) for number in range(len(first))]
    rows = rows[header:]
    texts, target = _pick(file, columns, names, [cells for _, cells in rows[:LOOKED_AT]], named=header)
    chosen, label = [names.index(name) for name in texts], names.index(target)
    if columns.header == "auto" and not header and _is_header(first, [cells for _, cells in rows[1:]], label):
        rows = rows[1:]
    for place, cells in rows:
        if len(cells) != len(names):
            columns_there = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
            problems.add(place, f"{columns_there} instead of {len(names)}")
        else:
            yield Row(place, " ".join(cells[at] for at in chosen), cells[label])


def _is_header(first: Sequence[str], rows: Sequence[Sequence[str]], label: int) -> bool:
    """Whether the first line names the columns: its label is no other line's, while theirs come again and again."""
    labels = [cells[label] for cells in rows if len(cells) == len(first)]
    return first[label] not in labels and len({*labels}) * 2 <= len(labels)


def _pick(
    file: Path, columns: Columns, names: Sequence[str], rows: Sequence[Sequence[str]], *, named: bool
) -> tuple[list[str], str]:
    """The names of the columns with the text and of the one with the label; those not asked for are guessed.

    Raises:
        ConfigError: there is no such column, or it cannot be guessed.
    """

    def find(key: str, wanted: Column) -> str:
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

    asked = columns.input if isinstance(columns.input, list) else [columns.input]
    texts = [find("input", each) for each in asked if each is not None]
    target = None if columns.target is None else find("target", columns.target)
    by_name = {name.lower(): name for name in reversed(names) if named}
    if target is None:
        target = next((by_name[name] for name in LABEL_NAMES if name in by_name and by_name[name] not in texts), None)
    if not texts:
        texts = [by_name[name] for name in TEXT_NAMES if name in by_name and by_name[name] != target][:1]
    others = [name for name in names if name != target and name not in texts]
    if not texts and target is None and len(names) == 2:
        length = [sum(len(row[at]) for row in rows if len(row) == 2) for at in (0, 1)]
        texts = [names[length.index(max(length))]]
        others = [name for name in names if name not in texts]
    if not texts and len(others) == 1:
        texts = others
    elif target is None and len(others) == 1:
        target = others[0]
    for key, found in (("input", texts), ("target", target)):
        if not found:
            what = "text" if key == "input" else "label"
            one = "; is the sign between them another one? dataset.delimiter=';'" if len(names) == 1 else ""
            raise ConfigError(
                f"dataset.{key}: null: which column of {file} holds the {what}? columns: {', '.join(names)}{one}"
            )
    assert target is not None
    return texts, target


def as_text(value: Any) -> str:
    """A value of JSON as a text or a label."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)
