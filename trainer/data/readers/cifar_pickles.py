"""Read the pickles of CIFAR-10, CIFAR-100 and the small ImageNet, in part or whole, without running what they hold.

A pickle is a program. It gets no function to call but those with which numpy builds an array, and instead of these it
gets classes that keep the bytes.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.config.untrusted_files import check_file, need_memory
from trainer.data.readers.array_stores import Array, Header, WrongFormError, too_large
from trainer.data.readers.files import natural_key

# The names of the files of each split, and the keys of the class numbers and of the names of the classes.
FILES = {
    "train": re.compile(r"(train_)?data_batch(_\d+)?|train", re.IGNORECASE),
    "test": re.compile(r"test_batch|test", re.IGNORECASE),
    "val": re.compile(r"val_data", re.IGNORECASE),
}
LABELS, NAMES = ("labels", "fine_labels"), ("label_names", "fine_label_names")
META = ("batches.meta", "meta")
MEMORY = 4  # memory that a byte of a pickle takes when it is read, with the joined arrays
MAX_MEMO = 1 << 20  # largest number of a stored value, as Python reserves memory for all smaller ones
MAX_TUPLES = 24  # an array has at most eight; tuples of one another would make a key whose hash takes for ever


class _PickledDtype:
    """The dtype of a pickled array, such as u1."""

    def __init__(self, text: object = "", *_: object) -> None:
        self.text = text.decode("latin-1") if isinstance(text, bytes) else str(text)

    def __setstate__(self, state: object) -> None:
        pass  # byte order and alignment, which bytes do not have


class _PickledArray:
    """The shape and the bytes of a pickled array."""

    shape: tuple[int, ...] = ()
    dtype, order, content = "", "", b""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, content = state
        if not isinstance(dtype, _PickledDtype) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("holds an array of objects")
        self.shape, self.content = tuple(map(int, shape)), content
        self.dtype, self.order = dtype.text, "F" if is_fortran else "C"

    def pixels(self) -> Array:
        """Return the bytes as uint8.

        Raises:
            ValueError: the array is not of bytes, or damaged.
        """
        if self.dtype not in ("u1", "|u1"):
            raise ValueError(f"an array of {self.dtype}, not of bytes")
        return np.frombuffer(self.content, np.uint8).reshape(self.shape, order="F" if self.order == "F" else "C")


class _Reconstruct:
    """What numpy calls to make an array, which gets its content later."""

    def __new__(cls, *_: object) -> _PickledArray:  # type: ignore[misc]
        return _PickledArray()

    def __setstate__(self, state: object) -> None:
        pass  # so that no instruction can set attributes of the class


class _Encode:
    """Return the bytes that Python 2 wrote as a text."""

    def __new__(cls, text: str, encoding: str = "latin-1") -> bytes:  # type: ignore[misc]
        if encoding not in ("latin1", "latin-1", b"latin1"):
            raise pickle.UnpicklingError("bytes of an unknown encoding")
        return text.encode("latin-1")

    def __setstate__(self, state: object) -> None:
        pass


# What a pickle of arrays of bytes calls, and what it gets instead.
KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledDtype,
    ("_codecs", "encode"): _Encode,
}


class _PlainUnpickler(pickle.Unpickler):
    """Build dicts, lists, texts, bytes, numbers, and arrays of bytes; anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"calls {module}.{name}")
        return KNOWN[module, name]


def read_plain(file: Path) -> dict[str, Any]:
    """Return the dict of a pickle, whose keys become texts.

    Raises:
        TooLargeError: it needs more memory than is free.
        WrongFormError: it is no pickle of such a dict, or would run code.
    """
    with too_large(file.name):
        need_memory(MEMORY * check_file(file).st_size, file)
    content = file.read_bytes()
    try:
        tuples = 0
        for operation, argument, _ in pickletools.genops(content):  # also refuses lengths beyond the end
            tuples += operation.name.startswith("TUPLE")
            if tuples > MAX_TUPLES:
                raise pickle.UnpicklingError("has too many tuples")
            if "PUT" in operation.name and int(argument or 0) > MAX_MEMO:
                raise pickle.UnpicklingError("stores too many values")
        found = _PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a wrong pickle may raise any exception
        raise WrongFormError(f"{file.name}: is no pickle of CIFAR's form: {error}") from error
    if not isinstance(found, dict):
        raise WrongFormError(f"{file.name}: is no pickle of CIFAR's form")
    return {key.decode("latin-1") if isinstance(key, bytes) else str(key): value for key, value in found.items()}


def open_folder(folder: Path) -> CifarFolder | None:
    """Return the store of a folder with CIFAR's pickles, such as ``data_batch_1``; None if it has none."""
    files: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir(), key=lambda file: natural_key(file.name)):
        split = next((split for split, form in FILES.items() if form.fullmatch(file.name)), None)
        if split is not None and file.is_file() and file.suffix == "" and _is_pickle(file):
            files.setdefault(split, []).append(file)
    return CifarFolder(folder, files) if "train" in files else None


def _is_pickle(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(1) in (b"\x80", b"(")  # protocols 2 and later, and 0 and 1


class CifarFolder:
    """The pictures ``x`` and the classes ``y`` of each split; the batches of a split are joined."""

    has_whole_floats = False

    def __init__(self, folder: Path, files: dict[str, list[Path]]) -> None:
        self._folder, self._files = folder, files
        self.names = [f"{key}_{split}" for split in files for key in "xy"]

    def header(self, name: str) -> Header:
        array = self.read(name)
        return Header(array.shape, array.dtype)

    def read(self, name: str) -> Array:
        key, split = name.split("_")
        parts = [read_plain(file) for file in self._files[split]]
        if key == "x":
            return np.concatenate([_pictures(part, file) for part, file in zip(parts, self._files[split], strict=True)])
        numbers = np.concatenate([_labels(part, file) for part, file in zip(parts, self._files[split], strict=True)])
        names = self._class_names()
        named: Array = numbers
        if names and numbers.min(initial=0) >= 0 and numbers.max(initial=0) < len(names):
            named = np.array(names)[numbers]
        return named

    def _class_names(self) -> Sequence[str]:
        for name in META:
            if (self._folder / name).is_file():
                about = read_plain(self._folder / name)
                found: list[Any] = next((about[key] for key in NAMES if key in about), [])
                return [each.decode("latin-1") if isinstance(each, bytes) else str(each) for each in found]
        return ()


def _pictures(part: dict[str, Any], file: Path) -> Array:
    """Return the pictures of a batch, (samples, 3, size, size) uint8."""
    data = part.get("data")
    if not isinstance(data, _PickledArray) or len(data.shape) != 2:
        raise WrongFormError(f"{file.name}: holds no pictures")
    size = round((data.shape[1] / 3) ** 0.5)
    if 3 * size * size != data.shape[1]:
        raise WrongFormError(f"{file.name}: its pictures have {data.shape[1]} numbers, and are not square")
    return data.pixels().reshape(-1, 3, size, size)


def _labels(part: dict[str, Any], file: Path) -> Array:
    """Return the class numbers of a batch, (samples,) int64."""
    labels = next((part[key] for key in LABELS if key in part), None)
    if not isinstance(labels, list) or not all(type(each) is int for each in labels):
        raise WrongFormError(f"{file.name}: holds no classes")
    return np.array(labels, dtype=np.int64)
