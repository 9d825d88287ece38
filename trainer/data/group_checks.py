"""Find files of one group, such as a patient or a speaker, in several splits by their names."""

from __future__ import annotations

import re
from pathlib import PurePath

import numpy as np

from trainer.config import Settings
from trainer.data.data import Data
from trainer.data.findings import MAX_NAMED, Finding, listed

# A name that ends in the number of a slice, a visit or a take: patient12_slice3, 3_theo_7, person1-002.
NUMBERED = re.compile(r"(.*[^\W_].*?)[ _.-]+[^\W\d_]{0,8}\d+", flags=re.DOTALL)
MIN_GROUPS = 5  # beginnings of names within each class, at least, as less may be the classes or one common beginning
MIN_SHARE = 0.9  # share of the files whose beginning other files have too
MAX_SIZE = 0.2  # share of the files with one beginning at most


def find_groups(data: Data, settings: Settings) -> list[Finding]:
    """Find files whose names have the same beginning and end in a number, such as patient12_slice3.png, in two splits.

    Such names are no evidence if a class has few beginnings, if many files have one of their own, or if many share one.
    If ``dataset.group`` is set, or the data set has no such key, nothing is looked for.
    """
    sources = {id(split.source) for split in data.splits().values()}
    is_open = "group" in settings.dataset and settings.dataset["group"] is None
    if not is_open or len(sources) > 1 or data.places is None or any("group" in note for note in data.notes):
        return []
    positions = np.concatenate([split.positions.numpy() for split in data.splits().values()])
    stems = [PurePath(place).stem for place in data.places]
    matches = [NUMBERED.fullmatch(stems[position]) for position in positions.tolist()]
    begins = np.array([match[1] if match else "" for match in matches])
    names, groups, counts = np.unique(begins, return_inverse=True, return_counts=True)
    is_group = (counts > 1) & (names != "")
    shared = counts[is_group].sum() / len(begins)
    if shared < MIN_SHARE or counts.max() > MAX_SIZE * len(begins):
        return []
    if data.spec.task == "classification":
        classes = np.concatenate([split.targets.numpy() for split in data.splits().values()])
        pairs = np.unique(np.stack([classes, groups]), axis=1)
        if np.bincount(pairs[0])[np.unique(classes)].min() < MIN_GROUPS:
            return []
    elif len(names) < MIN_GROUPS:
        return []
    splits = np.repeat(np.arange(len(data.splits())), [len(split) for split in data.splits().values()])
    num_splits = np.bincount(np.unique(np.stack([groups, splits]), axis=1)[0], minlength=len(names))
    parted = np.flatnonzero(is_group & (num_splits > 1))
    if not len(parted):
        return []
    some = listed([str(name) for name in names[parted[:MAX_NAMED]]], len(parted))
    text = f"the names of files in different splits begin alike ({some}); if these are of one patient, speaker or scene"
    return [Finding("note", "group", f"{text}, dataset.group keeps them together when splits are cut")]
