"""Read the lines of a table in text, in chunks of bounded length: a file of unknown origin may be a single line."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TextIO

from trainer.config import ConfigError
from trainer.config.untrusted_files import check_file

CHUNK = 8192  # lines that are read at a time
MAX_ROW, BLOCK = 20_000_000, 32  # longest row in characters; lines that are read before their length is looked at
TOO_LONG = f"{MAX_ROW:,} characters; dataset=npz reads rows of any length"


def each_line(file: TextIO) -> Iterator[str]:
    """Return an iterator over the lines of a file; a line is cut off behind ``MAX_ROW`` characters."""
    found = os.fstat(file.fileno())
    if stat.S_ISREG(found.st_mode) and found.st_size <= MAX_ROW:
        return file  # which is faster
    return iter(functools.partial(file.readline, MAX_ROW + 1), "")


def check_line_lengths(file: TextIO, number: int, lines: Sequence[str]) -> None:
    """Raise ConfigError if one of some lines, of which the first has the given number, was cut off."""
    if len(max(lines, key=len, default="")) > MAX_ROW:
        number += next(at for at, line in enumerate(lines) if len(line) > MAX_ROW)
        raise ConfigError(f"dataset.path: {file.name}:{number}: a line of more than {TOO_LONG}")


def chunks(file: TextIO) -> Iterator[list[str]]:
    """Yield the lines of a file in chunks, without splitting a cell in quotes between two chunks.

    Raises:
        ConfigError: a line, or a row that goes over several lines, is longer than ``MAX_ROW``.
    """
    found, number = each_line(file), 1
    while lines := _some(file, found, number):
        quotes, letters = "".join(lines).count('"'), 0
        start = number + len(lines) - 1
        while quotes % 2 and (line := next(found, "")):
            lines.append(line)
            quotes += line.count('"')
            letters += len(line)
            if letters > MAX_ROW:
                place = f"{file.name}: a cell in quotes that begins before line {start}"
                raise ConfigError(f"dataset.path: {place} has more than {TOO_LONG}; is its quote closed?")
        number += len(lines)
        yield lines


def _some(file: TextIO, found: Iterator[str], number: int) -> list[str]:
    """Return the next ``CHUNK`` lines, or fewer if they are long; the first has the given number."""
    lines, letters = list[str](), 0
    while len(lines) < CHUNK and letters <= MAX_ROW and (block := list(islice(found, BLOCK))):
        some = sum(map(len, block))
        if some > MAX_ROW:
            check_line_lengths(file, number + len(lines), block)
        lines += block
        letters += some
    return lines


@contextlib.contextmanager
def opened(file: Path, encoding: str) -> Iterator[TextIO]:
    """Open a file as text; drop the byte order mark of UTF-8, and escape bytes outside the encoding."""
    name = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
    if file.is_dir():
        raise ConfigError(f"dataset.path: {file}: is a folder; must be a file, or {{train: …, test: …}}")
    try:
        check_file(file)
        with file.open(encoding=name, errors="surrogateescape", newline="") as lines:
            yield lines
    except LookupError as error:
        raise ConfigError(f"dataset.encoding: {encoding}: no such encoding; such as utf-8, latin-1, cp1252") from error
    except UnicodeError as error:
        raise ConfigError(f"dataset.encoding: {encoding}: does not fit {file}: {error}") from error
    except OSError as error:
        raise ConfigError(f"dataset.path: {file}: cannot be read: {error.strerror}") from error
