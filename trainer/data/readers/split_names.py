"""Recognise train, val and test in the names of folders and files, such as ``seg_train`` and ``validation_set``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from trainer.data.readers.files import SPLITS

# The words that mean a split; an empty text stands for words that mean several, about which the user is asked.
WORDS = {**SPLITS, "holdout": "test", "heldout": "test", "eval": "", "evaluation": "", "trainval": "", "traintest": ""}
# Words that say nothing about the content of a folder or file beside those of the splits.
_USUAL = "set|sets|data|dataset|datasets|split|part|folder|dir|files|samples|final|all"
_USUAL += "|image|images|img|imgs|picture|pictures|pics|photo|photos|audio|sound|sounds|wav|wavs|text|texts|sentences"
ABOUT_SAMPLES = {"mask", "masks", "label", "labels", "annotation", "annotations", "pred", "unlabeled", "unlabelled"}
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


def split_name(name: str) -> SplitName | None:
    """Return what a name says about a split; None if none of its words means one."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"(?i)(hold|held)[ _-]out", "holdout", name))
    words = re.findall(r"[^\W\d_]+", parted.lower())
    matches = {word: found for word in words if (found := _SPLIT_WORD.fullmatch(word))}
    if not matches:
        return None
    splits = {WORDS[found[1]] for found in matches.values()}
    rest = tuple(word for word in words if word not in matches and not _USUAL_WORD.fullmatch(word))
    return SplitName(splits.pop() if len(splits) == 1 else "", rest)


def find_splits(named: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    """Return the paths whose names are those of splits, by split, in the order given.

    A name with a word of its own, such as ``seg_train``, counts only if another split has the same word: ``seg_test``.
    """
    found = [(path, name) for text, path in named if (name := split_name(text)) and name.split]
    sharing: dict[tuple[str, ...], set[str]] = {}
    for _, name in found:
        sharing.setdefault(name.rest, set()).add(name.split)
    splits: dict[str, list[Path]] = {}
    for path, name in found:
        if not name.rest or len(sharing[name.rest]) > 1:
            splits.setdefault(name.split, []).append(path)
    return splits


def is_usual(name: str) -> bool:
    """Return whether a name has only words such as images, labels and masks, which are no classes."""
    words = re.findall(r"[^\W\d_]+", name.lower())
    return all(word in ABOUT_SAMPLES or _USUAL_WORD.fullmatch(word) for word in words)


def words_to_type(path: Path | Mapping[str, Path]) -> str:
    """Return the word of a command, quoted for the shell, that names a path, or the path of each split."""
    if isinstance(path, Path):
        return shlex.quote(f"dataset.path={_as_value(path)}")
    values = ", ".join(f"{split}: {_as_value(each)}" for split, each in path.items())
    return shlex.quote(f"dataset.path={{{values}}}")


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
