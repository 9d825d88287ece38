"""Arrays by name in a file or folder: what each form of file holds, read only when it is asked for.

A store never runs code that a file holds, and refuses an array that needs more memory than is free.
"""

from __future__ import annotations

import contextlib
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.config.untrusted_files import check_file, check_unpacked, need_memory
from trainer.data.readers.files import SPLITS, natural_key

Array = NDArray[Any]
MAX_HEADER = 10_000  # largest header of an array in bytes, as in numpy
NPY = b"\x93NUMPY"  # the first bytes of an .npy file
UNREADABLE = (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError)


class TooLargeError(ValueError):
    """An array needs more memory than is free, or its file was made to fill the memory."""


class WrongFormError(ValueError):
    """A file or folder of another form; the message is the reason, for the user."""


class Header(NamedTuple):
    """The shape and the dtype of an array, which are known before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.shape} {self.dtype}"


class Store(Protocol):
    """Arrays in a file or a folder.

    Attributes:
        names: the names of the arrays.
        has_whole_floats: whether the form stores whole numbers as floats, so that the dtype says nothing.
    """

    names: list[str]
    has_whole_floats: bool

    def header(self, name: str) -> Header:
        """Return the shape and the dtype of an array; raises the errors of ``read``."""

    def read(self, name: str) -> Array:
        """Return an array.

        Raises:
            TooLargeError: the array needs more memory than is free, or unpacks to many times its size.
            OSError, ValueError, …: one of ``UNREADABLE``, for a damaged array, or one of Python objects.
        """


class Npz:
    """The arrays of an .npz file."""

    has_whole_floats = False

    def __init__(self, path: Path) -> None:
        self._path = path
        with zipfile.ZipFile(path) as archive:
            self._members = {each.filename.removesuffix(".npy"): each for each in archive.infolist()}
            if len(self._members) < len(archive.infolist()):  # another one might be read than the one checked
                raise ValueError("two arrays have one name")
        self.names = [*self._members]

    def header(self, name: str) -> Header:
        with zipfile.ZipFile(self._path) as archive, archive.open(self._members[name]) as opened:
            return _header(opened, f"{name} of {self._path}", self._members[name].file_size)

    def read(self, name: str) -> Array:
        member = self._members[name]
        with too_large(name):
            check_unpacked(member.compress_size, member.file_size, name, "if it is meant, save it with numpy.savez")
        header = self.header(name)
        with too_large(name):
            need_memory(num_bytes(header), name)
        with np.load(self._path, allow_pickle=False) as archive:
            array: Array = archive[name]
        return array


class NpyFiles:
    """The arrays of .npy files, by name."""

    has_whole_floats = False

    def __init__(self, files: dict[str, Path]) -> None:
        self._files = files
        self.names = [*files]

    def header(self, name: str) -> Header:
        file = self._files[name]
        size = check_file(file).st_size
        with file.open("rb") as opened:
            return _header(opened, file.name, size)

    def read(self, name: str) -> Array:
        header = self.header(name)
        with too_large(self._files[name].name):
            need_memory(num_bytes(header), self._files[name])
        array: Array = np.load(self._files[name], allow_pickle=False)
        return array


def npy_folder(folder: Path) -> NpyFiles | None:
    """Return the .npy files in a folder, and in its folders that are named as splits; None if there are none."""
    files = {}
    for file in sorted(folder.glob("*.npy"), key=lambda file: natural_key(file.name)):
        files[file.stem] = file
    for part in sorted(folder.iterdir()):
        if part.is_dir() and part.name.lower() in SPLITS:
            files |= {f"{part.name}/{file.stem}": file for file in sorted(part.glob("*.npy"))}
    return NpyFiles(files) if files else None


def num_bytes(header: Header) -> int:
    """Return the size of an array, and of a copy of its numbers as float32, in bytes."""
    count, size = math.prod(header.shape), header.dtype.itemsize
    return count * size + (0 if header.dtype in (np.float32, np.uint8) else 4 * count)


@contextlib.contextmanager
def too_large(name: str) -> Iterator[None]:
    """Raise the OSErrors of this context as a TooLargeError about an array."""
    try:
        yield
    except OSError as error:
        raise TooLargeError(f"{name} {error.strerror}") from error


def _header(opened: Any, place: str, most: int) -> Header:
    """Return the header of an array in .npy form.

    Args:
        opened: the file, at its start.
        place: the file, for messages.
        most: the number of bytes that the file has.

    Raises:
        ValueError: the header is damaged, names more bytes than the file has, or the array holds Python objects.
    """
    version = np.lib.format.read_magic(opened)
    length = opened.read(2 if version == (1, 0) else 4)
    if int.from_bytes(length, "little") > MAX_HEADER:  # numpy reads all of it before it refuses it
        raise ValueError(f"{place}: its header does not fit its size")
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:  # version 3 is for names of fields, which no array of numbers has
        raise ValueError(f"{place}: holds named fields")
    opened.seek(-len(length), os.SEEK_CUR)
    shape, _, dtype = read[version](opened)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize > most or min(shape, default=0) < 0:
        raise ValueError(f"{place}: its header does not fit its size")
    return Header(tuple(shape), dtype)
