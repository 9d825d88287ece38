"""Read the pickles of CIFAR-10, CIFAR-100 and the small ImageNet, in part or whole, without running what they hold.

A pickle is a program. Its instructions are followed here as far as they build plain values and arrays of numpy; nothing
that it names is imported or called.
"""

from __future__ import annotations

import copy
import pickletools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.config.errors import one_line
from trainer.config.untrusted_files import check_file, need_memory
from trainer.data.readers.arrays.stores import Array, Header, WrongFormError, too_large
from trainer.data.readers.files import natural_key

# The names of the files of each split, and the keys of the class numbers and of the names of the classes.
FILES = {
    "train": re.compile(r"(train_)?data_batch(_\d+)?|train", re.IGNORECASE),
    "test": re.compile(r"test_batch|test", re.IGNORECASE),
    "val": re.compile(r"val_data", re.IGNORECASE),
}
LABELS, NAMES = ("labels", "fine_labels"), ("label_names", "fine_label_names")
COARSE = "coarse_labels"  # of CIFAR-100, the superclasses
META = ("batches.meta", "meta")
MEMORY = 5  # memory that a byte of a pickle takes when it is read, with the joined arrays
MAX_LETTERS = 200  # of the reason why a pickle is refused
CONSTANTS: dict[str, Any] = {
    "EMPTY_DICT": {},
    "EMPTY_LIST": [],
    "EMPTY_TUPLE": (),
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
}
IGNORED = {"PROTO", "FRAME"}
# The instructions whose argument is the value.
LITERALS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"}
LITERALS |= {"SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES"}
LITERALS |= {"SHORT_BINBYTES", "BINBYTES8"}


class _Name:
    """A function or class that a pickle names, which is never looked up."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Dtype:
    """The dtype of a pickled array, such as u1."""

    def __init__(self, text: object) -> None:
        self.text = text


class _Array:
    """The shape and the bytes of a pickled array."""

    shape: tuple[int, ...] = ()
    dtype: object = ""
    content, is_fortran = b"", False

    def fill(self, state: Any) -> None:
        _, shape, dtype, is_fortran, content = state
        content = content.encode("latin-1") if isinstance(content, str) else content  # bytes of Python 2
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            raise ValueError("holds an array of objects")
        self.shape, self.dtype, self.content = tuple(map(int, shape)), dtype.text, content
        self.is_fortran = bool(is_fortran)

    def pixels(self) -> Array:
        """Return the bytes as uint8.

        Raises:
            ValueError: the array is not of bytes, or damaged.
        """
        if self.dtype not in ("u1", "|u1"):
            raise ValueError(f"an array of {self.dtype}, not of bytes")
        return np.frombuffer(self.content, np.uint8).reshape(self.shape, order="F" if self.is_fortran else "C")


class _Machine:
    """Follow those instructions of a pickle that build dicts, lists, tuples, texts, bytes, numbers and arrays.

    Nothing that a pickle names is imported or called.
    """

    MARK = object()

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        """Return the value of a pickle.

        Raises:
            ValueError, IndexError, …: it is damaged, or has an instruction of another kind.
        """
        for operation, argument, _ in pickletools.genops(content):  # it refuses lengths beyond the end
            name = operation.name
            if name in IGNORED:
                continue
            if name in CONSTANTS:
                self._stack.append(copy.copy(CONSTANTS[name]))
            elif name in LITERALS:
                self._stack.append(argument)
            elif "PUT" in name or name == "MEMOIZE":
                self._memo[len(self._memo) if argument is None else int(argument)] = self._stack[-1]
            elif "GET" in name:
                self._stack.append(self._memo[int(argument or 0)])
            elif name == "STOP":
                return self._stack.pop()
            else:
                self._do(name, argument)
        raise ValueError("has no end")

    def _do(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name == "MARK":
            stack.append(self.MARK)
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(self._popped() if name == "TUPLE" else self._last(int(name[-1]))))
        elif name in ("LIST", "DICT"):
            some = self._popped()
            stack.append(some if name == "LIST" else _pairs(some))
        elif name in ("APPEND", "APPENDS"):
            some = self._popped() if name == "APPENDS" else [stack.pop()]
            _of(list, stack[-1]).extend(some)
        elif name in ("SETITEM", "SETITEMS"):
            some = self._popped() if name == "SETITEMS" else self._last(2)
            _of(dict, stack[-1]).update(_pairs(some))
        elif name == "GLOBAL":
            stack.append(_Name(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            stack.append(_Name(".".join(map(str, self._last(2)))))
        elif name == "REDUCE":
            called, given = self._last(2)
            stack.append(_built(called, given))
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], _Array):
                stack[-1].fill(state)
            elif not isinstance(stack[-1], _Dtype):  # of a dtype, it is the order of bytes
                raise ValueError("sets attributes")
        else:
            raise ValueError(f"has the instruction {name}")

    def _last(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise ValueError("takes more values than there are")
        some = self._stack[-count:]
        del self._stack[-count:]
        return some

    def _popped(self) -> list[Any]:
        """Take the values down to the last mark from the stack, and return them."""
        some: list[Any] = []
        while (value := self._stack.pop()) is not self.MARK:
            some.append(value)
        return some[::-1]


def _of(kind: type[Any], value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"takes {type(value).__name__} for {kind.__name__}")
    return value


def _pairs(some: list[Any]) -> dict[str, Any]:
    """Return a dict of keys and values that take turns; a key is a text, whose hash takes no time."""
    names = [key.decode("latin-1") if isinstance(key, bytes) else _of(str, key) for key in some[::2]]
    return dict(zip(names, some[1::2], strict=True))


def _built(called: object, given: Any) -> Any:
    """Return what a call would return, for the three calls that build an array."""
    name = called.name if isinstance(called, _Name) else type(called).__name__
    if name in ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"):
        return _Array()
    if name == "numpy.dtype":
        return _Dtype(given[0])
    if name == "_codecs.encode":  # bytes as Python 2 can read them
        return str(given[0]).encode("latin-1")
    raise ValueError(f"calls {name}")


def read_plain(file: Path) -> dict[str, Any]:
    """Return the dict of a pickle.

    Raises:
        TooLargeError: it needs more memory than is free.
        WrongFormError: it is no pickle of such a dict, or would run code.
    """
    with too_large(file.name):
        need_memory(MEMORY * check_file(file).st_size, file)
    try:
        return dict(_of(dict, _Machine().run(file.read_bytes())))
    except Exception as error:  # a wrong pickle may raise any exception
        reason = one_line(error, MAX_LETTERS).removeprefix("ValueError: ")
        raise WrongFormError(f"{file.name}: is no pickle of CIFAR's form: {reason}") from error


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
        self._parts: dict[str, list[dict[str, Any]]] = {}  # of each split that has been read
        self.names = [f"{key}_{split}" for split in files for key in "xy"]
        self.note = ""  # which of two kinds of classes is read

    def header(self, name: str) -> Header:
        array = self.read(name)
        return Header(array.shape, array.dtype)

    def read(self, name: str) -> Array:
        key, split = name.split("_")
        if split not in self._parts:
            self._parts[split] = [read_plain(file) for file in self._files[split]]
        parts = self._parts[split]
        if key == "x":
            return np.concatenate([_pictures(part, file) for part, file in zip(parts, self._files[split], strict=True)])
        numbers = np.concatenate([_labels(part, file) for part, file in zip(parts, self._files[split], strict=True)])
        if COARSE in parts[0]:
            self.note = f"classes {next(key for key in LABELS if key in parts[0])}, not {COARSE}"
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
    if not isinstance(data, _Array) or len(data.shape) != 2:
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
