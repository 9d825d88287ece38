"""Recognise train, val and test in the names of folders and files, such as ``seg_train`` and ``validation_set``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.data.readers.files import SPLITS

# The words that mean a split; an empty text stands for words that mean several, about which the user is asked.
WORDS = {**SPLITS, "holdout": "test", "heldout": "test", "eval": "", "evaluation": "", "trainval": "", "traintest": ""}
# Short words, which mean a split only where all names do.
SHORT = {"tr": "train", "trn": "train", "tra": "train", "va": "val", "vl": "val", "vld": "val"}
SHORT |= {"te": "test", "ts": "test", "tst": "test", "tes": "test"}
# Words that say nothing about the content of a folder or file beside those of the splits.
_USUAL = "set|sets|data|dataset|datasets|split|part|folder|dir|files|samples|final|all"
_USUAL += "|image|images|img|imgs|picture|pictures|pics|photo|photos|audio|sound|sounds|wav|wavs|text|texts|sentences"
ABOUT_SAMPLES = {"mask", "masks", "label", "labels", "annotation", "annotations", "pred", "unlabeled", "unlabelled"}
PART_WORDS = {"part", "parts", "fold", "folds", "batch", "chunk", "shard", "archive", "zip", "volume"}
_SPLIT_WORD = re.compile(rf"({'|'.join(sorted(WORDS, key=len, reverse=True))})({_USUAL})?")
_USUAL_WORD = re.compile(_USUAL)


class SplitName(NamedTuple):
    """What a name says about a split.

    Args:
        split: train, val or test; empty if the name may mean several of them.
        rest: the words of the name that say neither a split nor something usual, such as ``("seg",)``.
    """

    split: str
    rest: tuple[str, ...]


def split_name(name: str, short: bool = False) -> SplitName | None:
    """Return what a name says about a split; None if none of its words means one.

    Args:
        name: the name.
        short: whether words such as ``tr`` mean a split too.
    """
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"(?i)(hold|held)[ _-]out", "holdout", name))
    words = re.findall(r"[^\W\d_]+", parted.lower())
    matches = {word: WORDS[found[1]] for word in words if (found := _SPLIT_WORD.fullmatch(word))}
    if short:
        matches |= {word: SHORT[word] for word in words if word in SHORT}
    if not matches:
        return None
    splits = {*matches.values()}
    rest = tuple(word for word in words if word not in matches and not _USUAL_WORD.fullmatch(word))
    return SplitName(splits.pop() if len(splits) == 1 else "", rest)


def find_splits(named: Iterable[tuple[str, Path]], short: bool = False) -> dict[str, list[Path]]:
    """Return the paths whose names are those of splits, by split, in the order given.

    A name with a word of its own, such as ``seg_train``, counts only if another split has the same word: ``seg_test``.

    Args:
        named: each name and its path.
        short: whether words such as ``tr`` count too, if all names are those of different splits.
    """
    named = [*named]
    found = [(path, name) for text, path in named if (name := split_name(text)) and name.split]
    if short and len(found) < len(named):
        every = [(path, name) for text, path in named if (name := split_name(text, short)) and name.split]
        splits = {name.split for _, name in every}
        is_each_once = "train" in splits and len(splits) == len(every) == len(named) > 1
        if is_each_once and all(name.rest == every[0][1].rest for _, name in every):
            found = every
    sharing: dict[tuple[str, ...], set[str]] = {}
    for _, name in found:
        sharing.setdefault(name.rest, set()).add(name.split)
    parts: dict[str, list[Path]] = {}
    for path, name in found:
        if not name.rest or len(sharing[name.rest]) > 1:
            parts.setdefault(name.split, []).append(path)
    return parts


def are_splits(names: Sequence[str]) -> bool:
    """Return whether all names are those of splits, and one is train; short words count too."""
    named = find_splits(((name, Path(name)) for name in names), short=True)
    return "train" in named and sum(map(len, named.values())) == len(names) > 1


def said_short(parts: Mapping[str, Path]) -> str:
    """Return what the short names of splits are taken for, such as ``tr is train``; empty if none is short."""
    return ", ".join(f"{path.name} is {split}" for split, path in parts.items() if split_name(path.stem) is None)


def is_usual(name: str) -> bool:
    """Return whether a name has only words such as images, labels and masks, which are no classes."""
    words = re.findall(r"[^\W\d_]+", name.lower())
    return all(word in ABOUT_SAMPLES or word in PART_WORDS or _USUAL_WORD.fullmatch(word) for word in words)


def are_parts(names: Sequence[str]) -> bool:
    """Return whether names of folders or files are those of parts of the data, such as ``fold1`` and ``fold2``.

    All of them have only usual words, or they differ only in numbers and have a word that means a part.
    """
    words = [re.findall(r"[^\W\d_]+", name.lower()) for name in names]
    if len(names) < 2 or not all(words):
        return False
    return all(map(is_usual, names)) or (
        all(each == words[0] for each in words) and not PART_WORDS.isdisjoint(words[0])
    )


def words_to_type(path: Path | Mapping[str, Path], key: str = "dataset.path") -> str:
    """Return the word of a command, quoted for the shell, that gives a key a path, or the path of each split."""
    if isinstance(path, Path):
        return shlex.quote(f"{key}={_as_value(path)}")
    values = ", ".join(f"{split}: {_as_value(each)}" for split, each in path.items())
    return shlex.quote(f"{key}={{{values}}}")


def _as_value(path: Path) -> str:
    is_plain = re.fullmatch(r"[A-Za-z_/][\w./-]*|\.\.?/[\w./-]*", str(path), re.ASCII)
    if is_plain and str(path).lower() not in ("null", "true", "false", "nan", "inf"):
        return str(path)
    escaped = re.sub(r'(\\*)(?="|$)', r"\1\1", str(path)).replace('"', r"\"")  # as in Hydra's grammar
    return f'"{escaped}"'


def listed(paths: Iterable[Path], most: int = 3) -> str:
    """Return the names of some paths, with quotes where a name begins or ends in a space."""
    names = [path.name if path.name.strip() == path.name else repr(path.name) for path in paths]
    return ", ".join(names[:most]) + f" and {len(names) - most} more" * (len(names) > most)
