"""Tables in formats other than delimited text: Parquet, Feather, JSON, ARFF and the series of the UCR archive."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainer.config import ConfigError
from trainer.config.errors import reason_of
from trainer.config.untrusted_files import check_file, need_memory
from trainer.data.readers.encodings import encoding_hint
from trainer.data.readers.tables.arrow_cells import (
    form_of,
    holds_numbers,
    is_nested,
    is_plain_type,
    is_text_type,
    texts_of,
)
from trainer.data.readers.tables.layout import LOOKED_AT, Layout, TableKeys, with_forms
from trainer.data.readers.tables.lines import blocks, plain_suffix
from trainer.data.readers.tables.rows import split_rows
from trainer.data.readers.tables.sparse import sparse_rows

PARQUET, FEATHER = (".parquet", ".pq"), (".feather", ".arrow", ".ipc")
JSON, JSON_LINES = (".json",), (".jsonl", ".ndjson")
ARFF, SERIES = (".arff",), (".ts",)
SUFFIXES = (*PARQUET, *FEATHER, *JSON, *JSON_LINES, *ARFF, *SERIES)
MEMORY = 4  # memory that a byte of a file takes while its rows are read
MAX_LABELS = 100  # of a list in a cell; longer ones are tokens or measured numbers
SURROGATE = re.compile("[\ud800-\udfff]")
ATTRIBUTE = re.compile(r"""@attribute\s+("[^"]*"|'[^']*'|\S+)\s+(.+)""", re.IGNORECASE)


def read_layout(file: Path, keys: TableKeys, suffix: str = "", *, lists: bool = False) -> Layout:
    """Return the layout of a file, together with its rows; its format is that of ``suffix`` or of its name.

    ``lists`` accepts columns of lists of numbers.

    Raises:
        ConfigError: the file cannot be read, or has no rows.
    """
    suffix = suffix or plain_suffix(file)
    if suffix in ARFF:
        return _arff_layout(file, keys)
    lines, faults, shape = None, dict[int, str](), None
    if suffix in (*PARQUET, *FEATHER):
        rows = _binary_rows(file, suffix)
    elif suffix in SERIES:
        rows, lines, shape = _series(file, keys["encoding"])
    else:
        objects, has_lines = _objects(file, _text(file, keys["encoding"]), suffix in JSON_LINES)
        rows, lines, faults = _as_rows(objects, has_lines=has_lines)
    if faults and not rows.num_columns:
        raise ConfigError(f"dataset.path: {file}: {faults[0]}")
    if not rows.num_rows:
        raise ConfigError(f"dataset.path: {file}: has no rows")
    kinds = rows.schema.types
    accepted = [is_plain_type(kind) or (lists and is_nested(kind) and holds_numbers(kind)) for kind in kinds]
    nested = [name for name, is_accepted in zip(rows.schema.names, accepted, strict=True) if not is_accepted]
    if nested:
        raise ConfigError(f"dataset.path: {file}: {nested[0]} holds lists or objects, and a cell is one value")
    names = list(rows.schema.names)
    layout = Layout(file, keys["encoding"], ",", True, names, frozenset(), 0, "", _some(rows), [])
    layout = with_forms(layout._replace(rows=rows, lines=lines, faults=faults, shape=shape), keys)
    pairs = zip(kinds, layout.forms, strict=True)
    return layout._replace(forms=[form if is_text_type(kind) else form_of(kind) for kind, form in pairs])


def _some(rows: Any) -> list[list[str]]:
    """Return rows spread over a table as texts, which show what its columns hold."""
    import pyarrow as pa

    some = rows.take(pa.array(np.linspace(0, rows.num_rows - 1, min(LOOKED_AT, rows.num_rows)).astype(np.int64)))
    columns = [["" if cell is None else cell for cell in _as_texts(each.combine_chunks())] for each in some]
    return [list(row) for row in zip(*columns, strict=True)]


def _as_texts(cells: Any) -> list[str | None]:
    if is_nested(cells.type):
        return [None if cell is None else json.dumps(cell, default=str) for cell in cells.to_pylist()]
    return [*texts_of(cells).to_pylist()]


# ---- Parquet and Feather


def _binary_rows(file: Path, suffix: str) -> Any:
    import pyarrow as pa
    from pyarrow import feather, parquet

    try:
        check_file(file)
        if suffix in PARQUET:
            info = parquet.ParquetFile(file).metadata
            sizes = [info.row_group(group).total_byte_size for group in range(info.num_row_groups)]
            need_memory(2 * sum(sizes), file)
            rows = parquet.ParquetFile(file).read()
        else:
            need_memory(2 * file.stat().st_size, file)
            rows = feather.read_table(file, memory_map=False)
    except (OSError, pa.ArrowException, ValueError) as error:
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise ConfigError(f"dataset.path: {file}: cannot be read: {reason}") from error
    for at, kind in enumerate(rows.schema.types):
        if pa.types.is_string_view(kind):  # of which arrow takes no rows
            rows = rows.set_column(at, rows.schema.names[at], rows.column(at).cast(pa.string()))
        elif _holds_labels(rows.column(at)):
            lists = pa.array(map(_cell, rows.column(at).to_pylist()), pa.string())
            rows = rows.set_column(at, rows.schema.names[at], lists)
    index = [name for name in rows.schema.names if re.fullmatch(r"__index_level_[0-9]+__", name)]
    return rows.drop_columns(index) if index else rows


def _holds_labels(cells: Any) -> bool:
    """Return whether an arrow array has lists of a few texts or whole numbers, which may be several labels."""
    import pyarrow as pa
    from pyarrow import compute

    kind = cells.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    if not (is_text_type(kind.value_type) or pa.types.is_integer(kind.value_type)):
        return False
    return (compute.max(compute.list_value_length(cells)).as_py() or 0) <= MAX_LABELS


# ---- JSON


def _objects(file: Path, content: str, may_be_lines: bool) -> tuple[Iterator[tuple[int, Any, str]], bool]:
    """Return the rows of a JSON file, each with its number and why it is bad, and whether a line is a row.

    The content decides it, as many files with an object on each line end in ``.json``.
    """
    is_list = content.lstrip().startswith("[")
    if may_be_lines and not is_list:
        return _json_lines(content), True
    try:
        return _json_rows(file, json.loads(content)), False
    except (ValueError, RecursionError) as error:
        if may_be_lines or (not is_list and content.count("\n") and _is_object(content.lstrip().split("\n", 1)[0])):
            return _json_lines(content), True
        raise ConfigError(f"dataset.path: {file}: no JSON: {reason_of(error)}") from error


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _json_rows(file: Path, found: Any) -> Iterator[tuple[int, Any, str]]:
    """Yield the number from 1 and the object of each row of a JSON document, as pandas and others write it.

    The document is a list of objects, an object of lists, or an object of objects with a key for each row.
    """
    rows = _rows_in(found) if isinstance(found, dict) else found
    if not isinstance(rows, list):
        raise ConfigError(f"dataset.path: {file}: must be a list of objects, each of which is a row")
    if rows and all(isinstance(row, list) for row in rows):
        rows = [{str(number): cell for number, cell in enumerate(row)} for row in rows]
    for number, row in enumerate(rows, 1):
        yield number, row, "" if isinstance(row, dict) else f"must be an object with keys, got {type(row).__name__}"


def _rows_in(found: dict[str, Any]) -> list[Any] | None:
    """Return the rows of an object as pandas writes tables, in any of its orientations; None if it is no table."""
    if isinstance(found.get("columns"), list) and isinstance(found.get("data"), list):
        names = [str(name) for name in found["columns"]]
        return [dict(zip(names, row, strict=False)) if isinstance(row, list) else row for row in found["data"]]
    lists = [each for each in found.values() if isinstance(each, list) and each]
    of_objects = [each for each in lists if all(isinstance(row, dict) for row in each)]
    if len(of_objects) == 1:
        return of_objects[0]
    if len(lists) == len(found) and len({*map(len, lists)}) == 1:
        return [dict(zip(found, row, strict=True)) for row in zip(*lists, strict=True)]
    parts = [each for each in found.values() if isinstance(each, dict)]
    if not parts or len(parts) < len(found):
        return None
    inner = dict.fromkeys(key for part in parts for key in part)
    if all(map(str.isdecimal, inner)) and not all(map(str.isdecimal, found)):  # a column is an object of rows
        return [{name: found[name].get(key) for name in found} for key in inner]
    return parts  # a row is an object of columns


def _json_lines(content: str) -> Iterator[tuple[int, Any, str]]:
    """Yield the number and the object of each line that is not blank, and why it is bad, if it is."""
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, {}, f"no JSON: {reason_of(error)}"
            continue
        yield number, row, "" if isinstance(row, dict) else f"must be an object with keys, got {type(row).__name__}"


def _text(file: Path, encoding: str) -> str:
    need_memory(MEMORY * check_file(file).st_size, file)
    content = b"".join(block.content for block in blocks(file, encoding, quote=""))
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        hint = encoding_hint(encoding)
        place = f"{file}:{content.count(bytes([10]), 0, error.start) + 1}"
        raise ConfigError(
            f"dataset.encoding: {encoding}: does not fit {place}: byte 0x{content[error.start]:02x} is no text"
            f"{hint and f'; {hint}'}"
        ) from error


def _as_rows(objects: Iterator[tuple[int, Any, str]], *, has_lines: bool) -> tuple[Any, Any, dict[int, str]]:
    """Return objects as an arrow table of texts, the number of each, and why some are bad, by their row."""
    import pyarrow as pa

    rows, numbers, faults = list[Mapping[str, Any]](), list[int](), dict[int, str]()
    for number, row, fault in objects:
        if fault:
            faults[len(rows)] = fault
        rows.append(row if isinstance(row, dict) else {})
        numbers.append(number)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        cells = [_cell(row.get(name)) for row in rows]
        for at, cell in enumerate(cells):
            if cell is not None and not cell.isascii() and SURROGATE.search(cell):
                faults.setdefault(at, f"{name}: holds a lone surrogate, such as \\ud800, which is half of a character")
                cells[at] = None
        columns[name] = pa.array(cells, pa.string())
    return pa.table(columns), np.array(numbers, dtype=np.int64) if has_lines else None, faults


def _cell(value: Any) -> str | None:
    return value if isinstance(value, str) or value is None else json.dumps(value, ensure_ascii=False)


# ---- ARFF, and the series of the UCR archive


def _directives(file: Path, encoding: str) -> tuple[list[str], list[str], int]:
    """Return the lines above the rows and some rows of a file in which ``@data`` begins the rows, and its line."""
    above: list[str] = []
    for block in blocks(file, encoding, quote=""):
        above += block.lines()
        at = next((number for number, line in enumerate(above) if line.strip().lower() == "@data"), None)
        if at is not None:
            return above[:at], above[at + 1 : at + 1 + LOOKED_AT], at + 1
        if len(above) > 100_000:
            break
    raise ConfigError(f"dataset.path: {file}: has no line @data")


def _arff_layout(file: Path, keys: TableKeys) -> Layout:
    """Return the layout of an ARFF file (Witten and Frank 2005), whose rows are delimited text below ``@data``."""
    above, some, skip = _directives(file, keys["encoding"])
    found = [match for line in above if (match := ATTRIBUTE.match(line.strip()))]
    names = [match[1].strip("'\"") for match in found]
    delimiter = "\t" if any("\t" in line for line in some) and not any("," in line for line in some) else ","
    quote = "'" if sum(line.count("'") for line in some) > sum(line.count('"') for line in some) else '"'
    if any(line.lstrip().startswith("{") for line in some):
        lines = enumerate(_text(file, keys["encoding"]).split("\n")[skip:], skip + 1)
        rows, numbers, faults = sparse_rows(file, names, [match[2] for match in found], [*lines], quote)
        layout = Layout(file, keys["encoding"], ",", True, names, frozenset(), 0, "", _some(rows), [])
        return with_forms(layout._replace(rows=rows, lines=np.array(numbers), faults=faults), keys)
    first = [row.cells for row in split_rows(some, delimiter, quote) if len(row.cells) == len(names)]
    if not first:
        raise ConfigError(f"dataset.path: {file}: has no row with its {len(names)} columns")
    return with_forms(
        Layout(file, keys["encoding"], delimiter, True, names, frozenset(), skip, quote, first, [], comment="%"), keys
    )


def _series(file: Path, encoding: str) -> tuple[Any, Any, tuple[int, int]]:
    """Return the rows of a file of the UCR archive (Bagnall et al. 2018) step by step, their lines, and their shape.

    Raises:
        ConfigError: the series have time stamps or different lengths, or no classes.
    """
    import pyarrow as pa

    above, _, skip = _directives(file, encoding)
    said = {
        word.lower(): rest
        for line in above
        if line.startswith("@")
        for word, _, rest in [line[1:].strip().partition(" ")]
    }
    if said.get("timestamps", "false").strip().lower() == "true":
        raise ConfigError(f"dataset.path: {file}: has time stamps, and its series must have values alone")
    rows, lines = list[list[list[str]]](), list[int]()
    for number, line in enumerate(_text(file, encoding).split("\n")[skip:], skip + 1):
        if line.strip():
            rows.append([part.strip().split(",") for part in line.strip().split(":")])
            lines.append(number)
    has_class = said.get("classlabel", said.get("targetlabel", "false")).strip().lower().startswith("true")
    sizes = {tuple(len(part) for part in row) for row in rows}
    if len(sizes) != 1 or not has_class or len({*next(iter(sizes))[:-1]}) != 1:
        why = "no class or target" if not has_class else "series of different lengths"
        raise ConfigError(f"dataset.path: {file}: has {why}; all series must have one length and a class")
    series = rows[0][:-1]
    steps, width = len(series[0]), len(series)
    columns = {
        f"{at}" if width == 1 else f"{at}.{dimension}": pa.array([row[dimension][at] for row in rows], pa.string())
        for at in range(steps)
        for dimension in range(width)
    }
    label_name = "class" if "classlabel" in said else "target"
    columns[label_name] = pa.array([row[-1][0] for row in rows], pa.string())
    return pa.table(columns), np.array(lines, dtype=np.int64), (steps, width)
