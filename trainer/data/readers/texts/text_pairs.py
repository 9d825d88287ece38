"""Files with a text a line, and files with the label of each of these lines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.config import ConfigError
from trainer.data.readers.files import Item, Problems
from trainer.data.readers.split_names import listed, split_name
from trainer.data.readers.texts.text_files import DOCUMENT, head_of, is_good, lines_of, words_of
from trainer.data.readers.texts.text_lines import WORD_LABELS, find_form, may_be_labels

# Words in the names of files with a text a line, and of files with the label of each of these lines.
TEXT_WORDS = {"text", "texts", "sentence", "sentences", "tweets", "reviews", "documents", "inputs", "x"}
LABEL_WORDS = {"label", "labels", "target", "targets", "tags", "y"}
MORE_LABEL_WORDS = {"class", "classes", "category", "categories", "gold", "intent", "intents", "truth", "sentiment"}
MAY_BE_LINES = frozenset(
    (
        *("", DOCUMENT, ".in", ".out", ".text", ".texts", ".sent", ".sents", ".data", ".pos", ".neg"),
        *(".lab", ".label", ".labels", ".gold", ".intent", ".tags", ".train", ".dev", ".valid", ".val", ".test"),
    )
)
MAX_FILES = 50  # of a folder in which such files are looked for


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


def pairs_by_content(files: Sequence[Path], split: str, encoding: str, problems: Problems) -> list[Parallel]:
    """Return the files of texts and of as many short lines that repeat, which are their labels; none without train.

    Where a split has more than two files, the name of one must say that it holds labels.

    Args:
        files: the files of a folder.
        split: the split of all files; empty if they may be of several.
        encoding: the encoding of the files.
        problems: gets a warning that says which files are taken for labels.
    """
    groups: dict[str, list[Path]] = {}
    for file in files if len(files) <= MAX_FILES else ():
        name = split_name(file.name)
        if file.suffix.lower() in MAY_BE_LINES and (name is None or name.split):
            groups.setdefault(name.split if name else "", []).append(file)
    pairs = []
    for part, some in groups.items():
        labels = [file for file in some if _holds_labels(file, encoding)]
        named = [file for file in labels if has_label_name(file)]
        labels = named if named or len(some) > 2 else [file for file in labels if _are_single(file, encoding)]
        if len(labels) != 1:
            continue
        count = len(lines_of(labels[0], encoding))
        texts = [file for file in some if file not in labels and _holds_texts(file, encoding, count)]
        if len(texts) == 1:
            pairs.append(Parallel(split or part, texts[0], labels[0]))
    splits = {pair.split for pair in pairs}
    if not splits & {"", "train", split} or len(pairs) != len(splits) or (len(splits) > 1 and "" in splits):
        return []
    for pair in pairs:
        if pair.labels is not None:
            problems.warnings.append(f"{pair.labels}: its lines are taken for the labels of those of {pair.texts.name}")
    return pairs


def has_label_name(file: Path) -> bool:
    """Return whether the name of a file may be that of labels, such as ``label`` and ``train.labels.txt``."""
    return file.suffix.lower() in MAY_BE_LINES and bool({*words_of(file.name)} & {*LABEL_WORDS, *MORE_LABEL_WORDS})


def _holds_labels(file: Path, encoding: str) -> bool:
    lines = head_of(file, encoding)
    return "\0" not in "".join(lines[:1]) and may_be_labels(lines)


def _are_single(file: Path, encoding: str) -> bool:
    """Return whether the lines are single words, few of them different."""
    lines = [line.strip() for line in head_of(file, encoding)]
    return not any(" " in line for line in lines) and 2 <= len({*lines}) <= len(lines) / 5


def _holds_texts(file: Path, encoding: str, count: int) -> bool:
    """Return whether a file has so many lines, and they are plain texts, which hold no labels of their own."""
    lines = [line for line in head_of(file, encoding) if line.strip()]
    words = [line.split() for line in lines]
    if sum(map(len, words)) < 2 * len(lines) or all(map(WORD_LABELS.fullmatch, words[0] if words else ["O"])):
        return False
    return len(lines_of(file, encoding)) == count and find_form(file, encoding) is None


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
        cells = line.strip().split("\t") if "\t" in line else re.split(r"\s*[,;:=]\s*|\s+", line.strip(), maxsplit=1)
        if len(cells) < 2 or cells[0] in names or cells[1].strip() in names.values():
            if line.strip():
                why = "must be a label, a tab and a name, each of them once"
                raise ConfigError(f"dataset.path: {mapping}:{number}: {why}, got {line.strip()[:40]}")
            continue
        names[cells[0].strip()] = cells[1].strip()
    return names, mapping
