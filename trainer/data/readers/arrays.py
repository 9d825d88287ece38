"""Samples of numbers in memory: find the task and the classes, and make a ``Data``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Unpack

from trainer.config import ConfigError
from trainer.data.data import Data, Normalise, ReadOptions, make_data
from trainer.data.readers.files import OwnKeys, Problems, divide, fits, natural_key, need_classes, need_samples
from trainer.data.readers.tables import to_float
from trainer.data.sources import RaggedSource, TensorSource
from trainer.data.standardise import standardise
from trainer.spec import Kind, Task

MAX_CLASSES = 20  # targets with at most this many different whole numbers are classes


class ArrayKeys(OwnKeys):
    """The keys of a data set of the user's own numbers."""

    task: Literal["auto"] | Task
    normalise_targets: bool


class Targets(NamedTuple):
    """The targets of all samples.

    Args:
        task: classification, multilabel or regression.
        names: the names of the classes, labels or values.
        values: (samples,) int64 classes, (samples, outputs) float32 labels, or (samples, outputs) values, float32 or
            float64; ``array_data`` keeps float64 where float32 would lose the differences between values.
    """

    task: Task
    names: tuple[str, ...]
    values: Tensor


class Places(Sequence[str]):
    """The place of each sample, such as ``file:line``, computed only when a message needs it.

    Args:
        place_of: returns the place of a row.
        rows: (samples,) int64, the row of each sample.
    """

    def __init__(self, place_of: Callable[[int], str], rows: NDArray[np.int64]) -> None:
        self._place_of, self._rows = place_of, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, sample: Any) -> Any:
        return self._place_of(int(self._rows[sample]))


class Candidates:
    """The samples of all splits, concatenated, with a mask of those that can be used.

    Args:
        splits: (samples,) the split of each sample, as in ``Item.split``.
        place_of: returns the place of a sample, for messages.
        problems: collects the bad samples.

    Attributes:
        good: (samples,) bool, true for samples that can be used.
    """

    def __init__(self, splits: NDArray[np.str_], place_of: Callable[[int], str], problems: Problems) -> None:
        self.splits, self.place_of, self.problems = splits, place_of, problems
        self.good = np.ones(len(splits), dtype=bool)

    def drop(
        self,
        bad: NDArray[np.bool_],
        reason: str | Callable[[int], str],
        place_of: Callable[[int], str] | None = None,
    ) -> None:
        """Exclude samples, and report each one that was good until now as a problem.

        Args:
            bad: (samples,) bool, true for the samples to exclude.
            reason: why the samples are bad, or a function that returns the reason for a sample.
            place_of: returns the place of what is bad, if this is not the usual place of a sample.
        """
        for sample in np.flatnonzero(bad & self.good).tolist():
            place = (place_of or self.place_of)(sample)
            self.problems.add(place, reason if isinstance(reason, str) else reason(sample))
        self.good &= ~bad

    def settle(self) -> None:
        """Turn the problems found so far into warnings or an error, and check that there are good samples.

        Raises:
            ConfigError: as ``Problems.settle``, or no sample is left.
        """
        self.problems.settle()
        need_samples(self.problems.dataset, np.flatnonzero(self.good))

    def classes(
        self,
        texts: Sequence[str],
        codes: NDArray[np.int64],
        options: ReadOptions,
        place_of: Callable[[int], str] | None = None,
    ) -> Targets:
        """Return the class of each good sample as targets; samples of a class that train lacks become bad.

        Args:
            texts: the different texts that name a class.
            codes: (samples,) the index in ``texts`` of each sample's class.
            place_of: returns the place of a sample's target, if this is not the usual place of a sample.

        Raises:
            ConfigError: train has less than two classes, or there are bad samples and ``on_error`` is stop.
        """
        codes = np.where(self.good, codes, -1)
        names, numbers = self._find_classes(texts, codes, options, place_of or self.place_of)
        self.problems.settle()
        self.good &= numbers >= 0
        return Targets("classification", names, torch.from_numpy(numbers[self.good]))

    def _find_classes(
        self, texts: Sequence[str], codes: NDArray[np.int64], options: ReadOptions, place_of: Callable[[int], str]
    ) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Return the classes of train in order, and the class number of each sample, or -1 if train lacks its class.

        If all texts are numbers, classes are ordered by value, and 1 and 1.0 are one class. Otherwise they are in
        natural order. A finished run keeps its own classes.
        """
        used = np.unique(codes[codes >= 0]).tolist()
        values = {code: to_float(texts[code]) for code in used}
        if np.isfinite(list(values.values())).all():
            names = {code: _shown(texts[code], value) for code, value in values.items()}
            order = sorted(used, key=values.__getitem__)
        else:
            names = {code: texts[code] for code in used}
            order = sorted(used, key=lambda code: natural_key(texts[code]))
        trained = np.isin(self.splits, ("", "train"))
        known = {names[code] for code in np.unique(codes[trained & (codes >= 0)]).tolist()}
        classes = options.classes or tuple(dict.fromkeys(names[code] for code in order if names[code] in known))
        need_classes(self.problems.dataset, classes)
        number = {name: number for number, name in enumerate(classes)}
        table = np.full(len(texts) + 1, -1)  # the last entry is for samples without a text, whose code is -1
        for code in used:
            table[code] = number.get(names[code], -1)
        found = table[codes]
        strange = (found < 0) & (codes >= 0)
        for split in np.unique(self.splits[strange]).tolist():
            for code in np.unique(codes[strange & (self.splits == split)]).tolist():
                same = np.flatnonzero(strange & (self.splits == split) & (codes == code))
                count = "1 sample" if len(same) == 1 else f"{len(same)} samples"
                reason = f"class {names[code]} is in {split} ({count}) but not in train"
                self.problems.add(place_of(int(same[0])), reason)
        return classes, found


def _shown(text: str, value: float) -> str:
    """Return a number as the name of a class; a whole number keeps all its digits."""
    try:
        return str(int(text))
    except ValueError:
        return f"{value:.15g}"


def find_task(
    task: Literal["auto"] | Task, columns: Sequence[str], *, are_classes: bool, are_labels: bool, texts: str
) -> Task:
    """Return the task that ``dataset.task`` names or, if it is auto, the task that fits the target columns.

    Args:
        task: the key ``dataset.task``.
        columns: the names of the target columns.
        are_classes: whether a single target column holds classes.
        are_labels: whether several target columns hold only 0 and 1.
        texts: the names of target columns that hold texts, for messages; empty if all hold numbers.

    Raises:
        ConfigError: the columns do not fit the task.
    """
    if task == "auto" and len(columns) > 1:
        task = "multilabel" if are_labels else "regression"
    elif task == "auto":
        task = "classification" if are_classes else "regression"
    if task == "classification" and len(columns) > 1:
        raise ConfigError(f"dataset.target: must be one column for task=classification, got {', '.join(columns)}")
    if task != "classification" and texts:
        raise ConfigError(f"dataset.target: {texts}: holds text, not numbers, which task={task} needs")
    return task


def array_data(
    seed: int,
    kind: Kind,
    source: TensorSource | RaggedSource,
    samples: Candidates,
    targets: Targets,
    options: ReadOptions,
    *,
    columns: Sequence[str] = (),
    **keys: Unpack[ArrayKeys],
) -> Data:
    """Make a ``Data`` of numbers: divide the samples, fill in missing numbers, and measure the normalisation.

    Args:
        kind: the kind of the samples.
        source: the good samples; each NaN is a missing number, and is replaced by the mean of its column in train.
        samples: the splits and places of all samples, good and bad.
        targets: the targets of the good samples.
        columns: the names of the columns, along the last axis of the inputs; empty if the columns have no names.

    Raises:
        ConfigError: a split has no samples, or a column has no number in train.
    """
    dataset, splits = samples.problems.dataset, samples.splits[samples.good].tolist()
    need_samples(dataset, splits)
    divided = divide(dataset, seed, source, splits, options, keys)
    train, task = divided[0], targets.task
    fill = _fill(dataset, source, train.positions, columns, options.preprocessing)
    varying = isinstance(source, RaggedSource)
    data = make_data(dataset, kind, _shape(source), targets.names, divided, keys, task=task, varying=varying)
    data = replace(
        data,
        normalise=Normalise.measure(train, axis=2 if kind == "sequence" else 1),
        in_memory=fits(keys["in_memory"], source.num_bytes) and keys["in_memory"],
        preprocess={"columns": list(columns), "fill": fill},
        warnings=tuple(samples.problems.warnings),
        places=Places(samples.place_of, np.flatnonzero(samples.good)),
    )
    return standardise(data, options, normalise=keys["normalise_targets"]) if task == "regression" else data


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
        lengths = source.lengths if isinstance(source, RaggedSource) else torch.tensor(len(rows) // len(values))
        in_train = torch.zeros(len(source.targets), dtype=torch.bool).index_fill_(0, trained, True)
        mean = rows[in_train.repeat_interleave(lengths)].double().nanmean(0)
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
