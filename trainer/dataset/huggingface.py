"""Any set of Hugging Face's ``datasets`` library: pictures, sounds, texts, numbers and lists of numbers."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Unpack

from trainer.config import ConfigError
from trainer.data import Data, RaggedSource, ReadOptions, TensorSource, audio
from trainer.data.audio import AudioAugmentKeys
from trainer.data.augment_images import AugmentKeys
from trainer.data.readers import hub
from trainer.data.readers.arrays import MAX_CLASSES, ArrayKeys, Places, Targets, array_data, find_classes
from trainer.data.readers.files import Item, OwnKeys, Problems, need_samples
from trainer.data.readers.hub import NAME, Columns
from trainer.data.readers.pictures import File, FormKeys, Names, PictureKeys, picture_data
from trainer.data.readers.sounds import SoundKeys, WaveKeys, sound_data
from trainer.data.readers.tokens import Keys as TextKeys
from trainer.data.readers.tokens import TextAugmentKeys, TokenKeys, token_data
from trainer.dataset import DATASETS
from trainer.spec import Kind, Task


class EveryAugmentKeys(AugmentKeys, AudioAugmentKeys, TextAugmentKeys):
    """The keys under ``dataset.augment``: those of pictures, of sounds, and of texts."""


class EveryKeys(OwnKeys, FormKeys, WaveKeys, TokenKeys):
    """The keys of whatever a set may hold."""

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
    """A set by its name on the Hub, or of local files; code that comes with a set is never run.

    Raises:
        ConfigError: there is no such set or column, ``datasets`` is missing, or samples are bad.
    """
    parts = hub.load(keys["path"], config)
    columns = hub.choose(_train(parts).features, input, target)
    _check_keys(columns, parts, keys)
    problems = Problems(NAME, keys["on_error"], options.report_all)
    # the readers look at their own keys alone
    if columns.holds == "pictures":
        return _pictures(seed, options, parts, columns, problems, cast(PictureKeys, keys))
    if columns.holds == "sounds":
        return _sounds(seed, options, parts, columns, problems, cast(SoundKeys, keys))
    if columns.holds == "texts":
        texts = _texts(keys, parts, columns, problems)
        return token_data(NAME, seed, texts, options, problems, **cast(TextKeys, keys))
    return _numbers(seed, options, parts, columns, problems, cast(ArrayKeys, keys))


def _check_keys(columns: Columns, parts: dict[str, Any], keys: EveryKeys) -> None:
    """Raises ConfigError for a split without the columns, and for keys that do not fit what is read."""
    problems = []
    for split, part in parts.items():
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
        feature = _train(parts).features[target]
        if len(columns.targets) > 1 or hub.what(feature) not in ("texts", "numbers") or _holds_fractions(feature):
            problems.append(f"dataset.target: must be one column of classes for {columns.holds}, got {target}")
    if problems:
        raise ConfigError(*problems)


def _train(parts: dict[str, Any]) -> Any:
    return parts["train"] if "train" in parts else parts[""]


def _holds_fractions(feature: Any) -> bool:
    return getattr(feature, "dtype", None) in hub.FRACTIONS


def _rows(keys: OwnKeys, parts: dict[str, Any], target: str, problems: Problems) -> Iterator[tuple[str, int, str, str]]:
    """The split, the number, the class and the place of every row that has a class."""
    for split, part in parts.items():
        for row, label in enumerate(hub.labels(part, target)):
            place = hub.place(keys["path"], split, row)
            if label:
                yield split, row, label, place
            else:
                problems.add(place, f"{target}: is empty")


# ---- pictures and sounds


@dataclass(frozen=True)
class _Files:
    """The file at a position, which stands in a row of an Arrow file, or is one of its own.

    Args:
        parts: the column of each split.
        rows: (samples, 2) int64: which of them, and the row.
    """

    parts: Sequence[Any]
    rows: NDArray[np.int64]
    column: str

    def __call__(self, position: int) -> audio.File:
        part, row = self.rows[position].tolist()
        stored = self.parts[part][row][self.column]
        file: audio.File = stored["bytes"] or Path(stored["path"])
        return file


@dataclass(frozen=True)
class _Pictures:
    """The same as Pillow takes it."""

    files: _Files

    def __call__(self, position: int) -> File:
        file = self.files(position)
        return io.BytesIO(file) if isinstance(file, bytes) else os.fspath(file)


@dataclass(frozen=True)
class _Column:
    """A column of files.

    Args:
        parts: that column of each split, whose files the library is not to read.
        sizes: of each file of each split, in bytes; 0 where there is none.
    """

    name: str
    parts: dict[str, Any]
    sizes: dict[str, list[int]]

    @classmethod
    def of(cls, parts: dict[str, Any], name: str, feature: Any) -> _Column:
        """That of the name; ``feature`` is what it is cast to."""
        raw = {split: part.select_columns([name]).cast_column(name, feature) for split, part in parts.items()}
        return cls(name, raw, {split: _num_bytes(part, name) for split, part in raw.items()})

    def items(self, rows: Iterable[tuple[str, int, str, str]], problems: Problems) -> list[Item]:
        """Those with a file; their content is the number of the split, and the row."""
        numbers = {split: number for number, split in enumerate(self.parts)}
        items = []
        for split, row, label, place in rows:
            if self.sizes[split][row]:
                items.append(Item(split, label, place, (numbers[split], row)))
            else:
                problems.add(place, f"{self.name}: is empty")
        return items

    def files(self, items: Sequence[Item]) -> _Files:
        """Those of some items."""
        rows = np.array([item.content for item in items], dtype=np.int64).reshape(-1, 2)
        return _Files([*self.parts.values()], rows, self.name)


def _pictures(
    seed: int, options: ReadOptions, parts: dict[str, Any], columns: Columns, problems: Problems, keys: PictureKeys
) -> Data:
    import datasets

    column = _Column.of(parts, columns.inputs[0], datasets.Image(decode=False))

    def opener(items: list[Item], _: Names) -> _Pictures:
        return _Pictures(column.files(items))

    def name(item: Item) -> str:
        return f"{item.content[1]} {column.sizes[item.split][item.content[1]]}"

    items = column.items(_rows(keys, parts, columns.targets[0], problems), problems)
    return picture_data(NAME, seed, items, opener, name, options, problems, **keys)


def _sounds(
    seed: int, options: ReadOptions, parts: dict[str, Any], columns: Columns, problems: Problems, keys: SoundKeys
) -> Data:
    import datasets

    column = _Column.of(parts, columns.inputs[0], datasets.Audio(decode=False))
    items = column.items(_rows(keys, parts, columns.targets[0], problems), problems)
    return sound_data(NAME, seed, items, column.files, options, problems, **keys)


def _num_bytes(part: Any, column: str) -> list[int]:
    """The size of each file, which Arrow knows without reading the file; 0 where there is none."""
    import pyarrow.compute as pc

    stored = part.with_format("arrow")[:].column(column)
    inside = pc.fill_null(pc.binary_length(pc.struct_field(stored, "bytes")), 0).to_pylist()
    paths = pc.struct_field(stored, "path").to_pylist()
    return [size or _file_size(path) for size, path in zip(inside, paths, strict=True)]


def _file_size(path: str | None) -> int:
    file = None if path is None else Path(path)
    return file.stat().st_size if file is not None and file.is_file() else 0


# ---- texts


def _texts(keys: OwnKeys, parts: dict[str, Any], columns: Columns, problems: Problems) -> Iterator[Item]:
    (column,), (target,) = columns.inputs, columns.targets
    values = {split: iter(part[column]) for split, part in parts.items()}
    at = dict.fromkeys(parts, 0)
    for split, row, label, place in _rows(keys, parts, target, problems):
        while at[split] <= row:  # those before it have no class
            text = next(values[split])
            at[split] += 1
        if text is None or not text.strip():
            problems.add(place, f"{column}: is empty")
        else:
            yield Item(split, label, place, text)


# ---- numbers


def _numbers(
    seed: int, options: ReadOptions, parts: dict[str, Any], columns: Columns, problems: Problems, keys: ArrayKeys
) -> Data:
    """Columns of numbers are a table; a column of lists is one where all are as long, and else holds sequences."""
    names = [*parts]
    splits = np.repeat(np.array(names), [len(part) for part in parts.values()])
    rows = np.concatenate([np.arange(len(part)) for part in parts.values()])

    def place(row: int) -> str:
        return hub.place(keys["path"], splits[row], int(rows[row]))

    good = np.ones(len(splits), dtype=bool)

    def drop(bad: NDArray[np.bool_], reason: str) -> None:
        for row in np.flatnonzero(bad & good).tolist():
            problems.add(place(row), reason)
        good[bad] = False

    need_samples(NAME, splits.tolist())
    task = _find_task(parts, columns.targets, keys["task"])
    answers: NDArray[Any]
    if task == "classification":
        answers = _texts_of(parts, columns.targets[0])
        drop(answers == "", f"{columns.targets[0]}: is empty")
    else:
        answers = _table(parts, columns.targets)
        drop(~np.all(np.isfinite(answers), axis=1), f"{', '.join(columns.targets)}: is no finite number")
    if columns.holds == "lists":
        name = columns.inputs[0]
        values, lengths = hub.lists(parts.values(), name)
        drop(lengths == 0, f"{name}: is empty")
        of = np.repeat(np.arange(len(splits)), lengths)
        drop(
            np.bincount(of[~np.isfinite(values).all(1)], minlength=len(splits)) > 0, f"{name}: is not of finite numbers"
        )
    else:
        values, lengths = _table(parts, columns.inputs), np.ones(len(splits), dtype=np.int64)
        for at, name in enumerate(columns.inputs):
            drop(~np.isfinite(values[:, at]), f"{name}: is no finite number")
    warnings = problems.settle()
    need_samples(NAME, np.flatnonzero(good).tolist())
    if task == "classification":
        texts, codes = np.unique(answers, return_inverse=True)
        places = Places(place, np.arange(len(splits)))
        classes, found = find_classes(
            NAME, texts.tolist(), np.where(good, codes, -1), splits, places, options, problems
        )
        warnings += problems.settle()
        good &= found >= 0
        targets = Targets(task, classes, torch.from_numpy(found[good]))
    else:
        targets = Targets(task, tuple(columns.targets), torch.from_numpy(answers[good]))
    kept = torch.from_numpy(values[np.repeat(good, lengths)])
    kind, source = _source(kept, torch.from_numpy(lengths[good]), targets, columns, _train(parts))
    return array_data(
        NAME,
        seed,
        kind,
        source,
        splits[good].tolist(),
        targets,
        places=Places(place, np.flatnonzero(good)),
        columns=columns.inputs if columns.holds == "numbers" else (),
        options=options,
        warnings=warnings,
        **keys,
    )


def _source(
    values: Tensor, lengths: Tensor, targets: Targets, columns: Columns, train: Any
) -> tuple[Kind, TensorSource | RaggedSource]:
    """Of (steps of all samples, width) numbers."""
    if columns.holds == "numbers":
        return "table", TensorSource((values,), targets.values)
    alike = len(lengths.unique()) == 1
    if alike and hub.depth(train.features[columns.inputs[0]]) == 1:
        return "table", TensorSource((values.view(len(lengths), -1),), targets.values)
    if alike:
        return "sequence", TensorSource((values.view(len(lengths), -1, values.shape[1]),), targets.values)
    return "sequence", RaggedSource(values, lengths, targets.values)


def _find_task(parts: dict[str, Any], targets: list[str], task: Literal["auto"] | Task) -> Task:
    """What ``dataset.task`` says, or the targets are.

    Raises:
        ConfigError: the targets are not what the task needs.
    """
    features = [_train(parts).features[name] for name in targets]
    kinds = {hub.what(feature) for feature in features}
    if not kinds <= {"texts", "numbers"}:
        raise ConfigError(f"dataset.target: {', '.join(targets)}: must hold classes or numbers")
    has_classes = any(feature.dtype in (*hub.TEXTS, "bool") or hub.class_names(feature) for feature in features)
    if task == "auto" and len(targets) > 1:
        task = "multilabel" if np.isin(_table(parts, targets), (0, 1)).all() else "regression"
    elif task == "auto":
        few = len(np.unique(_texts_of(parts, targets[0]))) <= MAX_CLASSES
        fractions = any(_holds_fractions(feature) for feature in features)
        task = "classification" if has_classes or (few and not fractions) else "regression"
    if task == "classification" and len(targets) > 1:
        raise ConfigError(f"dataset.target: must be one column for task=classification, got {', '.join(targets)}")
    if task != "classification" and "texts" in kinds:
        raise ConfigError(f"dataset.target: {', '.join(targets)}: holds texts, not numbers, which task={task} needs")
    if task == "multilabel" and not np.isin(_table(parts, targets), (0, 1)).all():
        raise ConfigError(f"dataset.target: {', '.join(targets)}: must hold 0 and 1 alone for task=multilabel")
    return task


def _texts_of(parts: dict[str, Any], name: str) -> NDArray[np.str_]:
    """(rows,) the class of each row of all splits, empty where there is none."""
    return np.array([label for part in parts.values() for label in hub.labels(part, name)], dtype=np.str_)


def _table(parts: dict[str, Any], names: Sequence[str]) -> NDArray[np.float32]:
    """(rows, columns) of all splits; nan where there is no number."""
    columns = [[value for part in parts.values() for value in part[name][:]] for name in names]
    with np.errstate(over="ignore"):
        return np.array(columns, dtype=np.float64).T.astype(np.float32, order="C")
