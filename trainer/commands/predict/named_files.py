"""Find the files that command-line arguments name: files, folders, and lists of files on standard input."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.config import ConfigError
from trainer.config.errors import reason_of
from trainer.config.messages import did_you_mean
from trainer.data.readers.files import Problems, files_below
from trainer.data.readers.tables.lines import MAX_ROW

STDIN = "-"


class NamedFile(NamedTuple):
    """A file and its name in the output; if ``file`` is None, ``error`` says why.

    ``id`` is the cell of a table that names the file; empty for another file.
    """

    name: str
    file: Path | None
    error: str = ""
    id: str = ""


def named_files(words: Sequence[str], suffixes: Sequence[str], noun: str) -> Iterator[NamedFile]:
    """Yield every file that the words name, in the order of the words.

    Args:
        words: files with any suffix, folders, and ``-`` for a list of files and folders on standard input, one a line.
        suffixes: the suffixes of the files to take from a folder, in lower case, with the dot.
        noun: what a file holds, for messages.
    """
    for word in words:
        if word == STDIN:
            for _, line in stdin_lines():
                yield from named_files([line], suffixes, noun)
            continue
        try:
            path = Path(word).expanduser()
            is_folder, exists = path.is_dir(), path.exists()
        except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, or ~ with an unknown user
            yield NamedFile(word, None, reason_of(error))
            continue
        if is_folder:
            problems = Problems("", "skip")
            found = [file for file in files_below(path, problems) if file.suffix.lower() in suffixes]
            yield from (NamedFile(word, None, fault) for fault in problems.found)
            if not found and not problems.found:
                yield NamedFile(word, None, f"a folder without a {noun}")
            yield from (NamedFile(os.fspath(file), file) for file in found)
        elif exists:
            yield NamedFile(word, path)
        else:
            yield NamedFile(word, None, _not_found(path))


def stdin_lines() -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the text of each line of standard input that is not blank, without outer space.

    Raises:
        ConfigError: a line has more than ``MAX_ROW`` characters.
    """
    for number, line in enumerate(iter(functools.partial(sys.stdin.readline, MAX_ROW + 1), ""), 1):
        if len(line) > MAX_ROW:
            raise ConfigError(f"{STDIN}: line {number} has more than {MAX_ROW:,} characters")
        if text := line.strip():
            yield number, text


def _not_found(path: Path) -> str:
    if path.is_symlink():
        return "is a link to nothing"
    return f"no such file or folder{did_you_mean(path.name, [each.name for each in path.parent.glob('*')])}"
