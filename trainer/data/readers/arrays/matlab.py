"""Read the arrays of MATLAB's .mat files of version 5 (``save -v6`` and ``-v7``): full ones of numbers or characters.

The form is that of MathWorks, "MAT-File Format" (R2019b). Nothing but numbers is read, so that no file can run code.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from trainer.config.untrusted_files import BLOCK, check_unpacked, need_memory
from trainer.data.readers.arrays.stores import Array, Header, WrongFormError, num_bytes, too_large

HEADER = 128  # bytes at the start of a file
COMPRESSED, MATRIX = 15, 14  # types of elements
# The dtype of each type of element, and of each class of arrays.
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8", 16: "u1", 17: "u2"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
CHARACTERS = 4  # the class of arrays of characters
# What an array may be instead, and what to do about it.
OTHERS = {1: "a cell array", 2: "a struct", 3: "an object", 5: "a sparse array", 16: "a function", 17: "an object"}
ADVICE = {
    1: "; in MATLAB, x = cell2mat({name}) or x = char({name}) makes it one, before save('new.mat', 'x', …, '-v7')",
    2: "; in MATLAB, save('new.mat', '-struct', '{name}', '-v7') saves each field as an array",
    5: "; in MATLAB, x = full({name}) makes it one, before save('new.mat', 'x', …, '-v7')",
}
LOGICAL, COMPLEX = 2, 8  # bits of the flags of an array
MAX_NAME, MAX_AXES = 4096, 32  # bytes of the name, and axes, of an array
START = 1 << 14  # bytes that hold the head of any array


class _Matrix(NamedTuple):
    """The head of an array: where its element starts in the file, and what it holds."""

    start: int
    size: int
    is_compressed: bool
    kind: int
    flags: int
    shape: tuple[int, ...]
    head: int  # bytes of the content before the numbers


class MatFile:
    """The arrays of a .mat file of version 5.

    Raises:
        WrongFormError: the file has another version.
        ValueError: the file is damaged.
    """

    has_whole_floats = True  # MATLAB's numbers are doubles unless they are converted

    def __init__(self, path: Path) -> None:
        self._path, self._matrices = path, dict[str, _Matrix]()
        with path.open("rb") as file:
            start = file.read(HEADER)
            if start.startswith(b"MATLAB 7.3"):
                raise WrongFormError(
                    "is a MATLAB file of version 7.3, which is HDF5; save it with save('file.mat', '-v7') in MATLAB"
                )
            if len(start) < HEADER or start[126:] not in (b"IM", b"MI"):
                raise WrongFormError("is no MATLAB file of version 5")
            self._order = "<" if start[126:] == b"IM" else ">"
            for name, matrix in self._heads(file):
                if name in self._matrices:  # another one might be read than the one checked
                    raise ValueError("two arrays have one name")
                self._matrices[name] = matrix
        self.names = [*self._matrices]
        if not self.names:
            raise WrongFormError("holds no arrays")

    def header(self, name: str) -> Header:
        matrix = self._matrices[name]
        if matrix.kind == CHARACTERS:
            return Header(matrix.shape[:-1], np.dtype(f"U{matrix.shape[-1]}"))
        if matrix.kind not in CLASSES:
            advice = ADVICE.get(matrix.kind, "").format(name=name)
            raise WrongFormError(f"is {OTHERS.get(matrix.kind, 'of an unknown kind')}, not an array of numbers{advice}")
        dtype = np.dtype(bool) if matrix.flags & LOGICAL else np.dtype(CLASSES[matrix.kind])
        return Header(matrix.shape, dtype)

    def read(self, name: str) -> Array:
        matrix, header = self._matrices[name], self.header(name)
        if matrix.flags & COMPLEX:
            raise WrongFormError("holds complex numbers")
        with too_large(name):
            need_memory(2 * num_bytes(header), name)
            check_unpacked(matrix.size, num_bytes(header), name, "if it is meant, save it with -v6")
        most = matrix.head + 8 + 8 * math.prod(matrix.shape)  # a number has at most 8 bytes
        content = self._content(matrix, most)
        kind, size, at = _tag(content, matrix.head, self._order)
        if kind not in TYPES:
            raise ValueError("numbers of an unknown type")
        stored = np.dtype(f"{self._order}{TYPES[kind]}")
        count = math.prod(matrix.shape)
        if size != count * stored.itemsize or len(content) < at + size:
            raise ValueError("its size does not fit its shape")
        values = np.frombuffer(content, stored, count, at).reshape(matrix.shape, order="F")
        if matrix.kind == CHARACTERS:
            rows = np.ascontiguousarray(values.astype(np.uint32))
            return np.char.rstrip(rows.view(f"U{matrix.shape[-1]}")[..., 0]) if rows.size else rows.astype("U1")
        return np.ascontiguousarray(values.astype(header.dtype))

    def _heads(self, file: BinaryIO) -> Iterator[tuple[str, _Matrix]]:
        """Yield the name and the head of every array; only the heads are unpacked."""
        while tag := file.read(8):
            if len(tag) < 8:
                raise ValueError("the file is cut off")
            kind, size = struct.unpack(f"{self._order}II", tag)
            start = file.tell()
            content = file.read(min(size, START))
            if kind == COMPRESSED:
                content = zlib.decompressobj().decompress(content, START)
                inner = struct.unpack_from(f"{self._order}II", content)[0]
                content = content[8:]
            else:
                inner = kind
            if inner == MATRIX:
                name, matrix = _head(content, self._order, start, size, is_compressed=kind == COMPRESSED)
                if name:  # MATLAB keeps data of its own without a name
                    yield name, matrix
            file.seek(start + size)

    def _content(self, matrix: _Matrix, most: int) -> bytes:
        """Return at most ``most`` bytes of the content of an array."""
        with self._path.open("rb") as file:
            file.seek(matrix.start)
            if not matrix.is_compressed:
                return file.read(min(matrix.size, most))
            packer, parts, left = zlib.decompressobj(), list[bytes](), most + 8  # and the tag of the array
            remaining = matrix.size
            while left > 0 and remaining > 0 and (block := file.read(min(BLOCK, remaining))):
                remaining -= len(block)
                parts.append(packer.decompress(block, left))
                left -= len(parts[-1])
            return b"".join(parts)[8:]


def is_version_4(start: bytes) -> bool:
    """Return whether a file begins as those of version 4 do: with the type, the shape and the name of an array."""
    if len(start) < 20:
        return False
    for order in "<>":
        kind, rows, columns, is_complex, length = struct.unpack_from(f"{order}5i", start)
        name = start[20 : 20 + length]
        is_type = kind // 1000 == (order == ">") and kind // 100 % 10 == 0 and kind // 10 % 10 < 6 and kind % 10 < 3
        is_head = is_type and min(rows, columns) >= 0 and is_complex in (0, 1) and 1 < length <= 64
        if is_head and name.endswith(b"\0") and name[:-1].decode("latin-1").isidentifier():
            return True
    return False


def _tag(content: bytes, at: int, order: str) -> tuple[int, int, int]:
    """Return the type and the size of the element at ``at``, and where its content starts."""
    if len(content) < at + 8:
        raise ValueError("an element is cut off")
    kind, size = struct.unpack_from(f"{order}II", content, at)
    if kind >> 16:  # a small element has its content within the tag
        return kind & 0xFFFF, kind >> 16, at + 4
    return kind, size, at + 8


def _head(content: bytes, order: str, start: int, size: int, *, is_compressed: bool) -> tuple[str, _Matrix]:
    """Return the name and the head of an array.

    Raises:
        ValueError: it is damaged.
    """
    _, _, at = _tag(content, 0, order)
    flags = struct.unpack_from(f"{order}I", content, at)[0]
    kind, length, at = _tag(content, 16, order)
    count = length // 4
    if kind != 5 or not 2 <= count <= MAX_AXES or len(content) < at + length:
        raise ValueError("an array has no shape")
    shape = struct.unpack_from(f"{order}{count}i", content, at)
    if min(shape) < 0:
        raise ValueError("an array has a negative size")
    after = at + length + -length % 8
    _, length, at = _tag(content, after, order)
    if length > MAX_NAME or len(content) < at + length:
        raise ValueError("an array has no name")
    name = content[at : at + length].decode("latin-1")
    head = after + 8 if at == after + 4 else at + length + -length % 8
    return name, _Matrix(start, size, is_compressed, flags & 0xFF, flags >> 8 & 0xFF, shape, head)
