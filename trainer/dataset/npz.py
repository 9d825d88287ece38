"""Arrays of a user's own in NumPy's .npz files: tables, sequences, images."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Unpack

from trainer.config import ConfigError
from trainer.config.messages import did_you_mean
from trainer.data import Data, RaggedSource, ReadOptions, TensorSource
from trainer.data.readers.arrays import ArrayKeys, Places, Targets, array_data, find_classes
from trainer.data.readers.files import SPLITS, Problems, need_samples, roots
from trainer.data.readers.tables import listed
from trainer.dataset import DATASETS
from trainer.spec import Kind, Task

Array = NDArray[Any]
MAX_CHANNELS = 4  # of a picture, by which the axis of the channels is found


@DATASETS.register
def npz(
    seed: int,
    options: ReadOptions,
    *,
    inputs: str,
    targets: str,
    lengths: str | None,
    kind: Literal["auto", "table", "sequence", "image"],
    channels: Literal["auto", "first", "last"],
    **keys: Unpack[ArrayKeys],
) -> Data:
    """Arrays, each with the samples along its first axis.

    Raises:
        ConfigError: an array is not there, arrays do not fit each other, or samples are bad.
    """
    problems = Problems("npz", keys["on_error"], options.report_all)
    names = {"inputs": inputs, "targets": targets, "lengths": lengths}
    parts = [part for split, file in roots("npz", keys["path"]).items() for part in _read(split, file, names)]
    arrays = _Arrays(parts)
    need_samples("npz", range(len(arrays.splits)))
    found = _find_kind(kind, arrays)
    values = _shaped(found, channels, arrays)
    steps = _find_lengths(values, arrays, problems)
    _drop_bad_inputs(values, steps, arrays, problems)
    known = options.preprocessing
    task, answers = _find_task(keys["task"] if known is None else known["task"], arrays, problems)
    good = arrays.good
    warnings = problems.settle()
    need_samples("npz", np.flatnonzero(good).tolist())
    if task == "classification":
        unique, codes = np.unique(answers, return_inverse=True)
        classes, numbers = find_classes(
            "npz",
            [str(each) for each in unique.tolist()],
            np.where(good, codes, -1),
            arrays.splits,
            Places(partial(arrays.place, "targets"), np.arange(len(good))),
            options,
            problems,
        )
        warnings += problems.settle()
        good &= numbers >= 0
        chosen = Targets(task, classes, torch.from_numpy(numbers[good]))
    else:
        labels = (targets,) if answers.shape[1] == 1 else tuple(f"{targets} {at}" for at in range(answers.shape[1]))
        chosen = Targets(task, labels, torch.from_numpy(answers[good]))
    source = _source(values, steps, good, chosen.values)
    return array_data(
        "npz",
        seed,
        found,
        source,
        arrays.splits[good].tolist(),
        chosen,
        places=Places(partial(arrays.place, "inputs"), np.flatnonzero(good)),
        columns=(),
        options=options,
        warnings=warnings,
        **keys,
    )


@dataclass
class _Part:
    """The arrays of a split.

    Args:
        file: where they stood.
        names: what they are called there: inputs, targets, lengths.
        arrays: likewise.
    """

    split: str
    file: Path
    names: dict[str, str]
    arrays: dict[str, Array]

    def __str__(self) -> str:
        return f"{self.names['inputs']} of {self.file}"


def _read(split: str, file: Path, names: dict[str, str | None]) -> Iterator[_Part]:
    """What a file holds of a split, or of every split where there is no name for one.

    Raises:
        ConfigError: it is no such file, or an array is not there, or no array of numbers or texts.
    """
    try:
        archive = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"dataset.path: {file}: must be an .npz file, as numpy.savez writes it") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ConfigError(f"dataset.path: {file}: holds a single array; must be an .npz file, as numpy.savez writes it")
    with archive:
        base = names["inputs"]
        assert base is not None
        there = {part for part in SPLITS.values() if _name_in(archive.files, base, part) is not None}
        for part in [split] if split or base in archive.files or not there else sorted(there):
            found: dict[str, str] = {}
            for key, wanted in names.items():
                if wanted is None:
                    continue
                name = _name_in(archive.files, wanted, part)
                if name is None:
                    hint = did_you_mean(wanted, archive.files) or ";"
                    shown = f"{wanted}_{part}" if part else wanted
                    raise ConfigError(
                        f"dataset.{key}: {wanted}: {file} has no array {shown}{hint} arrays: {listed(archive.files)}"
                    )
                found[key] = name
            yield _Part(part, file, found, {key: _load(archive, file, key, name) for key, name in found.items()})


def _name_in(held: Sequence[str], base: str, split: str) -> str | None:
    """What an array of a split is called: ``x``, ``x_train`` or ``train_x``; None where it is not there."""
    words = [word for word, part in SPLITS.items() if part == split]
    names = [name for word in words for name in (f"{base}_{word}", f"{word}_{base}")]
    return next((name for name in [*names, base] if name in held), None)


def _load(archive: Any, file: Path, key: str, name: str) -> Array:
    try:
        array: Array = archive[name]
    except ValueError as error:
        raise ConfigError(
            f"dataset.{key}: {name} of {file} cannot be read: it holds Python objects, or is damaged"
        ) from error
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ConfigError(f"dataset.{key}: {name} of {file} cannot be read: {error}") from error
    allowed = {"inputs": "biuf", "targets": "biufUS", "lengths": "iu"}[key]
    if array.dtype.kind not in allowed:
        what = {"inputs": "numbers", "targets": "numbers or texts", "lengths": "whole numbers"}[key]
        raise ConfigError(f"dataset.{key}: {name} of {file} must hold {what}, got {array.dtype}")
    return array


class _Arrays:
    """The arrays of all splits, one behind the other.

    Args:
        parts: the splits.

    Raises:
        ConfigError: they do not fit each other.
    """

    def __init__(self, parts: list[_Part]) -> None:
        self._parts = parts
        for part in parts:
            self._check(part)
        self.inputs = _join([part.arrays["inputs"] for part in parts])
        self.targets = _join([part.arrays["targets"] for part in parts])
        self.lengths = _join([part.arrays["lengths"] for part in parts]) if "lengths" in parts[0].arrays else None
        self.splits = np.concatenate([np.full(len(part.arrays["inputs"]), part.split) for part in parts])
        self.good = np.ones(len(self.splits), dtype=bool)

    def place(self, key: str, sample: int) -> str:
        """``file: x[17]``."""
        for part in self._parts:
            count = len(part.arrays["inputs"])
            if sample < count:
                return f"{part.file}: {part.names[key]}[{sample}]"
            sample -= count
        raise IndexError(sample)

    def drop(self, key: str, sample: int, reason: str, problems: Problems) -> None:
        """Leave a sample out, with the first reason there is."""
        if self.good[sample]:
            problems.add(self.place(key, sample), reason)
        self.good[sample] = False

    def _check(self, part: _Part) -> None:
        first = self._parts[0]
        for key, array in part.arrays.items():
            name = f"{part.names[key]} of {part.file}"
            if array.ndim == 0:
                raise ConfigError(f"dataset.{key}: {name} is a single number")
            count = len(part.arrays["inputs"])
            if len(array) != count:
                raise ConfigError(f"dataset.{key}: {name} has {len(array)} samples, but {part} has {count}")
            wanted = first.arrays[key]
            if array.shape[1:] != wanted.shape[1:]:
                raise ConfigError(
                    f"dataset.{key}: {name} has samples of {array.shape[1:]}, "
                    f"but {first.names[key]} of {first.file} of {wanted.shape[1:]}"
                )
            if (array.dtype.kind in "US") != (wanted.dtype.kind in "US"):
                raise ConfigError(
                    f"dataset.{key}: {name} holds {array.dtype}, but {first.names[key]} of {first.file} {wanted.dtype}"
                )


def _join(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _find_kind(kind: Literal["auto", "table", "sequence", "image"], arrays: _Arrays) -> Kind:
    """What a sample is, from the number of axes and, where there are three, the type.

    Raises:
        ConfigError: there are too few or too many.
    """
    shape, dtype = arrays.inputs.shape, arrays.inputs.dtype
    allowed: dict[int, tuple[Kind, ...]] = {
        2: ("table", "sequence"),
        3: ("image", "sequence") if dtype == np.uint8 else ("sequence", "image"),
        4: ("image",),
    }
    fitting = allowed.get(len(shape), ())
    if arrays.lengths is not None:
        fitting = ("sequence",) if "sequence" in fitting else ()
    if 0 in shape[1:] or not fitting or (kind != "auto" and kind not in fitting):
        wanted = "" if kind == "auto" else f" for dataset.kind={kind}"
        raise ConfigError(
            f"dataset.inputs: shape {shape} does not fit{wanted}: a table is (samples, features), a sequence "
            "(samples, steps, width) or (samples, steps), an image (samples, height, width) or with channels first or "
            "last; only sequences have dataset.lengths"
        )
    return fitting[0] if kind == "auto" else kind


def _shaped(kind: Kind, channels: Literal["auto", "first", "last"], arrays: _Arrays) -> Array:
    """(samples, features), (samples, steps, width) or (samples, channels, height, width); pictures may be uint8.

    Raises:
        ConfigError: it cannot be told which axis is that of the channels.
    """
    inputs = arrays.inputs
    if kind == "sequence" and inputs.ndim == 2:
        inputs = inputs[:, :, None]
    if kind == "image" and inputs.ndim == 3:
        inputs = inputs[:, None]
    elif kind == "image":
        first, last = (inputs.shape[axis] <= MAX_CHANNELS for axis in (1, 3))
        if channels == "auto" and first == last:
            raise ConfigError(f"dataset.channels: auto: cannot be told for shape {inputs.shape}; must be first or last")
        if channels == "last" or (channels == "auto" and last):
            inputs = np.moveaxis(inputs, 3, 1)
    if not (kind == "image" and inputs.dtype == np.uint8):
        with np.errstate(over="ignore"):
            inputs = inputs.astype(np.float32, copy=False)
    return np.ascontiguousarray(inputs)


def _find_lengths(values: Array, arrays: _Arrays, problems: Problems) -> NDArray[np.int64] | None:
    if arrays.lengths is None:
        return None
    if arrays.lengths.ndim != 1:
        raise ConfigError(f"dataset.lengths: must be one number for each sample, got shape {arrays.lengths.shape}")
    lengths, most = arrays.lengths.astype(np.int64), values.shape[1]
    for sample in np.flatnonzero((lengths < 1) | (lengths > most)).tolist():
        arrays.drop("lengths", sample, f"{lengths[sample]} steps; must be 1 to {most}", problems)
    return lengths


def _valid(values: Array, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(samples, steps): which are no padding."""
    return np.arange(values.shape[1]) < lengths[:, None]


def _drop_bad_inputs(values: Array, lengths: NDArray[np.int64] | None, arrays: _Arrays, problems: Problems) -> None:
    if values.dtype != np.float32:
        return
    finite = np.isfinite(values)
    if lengths is not None:
        finite |= ~_valid(values, lengths)[:, :, None]
    for sample in np.flatnonzero(~finite.reshape(len(values), -1).all(1)).tolist():
        where = tuple(np.argwhere(~finite[sample])[0].tolist())
        arrays.drop("inputs", sample, f"{values[sample][where]} at {list(where)}", problems)


def _find_task(task: Literal["auto"] | Task, arrays: _Arrays, problems: Problems) -> tuple[Task, Array]:
    """The task, and (samples,) texts or numbers that stand for a class, or (samples, outputs) float32.

    Raises:
        ConfigError: the targets are not what the task needs.
    """
    targets = arrays.targets
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim > 2 or 0 in targets.shape[1:]:
        raise ConfigError(
            f"dataset.targets: must be (samples,) or (samples, outputs), got shape {arrays.targets.shape}"
        )
    if targets.dtype.kind == "S":
        targets = np.char.decode(targets, "latin-1")
    texts = targets.dtype.kind == "U"
    binary = not texts and bool(np.isin(targets, (0, 1)).all())
    one_hot = binary and targets.ndim == 2 and bool((targets.sum(1) == 1).all())
    if task == "auto":
        if targets.ndim == 1:
            task = "regression" if targets.dtype.kind == "f" else "classification"
        else:
            task = "classification" if one_hot else "multilabel" if binary else "regression"
    if task == "classification" and targets.ndim == 2:
        if not one_hot:
            raise ConfigError(
                f"dataset.targets: must be (samples,), or rows of 0 with a single 1, for task=classification, "
                f"got shape {targets.shape}"
            )
        targets = targets.argmax(1)
    if texts and task != "classification":
        raise ConfigError(f"dataset.targets: hold texts, not numbers, which task={task} needs")
    if task != "classification":
        with np.errstate(over="ignore"):
            targets = targets.reshape(len(targets), -1).astype(np.float32)
    fine, reason = np.ones(len(targets), dtype=bool), "is no finite number"
    if task == "multilabel":
        fine, reason = np.isin(targets, (0, 1)), "is neither 0 nor 1"
    elif targets.dtype.kind == "f":
        fine = np.isfinite(targets)
    elif texts:
        fine, reason = np.char.str_len(np.char.strip(targets)) > 0, "is empty"
    for sample in np.flatnonzero(~fine.reshape(len(targets), -1).all(1)).tolist():
        arrays.drop("targets", sample, reason, problems)
    return task, targets


def _source(
    values: Array, lengths: NDArray[np.int64] | None, good: NDArray[np.bool_], targets: Tensor
) -> TensorSource | RaggedSource:
    """The good samples; without their padding."""
    if not good.all():
        values, lengths = values[good], None if lengths is None else lengths[good]
    if lengths is None:
        return TensorSource((torch.from_numpy(values),), targets)
    return RaggedSource(torch.from_numpy(values[_valid(values, lengths)]), torch.from_numpy(lengths), targets)
