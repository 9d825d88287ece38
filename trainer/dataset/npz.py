"""The user's own arrays, such as NumPy's .npz and .npy files: tables, sequences or images."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Unpack

from trainer.config import ConfigError
from trainer.data import Data, RaggedSource, ReadOptions, TensorSource
from trainer.data.readers.arrays.array_files import SplitArrays, raw_samples, read_arrays
from trainer.data.readers.arrays.names import parse
from trainer.data.readers.arrays.samples import ArrayKeys, array_data, warn_if_too_close
from trainer.data.readers.arrays.stores import Array
from trainer.data.readers.candidates import Candidates
from trainer.data.readers.files import Problems, need_samples, roots
from trainer.data.readers.targets import MAX_CLASSES, Targets, class_names, classes_of
from trainer.dataset import DATASETS
from trainer.spec import Kind, Task

MAX_FLOAT32 = float(np.finfo(np.float32).max)


@DATASETS.register
def npz(
    seed: int,
    options: ReadOptions,
    *,
    inputs: str | None,
    targets: str | None,
    lengths: str | None,
    kind: Literal["auto", "table", "sequence", "image"],
    channels: Literal["auto", "first", "last"],
    **keys: Unpack[ArrayKeys],
) -> Data:
    """Read arrays whose first axis counts the samples.

    Raises:
        ConfigError: an array is missing, arrays do not fit each other, or samples are bad.
    """
    names = {"inputs": inputs, "targets": targets, "lengths": lengths}
    parts = [part for split, file in roots("npz", keys["path"]).items() for part in read_arrays(split, file, names)]
    arrays = _JoinedArrays(parts, Problems("npz", keys["on_error"], options.report_all))
    samples = arrays.samples
    need_samples("npz", samples.splits)
    found = _find_kind(kind, arrays)
    values = raw_samples(found, channels, arrays.inputs)
    steps = _find_lengths(values, arrays)
    _drop_bad_inputs(values, steps, samples)
    if found != "image" and steps is None and len(values):  # the padding of sequences may hold anything
        warn_if_too_close(values, (), samples.problems)
    task = keys["task"] if options.preprocessing is None else options.preprocessing["task"]
    task, answers = _find_targets(task, arrays)
    samples.settle()
    if task == "classification":
        unique, codes = np.unique(answers, return_inverse=True)
        of_codes = class_names([str(each) for each in unique.tolist()], np.unique(codes[samples.good]).tolist())
        chosen = classes_of(of_codes, codes, samples, options, partial(arrays.place, "targets"))
    else:
        chosen = Targets(
            task,
            _names_of_targets(targets or arrays.target_name, answers.shape[1], options),
            torch.from_numpy(answers[samples.good]),
        )
    source = _source(values, steps, samples.good, chosen.values)
    data = array_data(seed, found, source, samples, chosen, options, **keys)
    read = next(part for part in parts if part.split in ("", "train"))
    are_named = inputs is not None and targets is not None
    which = "" if are_named else f"samples {read.names['inputs']}, targets {read.names['targets']}"
    return replace(data, notes=(*filter(None, (which, read.note)), *data.notes))


class _JoinedArrays:
    """The arrays of all splits, concatenated.

    Raises:
        ConfigError: the arrays of the splits do not fit each other.
    """

    def __init__(self, parts: list[SplitArrays], problems: Problems) -> None:
        for part in parts:
            _check(part, parts[0])
        self.inputs = _join([part.arrays["inputs"] for part in parts])
        self.targets = _join([part.arrays["targets"] for part in parts])
        self.lengths = _join([part.arrays["lengths"] for part in parts]) if "lengths" in parts[0].arrays else None
        self.target_name = parse(parts[0].names["targets"]).base
        sizes = [len(part.arrays["inputs"]) for part in parts]
        self._parts = {part.split: part for part in parts}
        self._rows = np.concatenate([np.arange(size) for size in sizes])
        self.samples = Candidates(np.repeat([*self._parts], sizes), partial(self.place, "inputs"), problems)

    def place(self, key: str, sample: int) -> str:
        """Return the place of the input, target or length of a sample, such as ``file: x[17]``."""
        part = self._parts[self.samples.splits[sample]]
        return f"{part.file}: {part.names[key]}[{self._rows[sample]}]"


def _names_of_targets(base: str, count: int, options: ReadOptions) -> tuple[str, ...]:
    """Return the names of labels or values: those of the finished run, if it has as many, or numbers after a name."""
    if len(options.classes) == count:
        return options.classes
    return (base,) if count == 1 else tuple(f"{base} {at}" for at in range(count))


def _check(part: SplitArrays, first: SplitArrays) -> None:
    """Raise ConfigError if the arrays of a part do not fit each other or those of the first part."""
    for key, array in part.arrays.items():
        name, wanted = part.named(key), first.arrays[key]
        if array.ndim == 0:
            raise ConfigError(f"dataset.{key}: {name} is a single number")
        count = len(part.arrays["inputs"])
        if len(array) != count:
            raise ConfigError(f"dataset.{key}: {name} has {len(array)} samples, but {part.named('inputs')} has {count}")
        if array.shape[1:] != wanted.shape[1:]:
            raise ConfigError(
                f"dataset.{key}: {name} has samples of {array.shape[1:]}, but {first.named(key)} of {wanted.shape[1:]}"
            )
        if (array.dtype.kind in "US") != (wanted.dtype.kind in "US"):
            raise ConfigError(f"dataset.{key}: {name} holds {array.dtype}, but {first.named(key)} {wanted.dtype}")


def _join(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _find_kind(kind: Literal["auto", "table", "sequence", "image"], arrays: _JoinedArrays) -> Kind:
    """Return the kind of the samples; for auto, it follows from the number of axes and, for three axes, from the dtype.

    Raises:
        ConfigError: the shape of the inputs does not fit any kind, or does not fit ``kind`` or ``dataset.lengths``.
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


def _find_lengths(values: Array, arrays: _JoinedArrays) -> NDArray[np.int64] | None:
    if arrays.lengths is None:
        return None
    if arrays.lengths.ndim != 1:
        raise ConfigError(f"dataset.lengths: must be one number for each sample, got shape {arrays.lengths.shape}")
    lengths, most = arrays.lengths.astype(np.int64), values.shape[1]
    arrays.samples.drop(
        (lengths < 1) | (lengths > most),
        lambda sample: f"{lengths[sample]} steps; must be 1 to {most}",
        partial(arrays.place, "lengths"),
    )
    return lengths


def _is_valid(values: Array, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return a (samples, steps) bool mask of the steps that are not padding."""
    return np.arange(values.shape[1]) < lengths[:, None]


def _drop_bad_inputs(values: Array, lengths: NDArray[np.int64] | None, samples: Candidates) -> None:
    if values.dtype != np.float32:
        return
    finite = np.isfinite(values)
    if lengths is not None:
        finite |= ~_is_valid(values, lengths)[:, :, None]

    def reason(sample: int) -> str:
        where = tuple(np.argwhere(~finite[sample])[0].tolist())
        return f"{values[sample][where]} at {list(where)}"

    samples.drop(~np.all(finite.reshape(len(values), -1), axis=1), reason)


def _find_targets(task: Literal["auto"] | Task, arrays: _JoinedArrays) -> tuple[Task, Array]:
    """Return the task and the targets of all samples, and drop the samples with bad targets.

    The targets are (samples,) texts or numbers that name a class, (samples, outputs) float32 labels, or float64 values.

    Raises:
        ConfigError: the targets do not fit the task.
    """
    targets = arrays.targets
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim > 2 or 0 in targets.shape[1:]:
        one = "; one for each step or pixel of a sample is not supported" if targets.ndim > 2 else ""
        raise ConfigError(
            f"dataset.targets: must be (samples,) or (samples, outputs), got shape {arrays.targets.shape}{one}"
        )
    if targets.dtype.kind == "S":
        targets = np.char.decode(targets, "latin-1")
    texts = targets.dtype.kind == "U"
    if targets.ndim == 2 and targets.dtype.kind in "if" and task in ("auto", "multilabel"):
        targets = _without_minus(targets, arrays)
    binary = not texts and bool(np.isin(targets, (0, 1)).all())
    one_hot = binary and targets.ndim == 2 and bool((targets.sum(1) == 1).all())
    if task == "auto":
        task = _task_of(targets, arrays, binary=binary, one_hot=one_hot)
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
        targets = targets.reshape(len(targets), -1).astype(np.float64)
    fine, reason = np.ones(len(targets), dtype=bool), "is no finite number"
    if task == "multilabel":
        fine, reason = np.isin(targets, (0, 1)), "is neither 0 nor 1"
    elif targets.dtype.kind == "f":
        fine = np.abs(targets) <= MAX_FLOAT32  # False for NaN
    elif texts:
        fine, reason = np.char.str_len(np.char.strip(targets)) > 0, "is empty"
    arrays.samples.drop(~np.all(fine.reshape(len(targets), -1), axis=1), reason, partial(arrays.place, "targets"))
    return task, targets.astype(np.float32) if task == "multilabel" else targets


def _without_minus(targets: Array, arrays: _JoinedArrays) -> Array:
    """Return labels of -1 and 1 as 0 and 1; other targets as they are."""
    if not ((targets == -1).any() and np.isin(targets, (-1, 1)).all()):
        return targets
    arrays.samples.problems.notes.append("labels of -1 and 1 are read as 0 and 1")
    labels: Array = (targets == 1).astype(np.int64)
    return labels


def _task_of(targets: Array, arrays: _JoinedArrays, *, binary: bool, one_hot: bool) -> Task:
    """Return the task that fits targets (samples,) or (samples, outputs).

    Args:
        targets: numbers or texts.
        arrays: the arrays, whose inputs say how many steps or pixels a sample has.
        binary: whether all targets are 0 or 1.
        one_hot: whether each row of targets is 0 with a single 1.

    Raises:
        ConfigError: the targets can be read in two ways, or are one for each step or pixel.
    """
    whole, shape = targets.dtype.kind in "biu", arrays.inputs.shape
    if targets.ndim == 1:
        if targets.dtype.kind == "f":
            return "classification" if _are_few_whole(targets) else "regression"
        different = len(np.unique(targets))
        if whole and different > MAX_CLASSES and 2 * different > len(targets):
            raise ConfigError(
                f"dataset.task: auto: cannot be told: the {len(targets)} samples have {different} different whole "
                "numbers as targets; dataset.task=regression if they are amounts, dataset.task=classification if each "
                "names a class"
            )
        return "classification"
    if one_hot:
        return "classification"
    outputs = targets.shape[1]
    pixels = [math.prod(shape[1:])]
    if len(shape) == 4:
        pixels += [math.prod(shape[1:3]), math.prod(shape[2:])]  # the channels are last or first
    noun = "steps" if shape[1] == outputs else "pixels" if outputs in pixels else None
    noun = noun if len(shape) > 2 else None
    texts = targets.dtype.kind == "U"
    are_classes = whole or texts or _are_few_whole(targets)
    if noun is not None and are_classes:
        labels = f"; dataset.task=multilabel if they are {outputs} labels of the whole sample" if binary else ""
        raise ConfigError(
            f"dataset.targets: shape {targets.shape} with inputs of shape {shape} looks like a class for each of the "
            f"{outputs} {noun} of a sample, which is not supported{labels}"
        )
    if texts:
        raise ConfigError(f"dataset.targets: must be one text for each sample, got shape {targets.shape}")
    if binary or not whole:
        return "multilabel" if binary else "regression"
    raise ConfigError(
        f"dataset.task: auto: cannot be told: each sample has {outputs} whole numbers as targets, shape "
        f"{targets.shape}; dataset.task=regression if they are amounts; several classes of a sample are labels, which "
        "are columns of 0 and 1"
    )


def _are_few_whole(targets: Array) -> bool:
    """Return whether floats are the numbers of classes: whole, and at most ``MAX_CLASSES`` different ones."""
    seen = np.unique(targets[np.isfinite(targets)]) if targets.dtype.kind == "f" else np.zeros(0)
    return 0 < len(seen) <= MAX_CLASSES and bool((seen == np.floor(seen)).all())


def _source(
    values: Array, lengths: NDArray[np.int64] | None, good: NDArray[np.bool_], targets: Tensor
) -> TensorSource | RaggedSource:
    """Return the good samples without their padding."""
    if not good.all():
        values, lengths = values[good], None if lengths is None else lengths[good]
    if lengths is None:
        return TensorSource((torch.from_numpy(values),), targets)
    return RaggedSource(torch.from_numpy(values[_is_valid(values, lengths)]), torch.from_numpy(lengths), targets)
