"""Find the files that the cells of a table name: by path, by name, or by name without its ending."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

WHOLE = re.compile(r"[0-9]+\.0")  # a whole number as pandas writes a column of floats
ABSOLUTE = re.compile(r"/|[A-Za-z]:[/\\]|[a-z]+://")  # the start of an absolute path or a URL
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
        self.unreadable: dict[str, str] = {}  # the reason for each folder that cannot be read
        self.guessed: dict[str, str] = {}  # the file of each cell whose folders or letters' case are other ones
        for name, path in self._scan():
            self.by_name.setdefault(name, []).append(path)

    def _scan(self) -> Iterator[tuple[str, str]]:
        folders = [self.root]
        while folders:
            folder = folders.pop()
            try:
                entries = list(os.scandir(folder))
            except OSError as error:
                self.unreadable[folder] = f"cannot be read: {error.strerror}"
                continue
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.name.lower().endswith(self.suffixes):
                    yield entry.name, entry.path

    def paths(self) -> Iterator[str]:
        """Yield the path of every file."""
        for some in self.by_name.values():
            yield from some

    @functools.cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        stems: dict[str, list[str]] = {}
        for name, paths in self.by_name.items():
            stems.setdefault(name.rpartition(".")[0], []).extend(paths)
        return stems

    @functools.cached_property
    def _by_lower(self) -> dict[str, list[str]]:
        """The files by their names in lower case, with and without their endings."""
        found: dict[str, list[str]] = {}
        for names in (self.by_name, self._by_stem):
            for name, paths in names.items():
                found.setdefault(name.lower(), []).extend(paths)
        return found

    def as_written(self, cells: Sequence[str]) -> list[str]:
        """Return cells that name files without the ``.0`` that pandas appends to numbers, if all cells have it."""
        some = [cell for cell in cells if cell]
        if not some or not all(WHOLE.fullmatch(cell) for cell in some) or any(map(self._named, some)):
            return list(cells)
        return [cell.removesuffix(".0") for cell in cells]

    def matches(self, cell: str) -> list[str]:
        """Return every file that a cell may name.

        A path in the cell is relative to the folder or to one of ``beside``, or absolute, or the end of the path of a
        file. If a file is exactly at the path, it is the only one. If there is none, an absolute path may be one of
        another machine, of which the end counts; and if there is still none, the case of letters does not count.
        """
        return self._named(cell) or self._guessed(cell)

    def _guessed(self, cell: str) -> list[str]:
        """Return the files that a cell names if its first folders, or the case of its letters, do not count."""
        cell = cell.replace("\\", "/")
        folder, _, name = cell.rpartition("/")
        lower = list(dict.fromkeys(self._by_lower.get(name.lower(), [])))
        if not ABSOLUTE.match(cell):
            end = f"/{cell.lower()}"
            both = {path: (f"/{path.lower()}", f"/{path.lower()}".rpartition(".")[0]) for path in lower}
            return [path for path, forms in both.items() if any(form.endswith(end) for form in forms)]
        if cell.startswith(self._start) or Path(folder).is_dir():  # a folder of this machine would hold the file
            return []
        found = self.by_name.get(name) or self._by_stem.get(name) or lower
        parts = folder.lower().split("/")[::-1]
        shared = {path: _num_shared(parts, path.lower().split("/")[-2::-1]) for path in found}
        best = max(shared.values(), default=0)
        alike = [path for path, count in shared.items() if count == best]
        return alike if best else [path for path in alike if path.removeprefix(self.root).count("/") == 1]

    def _named(self, cell: str) -> list[str]:
        """Return the files that a cell names as it is written."""
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
        if not cell:
            return []
        exact = (str(base / cell) for base in self._bases)
        return next(([path] for path in exact if path in found or (not found and Path(path).is_file())), found)

    def find(self, cell: str) -> str:
        """Return the path of the file that a cell names.

        Raises:
            NotOneFileError: there is no such file, or there are several.
        """
        found = self._named(cell)
        if not found and len(found := self._guessed(cell)) == 1:
            self.guessed[cell] = found[0]
        if len(found) == 1:
            return found[0]
        if not found:
            raise NotOneFileError(f"{cell}: no such file below {self.root}")
        named = ", ".join(sorted(found)[:MAX_NAMED]) + ", …" * (len(found) > MAX_NAMED)
        raise NotOneFileError(f"{cell}: {len(found)} files have this name: {named}; write their folders too")


def _num_shared(parts: Sequence[str], others: Sequence[str]) -> int:
    """Return how many parts at the start of two paths are the same."""
    pairs = enumerate(zip(parts, others, strict=False))
    return next((at for at, (part, other) in pairs if part != other), min(len(parts), len(others)))
