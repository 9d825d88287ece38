"""Find the files that command-line arguments name: files, folders, and lists of files on standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.config.errors import reason_of
from trainer.config.messages import did_you_mean
from trainer.data.readers.files import files_below

STDIN = "-"


class NamedFile(NamedTuple):
    """A file and its name in the output; if ``file`` is None, ``error`` says why."""

    name: str
    file: Path | None
    error: str = ""


def named_files(words: Sequence[str], suffixes: Sequence[str], noun: str) -> Iterator[NamedFile]:
    """Yield every file that the words name, in the order of the words.

    Args:
        words: files with any suffix, folders, and ``-`` for a list of files and folders on standard input, one a line.
        suffixes: the suffixes of the files to take from a folder, in lower case, with the dot.
        noun: what a file holds, for messages.
    """
    for word in words:
        if word == STDIN:
            for line in sys.stdin:
                if line.strip():
                    yield from named_files([line.strip()], suffixes, noun)
            continue
        try:
            path = Path(word).expanduser()
            is_folder, exists = path.is_dir(), path.exists()
        except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, or ~ with an unknown user
            yield NamedFile(word, None, reason_of(error))
            continue
        if is_folder:
            found = [file for file in files_below(path) if file.suffix.lower() in suffixes]
            if not found:
                yield NamedFile(word, None, f"a folder without a {noun}")
            yield from (NamedFile(os.fspath(file), file) for file in found)
        elif exists:
            yield NamedFile(word, path)
        else:
            yield NamedFile(word, None, _not_found(path))


def _not_found(path: Path) -> str:
    if path.is_symlink():
        return "is a link to nothing"
    return f"no such file or folder{did_you_mean(path.name, [each.name for each in path.parent.glob('*')])}"
