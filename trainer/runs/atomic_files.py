"""Write files atomically: completely or not at all, even if the process is killed or the power fails. No torch."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from trainer.config import ConfigError
from trainer.config.terminal import ESCAPED


@contextlib.contextmanager
def replacing(path: Path, *, keep_as: Path | None = None) -> Iterator[Path]:
    """Yield the path of a temporary file beside ``path``; on exit, sync it to the disk and rename it to ``path``.

    After any exception within this context, the temporary file is deleted and the old file is unchanged.

    Args:
        path: the file to write, in an existing folder.
        keep_as: the path under which the old file is kept; None deletes the old file.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        yield temporary
        sync(temporary)
        if keep_as is not None and path.exists():
            write(keep_as, lambda second: link(path, second))
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        if error.filename is not None and os.fspath(error.filename) == os.fspath(temporary):
            error.filename = os.fspath(path)  # the name that the user knows
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)  # rename() does nothing if both names are hard links to one file


def write(path: Path, fill: Callable[[Path], object], *, keep_as: Path | None = None) -> None:
    """Write a file as ``replacing`` does; ``fill`` writes the content to the path that it receives."""
    with replacing(path, keep_as=keep_as) as temporary:
        fill(temporary)


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8, as ``write`` does; a lone surrogate is written as an escape, which is valid in JSON.

    Raises:
        OSError: the file cannot be written; the old file is unchanged.
    """
    write(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors=ESCAPED))


def check_ours(option: str, path: Path, mark: str, *, within: int, what: str) -> None:
    """Check that a command may write a file: it may only replace a file that the same command wrote.

    Args:
        option: the option that names the file, such as ``--page``.
        path: the file.
        mark: a text that every file written by the command contains.
        within: the number of bytes at the beginning of the file in which ``mark`` is searched.
        what: how the message describes a file without ``mark``, before "of this command": ``no page``.

    Raises:
        ConfigError: the path cannot be written, or is a file that the command did not write.
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
    """Hard-link a file that will be replaced but never modified; copy it if the file system has no hard links."""
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


def sync(path: Path) -> None:
    """Sync a file or folder to the disk, so that it survives a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
