"""Find the files of a data set and their labels: in class folders, in the names of the files, or in a table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, cast

from trainer.config import ConfigError
from trainer.config.messages import as_word
from trainer.config.untrusted_files import at_home
from trainer.data.data import ReadOptions
from trainer.data.readers.files import Item, OwnKeys, Problems, files_below, keep_suffixes, natural_key, roots
from trainer.data.readers.labels.file_columns import FileTableKeys
from trainer.data.readers.labels.file_index import FileIndex
from trainer.data.readers.labels.file_names import (
    Fields,
    NamePattern,
    ask_for_labels,
    pattern_across,
    proposed_patterns,
)
from trainer.data.readers.labels.file_tables import FileTable, is_table, table_named
from trainer.data.readers.labels.folder_questions import NoClassFoldersError
from trainer.data.readers.labels.folder_tree import folders_in
from trainer.data.readers.labels.folders import class_folders
from trainer.data.readers.labels.labelling import Labelling
from trainer.data.readers.labels.split_lists import with_listed_splits
from trainer.data.readers.labels.table_search import ask_for_table, tables_beside, words_for_tables
from trainer.data.readers.split_names import find_splits, listed, said_short, words_to_type
from trainer.data.readers.targets import TargetKeys

PathKey = str | dict[Literal["train", "val", "test"], str]
BY_NAMES = "groups by the names of the files"
MAX_FOLDERS = 3  # folders that a warning names
MAX_COMPARED = 50_000  # files up to which tables near class folders are compared with them
ONLY_OF_TABLES = ("input", "target", "split", "fold")  # keys that name a column of ``dataset.labels``


class LabelKeys(FileTableKeys, TargetKeys):
    """The keys that say where the labels of files are, and what they are."""

    pattern: str | None


class FileKeys(OwnKeys, LabelKeys):
    """The keys of a data set of the user's own files."""


class FoundFiles(NamedTuple):
    """The files of a data set.

    Args:
        items: the files; their content is the path of the file.
        labelling: their labels and groups.
        folders: the folder of each split, as in ``roots``, below which the files are.
    """

    items: list[Item]
    labelling: Labelling
    folders: dict[str, Path]

    def name(self, item: Item) -> str:
        """Return the path of a file below its folder, which stays the same if the folder is moved."""
        return item.place.removeprefix(f"{self.folders.get(item.split) or self.folders['']}{os.sep}")


def find_files(
    keys: FileKeys, suffixes: Collection[str], noun: str, options: ReadOptions, problems: Problems
) -> FoundFiles:
    """Return the files of a data set, and their labels and groups.

    Args:
        keys: the keys that say where the files and their labels are.
        suffixes: the endings of the files in lower case, with the dot.
        noun: what a file holds, for messages.
        options: how to read the data set.
        problems: collects the bad files and rows.

    Raises:
        ConfigError: files, labels or columns are missing, or it is not clear which they are.
    """
    path, labels = keys["path"], keys["labels"]
    if labels is None and isinstance(path, str) and is_table(at_home(path, "dataset.path")):
        labels, path = path, None  # a table alone names the files around it
    if labels is not None:
        if keys["pattern"] is not None:
            raise ConfigError("dataset.pattern: the labels are in dataset.labels; give one of the two")
        items, labelling, folders = _files_of_tables(path, labels, keys, suffixes, noun, problems)
    else:
        _refuse_columns(keys)
        folders = roots(problems.dataset, path)
        if keys["pattern"] is not None:
            items, labelling = _files_by_pattern(keys, suffixes, noun, options, problems)
        else:
            items, labelling = _files_of_classes(path, suffixes, noun, options, problems), Labelling()
            run = options.preprocessing
            if isinstance(path, str) and (run is None or run.get("lists")):  # a run of an earlier version has no lists
                listed_items = with_listed_splits(items, problems)
                items, labelling.has_lists = listed_items or items, listed_items is not None
            is_new = run is None and keys["group"] is None
            if is_new and (across := pattern_across([(item.label, item.content.name) for item in items])):
                word = as_word("dataset.pattern", across)
                problems.warnings.append(f"every class folder has the same names of files; {word} reads labels in them")
    group = keys["group"]
    if isinstance(group, str) and "{group}" in group:
        items, labelling = _grouped(items, labelling, NamePattern("group", group), problems)
    return FoundFiles(items, replace(labelling, keys=_target_keys(keys)), folders)


def _target_keys(keys: LabelKeys) -> TargetKeys:
    return cast(TargetKeys, {key: keys[key] for key in TargetKeys.__annotations__})  # type: ignore[literal-required]


def _refuse_columns(keys: FileKeys) -> None:
    """Raise ConfigError if a key names a column although there is no table."""
    problems = []
    for key in (*ONLY_OF_TABLES, "group"):
        value = keys[key]  # type: ignore[literal-required]
        if value is None or (key == "group" and "{group}" in str(value)):
            continue
        pattern = ", or a pattern with {group} for the names of the files" if key == "group" else ""
        problems.append(f"dataset.{key}: {value}: a column of a table: say dataset.labels=TABLE.csv{pattern}")
    if problems:
        raise ConfigError(*problems)


# ---- tables


def _files_of_tables(
    path: PathKey | None,
    labels: PathKey,
    keys: FileKeys,
    suffixes: Collection[str],
    noun: str,
    problems: Problems,
) -> FoundFiles:
    """Return the files that one table names, or a table for each split.

    Raises:
        ConfigError: the splits of ``dataset.labels`` and of ``dataset.path`` differ, or as ``FileTable``.
    """
    tables = {"": labels} if isinstance(labels, str) else labels
    if isinstance(labels, dict) and "train" not in labels:
        raise ConfigError(f"dataset.labels: names {', '.join(labels) or 'nothing'}, but no train")
    if isinstance(path, dict) and path.keys() != tables.keys():
        raise ConfigError("dataset.labels: dataset.path names splits; give a table for each: {train: …, test: …}")
    folders = {} if path is None else roots(problems.dataset, path)
    files = {split: table_named(place, f"labels.{split}" if split else "labels") for split, place in tables.items()}
    items, joined, used = list[Item](), Labelling(), dict[str, Path]()
    indexes = dict[Path, FileIndex]()
    for split, file in files.items():
        root = used[split] = folders.get(split) or folders.get("") or file.parent
        if not root.is_dir():
            raise ConfigError(f"dataset.path: {root}: must be the folder of the {noun}s that {file} names")
        if root not in indexes:
            indexes[root] = FileIndex(root, suffixes, (*(each.parent for each in files.values()), root.parent))
        table = FileTable(file, indexes[root], keys, noun, has_val=keys["val_fraction"] > 0)
        found, labelling = table.items(split, joined.rows, problems)
        if joined.names and joined.names != labelling.names:
            names = (", ".join(each.names) for each in (labelling, joined))
            raise ConfigError(f"dataset.target: {file}: has the target {next(names)}, but train has {next(names)}")
        items += found
        joined = Labelling(
            names=labelling.names,
            rows={**joined.rows, **labelling.rows},
            groups={**joined.groups, **labelling.groups},
            file_column=labelling.file_column,
            id_form=joined.id_form or labelling.id_form,
            forms=joined.forms or labelling.forms,
        )
    problems.notes[:] = dict.fromkeys(problems.notes)
    for index in indexes.values():
        for folder, reason in index.unreadable.items():
            problems.add(folder, reason)
        if index.guessed:
            cell, path = min(index.guessed.items())
            are = "1 row names its" if len(index.guessed) == 1 else f"{len(index.guessed):,} rows name their"
            problems.warnings.append(f"{are} {noun} below other folders or in another case, such as {cell}: {path}")
    unnamed = [path for index in indexes.values() for path in index.paths() if path not in joined.rows]
    if unnamed:
        are = f"1 {noun} is" if len(unnamed) == 1 else f"{len(unnamed):,} {noun}s are"
        where = _unnamed_folders(unnamed, joined.rows)
        problems.warnings.append(f"{are} in no good row of dataset.labels and left out, such as {min(unnamed)}{where}")
    return FoundFiles(items, joined, used)


def _unnamed_folders(unnamed: Iterable[str], named: Iterable[str]) -> str:
    """Return the end of a warning that says of which folders no file is named, and how many files each has."""
    counts = Counter(map(os.path.dirname, unnamed))
    for folder in {*map(os.path.dirname, named)}:
        counts.pop(folder, None)
    shown = ", ".join(f"{folder} ({count:,})" for folder, count in counts.most_common(MAX_FOLDERS))
    return f"; no row names a file in {shown}{', …' * (len(counts) > MAX_FOLDERS)}" if counts else ""


# ---- names of files


def _files_by_pattern(
    keys: FileKeys, suffixes: Collection[str], noun: str, options: ReadOptions, problems: Problems
) -> tuple[list[Item], Labelling]:
    """Return the files with the labels, and perhaps the groups, that a pattern reads in their names."""
    pattern = NamePattern("pattern", str(keys["pattern"]))
    items, num_others = list[Item](), 0
    for folder, split in _split_folders(keys["path"], suffixes, problems):
        for file in files_below(folder, problems):
            if file.suffix.lower() in suffixes:
                items.append(Item(split, "", os.fspath(file), file))
            else:
                num_others += 1
    if num_others:
        problems.warnings.append(f"{num_others:,} files are no {noun} by name and left out")
    fields = pattern.read([pattern.name_of(item.content) for item in items], options.classes)
    if isinstance(keys["path"], str):
        unlabelled = _splits_without(fields, items, noun, problems)
        fields = [field for item, field in zip(items, fields, strict=True) if item.split not in unlabelled]
        items = [item for item in items if item.split not in unlabelled]
    good, groups = list[Item](), dict[str, str]()
    for item, field in zip(items, fields, strict=True):
        if field is None:
            problems.add(item.place, f"does not fit dataset.pattern={pattern.text}")
            continue
        good.append(item._replace(label=field.label))
        groups[item.place] = field.group
    if "group" not in pattern.fields:
        return good, Labelling()
    problems.notes.append(BY_NAMES)
    return good, Labelling(groups=groups)


def _splits_without(fields: Sequence[Fields | None], items: Sequence[Item], noun: str, problems: Problems) -> set[str]:
    """Return val and test if their names have no label of train, such as the unlabelled files of a competition."""
    labels: dict[str, set[str]] = {}
    for item, field in zip(items, fields, strict=True):
        labels.setdefault(item.split, set()).update([] if field is None else [field.label])
    known = labels.get("train", set())
    strange = {split for split, some in labels.items() if known and split not in ("", "train") and not known & some}
    for split in sorted(strange):
        count, others = sum(item.split == split for item in items), sorted(labels[split], key=natural_key)
        none = f"none of its {count:,} {noun}s fits dataset.pattern"
        if others:
            some = ", ".join(others[:3]) + ", …" * (len(others) > 3)
            none = f"none of its {count:,} {noun}s has a label of train ({some})"
        problems.warnings.append(f"{split}: left out, as {none}; it is cut from train")
    return strange


def _split_folders(path: PathKey | None, suffixes: Collection[str], problems: Problems) -> Iterator[tuple[Path, str]]:
    """Yield each folder of files and its split: train, val and test below ``dataset.path``, or the folder itself.

    Raises:
        ConfigError: a path is not a folder, or there are files beside train, val and test.
    """
    for split, root in roots(problems.dataset, path).items():
        if not root.is_dir():
            raise ConfigError(f"dataset.path: {root}: must be a folder")
        folders = [] if split else folders_in(root)
        named = find_splits(((folder.name, folder) for folder in folders), short=True)
        if "train" not in named:
            yield root, split
            continue
        parts = {part: some[0] for part, some in named.items()}
        others = [each for each in root.iterdir() if each not in parts.values() and _holds(each, suffixes)]
        if others:
            raise ConfigError(
                f"dataset.path: {root}: has {listed(parts.values())} and, beside them, {listed(sorted(others))}; for "
                f"splits type {words_to_type(parts)}; for one set of all files, {words_to_type({'train': root})}"
            )
        if short := said_short(parts):
            problems.warnings.append(f"{root}: taken for splits: {short}")
        yield from ((folder, part) for part, folder in parts.items())


def _holds(place: Path, suffixes: Collection[str]) -> bool:
    """Return whether a file has one of the endings, or a folder holds such a file."""
    if place.name.startswith("."):
        return False
    files: Iterable[Path] = files_below(place) if place.is_dir() else [place]
    return any(file.suffix.lower() in suffixes for file in files)


def _files_of_classes(
    path: PathKey | None, suffixes: Collection[str], noun: str, options: ReadOptions, problems: Problems
) -> list[Item]:
    """Return the files in class folders.

    Raises:
        ConfigError: as ``class_folders``; or folders may be no classes, as a table names the files. The errors say
            where the labels may come from.
    """
    root = at_home(path, "dataset.path") if isinstance(path, str) else None
    try:
        found = class_folders(problems.dataset, path, problems, suffixes, options.classes)
        items = keep_suffixes(found, suffixes, noun, problems)
    except NoClassFoldersError as error:
        folder = error.folder
        names = [file.name for file in files_below(folder, problems) if file.suffix.lower() in suffixes]
        if not names:
            raise
        tables = words_for_tables(folder, root or folder, suffixes)
        raise ask_for_labels(folder, names, noun, tables, error.hint) from error
    except ConfigError as error:
        tables = words_for_tables(root, root, suffixes) if root is not None and root.is_dir() else []
        if not tables:
            raise
        lines = [*error.problems[:-1], f"{error.problems[-1]}; or a table names the {noun}s: {' or '.join(tables)}"]
        raise ConfigError(*lines) from error
    if root is not None and items and options.preprocessing is None:
        folders = [_folder_of(item) for item in {item.label: item for item in items}.values()]
        ask_for_table(root, folders, noun, suffixes)
        names = [item.content.name for item in items]
        if len(folders) == 1 and proposed_patterns(names):
            raise ask_for_labels(folders[0], names, noun, [])
        if tables := tables_beside(root, folders, suffixes) if len(items) <= MAX_COMPARED else []:
            problems.warnings.append(f"a table names the {noun}s too, and is not used: {' or '.join(tables)} reads it")
    return items


def _folder_of(item: Item) -> Path:
    """Return the class folder of a file, which may be above the folder that holds the file."""
    file: Path = item.content
    return next((folder for folder in file.parents if folder.name == item.label), file.parent)


def _grouped(
    items: Sequence[Item], labelling: Labelling, pattern: NamePattern, problems: Problems
) -> tuple[list[Item], Labelling]:
    """Return the items whose names a pattern fits, and the labelling with the groups that it reads in them."""
    fields = pattern.read([pattern.name_of(item.content) for item in items])
    good, groups = list[Item](), dict[str, str]()
    for item, field in zip(items, fields, strict=True):
        if field is None:
            problems.add(item.place, f"does not fit dataset.group={pattern.text}")
            continue
        good.append(item)
        groups[item.place] = field.group
    problems.notes.append(BY_NAMES)
    return good, replace(labelling, groups=groups)
