"""The user's own tables of numbers: a row is a sample, or a step of a sequence."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, cast

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Unpack

from trainer.config import ConfigError, PositiveInt
from trainer.config.messages import as_word
from trainer.data import Data, RaggedSource, ReadOptions, TensorSource
from trainer.data.readers.arrays.array_files import MAX_CHANNELS
from trainer.data.readers.arrays.samples import ArrayKeys, array_data, warn_if_too_close
from trainer.data.readers.candidates import Candidates
from trainer.data.readers.encodings import encoding_hint
from trainer.data.readers.files import Problems, roots
from trainer.data.readers.tables.columns import ChosenColumns, choose_columns
from trainer.data.readers.tables.identifiers import is_index
from trainer.data.readers.tables.layout import ColumnKey, Layout, TableKeys
from trainer.data.readers.tables.number_cells import MISSING, NumberForm
from trainer.data.readers.tables.parsing import (
    NO_NUMBER,
    ColumnsToRead,
    ParsedTable,
    is_missing,
    join_tables,
    read_layout,
    read_table,
)
from trainer.data.readers.tables.saved_forms import saved_forms, with_saved_forms
from trainer.data.readers.tables.split_columns import find_split, meaning_of
from trainer.data.readers.tables.split_files import labelled_tables, table_files
from trainer.data.readers.targets import TargetCells, TargetKeys, Targets, find_targets
from trainer.dataset import DATASETS
from trainer.spec import Kind


class CsvKeys(ArrayKeys, TableKeys, TargetKeys):
    """The keys of a table that say how it is read, what is predicted, and how samples are loaded."""


@DATASETS.register
def csv(
    seed: int,
    options: ReadOptions,
    *,
    target: ColumnKey | list[ColumnKey] | None,
    features: list[ColumnKey] | None,
    ignore: list[ColumnKey],
    id: ColumnKey | None,
    split: ColumnKey | None,
    group: ColumnKey | None,
    group_by: ColumnKey | None,
    shape: Annotated[list[PositiveInt], Meta(min_length=1, max_length=3)] | None,
    max_length: PositiveInt | None,
    missing: Literal["bad", "mean"],
    **keys: Unpack[CsvKeys],
) -> Data:
    """Read a table. With ``group_by``, all rows with the same value in that column are one sample, a sequence.

    Raises:
        ConfigError: a file or a column is missing, the target does not fit the task, or samples are bad.
    """
    if max_length is not None and group_by is None:
        raise ConfigError(f"dataset.max_length: only samples of dataset.group_by have a length, got {max_length}")
    problems = Problems("csv", keys["on_error"], options.report_all)
    run = options.preprocessing
    named = [
        *(target if isinstance(target, list) else [target]),
        *(features or []),
        *ignore,
        id,
        split,
        group,
        group_by,
    ]
    layouts, first = _open(keys, named, problems, options)
    if run is not None:  # read the columns of the run, whose positions may differ in this file
        features, ignore = run["columns"], []
        target = target if target is not None else run.get("target")
    shape = shape or (None if first.shape is None else [*first.shape])
    num_features = None if shape is None else math.prod(shape)
    layouts, target = labelled_tables(layouts, first, target, problems)
    part = find_split(first, split, [*named, *run["columns"]] if run is not None and split is None else named)
    others = {"id": id, "group": group, "group_by": group_by, "split": None if part is None else first.names[part]}
    chosen = choose_columns(first, target, features, ignore, others, num_features)
    steps = None if group_by is None else first.find("group_by", group_by)
    together = None if group is None else first.find("group", group)
    may_be_empty = keys["label_separator"] is not None
    rows = _read(layouts, first, chosen, steps, together, part, missing=missing == "mean", may_be_empty=may_be_empty)
    rows, chosen = _without_identifiers(rows, first, chosen)
    names = [first.names[column] for column in chosen.targets]
    problems.hint = _hint(rows.table.faults.values(), names, missing, keys["encoding"])
    samples = _find_samples(rows, names, problems)
    forms = [first.forms[column] for column in chosen.targets]
    cells = TargetCells(names, rows.texts, rows.targets[:, rows.leading], forms)
    targets = find_targets(cells, samples, keys, options)
    columns = [first.names[column] for column in chosen.features]
    warn_if_too_close(rows.table.numbers, columns, problems)
    kind, source = _source(rows, samples, targets, shape, max_length, options)
    data = array_data(seed, kind, source, samples, targets, options, columns=columns, **cast(ArrayKeys, keys))
    return _with_columns(data, first, chosen, id, part, options)


def _with_columns(
    data: Data, first: Layout, chosen: ChosenColumns, id: ColumnKey | None, part: int | None, options: ReadOptions
) -> Data:
    """Return the data with what a finished run needs to find its columns, and with notes about them."""
    ids = [first.find("id", id)] if id is not None else [each for each in chosen.ids if each not in first.unnamed]
    run = options.preprocessing
    named_by = run.get("id") if run is not None else first.names[ids[0]] if ids else None
    found = {
        "target": [first.names[column] for column in chosen.targets],
        "id": named_by,
        "forms": saved_forms(first, chosen.features),
    }
    splits = () if part is None else (f"splits by {first.names[part]}",)
    return replace(
        data, preprocess={**data.preprocess, **found}, notes=(*chosen.notes, *splits, *data.notes, *first.notes)
    )


def _open(
    keys: CsvKeys, named: Sequence[ColumnKey | None], problems: Problems, options: ReadOptions
) -> tuple[dict[str, Layout], Layout]:
    """Return the layout of each split's table, and that of train; a finished run keeps the forms of its numbers."""
    files, run = table_files(roots("csv", keys["path"]), problems), options.preprocessing
    known = [*named, *(run["columns"] if run is not None else ())]
    layouts = {part: read_layout(file, keys, named=known, lists=True) for part, file in files.items()}
    first = layouts.get("train", next(iter(layouts.values())))
    if run is None:
        return layouts, first
    columns = [first.find("features", each) for each in run["columns"]]
    first = with_saved_forms(first, columns, run.get("forms"), keys["decimal"])
    return {part: first if layout.file == first.file else layout for part, layout in layouts.items()}, first


def _hint(faults: Iterable[str], targets: Sequence[str], missing: Literal["bad", "mean"], encoding: str) -> str:
    """Return what else than leaving rows out helps with bad rows; empty if nothing does.

    Args:
        faults: why rows are bad: the name of a column, and what is wrong with its cell.
        targets: the names of the target columns, whose missing cells nothing can fill.
    """
    faults = [fault for fault in faults if not fault.startswith(tuple(f"{name}: " for name in targets))]
    marks = Counter(fault.rpartition(": ")[2].removesuffix(NO_NUMBER) for fault in faults if fault.endswith(NO_NUMBER))
    mark, count = max(marks.items(), key=lambda pair: pair[1], default=("", 0))
    if count > 1 and mark.lower() not in MISSING and not any(map(str.isdigit, mark)):
        fills = "" if missing == "mean" else ", and dataset.missing=mean fills it in"
        return f"{as_word('dataset.missing_values', [mark])} reads {mark} as a missing number{fills}"
    if missing == "bad" and any(map(is_missing, faults)):
        return "dataset.missing=mean fills empty cells of numbers"
    return encoding_hint(encoding) if any(fault.endswith("is no text") for fault in faults) else ""


def _source(
    rows: _CsvRows,
    samples: Candidates,
    targets: Targets,
    shape: Sequence[int] | None,
    max_length: int | None,
    options: ReadOptions,
) -> tuple[Kind, TensorSource | RaggedSource]:
    """Return the kind of the samples, and their source.

    Raises:
        ConfigError: ``shape`` does not fit the columns.
    """
    numbers, good, run = rows.table.numbers, samples.good, options.preprocessing
    if rows.is_grouped:
        if shape is not None:
            raise ConfigError(f"dataset.shape: {[*shape]}: a sample of dataset.group_by has a row for each step")
        varying = run is not None and run["varying"]
        return "sequence", _sequences(numbers, rows, good, targets.values, max_length, varying=varying)
    values = torch.from_numpy(numbers if good.all() else numbers[good])
    if shape is None:
        return "table", TensorSource((values,), targets.values)
    if math.prod(shape) != numbers.shape[1]:
        raise ConfigError(
            f"dataset.shape: {[*shape]}: has {math.prod(shape):,} numbers, but there are {numbers.shape[1]:,} features"
        )
    if values.isnan().any():
        raise ConfigError("dataset.missing: mean: fills the columns of a table, and not with dataset.shape")
    kinds: dict[int, Kind] = {1: "table", 2: "sequence", 3: "image"}
    values = values.view(len(values), *shape)
    if len(shape) == 3 and shape[2] <= MAX_CHANNELS < shape[0]:  # the channels are last
        values = values.permute(0, 3, 1, 2).contiguous()
    return kinds[len(shape)], TensorSource((values,), targets.values)


@dataclass
class _CsvRows:
    """The rows of all files, concatenated. A group is a sample: the rows with one value of ``group_by``, or one row.

    Args:
        layouts: the layout of the file of each split.
        table: the rows of all files.
        origins: (rows,) the split whose file holds each row.
        splits: (rows,) the split of each row, which a column may say.
        groups: (rows,) int64, the number of the group of each row; -1 if the group is unknown.
        texts: the different texts of each target column.
        together: the different texts of the column that ``dataset.group`` names; None without one.
        is_grouped: whether a sample is a sequence of rows.
    """

    layouts: Mapping[str, Layout]
    table: ParsedTable
    origins: NDArray[np.str_]
    splits: NDArray[np.str_]
    groups: NDArray[np.int64]
    texts: list[list[str]]
    together: list[str] | None
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

    def place(self, row: int) -> str:
        return self.layouts[self.origins[row]].place(int(self.table.lines[row]))


def _read(
    layouts: Mapping[str, Layout],
    first: Layout,
    columns: ChosenColumns,
    group: int | None,
    together: int | None,
    part: int | None,
    *,
    missing: bool,
    may_be_empty: bool,
) -> _CsvRows:
    shared = [*columns.targets, *(column for column in (together, part) if column is not None)]
    known: list[dict[str, int]] = [{} for _ in shared]
    features = [column for column in columns.features if column not in columns.maybe_ids]
    tables, groups = [], []
    num_groups = 0
    for layout in layouts.values():
        own: dict[str, int] = {}  # equal values of group_by in two files are two samples
        texts = list(zip(_as_in(first, layout, shared), known, strict=True))
        grouping = [] if group is None else [(_as_in(first, layout, [group])[0], own)]
        read = ColumnsToRead(
            numbers=_as_in(first, layout, features),
            texts=[*texts, *grouping],
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
    return _CsvRows(layouts, table, origins, splits, grouped, codes, kept_together, group is not None)


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


def _without_identifiers(rows: _CsvRows, first: Layout, columns: ChosenColumns) -> tuple[_CsvRows, ChosenColumns]:
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
    numbers = table.numbers
    for column, values in pairs:
        if column not in ids:
            at = features.index(column)
            with np.errstate(over="ignore"):
                numbers = np.insert(numbers, min(at, numbers.shape[1]), values.astype(np.float32), axis=1)
            for row in np.flatnonzero(~np.isfinite(values)).tolist():
                table.faults.setdefault(row, f"{first.names[column]}:{NO_NUMBER}")
    rows = replace(rows, table=replace(table, numbers=numbers))
    return rows, replace(columns, features=features, ids=[*ids, *columns.ids])


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


def _find_samples(rows: _CsvRows, names: Sequence[str], problems: Problems) -> Candidates:
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


def _sequences(
    numbers: NDArray[np.float32],
    rows: _CsvRows,
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
