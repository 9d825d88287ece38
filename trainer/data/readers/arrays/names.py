"""Find the arrays of the samples, the targets and the lengths by their names, and the split that a name means."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from trainer.config import ConfigError
from trainer.config.messages import did_you_mean
from trainer.data.readers.arrays.stores import UNREADABLE, Store, WrongFormError
from trainer.data.readers.files import SPLITS
from trainer.data.readers.tables.layout import MAX_LISTED, listed

# The usual names, in lower case and without the name of a split.
USUAL = {
    "inputs": ("x", "images", "image", "imgs", "data", "inputs", "input", "features", "signals", "arr_0"),
    "targets": ("y", "labels", "label", "targets", "target", "classes", "class", "arr_1"),
}
_WORDS = "|".join(sorted(SPLITS, key=len, reverse=True))
_SPLIT_FIRST = re.compile(rf"({_WORDS})([_\-. /]?)(.+)", re.IGNORECASE)
_SPLIT_LAST = re.compile(rf"(.+?)([_\-. ]?)({_WORDS})", re.IGNORECASE)
_ALL_USUAL = {name for names in USUAL.values() for name in names}


class SplitName(NamedTuple):
    """The name of an array without that of a split, and the split: train, val, test, or empty."""

    base: str
    split: str


def parse(name: str) -> SplitName:
    """Return the parts of the name of an array: ``x_train``, ``train_x``, ``XTrain`` and ``train/x`` are x of train.

    A word within a longer one, such as ``latest``, means no split.
    """
    first, last = _SPLIT_FIRST.fullmatch(name), _SPLIT_LAST.fullmatch(name)
    if first is not None and (first[2] or first[3].lower() in _ALL_USUAL):
        split = SPLITS[first[1].lower()]
        inner = parse(first[3])  # train/x_train
        return SplitName(inner.base if inner.split == split else first[3], split)
    if last is not None and (last[2] or last[1].lower() in _ALL_USUAL):
        return SplitName(last[1], SPLITS[last[3].lower()])
    return SplitName(name, "")


def find_arrays(store: Store, place: str, split: str, wanted: Mapping[str, str | None]) -> dict[str, dict[str, str]]:
    """Return, for each split of a file, the name of each array. A test split without targets is left out.

    Args:
        store: the file or folder.
        place: its name, for messages.
        split: the split that the whole file is; empty if the names of the arrays may say it.
        wanted: the keys inputs, targets and lengths, with a name without a split; None for a usual name, and for
            lengths that no sample has.

    Raises:
        ConfigError: an array is missing, or the names can be read in two ways.
    """
    bases: dict[str, str] = {}
    for key, typed in wanted.items():
        if key != "lengths" or typed is not None:
            bases[key] = _find_base(store, place, key, typed, {*bases.values(), wanted.get("lengths")})
    there = {part.split for name in store.names if (part := parse(name)).base == bases["inputs"]} or {""}
    if bases["inputs"] in store.names and not there - {""}:
        there = {""}
    if split:
        parts = {split: split}
    elif "" in there and there - {""}:
        if "train" in there:
            both = [name for name in store.names if parse(name).base == bases["inputs"]]
            raise ConfigError(
                f"dataset.inputs: {place} holds {listed(both)}, and so train twice; leave one of them out"
            )
        parts = {"train": "", **{part: part for part in sorted(there - {""})}}
    else:
        parts = {part: part for part in sorted(there)}
    of_train, of_test = (name_of_split(store.names, bases["targets"], part) for part in ("train", "test"))
    if "train" in parts and of_train is not None and of_test is None:
        parts.pop("test", None)
    return {part: _names_of(store, place, named, bases) for part, named in parts.items()}


def name_of_split(names: Sequence[str], base: str, split: str) -> str | None:
    """Return the name of an array of a split, or else of the array without a split; None if neither exists."""
    found = [name for name in names if parse(name) == (base, split)]
    return next(iter(found), base if base in names else None)


def _names_of(store: Store, place: str, split: str, bases: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for key, base in bases.items():
        name = name_of_split(store.names, base, split)
        if name is None:
            shown = f"{base}_{split}" if split else base
            hint = did_you_mean(base, store.names) or ";"
            raise ConfigError(
                f"dataset.{key}: {base}: {place} has no array {shown}{hint} arrays: {listed(store.names)}"
            )
        found[key] = name
    return found


def _find_base(store: Store, place: str, key: str, typed: str | None, taken: Collection[str | None]) -> str:
    """Return the name of an array without its split: the typed one, whatever its case, or the only usual one.

    ``taken`` are the names of other keys.

    Raises:
        ConfigError: no usual name or several exist.
    """
    bases = list(dict.fromkeys([*(parse(name).base for name in store.names), *store.names]))
    if typed is not None:
        same = [base for base in bases if base.lower() == typed.lower()]
        return same[0] if len(same) == 1 and typed not in bases else typed
    bases = list(dict.fromkeys(parse(name).base for name in store.names))
    found = usual(bases, key)
    if len(found) == 1:
        return found[0]
    if key == "inputs" and not found:  # of two arrays, the one that is not the target
        targets = usual(bases, "targets")
        others = [base for base in bases if base not in targets and base not in taken]
        if len(targets) == 1 and len(others) == 1:
            return others[0]
    noun = "samples" if key == "inputs" else "targets"
    others = [base for base in bases if base not in taken and (key == "targets" or base not in usual(bases, "targets"))]
    if not found and not others:
        raise ConfigError(f"dataset.{key}: null: {place} has no array of {noun}; arrays: {described(store)}")
    example = next(iter([*found, *others]))
    raise ConfigError(
        f"dataset.{key}: null: which array of {place} holds the {noun}? for example dataset.{key}={example}; "
        f"arrays: {described(store)}"
    )


def usual(bases: Sequence[str], key: str) -> list[str]:
    """Return the names that are usual for a key; the numbered names of ``numpy.savez`` count only if no other does."""
    found = [base for base in bases if base.lower() in USUAL[key]]
    return [base for base in found if not base.startswith("arr_")] or ([] if _are_many(bases) else found)


def _are_many(bases: Sequence[str]) -> bool:
    """Return whether more than two arrays have numbered names, whose order nothing says."""
    return sum(base.startswith("arr_") for base in bases) > 2


def described(store: Store) -> str:
    """Return the names of the arrays with their shapes and dtypes, for a question."""
    texts = []
    for name in store.names[:MAX_LISTED]:
        try:
            texts.append(f"{name} {store.header(name)}")
        except WrongFormError as error:
            texts.append(f"{name} ({error})")
        except UNREADABLE:
            texts.append(f"{name} (cannot be read)")
    return listed([*texts, *store.names[MAX_LISTED:]])
