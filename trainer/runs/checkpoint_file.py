"""Write and read the file of a checkpoint: the zip archive of ``torch.save``, with a checksum. Imports no torch itself.

A file holds only plain types and tensors, so it can be loaded with ``weights_only=True``, which runs no code. Its
SHA-256 checksum is the comment of the archive, and shows whether the file is complete. The file may be of unknown
origin, with a right checksum: its content must be no larger than the file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from trainer.config import ConfigError
from trainer.config.untrusted_files import check_file, need_memory
from trainer.runs import checkpoint_content, pickle_check
from trainer.runs.earlier_checkpoint import upgraded

MIN_CONTENT, MIN_VALUES = 1 << 26, 100_000  # content in bytes, and values, that every checkpoint may have
MAX_DEPTH = 200  # of nested dicts and lists

# The records at the end of an archive: their signatures and lengths in bytes.
END, END_64, LOCATOR_64 = (b"PK\5\6", 22), (b"PK\6\6", 56), (b"PK\6\7", 20)

_MARK = b"sha256:"
_COMMENT = len(_MARK) + 64  # length of the archive's comment in bytes


class DamagedError(Exception):
    """A file is missing or is not a complete checkpoint; the message gives the reason."""


def dump(state: dict[str, Any], path: Path) -> None:
    """Write a state with ``torch.save`` and append its checksum as the comment of the zip archive.

    The file is opened here and not by torch: on a full disk, the traceback would keep torch's file open and its space
    occupied.
    """
    import torch

    with path.open("w+b") as file:
        torch.save(state, file)
        file.seek(-2, os.SEEK_END)
        file.write(_COMMENT.to_bytes(2, "little"))
        size = file.tell()
        file.seek(0)
        digest = _digest(file, size)
        file.write(_MARK + digest)


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this or an earlier version onto the CPU.

    Raises:
        DamagedError: the file is missing, cut short or no regular file, or its checksum is missing or wrong.
        ConfigError: permission to read the file is denied, there is too little memory, or the file holds more than
            plain types and tensors.
    """
    import torch

    try:
        size = check_file(path).st_size - _COMMENT
        need_memory(size, path)
        with path.open("rb") as file:
            _check_whole(file, size)
            _check_pickle(file, path)
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except (ConfigError, DamagedError, MemoryError):
        raise
    except OSError as error:
        if error.errno in (errno.EACCES, errno.ENOMEM):  # it may be complete: no older file may replace it silently
            raise ConfigError(f"{path}: {error.strerror}") from error
        raise DamagedError(str(error.strerror)) from error
    except Exception as error:  # the checksum fits, so the file is as it was written
        foreign = re.search(r"Unsupported (?:global|class)\W+(?:GLOBAL )?([\w.]*)", str(error))
        if foreign:
            what = f"{foreign[1]} and other objects" if foreign[1] else "objects"
            raise ConfigError(f"{path}: holds {what} besides tensors and plain data; it could run code") from error
        raise ConfigError(f"{path}: holds objects that are not tensors or plain values") from error
    if not isinstance(state, dict):
        raise ConfigError(f"{path}: is no checkpoint of a run: it holds a {type(state).__name__}")
    if fault := _fault(state, size):
        raise ConfigError(f"{path}: {fault}, which no checkpoint of a run has")
    if fault := checkpoint_content.fault(state):
        raise ConfigError(f"{path}: is no checkpoint of a run: {fault}")
    return upgraded(state)


def _check_whole(file: BinaryIO, size: int) -> None:
    """Raise DamagedError unless the file is an archive of ``size`` bytes and a comment with the right checksum."""
    if size <= 0:
        raise DamagedError("it is empty" if size == -_COMMENT else "it is cut short")
    file.seek(size)
    comment = file.read(_COMMENT)
    if not re.fullmatch(_MARK + b"[0-9a-f]{64}", comment):
        is_archive = zipfile.is_zipfile(file)
        raise DamagedError("it has no checksum" if is_archive else "it is cut short, or no checkpoint")
    file.seek(0)
    if comment != _MARK + _digest(file, size):
        raise DamagedError("its checksum does not fit what it holds")
    if fault := _archive_fault(file, size):
        raise DamagedError(fault)


def _check_pickle(file: BinaryIO, path: Path) -> None:
    """Raise ConfigError if the pickle in an archive would grow when it is read, or holds objects.

    torch finds a member by its name in any case of its letters.
    """
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.filename.lower().endswith("data.pkl") and (fault := pickle_check.fault(archive.read(member))):
                raise ConfigError(f"{path}: holds {fault}")


def _fault(state: Any, size: int) -> str:
    """Return how the content of a file of ``size`` bytes would grow beyond the file in use; empty if it does not.

    A view of a single number can be a tensor of any size, and nested lists can hold each other many times.
    """
    import torch

    left = [iter([state])]
    most_values, most_bytes = max(size, MIN_VALUES), max(4 * size, MIN_CONTENT)
    count = num_bytes = 0
    while left:
        if (value := next(left[-1], left)) is left:
            left.pop()
            continue
        count += 1
        if isinstance(value, torch.Tensor):
            num_bytes += value.numel() * value.element_size()
        elif isinstance(value, dict):
            left += [iter(value), iter(value.values())]
        elif isinstance(value, list | tuple | set):
            left.append(iter(value))
        if count > most_values or num_bytes > most_bytes:
            return "its tensors or lists are larger than the file"
        if len(left) > MAX_DEPTH:
            return "it is nested too deeply"
    return ""


def _digest(file: BinaryIO, count: int) -> bytes:
    """Return the SHA-256 of the next ``count`` bytes, in hexadecimal."""
    digest = hashlib.sha256()
    while count > 0:
        block = file.read(min(count, 1 << 20))
        if not block:
            break
        digest.update(block)
        count -= len(block)
    return digest.hexdigest().encode()


def _archive_fault(file: BinaryIO, size: int) -> str:
    """Return why an archive is not as ``torch.save`` writes it; empty if it is.

    ``torch.save`` stores the members as they are. A compressed member, or members that overlap, could fill the memory.

    Args:
        file: the archive, without its comment; the position in the file does not matter.
        size: the size of the archive in bytes, without its comment.
    """
    if not _has_one_directory(file, size):
        return "its directory is damaged"
    try:
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error):
        return "its directory is damaged"
    if any(each.compress_type != zipfile.ZIP_STORED or each.flag_bits & 1 for each in members):
        return "its content is compressed, which no checkpoint of a run is"
    if sum(each.file_size for each in members) > size or any(each.file_size != each.compress_size for each in members):
        return "it claims more content than it has"
    return ""


def _has_one_directory(file: BinaryIO, size: int) -> bool:
    """Return whether the records at the end name a directory just before them, so that every reader finds the same."""
    start = max(0, size - END[1] - LOCATOR_64[1] - END_64[1])
    file.seek(start)
    tail = file.read(size - start)
    end = tail[-END[1] :]
    if end[:4] != END[0]:
        return False
    place, (length, offset) = size - END[1], struct.unpack("<II", end[12:20])
    before = tail[: -END[1]]
    if before[-LOCATOR_64[1] :][:4] == LOCATOR_64[0]:
        place -= LOCATOR_64[1] + END_64[1]
        (named,) = struct.unpack("<Q", before[-LOCATOR_64[1] :][8:16])
        record = before[: END_64[1]]
        if named != place or record[:4] != END_64[0]:
            return False
        length, offset = struct.unpack("<QQ", record[40:56])
    return bool(offset + length == place)
