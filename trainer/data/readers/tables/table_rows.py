"""The rows of the tables of a data set, read and put together: their cells, targets, splits and groups."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.config import ConfigError
from trainer.data.readers.candidates import Candidates
from trainer.data.readers.files import Problems
from trainer.data.readers.tables.columns import ChosenColumns
from trainer.data.readers.tables.encode_rows import NUMBERS, CellColumn, join_cells
from trainer.data.readers.tables.identifiers import is_index
from trainer.data.readers.tables.layout import Layout
from trainer.data.readers.tables.number_cells import NumberForm
from trainer.data.readers.tables.parsing import ColumnsToRead, ParsedTable, join_tables, read_table
from trainer.data.readers.tables.split_columns import meaning_of
from trainer.data.sources import RaggedSource, TensorSource
from trainer.data.table_encoding import ColumnKind


@dataclass
class TableRows:
    """The rows of all files, concatenated. A group is a sample: the rows with one value of ``group_by``, or one row.

    Args:
        layouts: the layout of the file of each split.
        table: the rows of all files.
        origins: (rows,) the split whose file holds each row.
        splits: (rows,) the split of each row, which a column may say.
        groups: (rows,) int64, the number of the group of each row; -1 if the group is unknown.
        texts: the different texts of each target column.
        together: the different texts of the column that ``dataset.group`` names; None without one.
        levels: by the number of a column of categories or texts, its different texts.
        is_grouped: whether a sample is a sequence of rows.
    """

    layouts: Mapping[str, Layout]
    table: ParsedTable
    origins: NDArray[np.str_]
    splits: NDArray[np.str_]
    groups: NDArray[np.int64]
    texts: list[list[str]]
    together: list[str] | None
    levels: Mapping[int, list[str]]
    is_grouped: bool

    @property
    def targets(self) -> NDArray[np.int64]:
        """(targets, rows) int64, the index in ``texts`` of each target; -1 if the target is missing."""
        return self.table.texts[: len(self.texts)]

    @functools.cached_property
    def num_groups(self) -> int:
        """The number of groups, including bad samples."""
        return int(self.groups.max(initial=-1)) + 1

    @functools.cached_property
    def leading(self) -> NDArray[np.int64]:
        """(groups,) int64, the number of the first row of each group."""
        first = np.zeros(self.num_groups, dtype=np.int64)
        rows = np.flatnonzero(self.groups >= 0)[::-1]
        first[self.groups[rows]] = rows  # if an index occurs several times, numpy keeps the last value
        return first

    def names(self, columns: Iterable[int]) -> list[str]:
        """Return the names of columns of the first table."""
        names = next(iter(self.layouts.values())).names
        return [names[at] for at in columns]

    def place(self, row: int) -> str:
        return self.layouts[self.origins[row]].place(int(self.table.lines[row]))


def read_rows(
    layouts: Mapping[str, Layout],
    first: Layout,
    columns: ChosenColumns,
    group: int | None,
    together: int | None,
    part: int | None,
    *,
    missing: bool,
    may_be_empty: bool,
) -> TableRows:
    shared = [*columns.targets, *(column for column in (together, part) if column is not None)]
    known: list[dict[str, int]] = [{} for _ in shared]
    numbers = [at for at in columns.features if columns.kinds[at] in NUMBERS and at not in columns.maybe_ids]
    levels: dict[int, dict[str, int]] = {at: {} for at in columns.features if columns.kinds[at] not in NUMBERS}
    tables, groups = [], []
    num_groups = 0
    for layout in layouts.values():
        own: dict[str, int] = {}  # equal values of group_by in two files are two samples
        texts = list(zip(_as_in(first, layout, shared), known, strict=True))
        grouping = [] if group is None else [(_as_in(first, layout, [group])[0], own)]
        read = ColumnsToRead(
            numbers=_as_in(first, layout, numbers),
            texts=[*texts, *grouping],
            levels=[*zip(_as_in(first, layout, [*levels]), levels.values(), strict=True)],
            missing=missing,
            exact=_as_in(first, layout, columns.maybe_ids),
            may_be_empty=may_be_empty,
        )
        table = read_table(layout._replace(forms=_forms_in(first, layout)), read)
        count = len(table.lines)
        number = table.texts[-1] if grouping else np.arange(count)
        groups.append(np.where(number < 0, -1, number + num_groups))
        tables.append(table)
        num_groups += len(own) if grouping else count
    origins = np.repeat([*layouts], [len(table.lines) for table in tables])
    codes, table, splits = [list(each) for each in known], join_tables(tables), origins
    if part is not None:
        values = codes.pop()
        if [*layouts] == [""]:  # splits that have files of their own do not need the column
            meaning = meaning_of(first, part, values)
            splits = np.array([*(meaning[value] for value in values), "train"])[table.texts[len(shared) - 1]]
    kept_together = None if together is None else codes.pop()
    grouped = np.concatenate(groups)
    texts_of = {at: list(texts) for at, texts in levels.items()}
    return TableRows(layouts, table, origins, splits, grouped, codes, kept_together, texts_of, group is not None)


def _forms_in(first: Layout, layout: Layout) -> list[NumberForm | None]:
    """Return the forms of a file's columns; where another file has its own, all files are read as the first one."""
    if first is layout or not (first.header and layout.header):
        return first.forms if len(first.forms) == len(layout.forms) else layout.forms
    numbers = first.numbers()
    for at, name in enumerate(layout.names):
        layout.check_points(at, first.forms[numbers[name]] if name in numbers else None)
    return [
        first.forms[numbers[name]] if name in numbers else form
        for name, form in zip(layout.names, layout.forms, strict=True)
    ]


def without_identifiers(rows: TableRows, first: Layout, columns: ChosenColumns) -> tuple[TableRows, ChosenColumns]:
    """Leave out the columns that name their row; add the other columns of ``maybe_ids`` to the numbers."""
    if not columns.maybe_ids:
        return rows, columns
    table, trained = rows.table, np.isin(rows.splits, ("", "train"))
    pairs = list(zip(columns.maybe_ids, table.exact.T, strict=True))
    ids = [column for column, values in pairs if is_index(first, column, values[trained])]
    ids = [] if ids == columns.features and not columns.ids else ids
    features = [column for column in columns.features if column not in ids]
    if not features:
        notes = replace(columns, ids=[*ids, *columns.ids]).notes
        raise ConfigError(f"dataset.features: no column is left to learn from; {'; '.join(notes)}")
    numbers, is_number = table.numbers, [at for at in features if columns.kinds[at] in NUMBERS]
    for column, values in pairs:
        if column not in ids:
            with np.errstate(over="ignore"):
                numbers = np.insert(
                    numbers, min(is_number.index(column), numbers.shape[1]), values.astype(np.float32), axis=1
                )
            own = columns.maybe_ids.index(column)
            for row, reason in ((row, reason) for (row, at), reason in table.exact_faults.items() if at == own):
                table.faults.setdefault(row, reason)
    rows = replace(rows, table=replace(table, numbers=numbers))
    return rows, replace(columns, features=features, ids=[*ids, *columns.ids])


def cells_of(
    rows: TableRows, first: Layout, features: Sequence[int], kinds: Mapping[int, ColumnKind]
) -> tuple[NDArray[np.float32], list[CellColumn]]:
    """Return the cells of the features of all rows, (rows, features), for ``fit_encoding``, and the columns."""
    origins = [0.0 if (form := first.forms[at]) is None or kinds[at] != "date" else form.origin for at in features]
    columns = [
        CellColumn(first.names[at], kinds[at], rows.levels.get(at, ()), origin)
        for at, origin in zip(features, origins, strict=True)
    ]
    return join_cells(rows.table.numbers, rows.table.levels, [each.kind for each in columns]), columns


def _as_in(first: Layout, layout: Layout, columns: Sequence[int]) -> list[int]:
    """Return the numbers that columns of the first file have in another file, found by name if both have a header."""
    if not (first.header and layout.header):
        if len(layout.names) != len(first.names):
            raise ConfigError(
                f"dataset.path: {layout.file}: has {len(layout.names)} columns, but {first.file} has {len(first.names)}"
            )
        return list(columns)
    numbers = layout.numbers()
    missing = [first.names[column] for column in columns if first.names[column] not in numbers]
    if missing:
        raise ConfigError(f"dataset.path: {layout.file}: has no column {missing[0]}, as {first.file} has")
    return [numbers[first.names[column]] for column in columns]


def find_samples(rows: TableRows, names: Sequence[str], problems: Problems) -> Candidates:
    """Return all samples, and record their problems. A sample with a bad row is bad; its first bad row is reported."""
    faults, leading = rows.table.faults, rows.leading
    first = rows.targets[:, leading[rows.groups]]
    differs = (rows.targets != first) & (rows.targets >= 0) & (first >= 0) & (rows.groups >= 0)
    several = np.unique(rows.groups[differs.any(0)])
    if rows.num_groups > 1 and 2 * len(several) > rows.num_groups:
        column = int(np.flatnonzero(differs.any(1))[0])
        raise ConfigError(
            f"dataset.target: {names[column]}: differs within {len(several):,} of {rows.num_groups:,} samples of "
            "dataset.group_by; a target for each row of a sample is not supported"
        )
    for column, row in np.argwhere(differs).tolist():
        codes = rows.targets[column, [row, leading[rows.groups[row]]]].tolist()
        there, at_first = (rows.texts[column][code] for code in codes)
        faults.setdefault(row, f"{names[column]}: {there}, but {at_first} in the first row of the same sample")
    samples = Candidates(rows.splits[leading], lambda sample: rows.place(int(leading[sample])), problems)
    samples.good[:] = False
    samples.good[rows.groups[rows.groups >= 0]] = True
    for row, reason in sorted(faults.items()):
        group = rows.groups[row]
        if group < 0 or samples.good[group]:
            problems.add(rows.place(row), reason)
        if group >= 0:
            samples.good[group] = False
    if rows.together is not None:
        names = [*rows.together, ""]  # the last one is for the code -1, of bad samples
        samples.groups = [names[code] for code in rows.table.texts[len(rows.texts), leading].tolist()]
    return samples


def as_sequences(
    numbers: NDArray[np.float32],
    rows: TableRows,
    good: NDArray[np.bool_],
    targets: Tensor,
    max_length: int | None,
    *,
    varying: bool,
) -> TensorSource | RaggedSource:
    """Return the good samples as sequences, whose steps are rows in the order of the file.

    Args:
        numbers: (rows, features).
        rows: the rows, with the group of each.
        good: (groups,) bool, true for the samples to return.
        targets: the targets of the good samples.
        max_length: keep at most this many steps of each sample, from the first one.
        varying: return a ``RaggedSource`` even if all samples have the same length, as a finished run may need it.
    """
    number = np.full(rows.num_groups + 1, -1)  # the last entry is for rows without a group, whose number is -1
    number[:-1][good] = np.arange(int(good.sum()))
    sample = number[rows.groups]
    order = np.argsort(sample, kind="stable")[np.count_nonzero(sample < 0) :]
    lengths = np.bincount(sample[sample >= 0])
    if max_length is not None:
        step = np.arange(len(order)) - np.repeat(lengths.cumsum() - lengths, lengths)
        order, lengths = order[step < max_length], lengths.clip(max=max_length)
    values = torch.from_numpy(numbers[order])
    if (lengths == lengths[0]).all() and not varying:
        return TensorSource((values.view(len(lengths), lengths[0], -1),), targets)
    return RaggedSource(values, torch.from_numpy(lengths), targets)
