"""Check files of unknown origin before they are opened or read: their kind, and the memory that reading them takes.

A refusal is an ``OSError`` whose ``strerror`` is the reason, so that readers handle it like a missing file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from trainer.config.errors import ConfigError
from trainer.memory import free_memory

KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
MAX_STORED = 16_000_000  # largest size in bytes of a file of text that a run has stored, such as summary.json
BLOCK = 1 << 24  # bytes of a file that are read at a time
UNCHECKED = 1 << 26  # bytes that are taken without asking for the free memory

# Content that unpacks to more than MAX_UNPACKED times its size, and to more bytes than FREELY_UNPACKED, is refused.
MAX_UNPACKED, FREELY_UNPACKED = 200, 1 << 28

# The standard input, or a pipe that the shell has opened for the command: predict RUN <(grep good texts.txt).
_OWN_STREAM = re.compile(r"/dev/stdin|(/dev|/proc/self)/fd/\d+")


def check_file(path: str | os.PathLike[str]) -> os.stat_result:
    """Return the status of a regular file; a link is followed. Pipes that the shell has opened are accepted.

    Raises:
        OSError: the file does not exist, or is a folder, a named pipe, a socket or a device, which could block forever.
    """
    found = os.stat(path)  # noqa: PTH116 (a path takes longer to make than the call)
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    is_pipe = kind in (stat.S_IFIFO, stat.S_IFSOCK)
    if kind != stat.S_IFREG and not (is_pipe and _OWN_STREAM.fullmatch(os.fspath(path))):
        raise OSError(errno.EINVAL, f"is {KINDS.get(kind, 'no regular file')}, not a file", os.fspath(path))
    return found


@contextlib.contextmanager
def refusals_of(path: Path, key: str) -> Iterator[None]:
    """Raise the OSErrors of this context as a ConfigError about a file; ``key`` begins the message."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{key}: {path}: {error.strerror}") from error


def at_home(place: str, key: str) -> Path:
    """Return a path with the home directory of a user for ``~`` or ``~user`` at its start.

    Raises:
        ConfigError: there is no such user; ``key`` begins the message.
    """
    try:
        return Path(place).expanduser()
    except RuntimeError as error:
        user = Path(place).parts[0]
        near = f"; ./{place} is the file of this name" if Path(place).exists() else ""
        raise ConfigError(
            f"{key}: {place}: ~ stands for a home directory, and there is no user {user[1:]}{near}"
        ) from error


def check_named(path: Path, key: str) -> None:
    """Check a file as ``check_file`` does, and raise its errors as a ConfigError; ``key`` begins the message."""
    with refusals_of(path, key):
        check_file(path)


def read_stored(path: Path, most: int = MAX_STORED) -> str:
    """Return the text of a UTF-8 file that a run has stored.

    Raises:
        OSError: the file cannot be read, is no regular file, or has more than ``most`` bytes.
        UnicodeDecodeError: the file is not UTF-8.
    """
    if check_file(path).st_size > most:
        raise OSError(errno.EFBIG, f"is larger than {most:,} bytes", os.fspath(path))
    return path.read_text(encoding="utf-8")


def need_memory(num_bytes: int, path: str | os.PathLike[str], what: str = "") -> None:
    """Raise OSError if reading a file takes more memory than is free.

    Args:
        num_bytes: the memory that is needed.
        path: the file.
        what: the part of the file, for the message.
    """
    if num_bytes > UNCHECKED and num_bytes > (free := free_memory()):
        reason = f"{what} needs about {size(num_bytes)} of memory, {size(free)} are free".lstrip()
        raise OSError(errno.ENOMEM, reason, os.fspath(path))


def blocks_within_memory(file: BinaryIO, path: str | os.PathLike[str], factor: int) -> Iterator[bytes]:
    """Yield the rest of a file, which may be a pipe without an end, in blocks.

    Args:
        file: the file.
        path: its name.
        factor: the memory that a byte of the file takes when all of it is read.

    Raises:
        OSError: the file cannot be read, or it needs more memory than is free.
    """
    count = 0
    while block := file.read(BLOCK):
        count += len(block)
        need_memory(factor * count, path)
        yield block


def check_unpacked(packed: int, unpacked: int, path: str | os.PathLike[str], remedy: str) -> None:
    """Raise OSError if content is large and so much larger than in its file that the file was made to fill the memory.

    Args:
        packed, unpacked: the sizes in bytes.
        path: the file.
        remedy: what to do if the content is meant, as a clause.
    """
    if unpacked > FREELY_UNPACKED and unpacked > MAX_UNPACKED * packed:
        reason = f"unpacks from {size(packed)} to {size(unpacked)}, more than {MAX_UNPACKED} times its size; {remedy}"
        raise OSError(errno.EFBIG, reason, os.fspath(path))


def size(num_bytes: float) -> str:
    """Return a size for messages: 3300000000 -> ``3.3 GB``."""
    units = ["bytes", "kB", "MB", "GB", "TB", "PB"]
    power = next((power for power in range(len(units)) if num_bytes < 1000 ** (power + 1)), len(units) - 1)
    return f"{num_bytes / 1000**power:.3g} {units[power]}"
