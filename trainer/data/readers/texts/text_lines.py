"""How the lines of a text file hold their labels: as fastText, in columns, as JSON, or as first words."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from trainer.config import ConfigError
from trainer.data.readers.files import Item, Problems
from trainer.data.readers.texts.text_files import head_of, is_good

MARK = "__label__"  # begins a label in the format of fastText
DELIMITERS = "\t;|,"  # between the columns of a file, in the order in which they are tried
# The usual names of columns. Where no key names a column, the first of these names that a table has is used.
TEXT_NAMES = ("text", "sentence", "review", "content", "document", "comment", "tweet", "message", "input", "title")
LABEL_NAMES = ("label", "class", "target", "category", "sentiment", "polarity", "language", "intent", "tag", "y")
NAMES = {*TEXT_NAMES, *LABEL_NAMES, "id", "ids", "index", "idx"}
MAX_LINE = 100_000  # characters of a line that are looked at, which the library limits
MAX_LABELS = 100  # different labels of a file, and characters of a cell that may be one
WORD_LABELS = re.compile(r"O|[BIESLU]-\S+")  # the label of a word, in the formats of CoNLL
NEARLY_ALL = 0.95  # share of the lines of a file that have its form


class LineForm(NamedTuple):
    """The form of the lines of a file.

    Args:
        kind: ``__label__x text``; a table with a label in a column; JSON objects; a table without a column of labels;
            or a word and its label in each line.
        delimiter: what stands between the columns of a table.
        header: whether the first line names the columns.
    """

    kind: Literal["fastText", "table", "json", "other table", "words"]
    delimiter: str = ""
    header: bool = False

    @property
    def has_labels(self) -> bool:
        return self.kind in ("fastText", "table", "json")


def find_form(file: Path, encoding: str) -> LineForm | None:
    """Return the form of the first lines of a file; None if they are plain texts, as far as can be seen."""
    lines = [line for line in head_of(file, encoding) if line.strip()]
    if not lines:
        return None
    if all(line.lstrip().startswith(MARK) for line in lines):
        return LineForm("fastText")
    if all(map(_is_object, lines[:20])):
        return LineForm("json")
    ends = [line.split() for line in lines]
    tagged = sum(len(words) > 1 and WORD_LABELS.fullmatch(words[-1]) is not None for words in ends)
    if tagged >= NEARLY_ALL * len(lines) and {words[-1] for words in ends} != {"O"}:
        return LineForm("words")
    return next((form for sign in DELIMITERS if (form := _table_form(lines, sign)) is not None), None)


def _is_object(line: str) -> bool:
    try:
        return line.lstrip().startswith("{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _table_form(lines: Sequence[str], delimiter: str) -> LineForm | None:
    """Return the form of lines with a delimiter if nearly all have the same number of columns; else None."""
    rows = split_lines(lines, delimiter)
    width, count = Counter(map(len, rows)).most_common(1)[0]
    if width < 2 or count < NEARLY_ALL * len(rows):
        return None
    header = len(rows[0]) == width and _is_header(rows[0], rows[1:])
    columns = [*zip(*(row for row in rows[header:] if len(row) == width), strict=True)]
    texts = [at for at, cells in enumerate(columns) if are_texts(cells)]
    fewest = 1 if header or delimiter == "\t" else 2  # as a comma may be part of texts
    labels = [at for at, cells in enumerate(columns) if at not in texts and may_be_labels(cells, fewest)]
    if texts and (labels or (header and {cell.strip().lower() for cell in rows[0]} & {*LABEL_NAMES})):
        return LineForm("table", delimiter, header)
    return LineForm("other table", delimiter, header) if header else None


def split_lines(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """Return the cells of each line; in tab-separated lines, quotes are ordinary characters."""
    return [
        line.split(delimiter) if delimiter == "\t" or '"' not in line else next(csv.reader([line], delimiter=delimiter))
        for line in (line[:MAX_LINE].replace("\0", " ") for line in lines)
    ]


def _is_header(row: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Return whether a row has usual names of columns, none of which occurs in its column below."""
    words = [re.findall(r"[^\W_]+", cell.lower()) for cell in row]
    is_named = all(0 < len(some) <= 3 for some in words) and any({*some} & NAMES for some in words)
    return is_named and not any(
        cell in {other[at] for other in below if at < len(other)} for at, cell in enumerate(row)
    )


def are_texts(cells: Sequence[str]) -> bool:
    """Return whether most cells have several words."""
    return sum(" " in cell.strip() for cell in cells) * 2 > len(cells)


def may_be_labels(cells: Sequence[str], fewest: int = 1) -> bool:
    """Return whether cells are short, and few of them different, but at least ``fewest``."""
    different = {cell.strip() for cell in cells}
    is_short = all(0 < len(cell) <= MAX_LABELS and len(cell.split()) <= 3 for cell in different)
    return is_short and fewest <= len(different) <= MAX_LABELS and len(different) * 2 <= len(cells)


def form_of(file: Path, lines: Sequence[str], encoding: str, problems: Problems) -> LineForm | None:
    """Return the form of a file that has its labels in its lines; None if they are the first words.

    Raises:
        ConfigError: no label is found in the lines.
    """
    form = find_form(file, encoding)
    if form is not None and form.has_labels:
        return form
    if form is not None and form.kind == "words":
        raise refuse_words(file)
    lines = [line for line in lines if line.strip()]
    tabs = Counter(line.count("\t") for line in lines).most_common(1)
    if tabs and tabs[0][0] and tabs[0][1] >= NEARLY_ALL * len(lines):
        return LineForm("table", "\t", header=form is not None and form.header)
    if labels := first_words(lines):
        problems.warnings.append(f"{file}: the first word of each line is taken for its class: {shown_labels(labels)}")
        return None
    raise ConfigError(
        f"dataset.path: {file}: has no label in its lines that can be found: a line may be '{MARK}x text', 'x text' or "
        "x, a tab and the text; for another separator type it, such as 'dataset.delimiter=\";\"'"
    )


def shown_labels(labels: Sequence[str]) -> str:
    """Return some labels, for a message."""
    return ", ".join(labels[:3]) + f" and {len(labels) - 3} more" * (len(labels) > 3)


def refuse_words(file: Path) -> ConfigError:
    return ConfigError(
        f"dataset.path: {file}: has a word and its label in each line, and a label for each word is not supported; "
        "each text needs one class"
    )


def first_words(lines: Sequence[str]) -> list[str]:
    """Return the labels if the first words of lines may be labels, which few lines have within their texts."""
    words = [line.split() for line in lines if line.strip()]
    counts = Counter(some[0] for some in words)
    single = sum(count == 1 for count in counts.values())
    if not (2 <= len(counts) <= len(words) / 2 and single * 100 <= len(words)):
        return []
    within = sum(not counts.keys().isdisjoint(some[1:]) for some in words)
    return sorted(counts) if within * 2 <= len(words) else []


def labelled_lines(
    split: str, file: Path, lines: Sequence[str], form: LineForm | None, encoding: str, problems: Problems
) -> Iterator[Item]:
    """Yield the texts of a file whose lines begin with their labels, as fastText or as first words."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place, words = f"{file}:{number}", line.split()
        labels = [*itertools.takewhile(lambda word: word.startswith(MARK), words)] if form else words[:1]
        if len(labels) != 1:
            problems.add(place, f"{len(labels)} labels instead of 1" + f": {' '.join(labels[:3])}" * bool(labels))
        elif is_good(text := line.strip()[len(labels[0]) :].strip(), place, encoding, problems):
            yield Item(split, labels[0].removeprefix(MARK) if form else labels[0], place, text)
