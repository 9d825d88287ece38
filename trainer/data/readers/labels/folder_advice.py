"""Say which words to type for folders that are splits, or of which one is to be named."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.data.readers.labels.folder_tree import FolderTree
from trainer.data.readers.split_names import find_splits, listed, split_name, words_to_type

# Words in the names of folders that hold the samples of another folder in another form.
_DERIVED = re.compile(r"aug|mask|segm|gr[ae]y|synth|edge|crop|resiz|label|spectro", re.IGNORECASE)


def ordered(parts: Mapping[str, Path]) -> dict[str, Path]:
    """Return the folders of splits in the order of train, val and test."""
    return {split: parts[split] for split in ("train", "val", "test") if split in parts}


class FolderAdvice(FolderTree):
    """Finds the words that answer a question about folders."""

    def one_of(self, alike: Sequence[Path], places: Mapping[str, Path]) -> str:
        """Return the words for one of the folders that are in each split."""
        plain_first = sorted(alike, key=lambda folder: bool(_DERIVED.search(folder.name)))
        best = max(plain_first, key=lambda folder: sum((at / folder.name).is_dir() for at in places.values()))
        parts = {split: at / best.name for split, at in places.items() if (at / best.name).is_dir()}
        return (
            f"for {listed([best])} alone type {words_to_type(ordered(parts))}; to join them, move their files together"
        )

    def advice(self, folders: Sequence[Path], shared: set[str] | None = None) -> str:
        """Return the words to type if folders are splits, or data sets of which one is to be named.

        Args:
            folders: the folders.
            shared: the ``likeness`` of the names of folders that they share; None if they are not compared.
        """
        if sets := [folder for folder in folders if self.has_train(folder)]:
            return f"for one of them type {words_to_type(sets[0])}"
        having = [folder for folder in folders if len(self.folders(self.end_of_chain(folder))) > 1]
        parts: dict[str, Path] = {}
        for folder in having:
            within = re.search(r"train|val|test", folder.name.lower())  # also in a longer word, such as xtrain
            if name := split_name(folder.name, short=True):
                parts.setdefault(name.split or ("train" if within and within[0] == "train" else "test"), folder)
            elif within:
                parts.setdefault(within[0], folder)
        alone = ""
        if shared and not parts:
            plain = [folder for folder in having if not _DERIVED.search(folder.name)]
            alone = f"for one of them alone type {words_to_type(self.holding((plain or having)[0], shared))}"
            if len(plain) < len(having):  # splits of which one holds samples of another in another form tell nothing
                return alone
            alone += "; "
        parts = self._with_others(parts, having)
        if "train" not in parts:
            return "move a folder that is no class elsewhere"
        named = ordered({split: self._as_named(folder, shared or set()) for split, folder in parts.items()})
        return f"{alone}for splits type {words_to_type(named)}, or name other folders"

    def hint_of_classes(self, parent: Path, train: Sequence[Path]) -> str:
        """Return what to do if folders of files have the names of a split and of a class, such as ``train_cat``."""
        name = split_name(train[0].name)
        if len(train) < 2 or name is None or not name.rest:
            return ""
        moved = f"{train[0].name} to {parent / 'train' / '_'.join(name.rest)}"
        return f"; if each name has a split and a class, move each folder, such as {moved}"

    def _as_named(self, folder: Path, shared: set[str]) -> Path:
        """Return a folder, or the one below it that holds the shared folders if no chain of folders leads to that."""
        held = self.holding(folder, shared)
        return folder if held in self.chain(folder) else held

    def _with_others(self, parts: dict[str, Path], having: Sequence[Path]) -> dict[str, Path]:
        """Return the folders of splits, and for the splits that no name says the largest of the other folders."""
        unnamed = [folder for folder in having if split_name(folder.name, short=True) is None]
        others = sorted((folder for folder in unnamed if folder not in parts.values()), key=self.count, reverse=True)
        if "train" not in parts and others:
            parts["train"] = others.pop(0)
        elif "train" not in parts and parts:
            parts["train"] = parts.pop(max(parts, key=lambda split: self.count(parts[split])))
        if len(parts) == 1:
            parts |= zip(["test", "val"], reversed(others[:2]), strict=False)
        else:
            parts |= zip((split for split in ("val", "test") if split not in parts), others, strict=False)
        return parts

    def has_train(self, parent: Path) -> bool:
        """Return whether a folder, or the chain of single folders that begins in it, holds a split train of folders."""
        folders = self.folders(parent)
        named = find_splits(((folder.name, folder) for folder in folders), short=True)
        if any(self.folders(folder) for folder in named.get("train", ())):
            return True
        return len(folders) == 1 and self.has_train(folders[0])
