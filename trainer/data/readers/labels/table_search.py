"""Find the tables near files that may hold their labels, and say which words of a command read them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from trainer.config import ConfigError
from trainer.config.messages import as_word
from trainer.data.readers.labels.file_index import FileIndex
from trainer.data.readers.labels.file_tables import is_table, layout_of
from trainer.data.readers.split_names import ABOUT_SAMPLES, find_splits, is_usual, listed, words_to_type
from trainer.data.readers.tables.layout import LOOKED_AT

MAX_TABLES = 20  # tables that are looked at
OF_SPLITS = re.compile(r"partition|split", re.IGNORECASE)  # names of tables that say no labels
MAX_SHOWN = 3  # tables that a message names


class _Found(NamedTuple):
    """A table that names files; ``names_most`` says whether it names most of those in the folder."""

    words: str
    names_most: bool


def words_for_tables(folder: Path, root: Path, suffixes: Collection[str]) -> list[str]:
    """Return for each table that names the files in a folder the words of a command that read it.

    Tables that name a few files of the folder, such as those with the same numbers for test, count only without others,
    and so do tables beside ``root``.

    Args:
        folder: the folder of the files.
        root: the folder that ``dataset.path`` names, which may be one above.
        suffixes: the endings of the files in lower case, with the dot.
    """
    index = FileIndex(root, suffixes, (root.parent,))
    start = f"{os.fspath(folder)}{os.sep}"
    count = sum(path.startswith(start) for path in index.paths())
    above = [each for each in folder.parents if each.is_relative_to(root)]
    below = sorted(each for each in root.iterdir() if each.is_dir())
    for places in ([folder, *above, *below], [root.parent]):
        tables = islice(_tables(dict.fromkeys(places)), MAX_TABLES)
        found = [each for table in tables if (each := _look(table, index, folder, start, count)) is not None]
        if found:
            best = [each for each in found if each.names_most] or found
            return list(dict.fromkeys(each.words for each in best))[:MAX_SHOWN]
    return []


def tables_beside(root: Path, folders: Sequence[Path], suffixes: Collection[str]) -> list[str]:
    """Return the words that read each table within ``root`` that names the files of class folders.

    Args:
        root: the folder that ``dataset.path`` names.
        folders: the class folders.
        suffixes: the endings of the files in lower case, with the dot.
    """
    parent = Path(os.path.commonpath(folders)) if len(folders) > 1 else folders[0].parent
    places = [each for each in dict.fromkeys([parent, *parent.parents]) if each.is_relative_to(root)]
    tables = [*islice(_tables(places), MAX_TABLES)]
    if not tables:
        return []
    index = FileIndex(root, suffixes, ())
    start, count = f"{os.fspath(parent)}{os.sep}", sum(1 for _ in index.paths())
    found = (_look(table, index, parent, start, count) for table in tables)
    return [each.words for each in found if each is not None][:MAX_SHOWN]


def _tables(places: Iterable[Path]) -> Iterator[Path]:
    for place in places:
        try:
            files = sorted(place.iterdir())
        except OSError:
            continue
        yield from (
            file for file in files if file.name[0] != "." and is_table(file) and not OF_SPLITS.search(file.stem)
        )


def _look(table: Path, index: FileIndex, folder: Path, start: str, count: int) -> _Found | None:
    """Return how to read a table, or None if it does not name files of the folder or has no other column."""
    try:
        layout = layout_of(table, index, [], "utf-8")
    except ConfigError:
        try:  # the names of files are mostly ASCII; the question about the encoding comes when the table is read
            layout = layout_of(table, index, [], "latin-1")
        except ConfigError:
            return None
    matches: list[list[str]] = []
    for column in range(len(layout.names)):
        cells = index.as_written(list(dict.fromkeys(layout.cells(column))))
        some = [found for cell in cells if (found := index.matches(cell))]
        matches = max(matches, some, key=len)
    rows = len(layout.first)
    inside = {path for some in matches for path in some if path.startswith(start)}
    if len(layout.names) < 2 or len(matches) * 2 <= rows or not inside:
        return None
    names_most = rows >= LOOKED_AT or len(inside) * 2 >= count
    is_clear = all(len(some) == 1 for some in matches)
    return _Found(_words(table, folder, None if is_clear else _folder_of_samples(inside)), names_most)


def _folder_of_samples(files: Iterable[str]) -> Path:
    """Return the folder that holds the most of some files, apart from folders of masks and their like."""
    counts = Counter(map(os.path.dirname, files))
    samples = {name: count for name, count in counts.items() if ABOUT_SAMPLES.isdisjoint(_words_of(name))} or counts
    return Path(max(sorted(samples), key=samples.__getitem__))


def _words_of(folder: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", folder.rpartition(os.sep)[2].lower())


def _words(table: Path, folder: Path, unlike: Path | None) -> str:
    """Return the words that read a table; ``unlike`` is the folder to name if others have files of the same names.

    If the table is in the folder of train, and those of val and test have tables of the same name, the words name all.
    """
    splits = find_splits((each.name, each) for each in folder.parent.iterdir() if (each / table.name).is_file())
    if table.parent == folder and folder in splits.get("train", []) and len(splits) > 1:
        folders = {split: splits[split][0] for split in sorted(splits, key=["train", "val", "test"].index)}
        tables = {split: each / table.name for split, each in folders.items()}
        return f"{words_to_type(folders)} {words_to_type(tables, 'dataset.labels')}"
    path = "" if unlike is None else as_word("dataset.path", str(unlike)) + " "
    return path + as_word("dataset.labels", str(table))


def ask_for_table(root: Path, folders: Sequence[Path], noun: str, suffixes: Collection[str]) -> None:
    """Ask for a table that names the files in class folders, if there is one and the folders may be no classes.

    That is so if there is one folder, or if usual names such as ``set_images_1`` differ in their numbers alone.

    Args:
        root: the folder that ``dataset.path`` names.
        folders: the class folders.
        noun: what a file holds, for messages.
        suffixes: the endings of the files in lower case, with the dot.

    Raises:
        ConfigError: the question, with the words that answer it.
    """
    alike = {re.sub(r"[0-9]+", "", folder.name.lower()) for folder in folders}
    is_one = len(folders) == 1
    if len(alike) > 1 or not (is_one or any(map(is_usual, _words_of(folders[0].name)))):
        return
    words = words_for_tables(folders[0] if is_one else Path(os.path.commonpath(folders)), root, suffixes)
    if not words:
        return
    classes = "" if is_one else f"; {words_to_type({'train': root})} takes each folder for a class"
    where = f"one folder, {folders[0].name}," if is_one else f"folders that may be no classes, {listed(folders)},"
    raise ConfigError(
        f"dataset.path: {root}: has all {noun}s in {where} and a table names them: {' or '.join(words)} reads the "
        f"labels in it{classes}"
    )
