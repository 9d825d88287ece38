"""Text files of which each is a class with a text a line, or which hold labels of their own; and questions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.config import ConfigError
from trainer.data.readers.files import Item, Problems
from trainer.data.readers.split_names import are_splits, listed, split_name, words_to_type
from trainer.data.readers.texts.text_files import head_of, is_about, is_good, lines_of, words_of
from trainer.data.readers.texts.text_lines import LineForm, find_form, first_words, refuse_words

PART_WORDS = {"part", "chunk", "shard", "text", "texts", "sentences", "data", "dataset", "corpus", "all", "documents"}
NUMBERS = re.compile(r"[\d\s.,;:+eE-]+")
SEEN = 100  # lines of a file that are looked at for numbers


class Sorted(NamedTuple):
    """The text files of a folder that may be samples, in their forms, and those that say something about the data."""

    files: list[Path]
    about: list[Path]
    forms: list[LineForm | None]

    @property
    def form(self) -> LineForm | None:
        """The form of all files if each of them holds labels in its lines; else None."""
        return self.forms[0] if len({*self.forms}) == 1 and self.forms[0] and self.forms[0].has_labels else None

    def first_words(self, encoding: str) -> list[str]:
        """Return the labels if the lines of all files begin with the same few words; else an empty list."""
        if any(self.forms) or any(split_name(file.stem) for file in self.files):
            return []
        labels = first_words(head_of(self.files[0], encoding)) if self.files else []
        others = self.files[1:] if labels else ()
        return labels if all(first_words(head_of(file, encoding)) == labels for file in others) else []

    def warn(self, folder: Path, problems: Problems) -> None:
        if self.about:
            problems.warnings.append(f"{folder}: left out, as they say something about the data: {listed(self.about)}")


def sort_out(files: Sequence[Path], encoding: str) -> Sorted:
    """Return which text files of a folder may be samples, and how their lines hold labels."""
    about = [file for file in files if is_about(file.stem) or is_about(file.name)]
    kept = [file for file in files if file not in about]
    numbers = [file for file in kept if _has_numbers_only(file, encoding)]
    if len(numbers) < len(kept):
        about, kept = [*about, *numbers], [file for file in kept if file not in numbers]
    return Sorted(kept, about, [find_form(file, encoding) for file in kept])


def class_files(
    split: str,
    folder: Path,
    found: Sorted,
    classes: Mapping[str, Path] | None,
    encoding: str,
    problems: Problems,
) -> Iterator[Item]:
    """Yield the lines of the files ``<class>.txt`` in a folder.

    Args:
        classes: the value of ``dataset.path`` that means that each file is a class; None if the user has typed it.

    Raises:
        ConfigError: the names of files may be those of splits or parts of texts, or the files hold something else.
    """
    kept = found.files
    hinted = [file for file in kept if split_name(file.stem) or PART_WORDS & {*words_of(file.stem)}]
    if are_splits([file.stem for file in kept]):
        hinted = kept
    if classes is not None:
        _check_contents(folder, found, classes)
        if hinted:
            raise _question(folder, kept, hinted, classes, encoding)
    elif hinted:
        problems.warnings.append(f"{folder}: taken for classes: {listed(hinted)}")
    found.warn(folder, problems)
    by_suffix = len(kept) > 1 and len({file.stem for file in kept}) == 1  # reviews.pos and reviews.neg
    for file in kept:
        yield from _texts_of_class(split, file.suffix[1:] if by_suffix else file.stem, file, encoding, problems)


def _texts_of_class(split: str, label: str, file: Path, encoding: str, problems: Problems) -> Iterator[Item]:
    lines = [(number, line) for number, line in enumerate(lines_of(file, encoding), 1) if line.strip()]
    if not lines:
        problems.add(file, "a class without a line")
    for number, line in lines:
        place = f"{file}:{number}"
        if is_good(text := line.strip(), place, encoding, problems):
            yield Item(split, label, place, text)


# ---- files whose names are a split and a class, such as train_pos.txt


class NamedFile(NamedTuple):
    """A file and what its name says: the split, and the rest, such as the class ``pos`` of ``train_pos.txt``."""

    split: str
    label: str
    file: Path


def files_of_splits(files: Sequence[Path]) -> list[NamedFile]:
    """Return the split in the name of each file; nothing if one has none, or train has not several files."""
    found = []
    for file in files:
        name = split_name(file.stem)
        if name is None or not name.split:
            return []
        words = re.findall(r"[^\W_]+", file.stem)
        found.append(NamedFile(name.split, "_".join(word for word in words if split_name(word) is None), file))
    return found if sum(each.split == "train" for each in found) > 1 else []


def are_classes(named: Sequence[NamedFile]) -> bool:
    """Return whether the rests of the names may be classes: those of train, each of them once a split."""
    labels = [(each.split, each.label) for each in named]
    trained = {label for split, label in labels if split == "train"}
    words = [words_of(label) for label in trained]
    return (
        len({*labels}) == len(labels)
        and {label for _, label in labels} == trained
        and all({*some} - PART_WORDS for some in words)
    )


def classes_of_splits(folder: Path, named: Sequence[NamedFile], encoding: str, problems: Problems) -> Iterator[Item]:
    """Yield the lines of files such as ``train_pos.txt``; a warning says what their names are taken for."""
    split, label, file = next(each for each in named if each.split == "train")
    said = "the names of files are taken for a split and a class"
    problems.warnings.append(f"{folder}: {said}: {file.name} is the class {label} of {split}")
    for each in named:
        yield from _texts_of_class(each.split, each.label, each.file, encoding, problems)


# ---- what may be something else


def _has_numbers_only(file: Path, encoding: str) -> bool:
    lines = [line for line in head_of(file, encoding)[:SEEN] if line.strip()]
    return bool(lines) and all(NUMBERS.fullmatch(line) for line in lines)


def _check_contents(folder: Path, found: Sorted, classes: Mapping[str, Path]) -> None:
    """Raise ConfigError if the lines of some files show that they are no classes."""
    typed = f"if each file is a class with a text a line, type {words_to_type(classes)}"
    pairs = [(file, form) for file, form in zip(found.files, found.forms, strict=True) if form is not None]
    labelled = [file for file, form in pairs if form.has_labels]
    words = [file for file, form in pairs if form.kind == "words"]
    if labelled:
        largest = max(labelled, key=lambda file: file.stat().st_size)
        raise ConfigError(
            f"dataset.path: {folder}: labels are in the lines of {listed(labelled)}, but not in all files in one way; "
            f"for one of them type {words_to_type(largest)}; for several, move them to a folder of their own; {typed}"
        )
    if words:
        raise ConfigError(f"{refuse_words(words[0])}; {typed}") if len(found.files) > 1 else refuse_words(words[0])
    if pairs:
        tables = [file for file, _ in pairs]
        raise ConfigError(
            f"dataset.path: {folder}: {listed(tables)} begin as tables do, and none has a column of texts and one of "
            f"labels; make one table of them, with the columns text and label in a .csv file, and name it; {typed}"
        )


def _question(
    folder: Path, files: Sequence[Path], hinted: Sequence[Path], classes: Mapping[str, Path], encoding: str
) -> ConfigError:
    parts: dict[str, Path] = {}
    for file in files:
        if (name := split_name(file.stem, short=True)) is not None:
            parts.setdefault(name.split or "test", file)
    others = [file for file in files if file not in parts.values()]
    if len(others) == 1 and {*parts} == {"train"}:  # such as TREC_10.label beside train_5500.label
        parts["test"] = others[0]
    largest = max(hinted, key=lambda file: file.stat().st_size)
    words: Path | Mapping[str, Path] = parts if "train" in parts else largest
    has_labels = first_words(head_of(parts.get("train", largest), encoding))
    lines = f"if each line has its label, type {words_to_type(words)}; " if has_labels else ""
    return ConfigError(
        f"dataset.path: {folder}: {listed(hinted)} may be splits or parts of texts by their names, or classes; "
        f"{lines}if each file is a class with a text a line, type {words_to_type(classes)}; if a name is a split and a "
        "class, rename the file, such as train/pos.txt"
    )
