"""The folders below a folder and the samples in them, read from the disk once."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from trainer.data.readers.files import Problems, natural_key

MAX_DEPTH = 4  # maximum number of folders on the way down in which ``keys_below`` and ``holding`` look
# Folders that an operating system or a program makes.
JUNK = {"__macosx", "__pycache__", "@eadir", "lost+found", "$recycle.bin", "system volume information"}


def likeness(name: str) -> str:
    """Return what a name has in common with names that differ only in case, accents, spaces, hyphens or underscores."""
    text = unicodedata.normalize("NFC", name).strip().casefold()
    return re.sub(r"(?<=[^\W_])[\s_-]+(?=[^\W_])", " ", text)


def folders_in(parent: Path) -> list[Path]:
    """Return the subfolders of a folder in natural order; leave out hidden ones, junk, and links to a folder above."""
    found = [
        Path(entry.path)
        for entry in _entries(parent)
        if not entry.name.startswith(".") and entry.name.lower() not in JUNK and entry.is_dir() and not _is_loop(entry)
    ]
    return sorted(found, key=lambda folder: natural_key(folder.name))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder; nothing for a folder that cannot be read, which ``files_below`` reports."""
    try:
        return list(os.scandir(folder))
    except PermissionError:
        return []


def _is_loop(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and Path(entry.path).parent.resolve().is_relative_to(Path(entry.path).resolve())


@dataclass
class FolderTree:
    """The folders below a folder.

    Args:
        problems: receives links that lead nowhere, or to a folder above.
        suffixes: the suffixes of the files that are samples, in lower case; empty if all files are.
        known: the folders in each folder, as far as they were read.
        filled: the names of the folders with samples in each folder, as far as they were read.
        settled: the classes of a finished run; if the folders have these names, nothing is asked.
    """

    problems: Problems
    suffixes: tuple[str, ...]
    known: dict[Path, list[Path]] = field(default_factory=dict)
    filled: dict[Path, set[str]] = field(default_factory=dict)
    settled: frozenset[str] = frozenset()

    def folders(self, parent: Path) -> list[Path]:
        """Return the folders in a folder as ``folders_in`` does, and report links that lead nowhere or upwards."""
        if parent not in self.known:
            self.known[parent] = folders_in(parent)
            for entry in _entries(parent):
                if entry.is_symlink() and not Path(entry.path).exists() and not Path(entry.path).suffix:
                    self.problems.add(entry.path, "is a link to nothing")
                elif entry.is_symlink() and entry.is_dir() and _is_loop(entry):
                    self.problems.add(entry.path, "is a link to a folder above it")
        return self.known[parent]

    def chain(self, folder: Path) -> list[Path]:
        """Return a folder and the single folders below it, down to the first that holds several folders.

        Returns ``folder`` alone if single folders lead to none that holds several.
        """
        found = [folder]
        while len(inner := self.folders(found[-1])) == 1:
            found.append(inner[0])
        return found if inner else found[:1]

    def end_of_chain(self, folder: Path) -> Path:
        """Return the last folder of ``chain``."""
        return self.chain(folder)[-1]

    def keys_in(self, parent: Path) -> set[str]:
        """Return the ``likeness`` of the names in ``names_in``."""
        return {likeness(name) for name in self.names_in(parent)}

    def keys_below(self, folder: Path, depth: int = MAX_DEPTH) -> set[str]:
        """Return the ``likeness`` of the names of all folders below a folder."""
        keys = set()
        for each in folders_in(folder):
            keys.add(likeness(each.name))
            if depth > 1:
                keys |= self.keys_below(each, depth - 1)
        return keys

    def holding(self, folder: Path, keys: set[str]) -> Path:
        """Return the uppermost of a folder and those below it that holds half of the names; ``folder`` if none does."""
        level = [folder]
        for _ in range(MAX_DEPTH):
            for each in level:
                if keys and 2 * len(keys & self.keys_in(each)) >= len(keys):
                    return each
            level = [inner for each in level for inner in self.folders(each)]
        return folder

    def names_in(self, parent: Path) -> set[str]:
        """Return the names of the folders in a folder that hold samples."""
        if parent not in self.filled:
            self.filled[parent] = {folder.name for folder in self.folders(parent) if self.holds_sample(folder)}
        return self.filled[parent]

    def samples_at(self, parent: Path) -> list[Path]:
        """Return the samples directly in a folder, in natural order; none if every file may be a sample."""
        if not self.suffixes:
            return []
        found = [Path(entry.path) for entry in _entries(parent) if self.is_sample(entry.name) and entry.is_file()]
        return sorted(found, key=lambda file: natural_key(file.name))

    def holds_sample(self, folder: Path) -> bool:
        """Return whether a folder, or one below it, holds a sample."""
        return any(self.is_sample(name) for _, _, names in os.walk(folder) for name in names)

    def count(self, folder: Path) -> int:
        """Return the number of samples in a folder and below it."""
        return sum(self.is_sample(name) for _, _, names in os.walk(folder) for name in names)

    def is_sample(self, name: str) -> bool:
        """Return whether a file of this name is a sample."""
        return not name.startswith(".") and (not self.suffixes or name.lower().endswith(self.suffixes))
