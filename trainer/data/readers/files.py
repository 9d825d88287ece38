"""Functions shared by data sets of the user's own files: find and read samples, report bad ones, and divide splits."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from trainer.config import ConfigError, Fraction, NonNegativeInt, RunError
from trainer.config.errors import collected
from trainer.config.messages import did_you_mean
from trainer.config.untrusted_files import at_home, check_named
from trainer.data.data import BAD_SAMPLE, LoadKeys, ReadOptions, seed_of_val, split_off
from trainer.data.sources import Inputs, Source, Split, collate
from trainer.memory import free_memory

MAX_GROUPS = 3  # maximum number of groups that a warning lists
MAX_NAMED = 5  # maximum number of bad samples that a message lists
MEMORY_SHARE = 0.25  # share of the free memory that the samples of all processes on a machine may take together
# The names that a folder, a file, or a split in a file may have, and the split that each name means.
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
SPLITS |= {"test": "test", "testing": "test"}


class OwnKeys(LoadKeys):
    """The keys that every data set of the user's own files has."""

    path: str | dict[Literal["train", "val", "test"], str] | None
    test_fraction: Fraction
    test_seed: NonNegativeInt
    on_error: Literal["stop", "skip"]


class Item(NamedTuple):
    """A labelled sample.

    Args:
        split: train, val or test; empty if the data have no splits.
        label: the name of the class.
        place: the file, ``file:line`` or row that holds the sample, for messages.
        content: the sample itself, such as a text, or what a reader needs to read the sample, such as a path.
        cells: the target columns of a row of a table; empty for other samples.
    """

    split: str
    label: str
    place: str
    content: Any
    cells: tuple[str, ...] = ()


@dataclass
class Problems:
    """Collects the bad samples of a data set; ``settle`` raises an error for them, or turns them into warnings.

    Args:
        dataset: the name of the data set.
        on_error: the key ``dataset.on_error``.
        report_all: as in ``ReadOptions``.
        found: the bad samples since the last call of ``settle``, one line each.
        warnings: lines for the user, which become ``Data.warnings``.
        notes: phrases about how the data were read, which become ``Data.notes``.
        hint: what else the user may do about bad samples than leave them out; empty if nothing.
    """

    dataset: str
    on_error: Literal["stop", "skip"]
    report_all: bool = False
    found: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hint: str = ""

    def add(self, place: object, reason: str) -> None:
        """Record a sample that cannot be used."""
        self.found.append(f"{place}: {reason}")

    def settle(self) -> None:
        """Turn the bad samples found so far into one warning or, with ``report_all``, into one warning each.

        Raises:
            ConfigError: there are bad samples, ``on_error`` is stop, and ``report_all`` is false.
        """
        found, self.found = self.found, []
        if self.report_all:
            self.warnings += [BAD_SAMPLE + each for each in found]
        elif found:
            count = len(found)
            named = "; ".join(found[:MAX_NAMED]) + f" … and {count - MAX_NAMED} more" * (count > MAX_NAMED)
            samples, them = ("1 bad sample", "it") if count == 1 else (f"{count} bad samples", "them")
            if self.on_error == "stop":
                advice = f"dataset.on_error=skip leaves {them} out{self.hint and '; '}{self.hint}"
                raise ConfigError(f"dataset={self.dataset}: {samples}: {named} ({advice})")
            self.warnings.append(f"{samples} left out: {named}")


# ---- finding files


def roots(dataset: str, path: str | dict[Any, str] | None) -> dict[str, Path]:
    """Return the folder or file that ``dataset.path`` names for each split; a single path has an empty name as key.

    Raises:
        ConfigError: ``dataset.path`` is missing, names splits but not train, or names a path that does not exist.
    """
    if path is None:
        raise ConfigError(f"dataset.path: missing; the folder or file with the data of dataset={dataset}")
    named = {"": path} if isinstance(path, str) else dict(path)
    if isinstance(path, dict) and "train" not in named:
        raise ConfigError(f"dataset.path: names {', '.join(named) or 'nothing'}, but no train")
    found = {
        split: at_home(place, f"dataset.path.{split}" if split else "dataset.path") for split, place in named.items()
    }
    missing = []
    for split, place in found.items():
        key = f"dataset.path.{split}" if split else "dataset.path"
        if not place.exists():
            near = did_you_mean(place.name, [each.name for each in place.parent.glob("*")])
            why = "is a link to nothing" if place.is_symlink() else f"no such file or folder{near}"
            missing.append(f"{key}: {place}: {why}")
        elif not place.is_dir():
            with collected(missing):
                check_named(place, key)
        elif not os.access(place, os.R_OK | os.X_OK):
            missing.append(f"{key}: {place}: cannot be read: {os.strerror(errno.EACCES)}")
    if missing:
        raise ConfigError(*missing)
    return found


def files_below(folder: Path, problems: Problems | None = None) -> Iterator[Path]:
    """Yield every file in a folder and its subfolders in natural order, without hidden files and folders.

    Args:
        folder: the folder.
        problems: receives the folders that cannot be read; if None, they are an OSError.
    """
    left = [_entries(folder, problems)]  # of the folder and of the subfolders on the way down, however deep they are
    while left:
        entry = next(left[-1], None)
        if entry is None:
            left.pop()
        elif entry.name.startswith(".") or entry.name == "Thumbs.db":
            continue
        elif entry.is_dir(follow_symlinks=False):  # a link may lead to a parent, or to another class
            left.append(_entries(entry.path, problems))
        else:
            yield Path(entry.path)


def _entries(folder: str | Path, problems: Problems | None) -> Iterator[os.DirEntry[str]]:
    try:
        return iter(sorted(os.scandir(folder), key=lambda entry: natural_key(entry.name)))
    except OSError as error:
        if problems is None:
            raise
        problems.add(folder, f"cannot be read: {error.strerror}")
        return iter(())


def natural_key(text: str) -> list[tuple[int, float, str]]:
    """Return a sort key that orders the numbers in texts by value: 2 before 10. Different texts have different keys."""
    parts = re.split(r"([0-9]{1,4000})", text)  # Python converts no more digits at once
    numbers = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]
    return [*numbers, (-1, 0, text)]  # the text itself distinguishes 1 from 01


def keep_suffixes(items: Iterable[Item], suffixes: Iterable[str], noun: str, problems: Problems) -> list[Item]:
    """Return the items whose file has one of the suffixes (in lower case, with the dot); warn about all other items.

    A class that loses all its files in this way is a problem. ``noun`` says in messages what a file should hold.
    """
    known = frozenset(suffixes)
    taken: list[Item] = []
    others: list[Item] = []
    for item in items:
        (taken if item.content.suffix.lower() in known else others).append(item)
    having = {(item.split, item.label) for item in taken}
    for name, folder in {(item.split, item.label): item.content.parent for item in others}.items():
        if name not in having:
            problems.add(folder, f"a class without a {noun}")
    if others:
        files = "1 file is" if len(others) == 1 else f"{len(others)} files are"
        problems.warnings.append(f"{files} no {noun} by name and left out, such as {others[0].place}")
    return taken


# ---- classes and splits


def classify(
    items: Sequence[Item], options: ReadOptions, problems: Problems
) -> tuple[list[Item], tuple[str, ...], Tensor]:
    """Find the classes of train, or take those of a finished run; an item of any other class is a problem.

    Returns:
        The items of these classes, the classes (those of train in natural order), and the (items,) int64 class numbers.

    Raises:
        ConfigError: there are no samples or less than two classes, or there are bad samples and ``on_error`` is stop.
    """
    if not items:
        settled = len(problems.warnings)
        problems.settle()
        reasons = [f"dataset={problems.dataset}: no samples in dataset.path", *problems.warnings[settled:]]
        raise ConfigError("; ".join(reasons))
    train = "train" if any(item.split for item in items) else ""
    found = {item.label for item in items if item.split == train}
    classes = options.classes or tuple(sorted(found, key=natural_key))
    numbers = {label: number for number, label in enumerate(classes)}
    unknown: dict[tuple[str, str], list[Item]] = {}
    kept = []
    for item in items:
        if item.label in numbers:
            kept.append(item)
        else:
            unknown.setdefault((item.split, item.label), []).append(item)
    for (split, label), some in unknown.items():
        where = f"in {split}" if split else "here"
        problems.add(
            some[0].place, f"class {label} is {where} ({len(some)} sample{'s' * (len(some) > 1)}) but not in train"
        )
    need_classes(problems.dataset, classes)
    problems.settle()
    return kept, classes, torch.tensor([numbers[item.label] for item in kept], dtype=torch.int64)


def need_samples(dataset: str, samples: Sized) -> None:
    """Raise ConfigError if there are no samples."""
    if not len(samples):
        raise ConfigError(f"dataset={dataset}: no samples in dataset.path")


def need_classes(dataset: str, classes: Sequence[str]) -> None:
    """Raise ConfigError if train has less than two classes."""
    if not classes:
        raise ConfigError(f"dataset={dataset}: no samples in train")
    if len(classes) < 2:
        raise ConfigError(f"dataset={dataset}: only 1 class, {classes[0]}; there must be at least 2 to tell apart")


def divide(
    dataset: str,
    seed: int,
    source: Source,
    names: Sequence[str],
    options: ReadOptions,
    keys: OwnKeys,
    groups: Sequence[str] | None = None,
) -> tuple[Split, Split | None, Split]:
    """Return train, val and test. A split that the data do not have is cut off from train.

    If train is too small to be cut, a finished run gets train as train and test, and no val.

    Args:
        source: all samples.
        names: the split of each sample, as in ``Item.split``.
        groups: the group of each sample; a cut keeps the samples of a group together.

    Raises:
        ConfigError: a split would have no samples, or there are too few groups.
    """

    def groups_of(split: Split) -> list[str] | None:
        return None if groups is None else [groups[position] for position in split.positions.tolist()]

    given = {name: torch.tensor([at for at, each in enumerate(names) if each == name]) for name in {*names}}
    if "" in given:
        given = {"train": given.pop("")}
    if "train" not in given:
        raise ConfigError(f"dataset={dataset}: no samples in train")
    parts = {name: Split(source, positions) for name, positions in given.items()}
    train, val, test = parts["train"], parts.get("val"), parts.get("test")
    try:
        if test is None:
            leave = 2 if val is None and keys["val_fraction"] > 0 else 1
            fraction, test_seed = keys["test_fraction"], keys["test_seed"]
            train, test = split_off(train, fraction, test_seed, "test", groups_of(train), leave)
        if test is None:
            raise ConfigError("dataset.test_fraction: must be greater than 0, as there is no test split, got 0")
        if val is None:
            train, val = split_off(train, keys["val_fraction"], seed_of_val(seed, keys), "val", groups_of(train))
    except ConfigError:
        if options.preprocessing is None:
            raise
        # too few samples to cut; a finished run may still be evaluated on them, on its own test split if there is one
        return train, val, parts["train"] if test is None else test
    return train, val, test


def warn_of_leaks(splits: Sequence[str], groups: Sequence[str], problems: Problems) -> None:
    """Warn about groups that two given splits share.

    Args:
        splits: the split of each sample, as in ``Item.split``.
        groups: the group of each sample.
        problems: receives the warnings.
    """
    within: dict[str, set[str]] = {}
    for split, group in zip(splits, groups, strict=True):
        within.setdefault(split, set()).add(group)
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = sorted(within.get(one, set()) & within.get(other, set()))
        if shared:
            named = ", ".join(shared[:MAX_GROUPS]) + ", …" * (len(shared) > MAX_GROUPS)
            are = "group is" if len(shared) == 1 else "groups are"
            problems.warnings.append(
                f"{len(shared):,} {are} in {one} and in {other} ({named}), so the {other} metrics are too good"
            )


# ---- reading samples


def fits(in_memory: bool | Literal["auto"], num_bytes: int) -> bool:
    """Return whether to hold samples of ``num_bytes`` in memory; ``auto`` compares their size with the free memory."""
    if in_memory != "auto":
        return in_memory
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return num_bytes * processes <= MEMORY_SHARE * free_memory()


Result = TypeVar("Result")
MAX_AHEAD = 512  # maximum number of samples that the threads read ahead


@dataclass(frozen=True)
class FileSource:
    """Samples that are read from files each time a batch needs them.

    Args:
        read: returns the sample at a position, (*shape), or raises RunError; must be picklable for DataLoader workers.
        targets: as in ``Source``.
        lengths: (samples,) int64, the number of steps where steps vary; samples are then (steps, *width).
    """

    read: Callable[[int], Tensor]
    targets: Tensor
    lengths: Tensor | None = None

    def fetch(self, positions: Tensor) -> Inputs:
        return collate(list(map_in_threads(self.read, positions.tolist())), varying=self.lengths is not None)


def map_in_threads(function: Callable[[int], Result], positions: Sequence[int]) -> Iterator[Result]:
    """Yield ``function(position)`` for every position, in order. A few threads compute it, as decoders release the GIL.

    At most ``MAX_AHEAD`` results are held in memory. A DataLoader worker uses no threads, as it is one of several.
    """
    if get_worker_info() is not None:
        yield from map(function, positions)
        return
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(positions), MAX_AHEAD):
            yield from pool.map(function, positions[start : start + MAX_AHEAD])


def read_all(read: Callable[[int], Result], places: Sequence[str], problems: Problems) -> list[Result | None]:
    """Return the result of ``read`` for each sample, or None for a bad sample, which is reported as a problem.

    Args:
        read: reads the sample at a position; raises RunError for a bad sample.
        places: the place of each sample, for messages.
    """

    def attempt(position: int) -> Result | RunError:
        try:
            return read(position)
        except RunError as error:
            return error

    found: list[Result | None] = []
    for place, result in zip(places, map_in_threads(attempt, range(len(places))), strict=True):
        if isinstance(result, RunError):
            problems.add(place, str(result).removeprefix(f"{place}: "))
        found.append(None if isinstance(result, RunError) else result)
    return found


def fingerprint_of_names(items: Iterable[Item], name_of: Callable[[Item], str], *settings: object) -> str:
    """Return a SHA-256 of the settings and of each item's split, class and name, which needs no reading of samples."""
    digest = hashlib.sha256(repr(settings).encode())
    for item in items:
        digest.update(f"{item.split}\0{item.label}\0{name_of(item)}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
