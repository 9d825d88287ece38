"""Columns of lists of numbers: read each number of a list as a column of its own."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.config.untrusted_files import check_file, need_memory, refusals_of
from trainer.data.readers.tables.layout import ColumnKey, Layout, ListColumn
from trainer.data.readers.tables.lines import PACKED
from trainer.data.readers.tables.list_cells import ListForm, find_list, read_lists
from trainer.data.readers.tables.number_cells import PLAIN_FORM

MEMORY = 12  # bytes that a number takes while it is read: float32, a copy of it, and a block as float64
PACKING = 5  # bytes that a byte of a packed file is taken for
LOOKED_AT = 100  # rows of which the first good list is shown
NUMBERS_AT_A_TIME = 1 << 22


def with_lists(layout: Layout, named: Sequence[ColumnKey | None], kept: str | None = None) -> Layout:
    """Return a layout in which each number of a column of lists is a column, such as ``pixels.0`` to ``pixels.2303``.

    Args:
        layout: the layout of a file with the columns as they are there.
        named: the columns that keys or a finished run name.
        kept: the sign between the labels in a cell; a column whose cells it divides stays as it is.

    Raises:
        ConfigError: the numbers need more memory than is free.
    """
    found, keys = dict[int, ListForm | str](), {*named}
    for column in (column for column, form in enumerate(layout.forms) if form is None):
        size = next(at for at in itertools.count() if f"{layout.names[column]}.{at}" not in keys)
        form = find_list(layout.cells(column), layout.missing, size)
        if form is not None and not (kept is not None and _divides(kept, form)):
            found[column] = form
    uneven = {column: what for column, what in found.items() if isinstance(what, str)}
    lists = {column: form for column, form in found.items() if isinstance(form, ListForm)}
    if not lists:
        return layout._replace(uneven=uneven)
    _need_memory(layout, lists)
    places = [
        column for column in range(len(layout.names)) for _ in range(lists[column].size if column in lists else 1)
    ]
    first_of = {column: at for at, column in reversed([*enumerate(places)])}
    columns = {column: range(first_of[column], first_of[column] + form.size) for column, form in lists.items()}
    names = [*layout.names]
    of_lists = {column: _names(layout.names[column], lists[column].size, layout.names) for column in lists}
    shown = _first_lists(layout, lists)
    return layout._replace(
        names=[name for column, name in enumerate(names) for name in of_lists.get(column, [name])],
        unnamed=frozenset(first_of[column] for column in layout.unnamed),
        first=[[cell for at, own in enumerate(row) for cell in shown.get(at, (own,))] for row in layout.first],
        forms=[PLAIN_FORM if column in lists else layout.forms[column] for column in places],
        unclear={first_of[column]: cell for column, cell in layout.unclear.items()},
        lists=tuple(ListColumn(names[column], column, columns[column], form) for column, form in lists.items()),
        in_file=layout,
        uneven={first_of[column]: what for column, what in uneven.items()},
    )


def _divides(separator: str, form: ListForm | str) -> bool:
    """Return whether a separator of labels is that of lists without brackets."""
    if isinstance(form, str):
        return True
    return form.brackets == 0 and (separator.strip() or " ") == ("," if form.commas else " ")


def _names(name: str, size: int, others: Collection[str]) -> list[str]:
    """Return the names of the numbers of a list, none of which is that of another column."""
    form = "{}.{}" if {*others}.isdisjoint(f"{name}.{at}" for at in range(size)) else "{}[{}]"
    return [form.format(name, at) for at in range(size)]


def _first_lists(layout: Layout, lists: Mapping[int, ListForm]) -> dict[int, list[str]]:
    """Return the cells that stand for each list in all of the first rows: those of the first list.

    That a number differs or repeats must not make it an identifier or a target.
    """
    import pyarrow as pa

    shown = {}
    for column, form in lists.items():
        matrix, faults = read_lists(
            pa.array(layout.cells(column)[:LOOKED_AT], pa.string()), form, [""] * (form.size + 1), missing=False
        )
        good = next((row for row in range(len(matrix)) if row not in faults), None)
        shown[column] = ["0"] * form.size if good is None else [f"{number:g}" for number in matrix[good].tolist()]
    return shown


def _need_memory(layout: Layout, lists: Mapping[int, ListForm]) -> None:
    """Raise ConfigError if the numbers in all lists of a file need more memory than is free."""
    numbers = sum(form.size for form in lists.values())
    with refusals_of(layout.file, "dataset.path"):
        if layout.rows is not None:
            num_rows = layout.rows.num_rows
        else:
            size = check_file(layout.file).st_size * (PACKING if layout.file.suffix.lower() in PACKED else 1)
            num_rows = size * len(layout.first) // sum(len(cell) + 1 for row in layout.first for cell in row)
        need_memory(MEMORY * numbers * num_rows, layout.file)


def numbers_of_lists(
    layout: Layout, rows: Any, columns: Collection[int], faults: dict[int, str], *, missing: bool
) -> dict[int, NDArray[np.float64]]:
    """Return the numbers of the columns that come from lists, (rows,) each, by their numbers in the layout.

    Args:
        layout: the layout of the file.
        rows: some rows of the file as an arrow table; the name of a column is its number in the file.
        columns: the columns to read.
        faults: receives why a row is bad, by its number.
        missing: whether numbers may be missing.
    """
    found = dict[int, NDArray[np.float64]]()
    for each in layout.lists:
        wanted = [column for column in each.columns if column in columns]
        if wanted:
            names = [each.name, *(layout.names[column] for column in each.columns)]
            cells = rows.column(str(each.number)).combine_chunks()
            matrix, reasons = read_lists(cells, each.form, names, missing=missing)
            found |= {column: matrix[:, column - each.columns.start] for column in wanted}
            for row, reason in reasons.items():
                faults.setdefault(row, reason)
    return found
