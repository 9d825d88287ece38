"""Files that are there whole or not at all, also after a kill or a power cut. No torch."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from trainer.config import ConfigError


def write(path: Path, fill: Callable[[Path], object], *, keep_as: Path | None = None) -> None:
    """Write beside the old file, and put the new one in its place once it is on the disk whole.

    Args:
        path: in a folder that is there.
        fill: writes the file that it is given the path of.
        keep_as: what the old file is called from now on; None lets it go.

    Raises:
        OSError: it could not be written, or what ``fill`` raises; then the old file is still there.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        fill(temporary)
        sync(temporary)
        if keep_as is not None and path.exists():
            write(keep_as, lambda second: link(path, second))
        temporary.replace(path)
        sync(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)  # also where both were the same file, which replace leaves alone


def check_ours(option: str, path: Path, mark: str, *, within: int, what: str) -> None:
    """See that a command may write a file that its ``option`` names: nothing but one of its own is replaced.

    Args:
        option: such as ``--page``.
        path: the file.
        mark: what tells one of the command's own.
        within: bytes from the beginning, in which the mark stands.
        what: any other file is that "of this command", such as ``no page``.

    Raises:
        ConfigError: it cannot be written, or something else stands there.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"{option}: {path}: {'is a folder' if path.is_dir() else 'there is no such folder'}")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ConfigError(f"{option}: {path}: is a link, a device or a pipe; name a file")
    if path.is_file():
        with path.open("rb") as file:
            if mark.encode() not in file.read(within):
                raise ConfigError(f"{option}: {path}: is there already, and {what} of this command; name another file")


def link(source: Path, path: Path) -> None:
    """A second name for a file that is only ever replaced, never changed; a copy where links are not to be had."""
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


def sync(path: Path) -> None:
    """Make a file or folder last through a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
