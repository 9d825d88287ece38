"""Write files atomically: complete or not at all, also after a kill or a power cut. No torch."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from trainer.config import ConfigError


def write(path: Path, fill: Callable[[Path], object], *, keep_as: Path | None = None) -> None:
    """Write a temporary file beside ``path``, sync it to the disk, and rename it to ``path``.

    Args:
        path: the file to write; its folder exists.
        fill: writes the content to the path that it is given.
        keep_as: the new name of the old file; None deletes the old file.

    Raises:
        OSError: the file cannot be written. The old file stays, as with any error of ``fill``.
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
            temporary.unlink(missing_ok=True)  # replace() leaves the temporary file if both are links to one file


def check_ours(option: str, path: Path, mark: str, *, within: int, what: str) -> None:
    """Check that a command may write the file named by an option: it replaces only files that it wrote itself.

    Args:
        option: the option, such as ``--page``.
        path: the file.
        mark: a text that every file written by the command contains.
        within: the number of bytes, from the beginning of the file, that contain the mark.
        what: the words for a file without the mark, to precede "of this command", such as ``no page``.

    Raises:
        ConfigError: the path cannot be written, or holds a file of another origin.
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
    """Hard-link a file that is replaced but never modified; copy the file if the disk has no hard links."""
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk, so that it survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
