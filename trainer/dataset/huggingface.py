"""Any data set of Hugging Face's ``datasets`` library: pictures, sounds, texts, numbers or lists of numbers."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Unpack

from trainer.config import ConfigError
from trainer.data import Data, RaggedSource, ReadOptions, TensorSource
from trainer.data.audio import AudioAugmentKeys
from trainer.data.augment_images import AugmentKeys
from trainer.data.readers import hub
from trainer.data.readers.arrays.samples import ArrayKeys, array_data, warn_if_too_close
from trainer.data.readers.candidates import Candidates
from trainer.data.readers.files import Item, OwnKeys, Problems, need_samples
from trainer.data.readers.hub import NAME, HubColumns
from trainer.data.readers.pictures import FormKeys, Names, PictureKeys, picture_data
from trainer.data.readers.sounds import SoundKeys, WaveKeys, sound_data
from trainer.data.readers.targets import MAX_CLASSES, Targets, class_names, classes_of, find_task
from trainer.data.readers.texts.tokens import TextAugmentKeys, TextKeys, TokenKeys, token_data
from trainer.dataset import DATASETS
from trainer.spec import Kind, Task


class EveryAugmentKeys(AugmentKeys, AudioAugmentKeys, TextAugmentKeys):
    """The keys under ``dataset.augment``: those of pictures, of sounds and of texts."""


class EveryKeys(OwnKeys, FormKeys, WaveKeys, TokenKeys):
    """The keys of all kinds of samples that a data set may hold."""

    task: Literal["auto"] | Task
    normalise_targets: bool
    augment: EveryAugmentKeys


@DATASETS.register
def huggingface(
    seed: int,
    options: ReadOptions,
    *,
    config: str | None,
    input: str | list[str] | None,
    target: str | list[str] | None,
    **keys: Unpack[EveryKeys],
) -> Data:
    """Read a data set by its name on the Hub, or from local files; code that comes with a data set is never run.

    Raises:
        ConfigError: the data set or a column does not exist, ``datasets`` is missing, or samples are bad.
    """
    parts = hub.load(keys["path"], config)
    features = parts["train" if "train" in parts else ""].features
    problems = Problems(NAME, keys["on_error"], options.report_all)
    found = _HubSet(keys["path"], parts, features, hub.choose(features, input, target), problems)
    _check_keys(found, keys)
    holds = found.columns.holds
    # each reader uses only its own keys
    if holds == "pictures":
        return _pictures(seed, found, options, cast(PictureKeys, keys))
    if holds == "sounds":
        return _sounds(seed, found, options, cast(SoundKeys, keys))
    if holds == "texts":
        return token_data(seed, _texts(found), options, problems, **cast(TextKeys, keys))
    return _numbers(seed, found, options, cast(ArrayKeys, keys))


@dataclass(frozen=True)
class _HubSet:
    """A data set of the Hub or of local files, loaded with ``datasets``."""

    path: object  # the key ``dataset.path``, for messages
    parts: dict[str, Any]  # the ``datasets.Dataset`` of each split
    features: Any  # the ``datasets.Features`` of train
    columns: HubColumns
    problems: Problems

    def labelled_rows(self) -> Iterator[Item]:
        """Yield every row that has a class, with its number as content; report every row without one as a problem."""
        target = self.columns.targets[0]
        for split, part in self.parts.items():
            for number, label in enumerate(hub.labels(part, target)):
                place = hub.place(self.path, split, number)
                if label:
                    yield Item(split, label, place, number)
                else:
                    self.problems.add(place, f"{target}: is empty")

    def labels(self) -> NDArray[np.str_]:
        """Return the class of each row of all splits, (rows,); empty for a row without a class."""
        target = self.columns.targets[0]
        return np.array([label for part in self.parts.values() for label in hub.labels(part, target)], dtype=np.str_)

    def table(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Return columns of numbers of all splits, (rows, columns); NaN where one is missing or beyond float32."""
        columns = [[value for part in self.parts.values() for value in part[name][:]] for name in names]
        values = np.ascontiguousarray(np.array(columns, dtype=np.float64).T)
        return np.where(np.abs(values) <= np.finfo(np.float32).max, values, np.nan)


def _check_keys(found: _HubSet, keys: EveryKeys) -> None:
    """Raise ConfigError if a split lacks a column, or if keys do not fit the content of the data set."""
    columns, problems = found.columns, []
    for split, part in found.parts.items():
        missing = [name for name in (*columns.inputs, *columns.targets) if name not in part.features]
        problems += [f"dataset.path: {keys['path']}: {split} has no column {name}" for name in missing]
    working = {"pictures": AugmentKeys, "sounds": AudioAugmentKeys, "texts": TextAugmentKeys}
    known = working[columns.holds].__annotations__ if columns.holds in working else {}
    useless = [key for key, on in keys["augment"].items() if on and key not in known]
    problems += [f"dataset.augment.{key}: does nothing to {columns.holds}, which the set has" for key in useless]
    if columns.holds in working:
        if keys["task"] not in ("auto", "classification"):
            problems.append(f"dataset.task: must be classification for {columns.holds}, got {keys['task']}")
        target = columns.targets[0]
        feature = found.features[target]
        holds_classes = hub.held_by(feature) in ("texts", "numbers") and not _holds_fractions(feature)
        if len(columns.targets) > 1 or not holds_classes:
            problems.append(f"dataset.target: must be one column of classes for {columns.holds}, got {target}")
    if problems:
        raise ConfigError(*problems)


def _holds_fractions(feature: Any) -> bool:
    return getattr(feature, "dtype", None) in hub.FRACTIONS


# ---- pictures and sounds


@dataclass(frozen=True)
class _StoredFiles:
    """Returns the file at a position: a stream of the bytes that a row of the column holds, or the path in the row.

    Args:
        parts: for each split, a ``datasets.Dataset`` with only the column.
        rows: (samples, 2) int64, the number of the split and of the row of each sample.
        column: the name of the column.
    """

    parts: Sequence[Any]
    rows: NDArray[np.int64]
    column: str

    def __call__(self, position: int) -> Path | io.BytesIO:
        part, row = self.rows[position].tolist()
        stored = self.parts[part][row][self.column]
        return io.BytesIO(stored["bytes"]) if stored["bytes"] else Path(stored["path"])


class _FileColumn:
    """The input column of a data set, cast to ``feature``, which does not decode the files."""

    def __init__(self, found: _HubSet, feature: Any) -> None:
        (name,) = found.columns.inputs
        raw = {split: part.select_columns([name]).cast_column(name, feature) for split, part in found.parts.items()}
        self.found, self.name, self.parts = found, name, raw
        self.sizes = {split: _num_bytes(part, name) for split, part in raw.items()}

    def items(self) -> list[Item]:
        """Return the labelled rows with a file, as items whose content is the numbers of the split and of the row."""
        numbers = {split: number for number, split in enumerate(self.parts)}
        items = []
        for item in self.found.labelled_rows():
            if self.sizes[item.split][item.content]:
                items.append(item._replace(content=(numbers[item.split], item.content)))
            else:
                self.found.problems.add(item.place, f"{self.name}: is empty")
        return items

    def files(self, items: Sequence[Item]) -> _StoredFiles:
        rows = np.array([item.content for item in items], dtype=np.int64).reshape(-1, 2)
        return _StoredFiles([*self.parts.values()], rows, self.name)


def _pictures(seed: int, found: _HubSet, options: ReadOptions, keys: PictureKeys) -> Data:
    import datasets

    column = _FileColumn(found, datasets.Image(decode=False))

    def opener(items: list[Item], _: Names) -> _StoredFiles:
        return column.files(items)

    def name(item: Item) -> str:
        return f"{item.content[1]} {column.sizes[item.split][item.content[1]]}"

    return picture_data(seed, column.items(), opener, name, options, found.problems, **keys)


def _sounds(seed: int, found: _HubSet, options: ReadOptions, keys: SoundKeys) -> Data:
    import datasets

    column = _FileColumn(found, datasets.Audio(decode=False))
    return sound_data(seed, column.items(), column.files, options, found.problems, **keys)


def _num_bytes(part: Any, column: str) -> list[int]:
    """Return the size of each file in bytes, without reading the files; 0 for a row without a file."""
    import pyarrow.compute as pc

    stored = part.with_format("arrow")[:].column(column)
    inside = pc.fill_null(pc.binary_length(pc.struct_field(stored, "bytes")), 0).to_pylist()
    paths = pc.struct_field(stored, "path").to_pylist()
    return [size or _file_size(path) for size, path in zip(inside, paths, strict=True)]


def _file_size(path: str | None) -> int:
    return Path(path).stat().st_size if path is not None and Path(path).is_file() else 0


# ---- texts


def _texts(found: _HubSet) -> Iterator[Item]:
    (column,) = found.columns.inputs
    values = {split: iter(part[column]) for split, part in found.parts.items()}
    at = dict.fromkeys(found.parts, 0)
    for item in found.labelled_rows():
        while at[item.split] <= item.content:  # rows without a class are skipped
            text = next(values[item.split])
            at[item.split] += 1
        if text is None or not text.strip():
            found.problems.add(item.place, f"{column}: is empty")
        else:
            yield item._replace(content=text)


# ---- numbers


def _numbers(seed: int, found: _HubSet, options: ReadOptions, keys: ArrayKeys) -> Data:
    """Read columns of numbers as a table, or a column of lists; ``_source`` says which lists are a table."""
    parts, columns = found.parts, found.columns
    splits = np.repeat(np.array([*parts]), [len(part) for part in parts.values()])
    rows = np.concatenate([np.arange(len(part)) for part in parts.values()])
    samples = Candidates(splits, lambda row: hub.place(found.path, splits[row], int(rows[row])), found.problems)
    need_samples(NAME, splits)
    task = _find_task(found, keys["task"])
    answers: NDArray[Any]
    if task == "classification":
        answers = found.labels()
        samples.drop(answers == "", f"{columns.targets[0]}: is empty")
    else:
        answers = found.table(columns.targets)
        samples.drop(~np.all(np.isfinite(answers), axis=1), f"{', '.join(columns.targets)}: is no finite number")
    values, lengths = _inputs(found, samples)
    samples.settle()
    if task == "classification":
        texts, codes = np.unique(answers, return_inverse=True)
        names = class_names(texts.tolist(), np.unique(codes[samples.good]).tolist())
        targets = classes_of(names, codes, samples, options)
    else:
        good = answers[samples.good]
        targets = Targets(
            task, tuple(columns.targets), torch.from_numpy(good.astype(np.float32) if task == "multilabel" else good)
        )
    kept = torch.from_numpy(values[np.repeat(samples.good, lengths)])
    kind, source = _source(kept, torch.from_numpy(lengths[samples.good]), targets, found)
    inputs = columns.inputs if columns.holds == "numbers" else ()
    return array_data(seed, kind, source, samples, targets, options, columns=inputs, **keys)


def _inputs(found: _HubSet, samples: Candidates) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the numbers, (steps of all rows, width), and the steps of each row; drop rows with NaN or infinity."""
    names = found.columns.inputs
    if found.columns.holds == "numbers":
        values = found.table(names).astype(np.float32)
        warn_if_too_close(values, names, found.problems)
        for at, name in enumerate(names):
            samples.drop(~np.isfinite(values[:, at]), f"{name}: is no finite number")
        return values, np.ones(len(values), dtype=np.int64)
    values, lengths = hub.lists(found.parts.values(), names[0])
    samples.drop(lengths == 0, f"{names[0]}: is empty")
    row_of = np.repeat(np.arange(len(lengths)), lengths)
    infinite = np.bincount(row_of[~np.isfinite(values).all(1)], minlength=len(lengths)) > 0
    samples.drop(infinite, f"{names[0]}: is not of finite numbers")
    return values, lengths


def _source(
    values: Tensor, lengths: Tensor, targets: Targets, found: _HubSet
) -> tuple[Kind, TensorSource | RaggedSource]:
    """Return the kind of the samples, and their source.

    Lists of numbers are a table if all have the same length; otherwise, and for lists of lists, they are sequences.

    Args:
        values: (steps of all samples, width).
        lengths: (samples,) int64, the number of steps of each sample.
    """
    if found.columns.holds == "numbers":
        return "table", TensorSource((values,), targets.values)
    if len(lengths.unique()) > 1:
        return "sequence", RaggedSource(values, lengths, targets.values)
    if hub.depth(found.features[found.columns.inputs[0]]) == 1:
        return "table", TensorSource((values.view(len(lengths), -1),), targets.values)
    return "sequence", TensorSource((values.view(len(lengths), -1, values.shape[1]),), targets.values)


def _find_task(found: _HubSet, task: Literal["auto"] | Task) -> Task:
    """Return the task that ``dataset.task`` names or, if it is auto, the task that fits the target columns.

    Raises:
        ConfigError: the targets do not fit the task.
    """
    targets = found.columns.targets
    features = [found.features[name] for name in targets]
    kinds = {hub.held_by(feature) for feature in features}
    if not kinds <= {"texts", "numbers"}:
        raise ConfigError(f"dataset.target: {', '.join(targets)}: must hold classes or numbers")
    are_classes = are_labels = False
    if len(targets) > 1:
        are_labels = "texts" not in kinds and bool(np.isin(found.table(targets), (0, 1)).all())
    elif task == "auto":
        are_classes = features[0].dtype in (*hub.TEXTS, "bool") or bool(hub.class_names(features[0]))
        are_classes |= not _holds_fractions(features[0]) and len(np.unique(found.labels())) <= MAX_CLASSES
    texts = ", ".join(targets) if "texts" in kinds else ""
    task = find_task(task, targets, are_classes=are_classes, are_labels=are_labels, texts=texts)
    if task == "multilabel" and not np.isin(found.table(targets), (0, 1)).all():
        raise ConfigError(f"dataset.target: {', '.join(targets)}: must hold 0 and 1 alone for task=multilabel")
    return task
