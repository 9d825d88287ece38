"""Arrays in NumPy's .npz and .npy files: reading them by name, checking their dtypes, and arranging their axes."""

from __future__ import annotations

import contextlib
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.config import ConfigError, RunError
from trainer.config.messages import did_you_mean
from trainer.config.untrusted_files import check_file, check_unpacked, need_memory
from trainer.data.readers.files import SPLITS
from trainer.data.readers.table_layout import listed
from trainer.spec import Kind, Spec

Array = NDArray[Any]
SUFFIXES = (".npz", ".npy")
MAX_HEADER = 10_000  # largest header of an array in bytes, as in numpy
NPY = b"\x93NUMPY"  # the first bytes of an .npy file
MAX_CHANNELS = 4  # of a picture; an axis of at most this length is taken for the channels
UNREADABLE = (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError)


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
        archive = open_arrays(file)
    except UNREADABLE as error:
        raise ConfigError(f"dataset.path: {file}: must be an .npz file, as numpy.savez writes it") from error
    if archive is None:
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


class TooLargeError(ValueError):
    """An array needs more memory than is free, or its file was made to fill the memory."""


def open_arrays(file: Path) -> Any:
    """Return the open .npz file, or None for an .npy file; nothing but the list of the arrays is read.

    Raises:
        OSError, ValueError, EOFError, zipfile.BadZipFile: the file cannot be read, or has another format.
    """
    check_file(file)
    with file.open("rb") as opened:
        start = opened.read(len(NPY))
    if start == NPY:
        return None
    if not start.startswith(b"PK"):  # numpy would take the file for a pickle
        raise ValueError("no file of arrays")
    archive = np.load(file, allow_pickle=False)
    names = [each.filename.removesuffix(".npy") for each in archive.zip.infolist()]
    if len({*names}) < len(names):  # which of them numpy reads need not be the one that was checked
        archive.close()
        raise ValueError("two arrays have one name")
    return archive


def read_array(archive: Any, name: str) -> Array:
    """Return an array of an .npz file.

    Raises:
        TooLargeError: the array needs more memory than is free, or unpacks to many times its size.
        Exception: as ``np.load``, for a damaged array.
    """
    member = next(each for each in archive.zip.infolist() if each.filename in (name, f"{name}.npy"))
    with _too_large(name):
        check_unpacked(member.compress_size, member.file_size, name, "if it is meant, save it with numpy.savez")
    with archive.zip.open(member) as opened:
        num_bytes = _num_bytes(opened, f"{name} of {archive.zip.filename}", member.file_size)
    with _too_large(name):
        need_memory(num_bytes, name)
    array: Array = archive[name]
    return array


def read_single(file: Path) -> Array:
    """Return the array of an .npy file; raises the errors of ``read_array``."""
    with file.open("rb") as opened:
        num_bytes = _num_bytes(opened, file.name, file.stat().st_size)
    with _too_large(file.name):
        need_memory(num_bytes, file)
    array: Array = np.load(file, allow_pickle=False)
    return array


def _num_bytes(opened: Any, place: str, most: int) -> int:
    """Return the size of an array according to its header, in bytes, and of a copy of its numbers as float32.

    Raises:
        ValueError: the header is damaged, names more bytes than the file has, or the array holds Python objects.
    """
    version = np.lib.format.read_magic(opened)
    length = opened.read(2 if version == (1, 0) else 4)
    if int.from_bytes(length, "little") > MAX_HEADER:  # numpy reads all of it before it refuses it
        raise ValueError(f"{place}: its header does not fit its size")
    opened.seek(-len(length), os.SEEK_CUR)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in header:
        return 2 * most  # version 3 is for names of fields, which no array of numbers has
    shape, _, dtype = header[version](opened)
    count = math.prod(shape)
    if dtype.hasobject or count * dtype.itemsize > most or min(shape, default=0) < 0:
        raise ValueError(f"{place}: its header does not fit its size")
    return count * dtype.itemsize + (0 if dtype in (np.float32, np.uint8) else 4 * count)


@contextlib.contextmanager
def _too_large(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TooLargeError(f"{name} {error.strerror}") from error


def _name_in(held: Sequence[str], base: str, split: str) -> str | None:
    """Return the name in a file of an array of a split: ``x_train``, ``train_x`` or ``x``; None if none exists."""
    words = [word for word, part in SPLITS.items() if part == split]
    names = [name for word in words for name in (f"{base}_{word}", f"{word}_{base}")]
    return next((name for name in [*names, base] if name in held), None)


def _load(archive: Any, file: Path, key: str, name: str) -> Array:
    try:
        array = read_array(archive, name)
    except TooLargeError as error:
        raise ConfigError(f"dataset.{key}: {file}: {error}") from error
    except ValueError as error:
        raise ConfigError(
            f"dataset.{key}: {name} of {file} cannot be read: it holds Python objects, or is damaged"
        ) from error
    except UNREADABLE as error:
        raise ConfigError(f"dataset.{key}: {name} of {file} cannot be read: {error}") from error
    if array.dtype.kind == "U" and _has_no_character(array):
        raise ConfigError(f"dataset.{key}: {name} of {file} holds texts that are no Unicode")
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
    what = "no .npz or .npy file, as numpy writes them"
    try:
        archive = open_arrays(file)
        what = "an array cannot be read: it holds Python objects, or is damaged"
        names = [file.stem] if archive is None else archive.files
        name = next((name for name in (inputs, f"{inputs}_test") if name in names), None)
        if name is None and len(names) == 1:
            name = names[0]
        if name is None:
            raise RunError(f"has no array {inputs}; arrays: {listed(names)}")
        values = read_single(file) if archive is None else read_array(archive, name)
        steps = None if archive is None or lengths not in names else read_array(archive, lengths)
    except TooLargeError as error:
        raise RunError(str(error)) from error
    except UNREADABLE as error:
        raise RunError(getattr(error, "strerror", None) or what) from error
    if values.dtype.kind not in "biuf":
        raise RunError(f"{name} must hold numbers, got {values.dtype}")
    if values.ndim == 0:
        raise RunError(f"{name} must hold samples along its first axis, got a single number")
    if steps is not None and (steps.dtype.kind not in "iu" or steps.shape != values.shape[:1]):
        wanted = f"{len(values)} whole numbers"
        raise RunError(f"{lengths} must hold {wanted}, got {steps.dtype} of shape {steps.shape}")
    if values.ndim == len(spec.shape):  # pictures without a channel axis, or steps that are single numbers
        values = values[:, None] if spec.kind == "image" else values[..., None]
    if spec.kind == "image" and values.shape[1:] != spec.shape and values.ndim == 4:
        values = np.moveaxis(values, 3, 1)
    return name, _raw_type(spec.kind, values), steps


def _raw_type(kind: Kind, values: Array) -> Array:
    if kind == "tokens":
        return values.astype(np.int64)
    if kind == "image" and values.dtype == np.uint8:
        return values
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)
