"""Find the files that the cells of a table name: by path, by name, or by name without its ending."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Iterator
from pathlib import Path

MAX_NAMED = 3  # files of one name that a message lists


class NotOneFileError(Exception):
    """A cell names no file, or several; the message says which."""


class FileIndex:
    """All files below a folder that have one of some endings, without hidden files.

    Args:
        root: the folder, which is read once.
        suffixes: the endings in lower case, with the dot.
        beside: further folders that paths may be relative to.
    """

    def __init__(self, root: Path, suffixes: Collection[str], beside: Collection[Path] = ()) -> None:
        self.root, self.suffixes = os.fspath(root), tuple(suffixes)
        self._bases = [root, *beside]
        self._start = f"{root.absolute()}{os.sep}"
        self.by_name: dict[str, list[str]] = {}
        for name, path in self._scan():
            self.by_name.setdefault(name, []).append(path)

    def _scan(self) -> Iterator[tuple[str, str]]:
        folders = [self.root]
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif entry.name.lower().endswith(self.suffixes):
                        yield entry.name, entry.path

    def paths(self) -> Iterator[str]:
        """Yield every file."""
        for some in self.by_name.values():
            yield from some

    @functools.cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        stems: dict[str, list[str]] = {}
        for name, paths in self.by_name.items():
            stems.setdefault(name.rpartition(".")[0], []).extend(paths)
        return stems

    def matches(self, cell: str) -> list[str]:
        """Return every file that a cell may name.

        A path in the cell is relative to the folder or to one of ``beside``, or absolute, or the end of the path of a
        file. If a file is exactly at the path, it is the only one.
        """
        if "\\" in cell and cell not in self.by_name:
            cell = cell.replace("\\", "/")
        if "/" in cell:
            cell = os.path.normpath(cell).removeprefix(self._start)
        folder, _, name = cell.rpartition("/")
        found = self.by_name.get(name) or self._by_stem.get(name, [])
        if folder:
            end = f"/{cell}"
            found = [path for path in found if f"/{path}".endswith(end) or f"/{path}".rpartition(".")[0].endswith(end)]
        if len(found) == 1:
            return found
        exact = (str(base / cell) for base in self._bases)
        return next(([path] for path in exact if path in found or (not found and Path(path).is_file())), found)

    def find(self, cell: str) -> str:
        """Return the path of the file that a cell names.

        Raises:
            NotOneFileError: there is no such file, or there are several.
        """
        found = self.matches(cell)
        if len(found) == 1:
            return found[0]
        if not found:
            raise NotOneFileError(f"{cell}: no such file below {self.root}")
        named = ", ".join(sorted(found)[:MAX_NAMED]) + ", …" * (len(found) > MAX_NAMED)
        raise NotOneFileError(f"{cell}: {len(found)} files have this name: {named}; write their folders too")
