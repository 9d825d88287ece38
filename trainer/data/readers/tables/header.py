"""Decide whether the first row of a table names the columns."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from trainer.data.readers.tables.number_cells import MISSING, PLAIN

MAX_NAME, MAX_WORDS = 60, 6  # characters and words of the longest name of a column
SENTENCE = re.compile(r"[.!?…]\s*$|[,;] ")  # what the texts of samples have, and names of columns do not
NUMBER = re.compile(rf"(?:{PLAIN})\Z")
NEARLY_ALL = 0.9  # share of rows that must have one cell more than a header which has no name for the first column
YEARS = range(1800, 2101)
COMMA = re.compile(r"([+-]?(?:[0-9]+|[0-9]{1,3}(?:\.[0-9]{3})+)),([0-9]+)")  # a number with a decimal comma
MONEY = "$€£¥% "
MIN_STEPS = 3  # numbers in an even row, such as 400, 410, 420, that name columns rather than measure something


class Header(NamedTuple):
    """Whether the first row names the columns, and what to say where it could be read in another way."""

    header: bool
    note: str = ""


def find_header(rows: Sequence[Sequence[str]]) -> Header:
    """Return whether the first of some rows is a header.

    It is one if a text stands above numbers, as no sample mixes these in a column; or if it has no numbers and its
    cells look like names and do not occur below; or if its numbers are those that pandas writes for columns without
    names (0, 1, 2, …), or run evenly, such as wavelengths and years, while those below do not.
    """
    first = [_as_plain(cell) for cell in rows[0]]
    below = [[_as_plain(cell) for cell in row] for row in rows[1:] if len(row) == len(first)]
    columns = [*zip(*below, strict=True)] if below else [()] * len(first)
    are_numbers = [_is_number(cell) for cell in first]
    are_texts = [not number and cell.lower() not in MISSING for cell, number in zip(first, are_numbers, strict=True)]
    above_numbers = any(text and _are_numbers(column) for text, column in zip(are_texts, columns, strict=True))
    are_names = all(_is_name(cell) for cell, text in zip(first, are_texts, strict=True) if text)
    if above_numbers and (are_names or not any(are_numbers)):
        return Header(True)
    if not any(are_numbers):
        is_repeated = any(cell and cell in column for cell, column in zip(first, columns, strict=True))
        return Header(any(are_texts) and not is_repeated and all(map(_is_name, first)))
    return _of_numbers(first, columns, are_numbers, are_texts)


def _of_numbers(
    first: Sequence[str], columns: Sequence[Sequence[str]], are_numbers: Sequence[bool], are_texts: Sequence[bool]
) -> Header:
    """Return whether a first row that has numbers is a header; ``columns`` are the cells below it."""
    open_note = "line 1 is read as the names of the columns (dataset.header=false: as a sample)"
    sample_note = "line 1 is read as a sample (dataset.header=true: as the names of the columns)"
    if not first[0] and _counts(columns[0]):
        return Header(True)  # an index that pandas writes, below an empty name
    for cell, column, text in zip(first, columns, are_texts, strict=True):
        if text and (cell in column or not _is_name(cell)):
            return Header(False)
    numbers = [float(cell) for cell, number in zip(first, are_numbers, strict=True) if number]
    whole = all(re.fullmatch(r"[0-9]+", cell) for cell, number in zip(first, are_numbers, strict=True) if number)
    below = [column for column, number in zip(columns, are_numbers, strict=True) if number]
    if whole and numbers == [*range(len(numbers))] and (len(numbers) >= MIN_STEPS or _has_fractions(below)):
        return Header(True, "" if _has_fractions(below) or "" in first else open_note)
    labels = [column for column, text in zip(columns, are_texts, strict=True) if text]
    repeats = any(len({*column}) * 2 <= len(column) for column in labels)
    unlike = _is_outside(numbers, below) or (whole and _has_fractions(below))
    if labels:
        runs = repeats and _rises(numbers) and (unlike or _is_even(numbers))
        may_run = False
    else:
        may_run = len(numbers) >= MIN_STEPS and _is_even(numbers)
        are_years = whole and all(int(number) in YEARS for number in numbers)
        runs = unlike and (may_run or (are_years and len(numbers) >= MIN_STEPS and _rises(numbers)))
    if runs and not _are_even(below):
        return Header(True, open_note)
    is_open = whole and (numbers == [*range(len(numbers))] or (may_run and not _are_even(below)))
    return Header(False, sample_note if is_open and len(numbers) > 1 and not labels else "")


def _as_plain(cell: str) -> str:
    """Return a cell without spaces around it; an amount or a number with a decimal comma as a plain number."""
    text = cell.strip()
    number = text.strip(MONEY)
    found = COMMA.fullmatch(number)
    if found is not None:
        return f"{found[1].replace('.', '')}.{found[2]}"
    return number if number != text and NUMBER.match(number) else text


def _is_number(cell: str) -> bool:
    return NUMBER.match(cell) is not None


def _are_numbers(column: Sequence[str]) -> bool:
    """Return whether most cells of a column, apart from missing ones, are numbers."""
    there = [cell for cell in column if cell.lower() not in MISSING]
    return sum(map(_is_number, there)) * 2 > len(there)


def _is_name(cell: str) -> bool:
    return len(cell) <= MAX_NAME and len(cell.split()) <= MAX_WORDS and not SENTENCE.search(cell)


def _counts(column: Sequence[str]) -> bool:
    """Return whether the cells are whole numbers, all of them different, as those of an index are."""
    return all(re.fullmatch(r"[0-9]+", cell) for cell in column) and len({*column}) == len(column) > 0


def _has_fractions(columns: Sequence[Sequence[str]]) -> bool:
    return any("." in cell for column in columns for cell in column)


def _rises(numbers: Sequence[float]) -> bool:
    """Return whether each number is larger than the one before it, or each is smaller."""
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    return all(step > 0 for step in steps) or all(step < 0 for step in steps)


def _is_even(numbers: Sequence[float]) -> bool:
    """Return whether numbers rise or fall by equal steps, nearly, as rounded wavelengths do."""
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    mean = math.fsum(steps) / max(1, len(steps))
    return mean != 0 and all(abs(step - mean) <= 0.05 * abs(mean) for step in steps)


def _are_even(columns: Sequence[Sequence[str]]) -> bool:
    """Return whether the first rows below are even too, so that such a row is a sample."""
    rows = [
        [float(cell) for cell in row if _is_number(cell)]
        for row in zip(*(column[:5] for column in columns), strict=True)
    ]
    return any(len(row) >= MIN_STEPS and _is_even(row) for row in rows)


def _is_outside(numbers: Sequence[float], columns: Sequence[Sequence[str]]) -> bool:
    """Return whether most numbers lie outside of the range of the cells below them."""
    count = 0
    for number, column in zip(numbers, columns, strict=True):
        values = [float(cell) for cell in column if _is_number(cell)]
        count += bool(values) and not min(values) <= number <= max(values)
    return count * 2 > len(numbers)


def num_titles(rows: Sequence[Sequence[str]]) -> int:
    """Return the number of rows above the table, which are titles or notes: they have one cell, or one that is filled.

    Most of the rows below must be filled, and have at least three cells.
    """
    filled = [sum(bool(cell.strip()) for cell in row) for row in rows]
    usual = max({*map(len, rows)}, key=[*map(len, rows)].count, default=1)
    if usual < 3 or sum(count > 1 for count in filled) * 2 <= len(filled):
        return 0
    return next((number for number, count in enumerate(filled) if count > 1), 0)


def with_row_names(rows: Sequence[list[str]]) -> list[list[str]]:
    """Return rows whose first one names every column, if it has one name less than nearly all others have cells.

    R writes the names of the rows below no name; or each row ends with a delimiter, behind which there is nothing.
    """
    first, below = rows[0], rows[1:]
    whole = [row for row in below if len(row) == len(first) + 1]
    are_names = all(cell.strip() and not _is_number(cell.strip()) and _is_name(cell.strip()) for cell in first)
    if len(first) < 2 or not whole or len(whole) < NEARLY_ALL * len(below) or not are_names:
        return list(rows)
    return [["", *first] if any(row[-1].strip() for row in whole) else [*first, ""], *below]
