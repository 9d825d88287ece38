"""Find the files that the rows of a table name, such as the table of test pictures of a competition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.commands.predict.named_files import NamedFile
from trainer.config import ConfigError
from trainer.config.untrusted_files import at_home
from trainer.data.readers.labels.file_columns import ColumnFinder, FileTableKeys
from trainer.data.readers.labels.file_index import FileIndex, NotOneFileError
from trainer.data.readers.tables.layout import Layout, table_keys_of
from trainer.data.readers.tables.parsing import ColumnsToRead, read_layout, read_table


def files_of_table(table: Path, config: Mapping[str, Any], suffixes: Sequence[str], noun: str) -> Iterator[NamedFile]:
    """Yield the file of each row.

    The files are below the folder of the table or, if none of them is there, below ``dataset.path``.

    Args:
        table: the table.
        config: the keys of the data set of the run.
        suffixes: the suffixes of the files in lower case, with the dot.
        noun: what a file holds, for messages.
    """
    path, column, encoding = config.get("path"), config.get("input"), str(config.get("encoding", "utf-8"))
    roots = [table.parent, *([at_home(path, "dataset.path")] if isinstance(path, str) else [])]
    indices = [FileIndex(root, suffixes, (table.parent,)) for root in roots if root.is_dir()]
    try:
        layout = read_layout(table, table_keys_of({"encoding": encoding}), named=[column])
        index, file = _find_column(layout, indices, column, noun)
        known: dict[str, int] = {}
        found = read_table(layout, ColumnsToRead((), [(file, known)], may_be_empty=True))
    except ConfigError as error:
        yield NamedFile(str(table), None, str(error).replace(f"dataset.path: {table}: ", ""))
        return
    cells = [*known, ""]  # the last one is for the code -1
    for row, (line, code) in enumerate(zip(found.lines.tolist(), found.texts[0].tolist(), strict=True)):
        cell, place = cells[code], layout.place(line)
        try:
            if fault := found.faults.get(row, "" if cell else "no file"):
                raise NotOneFileError(fault)
            path_of = index.find(cell)
            yield NamedFile(path_of, Path(path_of), id=cell)
        except NotOneFileError as error:
            yield NamedFile(place, None, str(error), cell)


def _find_column(
    layout: Layout, indices: Sequence[FileIndex], column: str | int | None, noun: str
) -> tuple[FileIndex, int]:
    """Return the files that a table names, and its column of files.

    Raises:
        ConfigError: no column names files.
    """
    keys = FileTableKeys(
        labels=None, input=column, target=None, split=None, fold=None, group=None, encoding=layout.encoding
    )
    best: tuple[int, FileIndex, int] | None = None
    for index in indices:
        finder = ColumnFinder(layout, index, keys, noun)
        try:
            file = layout.find("input", column) if column in layout.names else finder.find_file()
        except ConfigError:
            if index is indices[-1] and best is None:
                raise
            continue
        hits = sum(bool(index.matches(cell)) for cell in {*layout.cells(file)})
        best = (hits, index, file) if best is None or hits > best[0] else best
    assert best is not None
    return best[1:]
