"""Fit the encoding of a table's columns to the rows of train, and convert the cells of all rows to raw rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.config import ConfigError
from trainer.config.messages import as_word
from trainer.data.readers.targets import class_names, plain_name
from trainer.data.readers.texts.words import split_words
from trainer.data.table_encoding import DAY, OTHER, WEEK, YEAR, ColumnKind, EncodedColumn, TableEncoding, scale_numbers

MissingRule = Literal["mark", "mean", "bad"]
NUMBERS: tuple[ColumnKind, ...] = ("number", "date")  # the kinds of columns whose cells are read as numbers
MIN_COUNT = 3  # rows of train that a level needs; rarer ones share a feature
MAX_LEVELS = 1000  # levels of a category that have a feature each, the most frequent ones
MAX_WORDS = 256  # words of a text that have a feature each, the most frequent ones
BINS = 48  # bins of a number for models that divide its range, as in TabM (Gorishniy et al. 2025); a multiple of 4
MAX_FITTED = 2**18  # rows from which the quantiles of numbers are computed


class CellColumn(NamedTuple):
    """A column of cells that are read, but not encoded.

    Args:
        name: the name of the column.
        kind: what the column holds.
        texts: the different texts of a category or a text; empty for numbers and dates.
        origin: of dates: the day from which the days count.
    """

    name: str
    kind: ColumnKind
    texts: Sequence[str] = ()
    origin: float = 0.0

    @property
    def is_number(self) -> bool:
        """Whether cells are read as numbers."""
        return self.kind in NUMBERS


def join_cells(
    numbers: NDArray[np.float32], levels: NDArray[np.int64], kinds: Sequence[ColumnKind]
) -> NDArray[np.float32]:
    """Return the cells of columns, (rows, columns), in the order of their kinds.

    Args:
        numbers: (rows, columns) the numbers of the columns of numbers and dates.
        levels: (columns, rows) the codes of the texts of the other columns; -1 for a missing text.
        kinds: the kind of each column.
    """
    if not len(levels):
        return numbers
    cells = np.empty((len(numbers), len(kinds)), dtype=np.float32)
    of_numbers, of_levels = iter(numbers.T), iter(levels)
    for at, kind in enumerate(kinds):
        if kind in NUMBERS:
            cells[:, at] = next(of_numbers)
        else:
            codes = next(of_levels)
            cells[:, at] = np.where(codes < 0, np.nan, codes)
    return cells


def fit_encoding(
    cells: NDArray[np.float32], trained: NDArray[np.bool_], columns: Sequence[CellColumn], missing: MissingRule
) -> TableEncoding:
    """Return the encoding of columns, measured on the rows of train.

    Args:
        cells: (rows, columns); numbers as they are, dates as days, texts as indices in ``CellColumn.texts``; NaN for a
            missing cell.
        trained: (rows,) bool, true for the rows of train.
        columns: the columns, in order.
        missing: whether missing numbers are marked, replaced by the mean, or do not occur.

    Raises:
        ConfigError: a column of numbers has no number in train.
    """
    rows = np.flatnonzero(trained)
    some = rows[:: -(-len(rows) // MAX_FITTED)] if len(rows) else rows
    found = []
    for at, column in enumerate(columns):
        if column.is_number:
            found.append(_fit_number(column, cells[:, at][some], missing))
        else:
            codes = cells[:, at][rows]
            counts = np.bincount(codes[~np.isnan(codes)].astype(np.int64), minlength=len(column.texts))
            if column.kind == "text":
                found.append(_fit_words(column, counts))
            else:
                found.append(_fit_levels(column, counts, has_missing=bool(np.isnan(codes).any())))
    return TableEncoding.of(found)


def to_raw_rows(
    cells: NDArray[np.float32], columns: Sequence[CellColumn], encoding: TableEncoding
) -> NDArray[np.float32]:
    """Return the raw rows of an encoding, (rows, raw width); the other arguments are as in ``fit_encoding``."""
    has_texts = any(each.kind == "text" for each in columns)  # without, a raw row is as wide as its cells
    raw = np.empty((len(cells), encoding.raw_width), dtype=np.float32) if has_texts else cells
    start = 0
    for at, (column, encoded) in enumerate(zip(columns, encoding.columns, strict=True)):
        values = cells[:, at]
        place = slice(start, start + encoded.raw_width)
        start = place.stop
        if column.is_number:
            raw[:, place.start] = values
            continue
        is_there = ~np.isnan(values)
        codes = np.where(is_there, values, len(column.texts)).astype(np.int64)  # the last entry is for a missing cell
        if column.kind == "category":
            raw[:, place.start] = np.array([*_codes_of(column.texts, encoded.levels), np.nan], np.float32)[codes]
        else:
            raw[:, place] = _bags(column.texts, encoded.levels)[codes]
    return raw


def _fit_number(column: CellColumn, values: NDArray[np.float32], missing: MissingRule) -> EncodedColumn:
    there = values[~np.isnan(values)].astype(np.float64)
    has_missing = len(there) < len(values)
    if not len(there):
        leave_out = as_word("dataset.ignore", [column.name])
        raise ConfigError(f"dataset=csv: no sample of train has a number in {column.name}; {leave_out} leaves it out")
    quantiles = np.quantile(there, np.linspace(0, 1, BINS + 1))
    low, centre, high = (float(quantiles[BINS * part // 4]) for part in (1, 2, 3))
    least, most = float(quantiles[0]), float(quantiles[-1])
    scale = 1 / (high - low) if high > low else 2 / (most - least) if most > least else 0.0
    if ((there == least) | (there == most)).all():  # two values become -1 and 1
        centre, scale, quantiles = (least + most) / 2, 2 / (most - least) if most > least else 0.0, quantiles[:0]
    edges = scale_numbers(torch.from_numpy(quantiles), centre, scale).float().unique()
    return EncodedColumn(
        column.name,
        column.kind,
        centre=centre,
        scale=scale,
        fill=float(there.mean()) if missing == "mean" else centre,
        edges=tuple(edges.tolist()),
        missing=has_missing and missing == "mark",
        periods=_periods(there) if column.kind == "date" else (),
        origin=column.origin,
    )


def _periods(days: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the periods that dates go through: years, weeks and, if dates have a time of the day, days."""
    span, has_time = days.max() - days.min(), bool((days % 1 != 0).any())
    years = (YEAR,) if span > 30 else ()
    weeks = (WEEK,) if span > 2 else ()
    return (*years, *weeks, *((DAY,) if has_time else ()))


def _fit_levels(column: CellColumn, counts: NDArray[np.int64], *, has_missing: bool) -> EncodedColumn:
    """Return the encoding of a category whose texts occur ``counts`` times in train."""
    names = class_names(column.texts, np.flatnonzero(counts).tolist())
    totals = Counter[str]()
    for code, name in names.items():
        totals[name] += int(counts[code])
    kept = {name for name, count in totals.most_common(MAX_LEVELS) if count >= MIN_COUNT}
    levels = tuple(name for name in totals if name in kept)
    other = bool(levels) and len(levels) < len(totals)
    return EncodedColumn(column.name, "category", missing=has_missing, levels=levels, other=other)


def _fit_words(column: CellColumn, counts: NDArray[np.int64]) -> EncodedColumn:
    totals = Counter[str]()
    for text, count in zip(column.texts, counts.tolist(), strict=True):
        if count:
            totals.update(dict.fromkeys(_words_of(text), count))
    words = tuple(word for word, count in totals.most_common(MAX_WORDS) if count >= MIN_COUNT)
    return EncodedColumn(column.name, "text", levels=words)


def _codes_of(texts: Sequence[str], levels: Sequence[str]) -> list[float]:
    """Return the code of each text: its index among the levels, or ``OTHER``."""
    number = {name: float(at) for at, name in enumerate(levels)}
    lower = {name.lower(): at for name, at in number.items()} if len(levels) <= 2 else {}  # True and true are one level
    return [number.get(text, number.get(plain_name(text), lower.get(text.lower(), OTHER))) for text in texts]


def _bags(texts: Sequence[str], words: Sequence[str]) -> NDArray[np.float32]:
    """Return which words each text has, (texts + 1, words) of 0 and 1; the last row is for a missing text."""
    number = {word: at for at, word in enumerate(words)}
    bags = np.zeros((len(texts) + 1, len(words)), dtype=np.float32)
    for row, text in enumerate(texts):
        bags[row, [number[word] for word in _words_of(text) if word in number]] = 1
    return bags


def _words_of(text: str) -> set[str]:
    return {*split_words(text.lower())}
