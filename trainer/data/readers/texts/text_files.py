"""Text files with a text a line, whose label is in the name of the file, in the line, or in another file."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from trainer.config import ConfigError
from trainer.config.errors import reason_of
from trainer.config.untrusted_files import blocks_within_memory, check_file, need_memory
from trainer.data.readers.encodings import encoding_hint, unknown_encoding
from trainer.data.readers.files import Item, Problems
from trainer.data.readers.split_names import are_splits, listed, split_name, words_to_type
from trainer.data.readers.tables.layout import ESCAPED

DOCUMENT = ".txt"
MEMORY_OF_TEXTS = 3  # memory that a byte of a file takes while its texts are read
MARK = "__label__"  # begins a label in the format of fastText
# Words in the names of files with a text a line, and of files with the label of each of these lines.
TEXT_WORDS = {"text", "texts", "sentence", "sentences", "tweets", "reviews", "documents", "inputs", "x"}
LABEL_WORDS = {"label", "labels", "target", "targets", "tags", "y"}
# Names of files that are not classes: whole names, and words of names.
ABOUT = {"readme", "license", "licence", "changelog", "notes", "about", "classes", "requirements", "copyright"}
ABOUT_WORDS = {"readme", "vocab", "vocabulary", "mapping", "labels", "urls", "stopwords", "citation", "license"}
PART_WORDS = {"part", "chunk", "shard", "text", "texts", "sentences", "data", "dataset", "corpus", "all", "documents"}
NUMBERS = re.compile(r"[\d\s.,;:+eE-]+")
SEEN = 100  # lines of a file that are looked at for numbers


# ---- files with a text a line and files with the label of each line


class Parallel(NamedTuple):
    """A file with a text a line, and the file with the label of each line; None if there is no such file."""

    split: str
    texts: Path
    labels: Path | None


def find_parallel(files: Sequence[Path], split: str) -> list[Parallel]:
    """Return the pairs such as ``train_text.txt`` and ``train_labels.txt``; none unless one of them may be train.

    Args:
        split: the split of all files; empty if they may be of several.

    Raises:
        ConfigError: two pairs may be the same split.
    """
    texts: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for file in files:
        words = re.findall(r"[^\W_]+", file.stem.lower())
        for role, found in ((TEXT_WORDS, texts), (LABEL_WORDS, labels)):
            others = [word for word in words if word not in role]
            if len(words) - len(others) == 1 and (not others or split_name(" ".join(others))):
                found.setdefault(" ".join(others), file)
    pairs = []
    for key, file in texts.items():
        name = split_name(key)
        pairs.append(Parallel(name.split if name else "", file, labels.get(key)))
    if split:
        return [pair._replace(split=split) for pair in pairs if pair.split in ("", split) and pair.labels][:1]
    whole = [pair for pair in pairs if pair.labels]
    if not {"", "train"} & {pair.split for pair in whole}:
        return []
    splits = Counter(pair.split for pair in whole)
    twice = [pair.texts for pair in whole if splits[pair.split] > 1 or (not pair.split and len(splits) > 1)]
    if twice:
        raise ConfigError(f"dataset.path: {twice[0].parent}: {listed(twice)} may be the same texts; move one elsewhere")
    return pairs


def parallel_texts(
    pairs: Sequence[Parallel], files: Sequence[Path], encoding: str, problems: Problems
) -> Iterator[Item]:
    """Yield the texts of pairs of files; ``mapping.txt`` among ``files`` names their labels.

    Raises:
        ConfigError: two files of a pair have unequal numbers of lines.
    """
    names, mapping = _read_mapping(files, encoding)
    left = {*files} - {file for pair in pairs for file in (pair.texts, pair.labels)} - {mapping}
    unlabelled = [pair.texts for pair in pairs if pair.labels is None]
    for some, why in ((unlabelled, "have no file of labels"), ([*left - {*unlabelled}], "are no texts or labels")):
        if some:
            ordered = [file for file in files if file in some]
            problems.warnings.append(f"{some[0].parent}: left out, as they {why}: {listed(ordered)}")
    for split, file, label_file in pairs:
        if label_file is None:
            continue
        texts, labels = lines_of(file, encoding), lines_of(label_file, encoding)
        if len(texts) != len(labels):
            raise ConfigError(
                f"dataset.path: {file} has {len(texts):,} lines and {label_file.name} has {len(labels):,}; "
                "each line of the one must be the text of the same line of the other"
            )
        for number, (text, cell) in enumerate(zip(texts, labels, strict=True), 1):
            place, label = f"{file}:{number}", cell.strip()
            if not label:
                problems.add(f"{label_file}:{number}", "no label")
            elif names and label not in names and label not in names.values():
                problems.add(f"{label_file}:{number}", f"label {label} is not in {mapping.name if mapping else ''}")
            elif is_good(text, place, encoding, problems):
                yield Item(split, names.get(label, label), place, text.strip())


def _read_mapping(files: Sequence[Path], encoding: str) -> tuple[dict[str, str], Path | None]:
    """Return the names of numbered labels, from lines ``number<tab>name`` of ``mapping.txt``, and that file."""
    mapping = next((file for file in files if "mapping" in file.stem.lower()), None)
    if mapping is None:
        return {}, None
    names: dict[str, str] = {}
    for number, line in enumerate(lines_of(mapping, encoding), 1):
        cells = line.strip().split("\t") if "\t" in line else line.split(maxsplit=1)
        if len(cells) < 2 or cells[0] in names or cells[1].strip() in names.values():
            if line.strip():
                why = "must be a label, a tab and a name, each of them once"
                raise ConfigError(f"dataset.path: {mapping}:{number}: {why}, got {line.strip()[:40]}")
            continue
        names[cells[0].strip()] = cells[1].strip()
    return names, mapping


# ---- files with a text and its label in each line


Form = Literal["fastText", "table", "word"]


def form_of(file: Path, encoding: str, problems: Problems) -> Form:
    """Return how the lines of a file hold their labels: as fastText's ``__label__x``, before a tab, or as first word.

    Raises:
        ConfigError: no label is found in the lines.
    """
    lines = [line for line in lines_of(file, encoding) if line.strip()]
    if lines and all(line.lstrip().startswith(MARK) for line in lines[:SEEN]):
        return "fastText"
    tabs = Counter(line.count("\t") for line in lines).most_common(1)
    if tabs and tabs[0][0] and tabs[0][1] * 20 >= len(lines) * 19:
        return "table"
    counts = Counter(line.split(maxsplit=1)[0] for line in lines)
    single = sum(count == 1 for count in counts.values())
    if 2 <= len(counts) <= len(lines) / 2 and single * 100 <= len(lines):
        labels = ", ".join(sorted(counts)[:3]) + f" and {len(counts) - 3} more" * (len(counts) > 3)
        problems.warnings.append(f"{file}: the first word of each line is taken for its class: {labels}")
        return "word"
    raise ConfigError(
        f"dataset.path: {file}: has no label in its lines that can be found: a line may be '{MARK}x text', 'x text' or "
        "x, a tab and the text; for another separator type it, such as 'dataset.delimiter=\";\"'"
    )


def labelled_lines(split: str, file: Path, form: Form, encoding: str, problems: Problems) -> Iterator[Item]:
    """Yield the texts of a file whose lines begin with their labels."""
    for number, line in enumerate(lines_of(file, encoding), 1):
        if not line.strip():
            continue
        place, words = f"{file}:{number}", line.split()
        labels = [*itertools.takewhile(lambda word: word.startswith(MARK), words)] if form == "fastText" else words[:1]
        if len(labels) != 1:
            problems.add(place, f"{len(labels)} labels instead of 1" + f": {' '.join(labels[:3])}" * bool(labels))
        elif is_good(text := line.strip()[len(labels[0]) :].strip(), place, encoding, problems):
            yield Item(split, labels[0].removeprefix(MARK) if form == "fastText" else labels[0], place, text)


# ---- a file for each class


def class_files(
    split: str,
    folder: Path,
    files: Sequence[Path],
    classes: Mapping[str, Path] | None,
    encoding: str,
    problems: Problems,
) -> Iterator[Item]:
    """Yield the lines of the files ``<class>.txt`` in a folder; leave out files about the data.

    Args:
        classes: the value of ``dataset.path`` that means that each file is a class; None if the user has typed it.

    Raises:
        ConfigError: the names of files may be those of splits or parts of texts.
    """
    about = [file for file in files if is_about(file.stem)]
    kept = [file for file in files if file not in about]
    numbers = [file for file in kept if _has_numbers_only(file, encoding)]
    if len(numbers) < len(kept):
        about, kept = [*about, *numbers], [file for file in kept if file not in numbers]
    hinted = [file for file in kept if split_name(file.stem) or PART_WORDS & {*_words(file.stem)}]
    if are_splits([file.stem for file in kept]):
        hinted = kept
    if hinted and classes is not None:
        raise _question(folder, kept, hinted, classes)
    if hinted:
        problems.warnings.append(f"{folder}: taken for classes: {listed(hinted)}")
    if about:
        problems.warnings.append(f"{folder}: left out, as they say something about the data: {listed(about)}")
    for file in kept:
        lines = [(number, line) for number, line in enumerate(lines_of(file, encoding), 1) if line.strip()]
        if not lines:
            problems.add(file, "a class without a line")
        for number, line in lines:
            place = f"{file}:{number}"
            if is_good(text := line.strip(), place, encoding, problems):
                yield Item(split, file.stem, place, text)


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", name.lower())


def is_about(name: str) -> bool:
    """Return whether a file says something about the data by its name, without suffix."""
    return name.lower() in ABOUT or bool(ABOUT_WORDS & {*_words(name)})


def _has_numbers_only(file: Path, encoding: str) -> bool:
    lines = [line for line in lines_of(file, encoding)[:SEEN] if line.strip()]
    return bool(lines) and all(NUMBERS.fullmatch(line) for line in lines)


def _question(folder: Path, files: Sequence[Path], hinted: Sequence[Path], classes: Mapping[str, Path]) -> ConfigError:
    parts: dict[str, Path] = {}
    for file in files:
        if (name := split_name(file.stem, short=True)) is not None:
            parts.setdefault(name.split or "test", file)
    largest = max(hinted, key=lambda file: file.stat().st_size)
    words: Path | Mapping[str, Path] = parts if "train" in parts else largest
    return ConfigError(
        f"dataset.path: {folder}: {listed(hinted)} may be splits or parts of texts by their names, or classes; if each "
        f"line has its label, type {words_to_type(words)}; if each file is a class with a text a line, type "
        f"{words_to_type(classes)}; if a name is a split and a class, rename the file, such as train/pos.txt"
    )


# ---- reading


def lines_of(file: Path, encoding: str) -> list[str]:
    """Return the lines of a text file, blank ones too."""
    lines = read_text(file, encoding).split("\n")
    return lines if lines[-1] else lines[:-1]


def read_text(file: Path, encoding: str) -> str:
    """Return the text of a file; escape bytes outside the encoding, so that a message can name their line.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        need_memory(MEMORY_OF_TEXTS * check_file(file).st_size, file)
        with file.open("rb") as opened:
            stored = b"".join(blocks_within_memory(opened, file, MEMORY_OF_TEXTS))
    except OSError as error:
        raise ConfigError(f"dataset.path: {file}: cannot be read: {error.strerror}") from error
    try:
        content = stored.decode(encoding, errors="surrogateescape")
    except UnicodeError:  # some encodings, such as utf-16, do not support surrogateescape
        content = _decoded_roughly(stored, encoding, file)
    except LookupError as error:
        raise unknown_encoding(encoding) from error
    return content.removeprefix("\ufeff")


def _decoded_roughly(stored: bytes, encoding: str, file: Path) -> str:
    try:
        return stored.decode(encoding, errors="replace")
    except UnicodeError as error:  # idna and undefined replace nothing
        raise ConfigError(f"dataset.encoding: {encoding}: does not fit {file}: {reason_of(error)}") from error


def fault_of(text: str, encoding: str) -> str:
    """Return why a text cannot be used; empty for a good text."""
    wrong = ESCAPED.search(text)
    if wrong is None:
        return "" if text.strip() else "no text"
    line = text.count("\n", 0, wrong.start())
    where = f" in line {line + 1} of it" if line else ""
    hint = encoding_hint(encoding)
    return f"byte 0x{ord(wrong[0]) - 0xDC00:02x} is no {encoding}{where}{hint and f'; {hint}'}"


def is_good(text: str, place: str, encoding: str, problems: Problems) -> bool:
    fault = fault_of(text, encoding)
    if fault:
        problems.add(place, fault)
    return not fault
