"""Arrays in NumPy's .npz and .npy files: reading them by name, checking their dtypes, and arranging their axes."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.config import ConfigError, RunError
from trainer.config.messages import did_you_mean
from trainer.data.readers.files import SPLITS
from trainer.data.readers.tables import listed
from trainer.spec import Kind, Spec

Array = NDArray[Any]
SUFFIXES = (".npz", ".npy")
MAX_CHANNELS = 4  # of a picture; an axis of at most this length is taken for the channels
UNREADABLE = (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile)


class SplitArrays(NamedTuple):
    """The arrays of one split in a file.

    Args:
        split: train, val or test; empty if the file has no splits.
        file: the file.
        names: the name in the file of each array; the keys are inputs, targets and lengths.
        arrays: the arrays, with the same keys.
    """

    split: str
    file: Path
    names: dict[str, str]
    arrays: dict[str, Array]

    def named(self, key: str) -> str:
        """Return the name of an array and its file, such as ``x of file.npz``, for messages."""
        return f"{self.names[key]} of {self.file}"


def read_npz(split: str, file: Path, names: dict[str, str | None]) -> Iterator[SplitArrays]:
    """Yield the arrays of a split.

    If ``split`` is empty, yield the arrays whose names have no split, such as ``x``; if there are none, yield the
    arrays of every split in the file, such as ``x_train`` and ``x_test``.

    Args:
        split: train, val, test or empty.
        file: an .npz file.
        names: the values of ``dataset.inputs``, ``targets`` and ``lengths``, by key; None for an array not to read.

    Raises:
        ConfigError: the file is not an .npz file, or an array is missing or does not hold numbers or texts.
    """
    try:
        archive = np.load(file, allow_pickle=False)
    except UNREADABLE as error:
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
            arrays = {key: _load(archive, file, key, name) for key, name in found.items()}
            yield SplitArrays(part, file, found, arrays)


def _name_in(held: Sequence[str], base: str, split: str) -> str | None:
    """Return the name in a file of an array of a split: ``x_train``, ``train_x`` or ``x``; None if none exists."""
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
    except UNREADABLE as error:
        raise ConfigError(f"dataset.{key}: {name} of {file} cannot be read: {error}") from error
    allowed = {"inputs": "biuf", "targets": "biufUS", "lengths": "iu"}[key]
    if array.dtype.kind not in allowed:
        what = {"inputs": "numbers", "targets": "numbers or texts", "lengths": "whole numbers"}[key]
        raise ConfigError(f"dataset.{key}: {name} of {file} must hold {what}, got {array.dtype}")
    return array


def raw_samples(kind: Kind, channels: Literal["auto", "first", "last"], inputs: Array) -> Array:
    """Return inputs as raw samples: (samples, features), (samples, steps, width) or (samples, channels, height, width).

    Pictures of dtype uint8 stay uint8; all other samples become float32.

    Raises:
        ConfigError: ``channels`` is auto, and the shape does not show which axis holds the channels.
    """
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
    return np.ascontiguousarray(_raw_type(kind, inputs))


def inputs_of_run(file: Path, inputs: str, lengths: str, spec: Spec) -> tuple[str, Array, Array | None]:
    """Read the inputs for a finished run; return the name of their array, the raw samples, and their lengths if any.

    Args:
        file: an .npz or .npy file.
        inputs: the name of the inputs in the training data; if the file holds a single array, it may have any name.
        lengths: the name of the lengths in the training data.
        spec: the spec of the run.

    Raises:
        RunError: the file is not an array file, or the array is missing or does not hold numbers.
    """
    try:
        found = np.load(file, allow_pickle=False)
        arrays = {name: found[name] for name in found.files} if hasattr(found, "files") else {file.stem: found}
    except UNREADABLE as error:
        raise RunError("no .npz or .npy file, as numpy writes them") from error
    name = next((name for name in (inputs, f"{inputs}_test") if name in arrays), None)
    if name is None and len(arrays) == 1:
        name = next(iter(arrays))
    if name is None:
        raise RunError(f"has no array {inputs}; arrays: {', '.join(arrays)}")
    values = arrays[name]
    if values.dtype.kind not in "biuf":
        raise RunError(f"{name} must hold numbers, got {values.dtype}")
    if values.ndim == len(spec.shape):  # pictures without a channel axis, or steps that are single numbers
        values = values[:, None] if spec.kind == "image" else values[..., None]
    if spec.kind == "image" and values.shape[1:] != spec.shape and values.ndim == 4:
        values = np.moveaxis(values, 3, 1)
    return name, _raw_type(spec.kind, values), arrays.get(lengths)


def _raw_type(kind: Kind, values: Array) -> Array:
    if kind == "tokens":
        return values.astype(np.int64)
    if kind == "image" and values.dtype == np.uint8:
        return values
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)
