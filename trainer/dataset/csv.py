"""Tables of numbers of a user's own, in CSV or TSV files: a row is a sample, or a step of one."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Unpack

from trainer.config import ConfigError, PositiveInt
from trainer.data import Data, RaggedSource, ReadOptions, TensorSource
from trainer.data.readers.arrays import MAX_CLASSES, ArrayKeys, Places, Targets, array_data, find_classes
from trainer.data.readers.files import Problems, need_samples, roots
from trainer.data.readers.tables import MISSING, Column, Layout, Table, listed, look, read, to_float
from trainer.dataset import DATASETS
from trainer.spec import Kind, Task


@DATASETS.register
def csv(
    seed: int,
    options: ReadOptions,
    *,
    target: Column | list[Column] | None,
    features: list[Column] | None,
    ignore: list[Column],
    header: bool | Literal["auto"],
    delimiter: str | None,
    encoding: str,
    group_by: Column | None,
    max_length: PositiveInt | None,
    missing: Literal["bad", "mean"],
    **keys: Unpack[ArrayKeys],
) -> Data:
    """A table; with ``group_by`` sequences, each of the rows that are alike in that column.

    Raises:
        ConfigError: a file or a column is not there, the target does not fit the task, or samples are bad.
    """
    if max_length is not None and group_by is None:
        raise ConfigError(f"dataset.max_length: only samples of dataset.group_by have a length, got {max_length}")
    problems = Problems("csv", keys["on_error"], options.report_all)
    layouts = {split: look(file, delimiter, header, encoding) for split, file in roots("csv", keys["path"]).items()}
    first = layouts.get("train", next(iter(layouts.values())))
    known = options.preprocessing
    if known is not None:  # by their names, wherever they stand in another file
        features, ignore = known["columns"], []
    chosen, warnings = _choose(first, target, features, ignore, group_by)
    rows, texts = _read(layouts, first, chosen, missing=missing == "mean")
    names = [first.names[column] for column in chosen.targets]
    task = _check_targets(keys["task"] if known is None else known["task"], names, rows, texts)

    samples = _settled(rows, names, texts, problems)
    warnings += problems.settle()
    need_samples("csv", samples.tolist())
    leading = rows.leading[samples]
    if task == "classification":
        places = Places(rows.place, leading)
        classes, numbers = find_classes(
            "csv", texts[0], rows.targets[0, leading], rows.splits[leading], places, options, problems
        )
        warnings += problems.settle()
        samples, leading, numbers = (each[numbers >= 0] for each in (samples, leading, numbers))
        targets = Targets(task, classes, torch.from_numpy(numbers))
    else:
        values = np.ascontiguousarray(_values(rows.targets[:, leading], texts).T, dtype=np.float32)
        targets = Targets(task, tuple(names), torch.from_numpy(values))
    kind: Kind = "table" if group_by is None else "sequence"
    warnings += _too_close(rows, [first.names[column] for column in chosen.features])
    source = _source(kind, rows, samples, targets.values, max_length, varies=known is not None and known["varying"])
    return array_data(
        "csv",
        seed,
        kind,
        source,
        rows.splits[leading].tolist(),
        targets,
        places=Places(rows.place, leading),
        columns=[first.names[column] for column in chosen.features],
        options=options,
        warnings=warnings,
        **keys,
    )


class _Columns(NamedTuple):
    """The numbers of the columns that are read."""

    targets: list[int]
    features: list[int]
    group: int | None


def _choose(
    layout: Layout,
    target: Column | list[Column] | None,
    features: list[Column] | None,
    ignore: list[Column],
    group_by: Column | None,
) -> tuple[_Columns, tuple[str, ...]]:
    """The columns that the keys name or leave, and a warning where the numbers of the rows are left out.

    Raises:
        ConfigError: they name or leave none, one twice, or one that holds text.
    """
    names = layout.names
    warnings: tuple[str, ...] = ()
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
            warnings = (f"{layout.file}: the first column has no name and counts the rows: left out",)
            ignored.add(0)
        left = {*range(len(names))} - {*targets, *ignored, group}
        named = sorted(left)
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
    return _Columns(targets, named, group), warnings


@dataclass
class _Rows:
    """The rows of all files, one behind the other.

    Args:
        tables: of the files.
        splits: (rows,) the name of each one's split.
        groups: (rows,) int64, the number of the sample that it belongs to; -1 where that cannot be told.
        targets: (targets, rows) int64, as ``Table.texts``.
        faults: why rows cannot be used.
    """

    tables: list[Table]
    splits: NDArray[np.str_]
    groups: NDArray[np.int64]
    targets: NDArray[np.int64]
    faults: dict[int, str]

    @functools.cached_property
    def num_groups(self) -> int:
        """How many numbers of samples there may be."""
        return int(self.groups.max(initial=-1)) + 1

    @functools.cached_property
    def leading(self) -> NDArray[np.int64]:
        """(groups,) the first row of each sample."""
        first = np.zeros(self.num_groups, dtype=np.int64)
        rows = np.flatnonzero(self.groups >= 0)[::-1]
        first[self.groups[rows]] = rows  # the last one written is the first
        return first

    def place(self, row: int) -> str:
        """``file:line``."""
        for table in self.tables:
            if row < len(table.lines):
                return f"{table.file}:{table.lines[row]}"
            row -= len(table.lines)
        raise IndexError(row)


def _read(
    layouts: dict[str, Layout], first: Layout, columns: _Columns, *, missing: bool
) -> tuple[_Rows, list[list[str]]]:
    """The rows of every file, and the different texts of each target."""
    known: list[dict[str, int]] = [{} for _ in columns.targets]
    tables, splits, groups = [], [], []
    faults: dict[int, str] = {}
    num_rows = num_groups = 0
    for split, layout in layouts.items():
        own: dict[str, int] = {}  # what groups are called says nothing in another file
        targets = zip(_as_in(first, layout, columns.targets), known, strict=True)
        grouping = [] if columns.group is None else [(_as_in(first, layout, [columns.group])[0], own)]
        features = _as_in(first, layout, columns.features)
        table = read(layout, features, [*targets, *grouping], missing=missing)
        count = len(table.lines)
        group = table.texts[-1] if grouping else np.arange(count)
        groups.append(np.where(group < 0, -1, group + num_groups))
        faults |= {row + num_rows: reason for row, reason in table.faults.items()}
        splits.append(np.full(count, split))
        tables.append(table)
        num_rows += count
        num_groups += len(own) if grouping else count
    codes = np.concatenate([table.texts[: len(known)] for table in tables], axis=1)
    return _Rows(tables, np.concatenate(splits), np.concatenate(groups), codes, faults), [list(each) for each in known]


def _as_in(first: Layout, layout: Layout, columns: Sequence[int]) -> list[int]:
    """The numbers that columns of the first file have in another one: of the same names where there are names."""
    if not (first.header and layout.header):
        if len(layout.names) != len(first.names):
            raise ConfigError(
                f"dataset.path: {layout.file}: has {len(layout.names)} columns, but {first.file} has {len(first.names)}"
            )
        return list(columns)
    missing = [first.names[column] for column in columns if first.names[column] not in layout.names]
    if missing:
        raise ConfigError(f"dataset.path: {layout.file}: has no column {missing[0]}, as {first.file} has")
    return [layout.names.index(first.names[column]) for column in columns]


def _values(codes: NDArray[np.int64], texts: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """(targets, rows) numbers; nan where there is none, or one that float32 cannot hold."""
    tables = [np.array([to_float(text) for text in some] + [np.nan]) for some in texts]  # its last stands for none
    values = np.stack([table[some] for table, some in zip(tables, codes, strict=True)])
    return np.where(np.abs(values) <= np.finfo(np.float32).max, values, np.nan)


def _check_targets(task: Literal["auto"] | Task, names: Sequence[str], rows: _Rows, texts: list[list[str]]) -> Task:
    """The task, found where it is ``auto``; adds to the faults of the rows.

    Raises:
        ConfigError: the columns are not what the task needs.
    """
    there = rows.targets >= 0
    values = _values(rows.targets, texts)
    numbers = np.isfinite(values)
    mostly = numbers.sum(1) * 2 > there.sum(1)
    if task == "auto":
        seen = np.unique(values[numbers])
        if len(names) > 1:
            task = "multilabel" if mostly.all() and np.isin(seen, (0, 1)).all() else "regression"
        else:
            few = len(seen) <= MAX_CLASSES and bool((seen == np.floor(seen)).all())
            task = "classification" if few or not mostly.all() else "regression"
    if task == "classification":
        if len(names) > 1:
            raise ConfigError(f"dataset.target: must be one column for task=classification, got {', '.join(names)}")
        used = [texts[0][code] for code in np.unique(rows.targets[there])]
        all_numbers = all(np.isfinite(to_float(text)) or text.lower() in MISSING for text in used)
        allowed, reason = (numbers, "is no class") if all_numbers else (there, "")  # NA may be the name of a class
    else:
        if not mostly.all():
            text = names[int(np.flatnonzero(~mostly)[0])]
            raise ConfigError(f"dataset.target: {text}: holds text, not numbers, which task={task} needs")
        labels = task == "multilabel"
        allowed, reason = (np.isin(values, (0, 1)), "is neither 0 nor 1") if labels else (numbers, "is no number")
    for column, row in np.argwhere(there & ~allowed).tolist():
        rows.faults.setdefault(row, f"{names[column]}: {texts[column][rows.targets[column, row]]} {reason}")
    return task


def _settled(rows: _Rows, names: Sequence[str], texts: list[list[str]], problems: Problems) -> NDArray[np.int64]:
    """The numbers of the samples that can be used; each of the others is a problem, named by its first bad row."""
    first = rows.targets[:, rows.leading[rows.groups]]
    differs = (rows.targets != first) & (rows.targets >= 0) & (first >= 0) & (rows.groups >= 0)
    for column, row in np.argwhere(differs).tolist():
        there, at_first = (texts[column][rows.targets[column, each]] for each in (row, rows.leading[rows.groups[row]]))
        rows.faults.setdefault(row, f"{names[column]}: {there}, but {at_first} in the first row of the same sample")
    good = np.zeros(rows.num_groups, dtype=bool)
    good[rows.groups[rows.groups >= 0]] = True
    for row, reason in sorted(rows.faults.items()):
        group = rows.groups[row]
        if group < 0 or good[group]:
            problems.add(rows.place(row), reason)
        if group >= 0:
            good[group] = False
    return np.flatnonzero(good)


def _too_close(rows: _Rows, names: Sequence[str]) -> tuple[str, ...]:
    """A warning where the numbers of a column are so large and so much alike that float32 hardly tells them apart."""
    tables = [table.numbers for table in rows.tables if len(table.numbers)]
    least = np.min([np.where(np.isnan(some), np.inf, some).min(axis=0) for some in tables], axis=0).astype(np.float64)
    most = np.max([np.where(np.isnan(some), -np.inf, some).max(axis=0) for some in tables], axis=0).astype(np.float64)
    size = np.maximum(np.abs(least), np.abs(most))
    close = np.isfinite(size) & (most - least < size * 2.0**-14) & ((most > least) | (size >= 2**24))
    if not close.any():
        return ()
    columns = listed([name for name, bad in zip(names, close, strict=True) if bad])
    return (
        f"the numbers of {columns} are large and so close to one another that float32 hardly tells them apart; "
        "subtract the smallest from them",
    )


def _source(
    kind: Kind, rows: _Rows, samples: NDArray[np.int64], targets: Tensor, max_length: int | None, *, varies: bool
) -> TensorSource | RaggedSource:
    """The numbers of some samples: rows as they are, or the rows of each in their order as its steps."""
    numbers = np.concatenate([table.numbers for table in rows.tables])
    if kind == "table":
        return TensorSource((torch.from_numpy(numbers[samples]),), targets)
    number = np.full(rows.num_groups + 1, -1)  # its last stands for no sample
    number[samples] = np.arange(len(samples))
    sample = number[rows.groups]
    order = np.argsort(sample, kind="stable")[np.count_nonzero(sample < 0) :]
    lengths = np.bincount(sample[sample >= 0])
    if max_length is not None:
        step = np.arange(len(order)) - np.repeat(lengths.cumsum() - lengths, lengths)
        order, lengths = order[step < max_length], lengths.clip(max=max_length)
    values = torch.from_numpy(numbers[order])
    if (lengths == lengths[0]).all() and not varies:
        return TensorSource((values.view(len(samples), lengths[0], -1),), targets)
    return RaggedSource(values, torch.from_numpy(lengths), targets)
