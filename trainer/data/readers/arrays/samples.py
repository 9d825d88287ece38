"""Samples of numbers in memory: divide them, fill in missing numbers, and make a ``Data``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Unpack

from trainer.config import ConfigError
from trainer.data.data import Data, Normalise, ReadOptions, make_data
from trainer.data.readers.candidates import Candidates, Places
from trainer.data.readers.files import OwnKeys, Problems, divide, fits, need_samples, warn_of_leaks
from trainer.data.readers.tables.layout import listed
from trainer.data.readers.targets import Targets
from trainer.data.sources import RaggedSource, Split, TensorSource
from trainer.data.standardise import standardise
from trainer.data.table_encoding import TableEncoding
from trainer.spec import Kind, Task

# Returns raw rows and their encoding, given the cells (rows, columns) and which rows are of train, (rows,) bool.
Encode = Callable[[NDArray[np.float32], NDArray[np.bool_]], tuple[NDArray[np.float32], TableEncoding]]


class ArrayKeys(OwnKeys):
    """The keys of a data set of the user's own numbers."""

    task: Literal["auto"] | Task
    normalise_targets: bool


def array_data(
    seed: int,
    kind: Kind,
    source: TensorSource | RaggedSource,
    samples: Candidates,
    targets: Targets,
    options: ReadOptions,
    *,
    columns: Sequence[str] = (),
    encode: Encode | None = None,
    **keys: Unpack[ArrayKeys],
) -> Data:
    """Make a ``Data`` of numbers: divide the samples, fill in missing numbers, and measure the normalisation.

    Args:
        kind: the kind of the samples.
        source: the good samples; each NaN is a missing number, and is replaced by the mean of its column in train.
        samples: the splits and places of all samples, good and bad.
        targets: the targets of the good samples.
        columns: the names of the columns, along the last axis of the inputs; empty if the columns have no names.
        encode: encodes the rows, which are along the last axis of the inputs; None to normalise numbers.

    Raises:
        ConfigError: a split has no samples, or a column has no number in train.
    """
    dataset, splits = samples.problems.dataset, samples.splits[samples.good].tolist()
    if gone := {*samples.splits.tolist()} - {*splits}:
        raise ConfigError(f"dataset={dataset}: no good sample is left of {', '.join(sorted(gone))}")
    need_samples(dataset, splits)
    groups = None
    if samples.groups is not None:
        groups = [samples.groups[at] for at in np.flatnonzero(samples.good).tolist()]
        warn_of_leaks(splits, groups, samples.problems)
    divided = divide(dataset, seed, source, splits, options, keys, groups)
    task, fill, shape = targets.task, None, _shape(source)
    normalise: Normalise | None = None
    encoding: TableEncoding | None = None
    if encode is None:
        fill = _fill(dataset, source, divided[0].positions, columns, options.preprocessing)
        normalise = Normalise.measure(divided[0], axis=2 if kind == "sequence" else 1)
    else:
        divided, encoding = _encoded(source, divided, encode)
        shape = (*shape[:-1], encoding.width)
    varying = isinstance(source, RaggedSource)
    data = make_data(dataset, kind, shape, targets.names, divided, keys, task=task, varying=varying, encoding=encoding)
    data = replace(
        data,
        normalise=encoding or normalise,
        in_memory=fits(keys["in_memory"], source.num_bytes) and keys["in_memory"],
        preprocess={"columns": list(columns), "fill": fill},
        warnings=tuple(samples.problems.warnings),
        notes=tuple(samples.problems.notes),
        places=Places(samples.place_of, np.flatnonzero(samples.good)),
    )
    return standardise(data, options, normalise=keys["normalise_targets"]) if task == "regression" else data


def warn_if_too_close(numbers: NDArray[Any], names: Sequence[str], problems: Problems) -> None:
    """Warn if the numbers of a column are so large and close to one another that float32 hardly distinguishes them.

    Args:
        numbers: (…, columns), NaN where a number is missing.
        names: the names of the columns, for the warning; empty if the columns have none.
        problems: receives the warning.
    """
    rows = numbers.reshape(-1, numbers.shape[-1])
    least, most = (bound.reduce(rows).astype(np.float64) for bound in (np.fmin, np.fmax))  # both ignore NaN
    size = np.maximum(np.abs(least), np.abs(most))
    close = np.isfinite(size) & (most - least < size * 2.0**-14) & ((most > least) | (size >= 2**24))
    if close.any():
        columns = listed([names[at] if names else f"column {at + 1}" for at in np.flatnonzero(close).tolist()])
        problems.warnings.append(
            f"the numbers of {columns} are large and so close to one another that float32 hardly tells them apart; "
            "subtract the smallest from them"
        )


def _encoded(
    source: TensorSource | RaggedSource, divided: tuple[Split, Split | None, Split], encode: Encode
) -> tuple[tuple[Split, Split | None, Split], TableEncoding]:
    """Return the splits with raw rows in place of the cells, and their encoding."""
    values = source.values if isinstance(source, RaggedSource) else source.inputs[0]
    cells = values.reshape(-1, values.shape[-1])
    raw, encoding = encode(cells.numpy(), _rows_of(source, divided[0].positions).numpy())
    rows = torch.from_numpy(raw).view(*values.shape[:-1], -1)
    if isinstance(source, RaggedSource):
        new: TensorSource | RaggedSource = replace(source, values=rows)
    else:
        new = replace(source, inputs=(rows,))
    train, val, test = (None if each is None else Split(new, each.positions) for each in divided)
    assert train is not None
    assert test is not None
    return (train, val, test), encoding


def _rows_of(source: TensorSource | RaggedSource, positions: Tensor) -> Tensor:
    """Return a mask of the rows that belong to the samples at ``positions``, (rows of all samples,) bool."""
    chosen = torch.zeros(len(source.targets), dtype=torch.bool).index_fill_(0, positions, True)
    steps = 1 if isinstance(source, RaggedSource) else math.prod(source.inputs[0].shape[1:-1])
    return chosen.repeat_interleave(source.lengths if isinstance(source, RaggedSource) else torch.tensor(steps))


def _shape(source: TensorSource | RaggedSource) -> tuple[int, ...]:
    if isinstance(source, RaggedSource):
        return (int(source.lengths.max()), *source.values.shape[1:])
    return tuple(source.inputs[0].shape[1:])


def _fill(
    dataset: str,
    source: TensorSource | RaggedSource,
    trained: Tensor,
    columns: Sequence[str],
    preprocessing: Mapping[str, Any] | None,
) -> list[float] | None:
    """Replace missing numbers, in place, by the means of their columns in train, and return the means.

    A finished run uses the means of its own training data. If no number is missing, return the means that the run
    saved, or None.
    """
    values = source.values if isinstance(source, RaggedSource) else source.inputs[0]
    if not (values.is_floating_point() and values.isnan().any()):
        return None if preprocessing is None else preprocessing["fill"]
    rows = values.view(-1, values.shape[-1])
    if preprocessing is not None:
        mean = fill_values(preprocessing)
    else:
        mean = rows[_rows_of(source, trained)].double().nanmean(0)
    if mean.isnan().any():
        column = int(mean.isnan().nonzero()[0])
        raise ConfigError(f"dataset={dataset}: no sample of train has a number in {columns[column]}")
    rows.copy_(torch.where(rows.isnan(), mean.float(), rows))
    return mean.float().tolist()


def fill_values(preprocessing: Mapping[str, Any]) -> Tensor:
    """Return the number by which a finished run replaces a missing number of each column, (columns,) float32.

    If no number was missing in the training data, these are the means of the run's normalisation, which are also the
    means of the columns.
    """
    return torch.tensor(preprocessing["fill"] or preprocessing["normalise"]["mean"])
