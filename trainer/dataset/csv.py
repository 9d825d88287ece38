"""The user's own tables: a row is a sample, or a step of a sequence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, cast

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from typing_extensions import Unpack

from trainer.config import ConfigError, PositiveInt
from trainer.config.messages import as_word
from trainer.data import Data, Normalise, RaggedSource, ReadOptions, TensorSource
from trainer.data.readers.arrays.array_files import MAX_CHANNELS
from trainer.data.readers.arrays.samples import ArrayKeys, Encode, array_data, warn_if_too_close
from trainer.data.readers.candidates import Candidates
from trainer.data.readers.encodings import encoding_hint
from trainer.data.readers.files import Problems, roots
from trainer.data.readers.tables.columns import ChosenColumns, choose_columns
from trainer.data.readers.tables.encode_rows import MIN_COUNT, CellColumn, MissingRule, fit_encoding, to_raw_rows
from trainer.data.readers.tables.kinds import ChosenKind, find_kinds
from trainer.data.readers.tables.layout import ColumnKey, Layout, TableKeys, listed
from trainer.data.readers.tables.number_cells import MISSING
from trainer.data.readers.tables.parsing import NO_NUMBER, is_missing, read_layout
from trainer.data.readers.tables.saved_forms import saved_forms, with_origins, with_saved_forms
from trainer.data.readers.tables.split_columns import find_split
from trainer.data.readers.tables.split_files import labelled_tables, table_files
from trainer.data.readers.tables.table_rows import (
    TableRows,
    as_sequences,
    cells_of,
    find_samples,
    read_rows,
    without_identifiers,
)
from trainer.data.readers.targets import TargetCells, TargetKeys, Targets, find_targets
from trainer.data.table_encoding import ColumnKind, TableEncoding
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
    columns: dict[ColumnKey, ChosenKind] | None,
    missing: MissingRule,
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
    predicted = target if isinstance(target, list) else [target]
    named = [*predicted, *(features or []), *ignore, *(columns or ()), id, split, group, group_by]
    layouts, first = _open(keys, named, problems, options)
    if run is not None:  # read the columns of the run, whose positions may differ in this file
        features, ignore = run["columns"], []
        target = target if target is not None else run.get("target")
    shape = shape or (None if first.shape is None else [*first.shape])
    num_features = None if shape is None else math.prod(shape)
    layouts, target = labelled_tables(layouts, first, target, problems)
    part = find_split(first, split, [*named, *run["columns"]] if run is not None and split is None else named)
    others = {"id": id, "group": group, "group_by": group_by, "split": None if part is None else first.names[part]}
    layouts, first, kinds = _with_kinds(layouts, first, columns, run)
    by_user = [at for column in columns or () for at in first.find_all("columns", column)]
    chosen = choose_columns(first, target, features, ignore, others, kinds, by_user, num_features)
    layouts, first = _with_origins(layouts, first, chosen, run)
    is_plain = shape is not None or columns is None
    fills = missing == "mean" or (missing == "mark" and not is_plain)
    rows, chosen = _read(layouts, first, chosen, others, part, fills, bool(keys["label_separator"]))
    samples, targets = _samples(rows, first, chosen, problems, missing, keys, options)
    cells, read = cells_of(rows, first, chosen.features, kinds)
    _warn_of_numbers(cells, read, problems)
    kind, source = _source(cells, rows, samples, targets, shape, max_length, options)
    data = array_data(
        seed,
        kind,
        source,
        samples,
        targets,
        options,
        columns=[each.name for each in read],
        encode=None if is_plain else _encoder(read, missing, run),
        **cast(ArrayKeys, keys),
    )
    return _with_columns(data, first, chosen, id, part, options)


def _samples(
    rows: TableRows,
    first: Layout,
    chosen: ChosenColumns,
    problems: Problems,
    missing: MissingRule,
    keys: CsvKeys,
    options: ReadOptions,
) -> tuple[Candidates, Targets]:
    """Return all samples, and the targets of the good ones."""
    names = [first.names[column] for column in chosen.targets]
    problems.hint = _hint(rows.table.faults.values(), names, missing, keys["encoding"])
    samples = find_samples(rows, names, problems)
    forms = [first.forms[column] for column in chosen.targets]
    found = TargetCells(names, rows.texts, rows.targets[:, rows.leading], forms)
    return samples, find_targets(found, samples, keys, options)


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
    unused = data.normalise.unused if isinstance(data.normalise, TableEncoding) and run is None else []
    rare = f"nothing is learned from {listed(unused)} (no value is in {MIN_COUNT} rows of train)"
    notes = (*chosen.notes, *splits, *[rare] * bool(unused), *data.notes, *first.notes)
    return replace(data, preprocess={**data.preprocess, **found}, notes=notes)


def _read(
    layouts: Mapping[str, Layout],
    first: Layout,
    chosen: ChosenColumns,
    others: Mapping[str, ColumnKey | None],
    part: int | None,
    missing: bool,
    may_be_empty: bool,
) -> tuple[TableRows, ChosenColumns]:
    """Read the rows, and leave out the columns that name their row."""
    named = {key: None if (column := others[key]) is None else first.find(key, column) for key in ("group_by", "group")}
    steps, together = named.values()
    rows = read_rows(layouts, first, chosen, steps, together, part, missing=missing, may_be_empty=may_be_empty)
    return without_identifiers(rows, first, chosen)


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
    return _exchanged(layouts, first, first), first


def _with_kinds(
    layouts: Mapping[str, Layout],
    first: Layout,
    columns: Mapping[ColumnKey, ChosenKind] | None,
    run: Mapping[str, Any] | None,
) -> tuple[dict[str, Layout], Layout, dict[int, ColumnKind]]:
    """Return the layouts with the forms that the kinds of columns need, and the kinds; a finished run keeps its own."""
    if run is None and columns is not None:
        with_kinds, kinds = find_kinds(first, columns)
        return _exchanged(layouts, first, with_kinds), with_kinds, kinds
    encoding = None if run is None else _encoding_of(run)
    known = {each.name: each.kind for each in encoding.columns} if encoding is not None else {}
    return {**layouts}, first, {at: known.get(name, "number") for at, name in enumerate(first.names)}


def _with_origins(
    layouts: Mapping[str, Layout], first: Layout, chosen: ChosenColumns, run: Mapping[str, Any] | None
) -> tuple[dict[str, Layout], Layout]:
    """Return the layouts with the day from which the dates of the features count; a finished run keeps its own."""
    if run is not None:
        return {**layouts}, first
    dated = with_origins(first, [at for at in chosen.features if chosen.kinds[at] == "date"])
    return _exchanged(layouts, first, dated), dated


def _exchanged(layouts: Mapping[str, Layout], old: Layout, new: Layout) -> dict[str, Layout]:
    return {part: new if layout.file == old.file else layout for part, layout in layouts.items()}


def _encoding_of(run: Mapping[str, Any]) -> TableEncoding | None:
    """Return the encoding of a finished run; None for a run of an earlier version, or with ``dataset.shape``."""
    found = Normalise.restore(run)
    return found if isinstance(found, TableEncoding) else None


def _encoder(columns: Sequence[CellColumn], missing: MissingRule, run: Mapping[str, Any] | None) -> Encode | None:
    """Return the function that encodes the cells of some columns; None for a run of an earlier version."""
    known = None if run is None else _encoding_of(run)
    if run is not None and known is None:
        return None

    def encode(cells: NDArray[np.float32], trained: NDArray[np.bool_]) -> tuple[NDArray[np.float32], TableEncoding]:
        encoding = fit_encoding(cells, trained, columns, missing) if known is None else known
        return to_raw_rows(cells, columns, encoding), encoding

    return encode


def _warn_of_numbers(cells: NDArray[np.float32], columns: Sequence[CellColumn], problems: Problems) -> None:
    """Warn of columns whose numbers float32 hardly tells apart."""
    numbers = [at for at, each in enumerate(columns) if each.is_number]
    if numbers:
        some = cells if len(numbers) == len(columns) else cells[:, numbers]
        warn_if_too_close(some, [columns[at].name for at in numbers], problems)


def _hint(faults: Iterable[str], targets: Sequence[str], missing: MissingRule, encoding: str) -> str:
    """Return what else than leaving rows out helps with bad rows; empty if nothing does.

    Args:
        faults: why rows are bad: the name of a column, and what is wrong with its cell.
        targets: the names of the target columns, whose missing cells nothing can fill.
    """
    faults = [fault for fault in faults if not fault.startswith(tuple(f"{name}: " for name in targets))]
    marks = Counter(fault.rpartition(": ")[2].removesuffix(NO_NUMBER) for fault in faults if fault.endswith(NO_NUMBER))
    mark, count = max(marks.items(), key=lambda pair: pair[1], default=("", 0))
    if count > 1 and mark.lower() not in MISSING and not any(map(str.isdigit, mark)):
        fills = ", and dataset.missing=mark fills it in" if missing == "bad" else ""
        return f"{as_word('dataset.missing_values', [mark])} reads {mark} as a missing number{fills}"
    if missing == "bad" and any(map(is_missing, faults)):
        return "dataset.missing=mark fills and marks empty cells"
    return encoding_hint(encoding) if any(fault.endswith("is no text") for fault in faults) else ""


def _source(
    cells: NDArray[np.float32],
    rows: TableRows,
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
    good, run = samples.good, options.preprocessing
    if shape is not None and rows.levels:
        texts = ", ".join(rows.names(rows.levels))
        raise ConfigError(f"dataset.shape: {[*shape]}: must be made of numbers, and {texts} holds texts")
    if rows.is_grouped:
        if shape is not None:
            raise ConfigError(f"dataset.shape: {[*shape]}: a sample of dataset.group_by has a row for each step")
        varying = run is not None and run["varying"]
        return "sequence", as_sequences(cells, rows, good, targets.values, max_length, varying=varying)
    values = torch.from_numpy(cells if good.all() else cells[good])
    if shape is None:
        return "table", TensorSource((values,), targets.values)
    if math.prod(shape) != cells.shape[1]:
        raise ConfigError(
            f"dataset.shape: {[*shape]}: has {math.prod(shape):,} numbers, but there are {cells.shape[1]:,} features"
        )
    if values.isnan().any():
        raise ConfigError("dataset.missing: mean: fills the columns of a table, and not with dataset.shape")
    kinds: dict[int, Kind] = {1: "table", 2: "sequence", 3: "image"}
    values = values.view(len(values), *shape)
    if len(shape) == 3 and shape[2] <= MAX_CHANNELS < shape[0]:  # the channels are last
        values = values.permute(0, 3, 1, 2).contiguous()
    return kinds[len(shape)], TensorSource((values,), targets.values)
