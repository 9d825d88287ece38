"""Find the splits and the classes in folders; ask where folders can be read in two ways."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trainer.config import ConfigError
from trainer.data.readers.files import Item, Problems, files_below, roots
from trainer.data.readers.labels.folder_questions import FolderQuestions, NoClassFoldersError
from trainer.data.readers.labels.folder_tree import likeness
from trainer.data.readers.split_names import find_splits, listed, said_short, split_name

UNLABELLED = {"unsup", "unsupervised", "unlabeled", "unlabelled"}  # names of folders that hold samples of no class
TABLES = {".csv", ".tsv", ".txt", ".json", ".jsonl", ".xml", ".xlsx", ".parquet"}


class ClassFolder(NamedTuple):
    """A folder with the samples of one class in one split; ``split`` is empty if the data have no splits."""

    split: str
    label: str
    folder: Path


def class_folders(
    dataset: str,
    path: str | dict[Any, str] | None,
    problems: Problems,
    suffixes: Collection[str] = (),
    settled: Collection[str] = (),
) -> Iterator[Item]:
    """Yield every file in the class folders of each split in natural order, without hidden files.

    The class folders may be in a folder for each split, such as train and test, or the other way round, and all of them
    at the end of a chain of single folders. Folders that are neither are left out with a warning.

    Args:
        suffixes: the suffixes of the files that are samples, in lower case; empty if all files are.
        settled: the classes of a finished run; if the folders have these names, nothing is asked.

    Raises:
        NoClassFoldersError: a folder has no class folders.
        ConfigError: as ``roots``; a path is not a folder, or folders may be splits or classes.
    """
    found = roots(dataset, path)
    for root in found.values():
        if not root.is_dir():
            raise ConfigError(f"dataset.path: {root}: must be a folder of class folders")
    finder = _Finder(problems, tuple(suffixes), settled=frozenset(settled))
    classes = finder.unsplit(found[""]) if "" in found else finder.given(found)
    for split, label, folder in _checked(classes, problems):
        num_bad = len(problems.found)
        files = [*files_below(folder, problems)]
        if not files and len(problems.found) == num_bad:
            problems.add(folder, "a class without a file")
        yield from (Item(split, label, os.fspath(file), file) for file in files)


class _Finder(FolderQuestions):
    """Finds class folders in the folders of a tree."""

    def given(self, found: Mapping[str, Path]) -> list[ClassFolder]:
        """Return the class folders of the splits that the user names; every folder in them is a class."""
        train = self.end_of_chain(found["train"])
        classes = []
        for split, root in found.items():
            at = train if split == "train" else self.labelled(root, {each.name for each in self.folders(train)})
            if at is None:
                reason = f"{self.unlabelled(root)}; without {split} in dataset.path, {split} is cut from train"
                raise ConfigError(f"dataset.path.{split}: {root}: has no class folders in it: {reason}")
            folders = self.folders(at)
            doubtful = [folder for folder in folders if split_name(folder.name)]
            if not doubtful and (doubt := self.doubt_of_content(at, folders, found)):
                doubtful = doubt.folders
            if doubtful:
                self.problems.warnings.append(f"{at}: taken for classes: {listed(doubtful)}")
            classes += self.classes(split, at)
        return classes

    def unsplit(self, root: Path) -> list[ClassFolder]:
        """Return the class folders in a folder, in the splits that the names of its folders say."""
        folders = self.folders(root)
        named = find_splits(((folder.name, folder) for folder in folders), short=any(map(self.folders, folders)))
        if any(self.folders(folder) for folder in named.get("train", ())):
            return self.by_split(root, folders, named)
        if (only := self.only_folder(root, folders)) is not None:
            return self.unsplit(only)
        split = [folder for some in named.values() for folder in some]
        if named.get("train") and not any(self.holds_sample(folder) for folder in folders if folder not in split):
            raise NoClassFoldersError(named["train"][0], self.hint_of_classes(root, named["train"]))
        if above := self.above_splits(folders):
            return above
        self.ask(root, {}, {})
        return self.classes("", root)

    def by_split(self, root: Path, folders: Sequence[Path], named: Mapping[str, list[Path]]) -> list[ClassFolder]:
        """Return the class folders of the splits in ``root``; leave out what is neither a split nor a class.

        Raises:
            ConfigError: two folders may be the same split, or another folder may be a split or a class.
        """
        for split, some in named.items():
            if len(some) > 1:
                raise self.question(root, f"{listed(some)} may each be {split}", self.advice(folders))
        parts = {named[split][0]: split for split in ("train", "val", "test") if split in named}
        if short := said_short({split: folder for folder, split in parts.items()}):
            self.problems.warnings.append(f"{root}: taken for splits: {short}")
        train = self.place_of_train(named["train"][0])
        known = {folder.name for folder in self.folders(train)}
        places = {folder: train if parts[folder] == "train" else self.labelled(folder, known) for folder in parts}
        sure = sum(at is not None and bool(known & self.names_in(at)) for at in places.values()) > 1
        others = [folder for folder in folders if folder not in parts]
        keys = {*map(likeness, known)}
        for folder in others:
            is_copy = self.has_train(folder)  # of all splits
            is_alike = bool(keys & (self.keys_in(self.end_of_chain(folder)) if is_copy else self.keys_below(folder)))
            if is_alike or (not sure and self.holds_sample(folder)):
                what = "the same folders as train" if is_alike else "files that may be samples"
                raise self.question(root, f"beside train, {listed([folder])} holds {what}", self.advice(folders))
        if others:
            self.problems.warnings.append(f"{root}: left out, as no split of train, val and test: {listed(others)}")
        having = {split: (folder, at) for folder, split in parts.items() if (at := places[folder]) is not None}
        self.ask(
            train,
            {split: folder for split, (folder, _) in having.items()},
            {split: at for split, (_, at) in having.items()},
        )
        classes = []
        for folder in (folder for folder in folders if folder in parts):
            at, split = places[folder], parts[folder]
            if at is not None:
                classes += self.classes(split, at)
            else:
                cut = f"; {split} is cut from train" if split != "train" else ""
                self.problems.warnings.append(f"{folder}: left out, as {self.unlabelled(folder)}{cut}")
        return classes

    def only_folder(self, root: Path, folders: Sequence[Path]) -> Path | None:
        """Return the folder in ``root`` that holds all the data, if there is one with more than one class."""
        if self.samples_at(root):
            return None
        if len(folders) == 1:
            return folders[0] if self.end_of_chain(root) != root or self.has_train(folders[0]) else None
        having = [folder for folder in folders if self.has_train(folder)]
        labelled = self.names_in(root) - {folder.name for folder in folders if folder.name.lower() in UNLABELLED}
        filled = [folder for folder in folders if folder.name in labelled]
        if not having and len(filled) == 1 < len(folders):
            chain = self.chain(filled[0])
            if len(self.names_in(chain[-1])) > 1 and not any(map(self.samples_at, chain)):
                having = filled  # beside folders of tables and notes
        if len(having) != 1 or any(folder not in having for folder in filled):
            return None
        others = [folder for folder in folders if folder not in having]
        self.problems.warnings.append(f"{root}: left out, as no samples of a class are in there: {listed(others)}")
        return having[0]

    def above_splits(self, folders: Sequence[Path]) -> list[ClassFolder]:
        """Return the class folders if each of the folders is a class that holds its splits; else none."""
        classes = []
        for folder in folders:
            named, others = self.splits_in(folder)
            if not named or others:
                return []
            classes += [ClassFolder(split, folder.name, each) for split, each in named.items()]
        return classes

    def place_of_train(self, folder: Path) -> Path:
        """Return the folder that holds the class folders of train, which may lie beside folders without samples."""
        at = self.end_of_chain(folder)
        while (only := self.only_folder(at, self.folders(at))) is not None:
            at = self.end_of_chain(only)
        return at

    def labelled(self, folder: Path, known: set[str]) -> Path | None:
        """Return the folder that holds the class folders of a split, or None if it has none.

        A chain of single folders may lead to it; it ends at a folder that holds one of the ``known`` classes.
        """
        at = folder
        while not known & self.names_in(at):
            inner = self.folders(at)
            filled = [each for each in inner if each.name in self.names_in(at)]
            if len(inner) > len(filled) == 1 and known & self.names_in(filled[0]):
                return filled[0]  # beside folders of tables and notes
            if len(inner) != 1:
                return at if inner else None
            at = inner[0]
        return at

    def classes(self, split: str, parent: Path) -> list[ClassFolder]:
        """Return the folders in a folder as classes.

        Raises:
            NoClassFoldersError: there are none.
        """
        folders = self.folders(parent)
        if not folders:
            raise NoClassFoldersError(parent)
        unlabelled = [folder for folder in folders if folder.name.lower() in UNLABELLED]
        if unlabelled and len(folders) > len(unlabelled) + 1:
            folders = [folder for folder in folders if folder not in unlabelled]
            self.problems.warnings.append(f"{parent}: left out, as samples of no class: {listed(unlabelled)}")
        if beside := self.samples_at(parent):
            count = len(beside)
            stand, are = ("1 file stands", "is") if count == 1 else (f"{count} files stand", "are")
            warning = f"{parent}: {stand} beside class folders and {are} left out: {listed(beside)}"
            self.problems.warnings.append(warning)
        nested = [folder for folder in folders if len(self.names_in(self.end_of_chain(folder))) > 1]
        if nested and split in ("", "train"):
            inner = listed(self.folders(self.end_of_chain(nested[0])))
            seen = f"a class has all that its folder holds, such as {listed(nested[:1])} with {inner}"
            self.problems.warnings.append(f"{parent}: {seen}")
        return [ClassFolder(split, folder.name, folder) for folder in folders]

    def unlabelled(self, folder: Path) -> str:
        """Return what a folder without class folders holds, as the end of a sentence."""
        if not (count := self.count(folder)):
            return "it holds no samples"
        held = f"its {count:,} files are in no folder of a class of train"
        names = [entry.name for entry in os.scandir(folder) if not entry.name.lower().startswith((".", "readme"))]
        tables = [name for name in names if Path(name).suffix.lower() in TABLES]
        if tables and TABLES.isdisjoint(self.suffixes):
            held += f" ({min(tables)} is not read; move each file into a folder that is called as its class)"
        return held


def _checked(classes: Sequence[ClassFolder], problems: Problems) -> Iterator[ClassFolder]:
    """Yield the class folders; report two that are one folder, and names that differ in a way that is hard to see."""
    places: dict[str, Path] = {}
    trained = {likeness(each.label): each for each in reversed(classes) if each.split in ("", "train")}
    labels = {each.label for each in classes if each.split in ("", "train")}
    for each in classes:
        first = places.setdefault(os.path.realpath(each.folder), each.folder)
        like = trained.get(likeness(each.label), each)
        both = f"{like.label!r} and {each.label!r} differ only in upper and lower case, spaces, signs or accents"
        if first != each.folder:
            problems.add(each.folder, f"is the same folder as {first}")
        elif each.label not in labels and like is not each:
            problems.add(each.folder, f"{both}; rename one of the folders")
        else:
            if like.label != each.label and each.split in ("", "train"):
                problems.warnings.append(f"{each.folder.parent}: {both}, and are two classes")
            yield each
