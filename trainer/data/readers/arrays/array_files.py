"""Arrays of the user's own files as samples: read them by name, check their dtypes, and arrange their axes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from trainer.config import ConfigError, RunError
from trainer.data.readers.arrays.forms import open_store
from trainer.data.readers.arrays.names import find_arrays, parse, usual
from trainer.data.readers.arrays.stores import (
    UNREADABLE,
    Array,
    NpyFiles,
    Store,
    TooLargeError,
    WrongFormError,
)
from trainer.data.readers.tables.layout import listed
from trainer.spec import Kind, Spec

SUFFIXES = (".npz", ".npy", ".mat")
MAX_CHANNELS = 4  # of a picture; an axis of at most this length is taken for the channels


class SplitArrays(NamedTuple):
    """The arrays of one split in a file or a folder.

    Args:
        split: train, val or test; empty if the file has no splits.
        file: the file or folder.
        names: the name in the file of each array; the keys are inputs, targets and lengths.
        arrays: the arrays, with the same keys.
        note: what else to say about what was read; empty if nothing.
    """

    split: str
    file: Path
    names: dict[str, str]
    arrays: dict[str, Array]
    note: str = ""

    def named(self, key: str) -> str:
        """Return the name of an array and its file, such as ``x of file.npz``, for messages."""
        return f"{self.names[key]} of {self.file}"


def read_arrays(split: str, file: Path, wanted: dict[str, str | None]) -> Iterator[SplitArrays]:
    """Yield the arrays of a split; if ``split`` is empty, of every split that the names of the arrays mean.

    Args:
        split: train, val, test or empty.
        file: a file or a folder, as ``open_store`` reads them.
        wanted: the values of ``dataset.inputs``, ``targets`` and ``lengths``, by key, as for ``find_arrays``.

    Raises:
        ConfigError: the file cannot be read, or an array is missing or does not hold numbers or texts.
    """
    try:
        store = open_store(file)
    except WrongFormError as error:
        raise ConfigError(f"dataset.path: {file}: {error}") from error
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or "is damaged"
        raise ConfigError(f"dataset.path: {file}: must be a file or folder of arrays: {reason}") from error
    if isinstance(store, NpyFiles) and len(store.names) == 1:
        raise ConfigError(
            f"dataset.path: {file}: holds a single array; the samples and their targets are two: a folder with "
            "X_train.npy and y_train.npy, or an .npz file, as numpy.savez writes it"
        )
    found = find_arrays(store, str(file), split, wanted)
    used = {name for names in found.values() for name in names.values()}
    unused = [name for name in store.names if name not in used]
    for part, names in found.items():
        arrays = {key: _load(store, file, key, name) for key, name in names.items()}
        note = "; ".join(filter(None, (getattr(store, "note", ""), f"not used: {listed(unused)}" if unused else "")))
        yield SplitArrays(part, file, names, _samples_first(file, names, arrays), note)


def _samples_first(file: Path, names: dict[str, str], arrays: dict[str, Array]) -> dict[str, Array]:
    """Return the arrays with the samples along their first axis; in MATLAB's files they may be along the last one.

    Raises:
        ConfigError: the inputs have as many entries along their first axis as along their last one.
    """
    inputs, targets = arrays["inputs"], arrays["targets"]
    if file.suffix.lower() != ".mat":
        return arrays
    if targets.ndim == 2 and targets.shape[0] == 1:
        targets = targets.T
    if inputs.ndim > 1 and inputs.shape[-1] == len(targets):
        if len(inputs) == len(targets):
            raise ConfigError(
                f"dataset.inputs: {names['inputs']} of {file} has shape {inputs.shape}, so that the samples may be "
                "along its first or its last axis; store another number of samples"
            )
        inputs = np.moveaxis(inputs, -1, 0)
    flat = {key: array.reshape(-1) for key, array in arrays.items() if key == "lengths"}
    return {"inputs": inputs, "targets": targets, **flat}


def _load(store: Store, file: Path, key: str, name: str) -> Array:
    try:
        array = store.read(name)
    except TooLargeError as error:
        raise ConfigError(f"dataset.{key}: {file}: {error}") from error
    except WrongFormError as error:
        raise ConfigError(f"dataset.{key}: {name} of {file}: {error}") from error
    except ValueError as error:
        raise ConfigError(
            f"dataset.{key}: {name} of {file} cannot be read: it holds Python objects, or is damaged; store texts by "
            f"{parse(name).base}.astype(str)"
        ) from error
    except UNREADABLE as error:
        raise ConfigError(f"dataset.{key}: {name} of {file} cannot be read: {error}") from error
    if array.dtype.kind == "U" and _has_no_character(array):
        raise ConfigError(f"dataset.{key}: {name} of {file} holds texts that are no Unicode")
    if (
        store.has_whole_floats
        and key != "inputs"
        and array.dtype.kind == "f"
        and bool((array == np.floor(array)).all())
    ):
        array = array.astype(np.int64)
    allowed = {"inputs": "biuf", "targets": "biufUS", "lengths": "iu"}[key]
    if array.dtype.kind not in allowed:
        what = {"inputs": "numbers", "targets": "numbers or texts", "lengths": "whole numbers"}[key]
        raise ConfigError(f"dataset.{key}: {name} of {file} must hold {what}, got {array.dtype}")
    return array


def _has_no_character(array: Array) -> bool:
    """Return whether texts contain a number that is no character: a surrogate, or one beyond Unicode."""
    codes = np.ascontiguousarray(array).view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
    return bool(((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any())


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


def inputs_of_run(file: Path, inputs: str | None, lengths: str | None, spec: Spec) -> tuple[str, Array, Array | None]:
    """Read the inputs for a finished run; return the name of their array, the raw samples, and their lengths if any.

    Args:
        file: a file or a folder, as ``open_store`` reads them.
        inputs: the name of the inputs in the training data, or None for a usual name; if the file holds a single array,
            it may have any name.
        lengths: the name of the lengths in the training data, or None.
        spec: the spec of the run.

    Raises:
        RunError: the file holds no arrays, or the array is missing or does not hold numbers.
    """
    what = "no file of arrays: .npz, .npy or .mat"
    try:
        store = open_store(file)
        what = "an array cannot be read: it holds Python objects, or is damaged"
        name = _inputs_name(store.names, inputs, lengths)
        values = store.read(name)
        own = None if lengths is None else next((n for n in store.names if n.lower() == lengths.lower()), None)
        steps = None if own is None else store.read(own)
    except (TooLargeError, WrongFormError) as error:
        raise RunError(str(error)) from error
    except UNREADABLE as error:
        raise RunError(getattr(error, "strerror", None) or what) from error
    if values.dtype.kind not in "biuf":
        raise RunError(f"{name} must hold numbers, got {values.dtype}")
    if values.ndim == 0:
        raise RunError(f"{name} must hold samples along its first axis, got a single number")
    if store.has_whole_floats:
        values, steps = _first_as_in(values, spec), None if steps is None else steps.reshape(-1).astype(np.int64)
    if steps is not None and (steps.dtype.kind not in "iu" or steps.shape != values.shape[:1]):
        wanted = f"{len(values)} whole numbers"
        raise RunError(f"{lengths} must hold {wanted}, got {steps.dtype} of shape {steps.shape}")
    if values.ndim == len(spec.shape):  # pictures without a channel axis, or steps that are single numbers
        values = values[:, None] if spec.kind == "image" else values[..., None]
    if spec.kind == "image" and values.shape[1:] != spec.shape and values.ndim == 4:
        values = np.moveaxis(values, 3, 1)
    return name, _raw_type(spec.kind, values), steps


def is_one(path: Path, inputs: str | None) -> bool:
    """Return whether a path is a folder whose files are arrays of one data set, one of them the inputs."""
    try:
        return path.is_dir() and bool(_inputs_name(open_store(path).names, inputs, None))
    except (RunError, *UNREADABLE):
        return False


def _inputs_name(names: list[str], inputs: str | None, lengths: str | None) -> str:
    """Return the name of the array of the inputs: of the whole file, of test, or of the only split.

    Raises:
        RunError: no array or several may be the inputs.
    """
    if len(names) == 1:
        return names[0]
    bases = list(dict.fromkeys(parse(name).base for name in names if name != lengths))
    same = [base for base in (*names, *bases) if inputs is not None and base.lower() == inputs.lower()]
    found = list(dict.fromkeys(same if inputs is not None else usual(bases, "inputs")))
    found = [inputs] if inputs in found else found
    targets = usual(bases, "targets")
    if inputs is None and not found and len(targets) == 1 and len(bases) == 2:
        found = [base for base in bases if base not in targets]
    if len(found) != 1:
        is_missing = inputs is not None and not found
        wanted = f"has no array {inputs};" if is_missing else "dataset.inputs: which array holds the samples?"
        raise RunError(f"{wanted} arrays: {listed(names)}")
    of_splits = {parse(name).split: name for name in names if parse(name).base == found[0]}
    chosen = [found[0]] if found[0] in names else [of_splits[split] for split in ("test",) if split in of_splits]
    if not chosen and len(of_splits) == 1:
        chosen = [*of_splits.values()]
    if not chosen:
        raise RunError(f"has no array {found[0]}; arrays: {listed(names)}")
    return chosen[0]


def _first_as_in(values: Array, spec: Spec) -> Array:
    """Return MATLAB's values with the samples along the first axis, where the shape of the run's samples says so."""
    sizes, given = sorted(spec.shape), values.shape
    fits_first, fits_last = (sorted(each) == sizes or sorted((*each, 1)) == sizes for each in (given[1:], given[:-1]))
    return np.moveaxis(values, -1, 0) if fits_last and not fits_first else values


def _raw_type(kind: Kind, values: Array) -> Array:
    if kind == "tokens":
        return values.astype(np.int64)
    if kind == "image" and values.dtype == np.uint8:
        return values
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)
