"""What data sets of numbers in memory share: the task, classes found among targets, and the way to a ``Data``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Unpack

from trainer.config import ConfigError
from trainer.data.data import Data, Normalise, RaggedSource, ReadOptions, TensorSource, class_counts
from trainer.data.readers.files import (
    OwnKeys,
    Problems,
    divide,
    fits,
    natural,
    need_classes,
    need_samples,
)
from trainer.data.readers.tables import to_float
from trainer.spec import Kind, Spec, Task

MAX_CLASSES = 20  # different whole numbers that are taken for classes


class ArrayKeys(OwnKeys):
    """The keys of a data set of numbers of a user's own."""

    task: Literal["auto"] | Task
    normalise_targets: bool


class Targets(NamedTuple):
    """What is to be predicted.

    Args:
        task: classes, labels or values.
        names: of them.
        values: (samples,) int64 classes, or (samples, outputs) float32 labels or values.
    """

    task: Task
    names: tuple[str, ...]
    values: Tensor


class Places(Sequence[str]):
    """Where samples stand, such as ``file:line``, made when it is asked for.

    Args:
        place: of a row.
        rows: (samples,) the row of each.
    """

    def __init__(self, place: Callable[[int], str], rows: NDArray[np.int64]) -> None:
        self._place, self._rows = place, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, sample: Any) -> Any:
        return self._place(int(self._rows[sample]))


def _shown(text: str, value: float) -> str:
    """A number as the name of a class: 1 and 1.0 are one, and whole numbers keep all their digits."""
    try:
        return str(int(text))
    except ValueError:
        return f"{value:.15g}"


def find_classes(
    dataset: str,
    texts: Sequence[str],
    codes: NDArray[np.int64],
    splits: NDArray[np.str_],
    places: Sequence[str],
    options: ReadOptions,
    problems: Problems,
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The classes of train in their order, and the class of each sample: -1 where train does not have it.

    Numbers are in the order of their values, and 1 and 1.0 are one class.

    Args:
        texts: what stands for a class somewhere.
        codes: (samples,) which of the texts; -1 for none.
        splits: (samples,) the name of each one's split.
        places: of the samples, for messages.

    Raises:
        ConfigError: train has less than two.
    """
    used = np.unique(codes[codes >= 0]).tolist()
    values = {code: to_float(texts[code]) for code in used}
    if np.isfinite(list(values.values())).all():
        names = {code: _shown(texts[code], value) for code, value in values.items()}
        order = sorted(used, key=values.__getitem__)
    else:
        names = {code: texts[code] for code in used}
        order = sorted(used, key=lambda code: natural(texts[code]))
    trained = np.isin(splits, ("", "train"))
    known = {names[code] for code in np.unique(codes[trained & (codes >= 0)]).tolist()}
    classes = options.classes or tuple(dict.fromkeys(names[code] for code in order if names[code] in known))
    need_classes(dataset, classes)
    number = {name: number for number, name in enumerate(classes)}
    table = np.full(len(texts) + 1, -1)  # its last stands for none
    for code in used:
        table[code] = number.get(names[code], -1)
    found = table[codes]
    strange = (found < 0) & (codes >= 0)
    for split in np.unique(splits[strange]).tolist():
        for code in np.unique(codes[strange & (splits == split)]).tolist():
            same = np.flatnonzero(strange & (splits == split) & (codes == code))
            count = "1 sample" if len(same) == 1 else f"{len(same)} samples"
            problems.add(places[int(same[0])], f"class {names[code]} is in {split} ({count}) but not in train")
    return classes, found


def array_data(
    dataset: str,
    seed: int,
    kind: Kind,
    source: TensorSource | RaggedSource,
    splits: Sequence[str],
    targets: Targets,
    *,
    places: Sequence[str],
    columns: Sequence[str],
    options: ReadOptions,
    warnings: tuple[str, ...],
    **keys: Unpack[ArrayKeys],
) -> Data:
    """Split the samples, and measure what train is like.

    Args:
        source: of all samples; nan where a number is missing, which becomes the mean of its column in train.
        splits: the name of each sample's split.
        places: of each sample, for messages.
        columns: names along the last axis of the inputs, where there are some.
        warnings: what is to be said of the data.

    Raises:
        ConfigError: nothing is left of a split, or a column has no number in train.
    """
    need_samples(dataset, splits)
    train, val, test = divide(dataset, seed, source, splits, options, keys)
    fill = _fill(dataset, source, train.positions, columns, options.preprocessing)
    spec = Spec(
        dataset=dataset,
        kind=kind,
        shape=_shape(source),
        task=targets.task,
        classes=targets.names,
        counts=class_counts(train, targets.task, len(targets.names)),
        varying=isinstance(source, RaggedSource),
    )
    if targets.task == "regression" and keys["normalise_targets"]:
        exact = train.targets.double()
        std = exact.std(0, correction=0)
        spec = dataclasses.replace(
            spec, target_mean=tuple(exact.mean(0).tolist()), target_std=tuple(torch.where(std > 0, std, 1.0).tolist())
        )
    return Data(
        spec,
        train,
        val,
        test,
        normalise=Normalise.measure(train, axis=2 if kind == "sequence" else 1),
        in_memory=fits(keys["in_memory"], source.num_bytes),
        workers=keys["workers"],
        balanced=keys["sampler"] == "balanced",
        preprocess={
            "columns": list(columns),
            "fill": fill,
        },
        warnings=warnings,
        places=places,
    )


def _shape(source: TensorSource | RaggedSource) -> tuple[int, ...]:
    if isinstance(source, RaggedSource):
        return (int(source.lengths.max()), *source.values.shape[1:])
    return tuple(source.inputs[0].shape[1:])


def _fill(
    dataset: str,
    source: TensorSource | RaggedSource,
    trained: Tensor,
    columns: Sequence[str],
    known: Mapping[str, Any] | None,
) -> list[float] | None:
    """Put the mean that a column has in train in the place of each missing number, and tell these means."""
    values = source.values if isinstance(source, RaggedSource) else source.inputs[0]
    if not (values.is_floating_point() and values.isnan().any()):
        return None if known is None else known["fill"]
    rows = values.view(-1, values.shape[-1])
    if known is not None:  # where none was missing, that is how they were normalised
        mean = torch.tensor(known["fill"] or known["normalise"]["mean"])
    else:
        lengths = source.lengths if isinstance(source, RaggedSource) else torch.tensor(len(rows) // len(values))
        in_train = torch.zeros(len(source.targets), dtype=torch.bool).index_fill_(0, trained, True)
        mean = rows[in_train.repeat_interleave(lengths)].double().nanmean(0)
    if mean.isnan().any():
        column = int(mean.isnan().nonzero()[0])
        raise ConfigError(f"dataset={dataset}: no sample of train has a number in {columns[column]}")
    rows.copy_(torch.where(rows.isnan(), mean.float(), rows))
    return mean.float().tolist()
