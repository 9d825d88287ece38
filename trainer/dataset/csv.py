"""The user's own tables of numbers, in CSV or TSV files: a row is a sample, or a step of a sequence."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Unpack

from trainer.config import ConfigError, PositiveInt
from trainer.data import Data, RaggedSource, ReadOptions, TensorSource
from trainer.data.readers.arrays import ArrayKeys, array_data
from trainer.data.readers.candidates import Candidates
from trainer.data.readers.files import Problems, roots
from trainer.data.readers.tables import (
    ColumnKey,
    Layout,
    ParsedTable,
    join_tables,
    listed,
    read_layout,
    read_table,
)
from trainer.data.readers.targets import TargetCells, TargetKeys, find_targets
from trainer.dataset import DATASETS


@DATASETS.register
def csv(
    seed: int,
    options: ReadOptions,
    *,
    target: ColumnKey | list[ColumnKey] | None,
    label_separator: str | None,
    features: list[ColumnKey] | None,
    ignore: list[ColumnKey],
    header: bool | Literal["auto"],
    delimiter: str | None,
    encoding: str,
    group_by: ColumnKey | None,
    max_length: PositiveInt | None,
    missing: Literal["bad", "mean"],
    **keys: Unpack[ArrayKeys],
) -> Data:
    """Read a table. With ``group_by``, all rows with the same value in that column are one sample, a sequence.

    Raises:
        ConfigError: a file or a column is missing, the target does not fit the task, or samples are bad.
    """
    if max_length is not None and group_by is None:
        raise ConfigError(f"dataset.max_length: only samples of dataset.group_by have a length, got {max_length}")
    target_keys = TargetKeys(
        task=keys["task"], normalise_targets=keys["normalise_targets"], label_separator=label_separator
    )
    problems = Problems("csv", keys["on_error"], options.report_all)
    files = roots("csv", keys["path"])
    layouts = {split: read_layout(file, delimiter, header, encoding) for split, file in files.items()}
    first = layouts.get("train", next(iter(layouts.values())))
    run = options.preprocessing
    if run is not None:  # read the columns of the run, whose positions may differ in this file
        features, ignore = run["columns"], []
    chosen = _choose(first, target, features, ignore, group_by, problems)
    rows = _read(layouts, first, chosen, missing=missing == "mean")
    names = [first.names[column] for column in chosen.targets]
    samples = _find_samples(rows, names, problems)
    targets = find_targets(TargetCells(names, rows.texts, rows.targets[:, rows.leading]), samples, target_keys, options)
    columns = [first.names[column] for column in chosen.features]
    _warn_if_too_close(rows.table.numbers, columns, problems)
    numbers = rows.table.numbers
    source: TensorSource | RaggedSource
    if group_by is None:
        source = TensorSource((torch.from_numpy(numbers[samples.good]),), targets.values)
    else:
        varying = run is not None and run["varying"]
        source = _sequences(numbers, rows, samples.good, targets.values, max_length, varying=varying)
    kind: Literal["table", "sequence"] = "table" if group_by is None else "sequence"
    return array_data(seed, kind, source, samples, targets, options, columns=columns, **keys)


class _ChosenColumns(NamedTuple):
    """The columns to read, by their numbers from 0; ``group`` is the column that ``group_by`` names."""

    targets: list[int]
    features: list[int]
    group: int | None


def _choose(
    layout: Layout,
    target: ColumnKey | list[ColumnKey] | None,
    features: list[ColumnKey] | None,
    ignore: list[ColumnKey],
    group_by: ColumnKey | None,
    problems: Problems,
) -> _ChosenColumns:
    """Return the columns to read.

    If ``target`` is None, the last column that no other key names is the target. If ``features`` is None, all remaining
    columns are features, apart from an index that counts the rows, for which a warning is recorded.

    Raises:
        ConfigError: a column does not exist, the target is named by another key too, a feature holds text, or no column
            is left.
    """
    names = layout.names
    group = None if group_by is None else layout.find("group_by", group_by)
    ignored = {layout.find("ignore", column) for column in ignore}
    named = [] if features is None else [layout.find("features", column) for column in features]
    taken = {*ignored, *named, *([] if group is None else [group])}
    if target is None:
        targets = [column for column in range(len(names)) if column not in taken][-1:]
    else:
        targets = [layout.find("target", column) for column in (target if isinstance(target, list) else [target])]
    if not targets:
        raise ConfigError(f"dataset.target: names no column; columns: {listed(names)}")
    for key, others in (("ignore", ignored), ("features", {*named}), ("group_by", {group})):
        both = next((column for column in targets if column in others), None)
        if both is not None:
            raise ConfigError(f"dataset.{key}: {names[both]}: is the target")
    if features is None:
        if layout.counts_rows and 0 not in (*taken, *targets):
            problems.warnings.append(f"{layout.file}: the first column has no name and counts the rows: left out")
            ignored.add(0)
        named = sorted({*range(len(names))} - {*targets, *ignored, group})
    texts = [names[column] for column in named if layout.holds_text(column)]
    if texts:
        them, it = ("columns hold", "them") if len(texts) > 1 else ("column holds", "it")
        out = f"'dataset.ignore=[{','.join([*map(str, ignore), *texts])}]'" if features is None else "dataset.features"
        predict = f", or predict it: dataset.target={texts[0]}" if target is None and len(texts) == 1 else ""
        raise ConfigError(
            f"dataset.features: the {them} text, not numbers: {listed(texts)} ({layout.file}); leave {it} out"
            f"{' of' if features is not None else ':'} {out}{predict}"
        )
    if not named:
        raise ConfigError(f"dataset.features: no column is left to learn from; columns: {listed(names)}")
    return _ChosenColumns(targets, named, group)


@dataclass
class _CsvRows:
    """The rows of all files, concatenated. A group is a sample: the rows with one value of ``group_by``, or one row.

    Args:
        files: the file of each split.
        table: the rows of all files.
        splits: (rows,) the split of each row.
        groups: (rows,) int64, the number of the group of each row; -1 if the group is unknown.
        texts: the different texts of each target column.
    """

    files: dict[str, Path]
    table: ParsedTable
    splits: NDArray[np.str_]
    groups: NDArray[np.int64]
    texts: list[list[str]]

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
        return f"{self.files[self.splits[row]]}:{self.table.lines[row]}"


def _read(layouts: Mapping[str, Layout], first: Layout, columns: _ChosenColumns, *, missing: bool) -> _CsvRows:
    known: list[dict[str, int]] = [{} for _ in columns.targets]
    tables, groups = [], []
    num_groups = 0
    for layout in layouts.values():
        own: dict[str, int] = {}  # equal values of group_by in two files are two samples
        targets = zip(_as_in(first, layout, columns.targets), known, strict=True)
        grouping = [] if columns.group is None else [(_as_in(first, layout, [columns.group])[0], own)]
        features = _as_in(first, layout, columns.features)
        table = read_table(layout, features, [*targets, *grouping], missing=missing)
        count = len(table.lines)
        group = table.texts[-1] if grouping else np.arange(count)
        groups.append(np.where(group < 0, -1, group + num_groups))
        tables.append(table)
        num_groups += len(own) if grouping else count
    files = {split: layout.file for split, layout in layouts.items()}
    splits = np.repeat([*files], [len(table.lines) for table in tables])
    return _CsvRows(files, join_tables(tables), splits, np.concatenate(groups), [list(each) for each in known])


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
    return samples


def _warn_if_too_close(numbers: NDArray[np.float32], names: Sequence[str], problems: Problems) -> None:
    """Warn if the numbers of a column are so large and close to one another that float32 hardly distinguishes them."""
    least, most = (bound.reduce(numbers).astype(np.float64) for bound in (np.fmin, np.fmax))  # both ignore NaN
    size = np.maximum(np.abs(least), np.abs(most))
    close = np.isfinite(size) & (most - least < size * 2.0**-14) & ((most > least) | (size >= 2**24))
    if close.any():
        columns = listed([name for name, bad in zip(names, close, strict=True) if bad])
        problems.warnings.append(
            f"the numbers of {columns} are large and so close to one another that float32 hardly tells them apart; "
            "subtract the smallest from them"
        )


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
