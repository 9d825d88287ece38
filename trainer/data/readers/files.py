"""What the data sets of a user's own files share: finding samples, naming bad ones, classes, splits, memory."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict, TypeVar

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from trainer.config import ConfigError, Fraction, NonNegativeInt, RunError
from trainer.config.messages import did_you_mean
from trainer.data.data import BAD_SAMPLE, Inputs, ReadOptions, Source, Split, split_off

MAX_NAMED = 5  # bad samples that a message names
# The share of the free memory that samples may fill, of all processes of a machine together.
MEMORY_SHARE = 0.25
# What the folders of a split are called, and what they are called elsewhere.
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
SPLITS |= {"test": "test", "testing": "test"}


class LoadKeys(TypedDict):
    """The keys that every data set has."""

    val_fraction: Fraction
    sampler: Literal["shuffle", "balanced"]
    in_memory: bool | Literal["auto"]
    workers: NonNegativeInt


class OwnKeys(LoadKeys):
    """The keys that every data set of a user's own files has."""

    path: str | dict[Literal["train", "val", "test"], str] | None
    test_fraction: Fraction
    test_seed: NonNegativeInt
    on_error: Literal["stop", "skip"]


class Item(NamedTuple):
    """A sample as it was found.

    Args:
        split: train, val or test; empty where there are no splits.
        label: its class, as text; or labels or values, (outputs,) float32.
        place: where it stands, for messages.
        content: a path, a text, numbers.
    """

    split: str
    label: Any
    place: str
    content: Any


@dataclass
class Problems:
    """Bad samples: collected, and refused or left out at the end, as ``dataset.on_error`` says."""

    dataset: str
    on_error: Literal["stop", "skip"]
    report_all: bool = False
    found: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what else the user has to hear, a line each

    def add(self, place: object, reason: str) -> None:
        """A sample that cannot be used."""
        self.found.append(f"{place}: {reason}")

    def settle(self) -> tuple[str, ...]:
        """The notes, and the warning of what is left out, if there is something; one each with ``report_all``.

        Raises:
            ConfigError: with ``on_error=stop``.
        """
        notes, self.notes = tuple(self.notes), []
        count = len(self.found)
        if count == 0:
            return notes
        if self.report_all:
            found, self.found = self.found, []
            return (*notes, *(BAD_SAMPLE + each for each in found))
        more = f" … and {count - MAX_NAMED} more" * (count > MAX_NAMED)
        named = "; ".join(self.found[:MAX_NAMED]) + more
        samples = "1 bad sample" if count == 1 else f"{count} bad samples"
        if self.on_error == "stop":
            raise ConfigError(
                f"dataset={self.dataset}: {samples}: {named} (dataset.on_error=skip leaves "
                f"{'it' if count == 1 else 'them'} out)"
            )
        self.found = []
        return (*notes, f"{samples} left out: {named}")


def roots(dataset: str, path: str | dict[Any, str] | None) -> dict[str, Path]:
    """The folder or file of each split that ``dataset.path`` names; of no split, under the empty name.

    Raises:
        ConfigError: it names nothing, no train, or something that does not exist.
    """
    if path is None:
        raise ConfigError(f"dataset.path: missing; the folder or file with the data of dataset={dataset}")
    named = {"": path} if isinstance(path, str) else dict(path)
    if isinstance(path, dict) and "train" not in named:
        raise ConfigError(f"dataset.path: names {', '.join(named) or 'nothing'}, but no train")
    found = {split: Path(place).expanduser() for split, place in named.items()}
    missing = []
    for split, place in found.items():
        if not place.exists():
            near = did_you_mean(place.name, [each.name for each in place.parent.glob("*")])
            key = f"dataset.path.{split}" if split else "dataset.path"
            missing.append(f"{key}: {place}: no such file or folder{near or ''}".rstrip(";"))
    if missing:
        raise ConfigError(*missing)
    return found


def class_folders(dataset: str, path: str | dict[Any, str] | None, problems: Problems) -> Iterator[Item]:
    """Every file in the class folders of each split, whatever it holds, sorted by name.

    A folder may hold folders of splits, such as train and test, and those the classes. Hidden files are left out.

    Raises:
        ConfigError: as ``roots``; or a path is no folder, or has none in it.
    """
    for given, root in roots(dataset, path).items():
        if not root.is_dir():
            raise ConfigError(f"dataset.path: {root}: must be a folder of class folders")
        folders = folders_in(root)
        parts = {folder: SPLITS[folder.name.lower()] for folder in folders if folder.name.lower() in SPLITS}
        if not given and "train" in parts.values():
            strange = [folder.name for folder in folders if folder not in parts]
            if strange:
                raise ConfigError(
                    f"dataset.path: {root}: holds train and, beside it, {', '.join(strange[:3])}; give each split: "
                    "dataset.path={train: …, test: …}"
                )
            groups = [(split, folder) for folder, split in parts.items()]
        else:
            groups = [(given, root)]
        for split, parent in groups:
            classes = folders_in(parent)
            if not classes:
                raise ConfigError(f"dataset.path: {parent}: has no class folders in it")
            for folder in classes:
                empty = True
                for file in files_below(folder):
                    empty = False
                    yield Item(split, folder.name, os.fspath(file), file)
                if empty:
                    problems.add(folder, "a class without a file")


def folders_in(parent: Path) -> list[Path]:
    """Its folders in natural order, without hidden ones."""
    return sorted(
        (Path(entry.path) for entry in os.scandir(parent) if entry.is_dir() and not entry.name.startswith(".")),
        key=lambda folder: natural(folder.name),
    )


def files_below(folder: Path) -> Iterator[Path]:
    """Every file in a folder and the folders in it, sorted, without hidden ones."""
    entries = sorted(os.scandir(folder), key=lambda entry: natural(entry.name))
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "Thumbs.db":
            continue
        if entry.is_dir(follow_symlinks=False):  # a link may lead back here, or to another class
            yield from files_below(Path(entry.path))
        else:
            yield Path(entry.path)


def natural(text: str) -> list[tuple[int, float, str]]:
    """A key that sorts numbers in texts as numbers: 2 before 10. No two texts have the same."""
    parts = re.split(r"([0-9]+)", text)
    numbers = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]
    return [*numbers, (-1, 0, text)]  # 1 and 01


def with_suffix(
    items: Iterable[Item], suffixes: Iterable[str], noun: str, problems: Problems
) -> tuple[list[Item], tuple[str, ...]]:
    """The files whose names end as ``suffixes`` (in lower case, with the dot), and a warning that counts the others.

    A class folder without such a file is a problem.
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
    if not others:
        return taken, ()
    files = "1 file is" if len(others) == 1 else f"{len(others)} files are"
    return taken, (f"{files} no {noun} by name and left out, such as {others[0].place}",)


def classify(
    dataset: str, items: Sequence[Item], options: ReadOptions, problems: Problems
) -> tuple[list[Item], tuple[str, ...], Tensor]:
    """The items whose class is one of train's, the classes in natural order, and the number of each item's class.

    Raises:
        ConfigError: nothing to learn from: no samples, or less than two classes.
    """
    if not items:
        raise ConfigError("; ".join([f"dataset={dataset}: no samples in dataset.path", *problems.settle()]))
    train = "train" if any(item.split for item in items) else ""
    classes = options.classes or tuple(sorted({item.label for item in items if item.split == train}, key=natural))
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
        problems.add(some[0].place, f"class {label} is {where} ({len(some)} samples) but not in train")
    need_classes(dataset, classes)
    return kept, classes, torch.tensor([numbers[item.label] for item in kept], dtype=torch.int64)


def need_samples(dataset: str, items: Sequence[object]) -> None:
    """Raises ConfigError where there is no sample at all."""
    if not items:
        raise ConfigError(f"dataset={dataset}: no samples in dataset.path")


def need_classes(dataset: str, classes: Sequence[str]) -> None:
    """Raises ConfigError where there are less than two classes."""
    if len(classes) < 2:
        only = f", {classes[0]}" if classes else ""
        raise ConfigError(f"dataset={dataset}: only {len(classes)} class{only}; there must be at least 2 to tell apart")


def divide(
    dataset: str,
    seed: int,
    source: Source,
    names: Sequence[str],
    options: ReadOptions,
    keys: OwnKeys,
) -> tuple[Split, Split | None, Split]:
    """Train, val and test: those that were given, and what is cut off train where they were not.

    Args:
        source: of all samples.
        names: the split of each, as ``Item.split``.

    Raises:
        ConfigError: a split would be without a sample.
    """
    given = {name: torch.tensor([at for at, each in enumerate(names) if each == name]) for name in {*names}}
    if "" in given:
        given = {"train": given.pop("")}
    if "train" not in given:
        raise ConfigError(f"dataset={dataset}: no samples in train")
    parts = {name: Split(source, positions) for name, positions in given.items()}
    train, val, test = parts["train"], parts.get("val"), parts.get("test")
    try:
        if test is None:
            train, test = split_off(train, keys["test_fraction"], keys["test_seed"], key="test")
        if test is None:
            raise ConfigError("dataset.test_fraction: must be greater than 0, as there is no test split, got 0")
        if val is None:
            train, val = split_off(train, keys["val_fraction"], seed)
    except ConfigError:
        if options.preprocessing is None:
            raise
        return parts["train"], None, parts["train"]  # too few to be cut, and nobody learns of them
    return train, val, test


def fits(in_memory: bool | Literal["auto"], num_bytes: int) -> bool:
    """Whether samples that take ``num_bytes`` are to be held in memory; ``auto`` looks at what is free."""
    if in_memory != "auto":
        return in_memory
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 2**33
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return num_bytes * processes <= MEMORY_SHARE * free


Read = Callable[[int], Tensor]
Result = TypeVar("Result")
AT_ONCE = 512  # samples that threads read ahead


@dataclass(frozen=True)
class FileSource:
    """Samples that are read when they are asked for.

    Args:
        read: the sample at a position, (*shape); picklable, as data workers get a copy. Raises RunError.
        targets: as in ``Source``.
        lengths: (samples,) int64 steps, where they vary; then samples are (steps, *width).
    """

    read: Read
    targets: Tensor
    lengths: Tensor | None = None

    def fetch(self, positions: Tensor) -> Inputs:
        """One after the other, stacked; padded with zeros to the longest where steps vary."""
        samples = list(by_threads(self.read, positions.tolist()))
        if self.lengths is None:
            return (torch.stack(samples),)
        padded = torch.nn.utils.rnn.pad_sequence(samples, batch_first=True)
        return padded, torch.tensor([len(sample) for sample in samples])


def by_threads(do: Callable[[int], Result], positions: Sequence[int]) -> Iterator[Result]:
    """``do`` at every position, in order, by a few threads: what decodes leaves Python's lock to the others.

    Not many at a time, so that the results need no memory. A data worker is one of several, and has no threads.
    """
    if get_worker_info() is not None:
        yield from map(do, positions)
        return
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(positions), AT_ONCE):
            yield from pool.map(do, positions[start : start + AT_ONCE])


def read_all(
    read: Callable[[int], Result], places: Sequence[str], problems: Problems, *, keep: bool = True
) -> list[Result | None]:
    """Every sample, or what is to be known of it, read by a few threads; those that cannot be are problems, and None.

    Args:
        read: raises RunError for a bad one.
        places: of each sample, for messages.
        keep: the samples; else only looks whether each can be read.
    """

    def attempt(position: int) -> Result | RunError | None:
        try:
            sample = read(position)
        except RunError as error:
            return error
        return sample if keep else None

    found: list[Result | None] = []
    for place, result in zip(places, by_threads(attempt, range(len(places))), strict=True):
        if isinstance(result, RunError):
            problems.add(place, str(result).removeprefix(f"{place}: "))
        found.append(None if isinstance(result, RunError) else result)
    return found


def identity(items: Iterable[Item], root_of: Callable[[Item], str], *settings: object) -> str:
    """A SHA-256 over names, sizes and classes of files: what their samples are, without reading them."""
    digest = hashlib.sha256(repr(settings).encode())
    for item in items:
        digest.update(f"{item.split}\0{item.label}\0{root_of(item)}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
