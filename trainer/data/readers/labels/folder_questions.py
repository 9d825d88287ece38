"""Find what makes it doubtful that folders are classes, and say which words to type for each way to read them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.config import ConfigError
from trainer.data.readers.files import natural_key
from trainer.data.readers.labels.folder_advice import FolderAdvice, ordered
from trainer.data.readers.labels.folder_tree import likeness
from trainer.data.readers.split_names import (
    ABOUT_SAMPLES,
    are_parts,
    are_splits,
    find_splits,
    is_usual,
    listed,
    split_name,
    words_to_type,
)


class NoClassFoldersError(ConfigError):
    """``folder`` has no class folders in it; ``hint`` says what else to do."""

    def __init__(self, folder: Path, hint: str = "") -> None:
        super().__init__(f"dataset.path: {folder}: has no class folders in it{hint}")
        self.folder = folder
        self.hint = hint


class Doubt(NamedTuple):
    """What makes it doubtful that folders are classes.

    Args:
        folders: the folders in doubt.
        seen: what was seen, as a clause; empty if the folders are parts of the data by their names.
        advice: what to do, or to type, if they are no classes.
    """

    folders: list[Path]
    seen: str
    advice: str


class FolderQuestions(FolderAdvice):
    """Asks what folders are.

    The methods take the folder in which the folders are, the folders, and the ``places`` of the splits whose class
    folders they are: the folder that holds the class folders of each split, empty without splits.
    """

    def ask(self, parent: Path, splits: Mapping[str, Path], places: Mapping[str, Path]) -> None:
        """Raise ConfigError if it is doubtful that the folders in a folder are classes.

        Args:
            parent: the folder.
            splits: the folder of each split as a user would name it; empty without splits.
            places: as above.
        """
        folders = self.folders(parent)
        if self.settled == {folder.name for folder in folders}:
            return
        doubt = self.doubt_of_names(parent, folders, splits, places) or self.doubt_of_content(parent, folders, places)
        if doubt is not None and doubt.seen:
            raise self.question(parent, doubt.seen, doubt.advice, splits)
        if doubt is not None:
            whole = words_to_type(splits or {"train": parent})
            hint = f"; if each folder ({listed(folders)}) is a class with all that it holds, type {whole}"
            raise NoClassFoldersError(parent, hint)

    def question(self, parent: Path, seen: str, advice: str, splits: Mapping[str, Path] | None = None) -> ConfigError:
        """Return the error that says what was seen, and the words to type for either reading."""
        whole = words_to_type(splits or {"train": parent})
        return ConfigError(
            f"dataset.path: {parent}: {seen}; {advice}; if each folder is a class with all that it holds, type {whole}"
        )

    def doubt_of_names(
        self, parent: Path, folders: Sequence[Path], splits: Mapping[str, Path], places: Mapping[str, Path]
    ) -> Doubt | None:
        """Return the doubt about folders that may be splits by their names."""
        hinted = [folder for folder in folders if split_name(folder.name)]
        if not hinted:
            return None
        others = [folder for folder in folders if folder not in hinted]
        is_train = len(hinted) == 1 and hinted[0].name.lower() in ("train", "training")
        is_ordinary = len(others) > 1 and not any(is_usual(folder.name) for folder in others)
        if (places or (is_train and is_ordinary)) and not any(map(self.folders, folders)):
            are = "are taken for classes, as they hold" if len(hinted) > 1 else "is taken for a class, as it holds"
            self.problems.warnings.append(f"{parent}: {listed(hinted)} {are} files as the other folders do")
            return None
        which = "a split by its name, or a class" if len(hinted) == 1 else "splits by their names, or classes"
        beside = {likeness(folder.name) for folder in others}
        if any(len(beside & self.keys_in(self.end_of_chain(folder))) > 1 for folder in hinted):
            advice = f"for splits move the other folders into {parent / 'train'}"
            if places:
                advice = f"for splits move {', '.join(map(str, hinted))} into {splits['train'].parent}"
        elif places:
            parts = find_splits((folder.name, folder) for folder in hinted)
            inner = {split: some[0] for split, some in parts.items()}
            advice = "move a folder that is no class elsewhere"
            if "train" in inner:
                advice = f"for splits type {words_to_type(ordered({**splits, **inner}))}, or name other folders"
        else:
            advice = self.advice(folders)
        return Doubt(hinted, f"{listed(hinted)} may be {which}", advice)

    def doubt_of_content(self, parent: Path, folders: Sequence[Path], places: Mapping[str, Path]) -> Doubt | None:
        """Return the doubt about folders that hold splits or the same folders, or that are parts of the data."""
        names = [folder.name for folder in folders]
        has_classes = any(len(self.names_in(self.end_of_chain(folder))) > 1 for folder in folders)
        if not has_classes and (are_parts(names) or (not places and are_splits(names))):
            return Doubt([*folders], "", "")
        doubt = None if places else self._splits_of_some(folders)
        doubt = doubt or self._copies(folders, places) or self._alike(folders, places)
        if doubt is None and (sets := [folder for folder in folders if self.has_train(folder)]):
            seen = f"{listed(sets)} {'holds' if len(sets) == 1 else 'hold'} splits and classes"
            doubt = Doubt(sets, seen, self.advice(sets))
        return doubt

    def splits_in(self, folder: Path) -> tuple[dict[str, Path], list[Path]]:
        """Return the folders of splits within a class, by split, and what is beside them; nothing without train."""
        chain = self.chain(folder)
        inner = self.folders(chain[-1])
        named = {split: some[0] for split, some in find_splits((each.name, each) for each in inner).items()}
        is_flat = not any(len(self.folders(each)) > 1 for each in inner)
        if "train" not in named or not is_flat:
            return {}, []
        beside = [each for each in inner if each not in named.values()]
        return named, [*beside, *(file for folder in chain for file in self.samples_at(folder))]

    def _splits_of_some(self, folders: Sequence[Path]) -> Doubt | None:
        """Return the doubt about classes of which only some hold splits, or hold other folders too."""
        found = {folder: self.splits_in(folder) for folder in folders}
        having = [folder for folder, (named, _) in found.items() if named]
        if not having:
            return None
        without = [folder for folder in folders if folder not in having]
        others = [each for _, some in found.values() for each in some]
        seen = f"{listed(having)} {'holds' if len(having) == 1 else 'hold'} folders of splits"
        if without:
            seen += f", but {listed(without)} {'does' if len(without) == 1 else 'do'} not"
            advice = f"for splits move the files of {listed(without)} into {without[0] / 'train'}"
            advice += ", and so on" * (len(without) > 1)
        else:
            seen += f", and beside them {listed(others)}"
            named = ", ".join(map(str, others[:3])) + ", and so on" * (len(others) > 3)
            advice = f"for splits move elsewhere: {named}"
        return Doubt(having, seen, advice)

    def _copies(self, folders: Sequence[Path], places: Mapping[str, Path]) -> Doubt | None:
        """Return the doubt about a folder that holds folders with the names of the folders beside it."""
        names = Counter(likeness(folder.name) for folder in folders)
        for folder in folders:
            keys = (self.keys_in(self.end_of_chain(folder)) & {*names}) - {likeness(folder.name)}
            if len(keys) > 1:
                beside = [each for each in folders if likeness(each.name) in keys]
                seen = f"{listed([folder])} holds the same folders as are beside it ({listed(beside)})"
                alone = "" if places else f"for {listed([folder])} alone type {words_to_type(folder)}; "
                return Doubt([folder], seen, f"{alone}if it is a copy or no class, move it elsewhere")
        return None

    def _alike(self, folders: Sequence[Path], places: Mapping[str, Path]) -> Doubt | None:
        """Return the doubt about folders that hold folders of the same names, maybe further down."""
        ends = {folder: self.end_of_chain(folder) for folder in folders}
        keys = {folder: self.keys_in(end) for folder, end in ends.items()}
        if not any(len(some) > 1 for some in keys.values()):
            return None
        below = {folder: self.keys_below(folder) for folder in folders}
        counts = Counter(key for some in below.values() for key in some)
        common = {folder: {key for key in some if counts[key] > 1} for folder, some in keys.items() if len(some) > 1}
        shared = set[str]()
        for folder, some in common.items():
            if 2 * len(some) >= len(keys[folder]) or (len(some) > 1 and 3 * len(some) >= len(keys[folder])):
                shared |= some
        alike = [folder for folder in folders if shared & below[folder]]
        if not shared:
            return None
        first = next(folder for folder in alike if shared & keys[folder])
        names = [each for each in self.folders(ends[first]) if likeness(each.name) in shared]
        names.sort(key=lambda folder: natural_key(folder.name))
        seen = f"{listed(alike)} hold the same folders ({listed(names)}): "
        if all(is_usual(each.name) and re.search(r"[^\W\d_]", each.name) for each in names):
            about = [each for each in names if not ABOUT_SAMPLES.isdisjoint(re.findall(r"[a-z]+", each.name.lower()))]
            such = f", such as {listed(about)}," if about else ""
            advice = f"move folders that hold no samples of a class{such} elsewhere"
            return Doubt(alike, f"{seen}each of these may hold samples of a class, or something else", advice)
        seen += "they may be "
        if places:
            return Doubt(alike, f"{seen}parts of each split, or classes", self.one_of(alike, places))
        return Doubt(alike, f"{seen}splits, or classes", self.advice(alike, shared))
