"""Rows that a program gives, with cells as Python has them, converted to raw rows of an encoding."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime, time, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainer.config.messages import did_you_mean
from trainer.data.readers.tables.encode_rows import NUMBERS, CellColumn, to_raw_rows
from trainer.data.readers.tables.layout import listed
from trainer.data.readers.tables.number_cells import LEVELS, MISSING, PLAIN_FORM, NumberForm
from trainer.data.table_encoding import TableEncoding

DAY = 86_400  # seconds
NO_VALUE = ("nat", "<na>")  # what pandas shows for a missing date and a missing number


class GivenRows:
    """Converts rows for a run that encodes the columns of a table.

    Args:
        encoding: the encoding of the run.
        forms: how the run reads each column as numbers, as ``saved_forms`` returned it.
        missing_values: the key ``dataset.missing_values``.
        is_bad: whether the run accepts no missing cells.
    """

    def __init__(
        self,
        encoding: TableEncoding,
        forms: Sequence[Mapping[str, Any] | None],
        missing_values: Collection[object],
        *,
        is_bad: bool,
    ) -> None:
        self._encoding = encoding
        self._forms = [PLAIN_FORM if each is None else NumberForm(**each) for each in forms]
        self._forms = self._forms or [PLAIN_FORM] * len(encoding.columns)
        self._blank = frozenset(str(each).strip().lower() for each in missing_values) | {*NO_VALUE}
        self._is_bad = is_bad

    def raw(self, rows: Any) -> NDArray[np.float32]:
        """Return (rows, raw width) float32.

        Args:
            rows: a list of rows, each a mapping of the names of columns to cells or the cells in order; or the cells
                by column, as a mapping or a data frame. A cell is a number, a text as in a file, a date, or None.

        Raises:
            ValueError: a column is missing, or a cell does not fit its column.
        """
        by_column = self._by_column(rows)
        cells = np.empty((len(by_column[0]), len(by_column)), dtype=np.float32)
        columns = list[CellColumn]()
        for at, (encoded, given) in enumerate(zip(self._encoding.columns, by_column, strict=True)):
            known = dict[str, int]()
            cells[:, at] = (
                self._numbers(encoded.name, self._forms[at], given)
                if encoded.kind in NUMBERS
                else [self._code(cell, known) for cell in given]
            )
            columns.append(CellColumn(encoded.name, encoded.kind, [*known]))
            if self._is_bad and np.isnan(cells[:, at]).any():
                row = int(np.isnan(cells[:, at]).argmax())
                raise ValueError(f"samples: row {row}: {encoded.name}: is empty, and the run has dataset.missing=bad")
        return to_raw_rows(cells, columns, self._encoding)

    def _by_column(self, rows: Any) -> list[list[Any]]:
        """Return the cells of each column of the encoding."""
        names = [each.name for each in self._encoding.columns]
        if hasattr(rows, "columns") and hasattr(rows, "to_dict"):  # a data frame of pandas or polars
            rows = {str(name): [*rows[name]] for name in rows.columns}
        if isinstance(rows, Mapping):
            lacking = next((name for name in names if name not in rows), None)
            if lacking is not None:
                raise _no_column(lacking, [*map(str, rows)])
            by_column = [[*rows[name]] for name in names]
            if len({*map(len, by_column)}) > 1:
                raise ValueError("samples: the columns must have the same number of cells")
            return by_column
        rows = [*rows]
        for at, row in enumerate(rows):
            if isinstance(row, Mapping):
                lacking = next((name for name in names if name not in row), None)
                if lacking is not None:
                    raise _no_column(lacking, [*map(str, row)], f"row {at}: ")
            elif isinstance(row, str) or not isinstance(row, Sequence | np.ndarray) or len(row) != len(names):
                what = f"{len(row)} cells" if isinstance(row, Sequence | np.ndarray) else type(row).__name__
                wanted = f"must have {len(names)} cells ({listed(names)}), or name its columns"
                raise ValueError(f"samples: row {at}: {wanted}, got {what}")
        ordered = [[row[name] for name in names] if isinstance(row, Mapping) else row for row in rows]
        return [[row[at] for row in ordered] for at in range(len(names))]

    def _is_missing(self, cell: Any, missing: Collection[str]) -> bool:
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return True
        text = str(cell).strip().lower()
        return text in missing or text in self._blank

    def _code(self, cell: Any, known: dict[str, int]) -> float:
        """Return the code of a text; each new text gets the next code. NaN for a missing one."""
        if self._is_missing(cell, MISSING - LEVELS):
            return math.nan
        return known.setdefault(str(cell).strip(), len(known))

    def _numbers(self, name: str, form: NumberForm, cells: Sequence[Any]) -> NDArray[np.float32]:
        """Return the numbers or days in cells, (cells,); NaN for a missing one."""
        found = np.full(len(cells), np.nan)
        texts = dict[int, str]()
        convert: Callable[[Any], float] = _days if form.kind == "date" else float
        for at, cell in enumerate(cells):
            if self._is_missing(cell, MISSING):
                continue
            if isinstance(cell, str):
                texts[at] = cell.strip()
                continue
            try:
                found[at] = convert(cell) - form.origin
            except (TypeError, ValueError, OverflowError) as error:
                raise _wrong_cell(at, name, form, cell) from error
        found[[*texts]] = form.numbers([*texts.values()])
        with np.errstate(over="ignore"):
            numbers = found.astype(np.float32)
        for at in np.flatnonzero(~np.isfinite(numbers)).tolist():
            if at in texts or not self._is_missing(cells[at], MISSING):
                raise _wrong_cell(at, name, form, cells[at])
        return numbers


def are_cells(inputs: Any) -> bool:
    """Return whether inputs are rows of cells, and neither arrays of raw numbers nor a tuple with lengths."""
    if isinstance(inputs, Tensor | tuple):
        return False
    if isinstance(inputs, np.ndarray):
        return inputs.dtype == object or inputs.dtype.kind in "USM"
    return not (isinstance(inputs, Sequence) and len(inputs) > 0 and isinstance(inputs[0], Tensor))


def _days(cell: Any) -> float:
    """Return a date as days since 1970-01-01, in UTC if it has a time zone, and a time as a part of a day."""
    if isinstance(cell, np.datetime64):
        cell = cell.astype("M8[us]").item()
    if isinstance(cell, time):
        return (cell.hour * 3600 + cell.minute * 60 + cell.second + cell.microsecond / 1e6) / DAY
    if isinstance(cell, datetime):
        moment = cell.astimezone(timezone.utc).replace(tzinfo=None) if cell.tzinfo is not None else cell
        return (moment - datetime(1970, 1, 1)).total_seconds() / DAY
    if isinstance(cell, date):
        return float(cell.toordinal() - date(1970, 1, 1).toordinal())
    raise TypeError("no date")


def _wrong_cell(row: int, name: str, form: NumberForm, cell: Any) -> ValueError:
    what = "date" if form.kind == "date" else "finite number"
    return ValueError(f"samples: row {row}: {name}: {str(cell)[:40]!r} is no {what}")


def _no_column(name: str, there: Sequence[str], place: str = "") -> ValueError:
    hint = did_you_mean(name, there) or ";"
    return ValueError(f"samples: {place}has no column {name}{hint} columns: {listed(there)}")
