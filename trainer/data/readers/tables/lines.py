"""Read the lines of a table in text as UTF-8, in blocks of whole rows and of bounded size."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from trainer.config import ConfigError
from trainer.config.errors import reason_of
from trainer.config.untrusted_files import check_file, check_unpacked
from trainer.data.readers.encodings import is_utf8, unknown_encoding

BLOCK = 1 << 23  # bytes that are read at a time
MAX_ROW = 20_000_000  # longest row in bytes: a file of unknown origin may be a single line
TOO_LONG = f"{MAX_ROW:,} characters; dataset=npz reads rows of any length"
UNPACK: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
PACKED = (*UNPACK, ".zip")  # endings of files that are unpacked while they are read
UNPACKING = (OSError, EOFError, ValueError, RuntimeError, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError)
BOM = b"\xef\xbb\xbf"  # the byte order mark of UTF-8


class Block(NamedTuple):
    """Consecutive whole rows of a file.

    Args:
        start: the number of the first line, from 1.
        content: the lines as UTF-8, each with its line break; bytes outside the encoding of the file stay as they are.
        num_lines: the number of lines.
    """

    start: int
    content: bytes
    num_lines: int

    def without_first(self, skip: int) -> Block:
        """Return the block without its first lines."""
        content, skipped = self.content, min(skip, self.num_lines)
        for _ in range(skipped):
            content = content[content.index(b"\n") + 1 :]
        return Block(self.start + skipped, content, self.num_lines - skipped)

    def lines(self) -> list[str]:
        """Return the lines; bytes outside the encoding are escaped."""
        text = self.content.decode("utf-8", "surrogateescape")
        return [line + "\n" for line in text.removesuffix("\n").split("\n")] if text else []


def plain_suffix(file: Path) -> str:
    """Return the suffix of a file in lower case, without that of its packing: ``.csv`` for ``a.csv.gz``."""
    suffix = file.suffix.lower()
    return Path(file.stem).suffix.lower() if suffix in PACKED else suffix


def blocks(file: Path, encoding: str, *, quote: str = '"', size: int | None = None) -> Iterator[Block]:
    """Yield the lines of a file in blocks, without splitting a cell in quotes between two blocks.

    Line breaks become ``\\n``. If a quote is not closed within ``MAX_ROW`` bytes, the block ends as if there was none.

    Args:
        file: a text file, which may be packed by gzip, bzip2, xz, or alone in a zip file.
        encoding: its encoding.
        quote: the sign around cells that contain line breaks; empty if no cell can.
        size: bytes that are read at a time; None for ``BLOCK``.

    Raises:
        ConfigError: the file cannot be read, or a line is longer than ``MAX_ROW``.
    """
    sign, waiting = quote.encode(), Block(1, b"", 0)
    for part in _lines_of(file, encoding, size or BLOCK):
        is_open = bool(sign) and (waiting.content.count(sign) + part.content.count(sign)) % 2 == 1
        if is_open and len(waiting.content) > MAX_ROW:  # the quote is not closed: who parses the rows finds its line
            yield waiting
            waiting, is_open = Block(part.start, b"", 0), bool(part.content.count(sign) % 2)
        waiting = Block(waiting.start, waiting.content + part.content, waiting.num_lines + part.num_lines)
        if not is_open:
            yield waiting
            waiting = Block(part.start + part.num_lines, b"", 0)
    if waiting.content:
        yield waiting


def _check_lengths(file: Path, start: int, part: bytes) -> None:
    """Raise ConfigError if one of some lines, of which the first has the given number, is longer than ``MAX_ROW``."""
    if len(part) <= MAX_ROW:
        return
    for number, line in enumerate(part.split(b"\n"), start):
        if len(line) > MAX_ROW:
            raise ConfigError(f"dataset.path: {file}:{number}: a line of more than {TOO_LONG}")


def _lines_of(file: Path, encoding: str, size: int) -> Iterator[Block]:
    """Yield whole lines as UTF-8 with ``\\n`` as line breaks, without the byte order mark.

    Raises:
        ConfigError: as ``blocks``.
    """
    rest, number, only_returns = b"", 1, None
    for part in _utf8(file, encoding, size):
        if only_returns is None:
            only_returns = b"\r" in part and b"\n" not in part
        found = rest + part
        if b"\r" in found:
            found = found.replace(b"\r\n", b"\n")
            found = found.replace(b"\r", b"\n") if only_returns else found
        cut = found.rfind(b"\n") + 1
        if cut == 0 and len(found) > MAX_ROW:
            raise ConfigError(f"dataset.path: {file}:{number}: a line of more than {TOO_LONG}")
        if cut:
            _check_lengths(file, number, found[:cut])
            count = found.count(b"\n", 0, cut)
            yield Block(number, found[:cut], count)
            number += count
        rest = found[cut:]
    if rest:
        yield Block(number, rest.removesuffix(b"\r") + b"\n", 1)


def _utf8(file: Path, encoding: str, size: int) -> Iterator[bytes]:
    """Yield the content of a file as UTF-8, in parts that may end within a line, but not within a character."""
    try:
        with opened(file) as stored:
            if is_utf8(encoding):
                first = stored.read(size).removeprefix(BOM)
                while first:
                    yield first
                    first = stored.read(size)
                return
            with io.TextIOWrapper(stored, encoding=encoding, errors="surrogateescape", newline="") as text:
                while letters := text.read(size):
                    yield letters.removeprefix("\ufeff").encode("utf-8", "surrogateescape")
    except LookupError as error:
        raise unknown_encoding(encoding) from error
    except UnicodeError as error:
        raise ConfigError(f"dataset.encoding: {encoding}: does not fit {file}: {reason_of(error)}") from error
    except UNPACKING as error:
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise ConfigError(f"dataset.path: {file}: cannot be read: {reason}") from error


@contextlib.contextmanager
def opened(file: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading its unpacked bytes.

    Raises:
        ConfigError: the file is a folder.
        Exception: one of ``UNPACKING``, also while it is read, if the file is damaged or made to fill the memory.
    """
    if file.is_dir():
        raise ConfigError(f"dataset.path: {file}: is a folder; must be a file, or {{train: …, test: …}}")
    packed = check_file(file).st_size
    suffix = file.suffix.lower()
    with contextlib.ExitStack() as stack:
        stream: IO[bytes] = stack.enter_context(UNPACK[suffix](file)) if suffix in UNPACK else file.open("rb")
        if suffix == ".zip":
            stream = _only_member(file, stack)
        if suffix in PACKED:
            stream = io.BufferedReader(_Unpacked(stream, packed, file))
        yield stack.enter_context(stream)


def _only_member(file: Path, stack: contextlib.ExitStack) -> IO[bytes]:
    archive = stack.enter_context(zipfile.ZipFile(file))
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
    if len(names) != 1:
        listed = ", ".join(names[:3]) + ("…" if len(names) > 3 else "")
        raise ConfigError(f"dataset.path: {file}: holds {len(names)} files ({listed}); unpack it, and name one of them")
    return archive.open(names[0])


class _Unpacked(io.RawIOBase):
    """A stream of unpacked bytes that ends with an OSError if there are far too many for the size of the file."""

    def __init__(self, stream: IO[bytes], packed: int, file: Path) -> None:
        self._stream, self._packed, self._file, self._count = stream, packed, file, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._stream.read(len(buffer))
        buffer[: len(found)] = found
        self._count += len(found)
        check_unpacked(self._packed, self._count, os.fspath(self._file), "unpack it first if it is meant")
        return len(found)
