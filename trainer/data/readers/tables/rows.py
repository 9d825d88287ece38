"""Split the lines of a table in text into rows with Python's csv module, which is slow but names every bad line."""

from __future__ import annotations

import csv
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

UNCLOSED = "a quote is not closed"


class Row(NamedTuple):
    """A row of a table, which spans several lines if a cell in quotes does.

    Args:
        first_line, last_line: the numbers of its lines.
        cells: its cells; empty if the row has a fault.
        fault: why the line is no row; empty for a row.
    """

    first_line: int
    last_line: int
    cells: list[str]
    fault: str = ""


def split_rows(
    lines: Sequence[str], delimiter: str, quote: str, *, start: int = 1, alone: Container[int] = ()
) -> Iterator[Row]:
    """Yield the rows of some lines, without blank ones.

    A quote that is not closed, or is closed in the middle of a later cell, would join a line to all lines up to that
    place. Such a line alone is a fault, and the next one begins a row again.

    Args:
        lines: the lines, each with its line break.
        delimiter: the character between cells; a space stands for any number of spaces.
        quote: the sign around cells; empty if quotes are ordinary characters.
        start: the number of the first line.
        alone: the numbers of lines that are rows of their own, whatever their quotes say.
    """
    csv.field_size_limit(sys.maxsize)
    at = 0
    while at < len(lines):
        rest = (lines[number] for number in range(at, len(lines)))
        reader = _reader(rest, delimiter, quote, strict=False)
        begin = at
        try:
            for cells in reader:
                line, at = start + at, begin + reader.line_num
                own = lines[line - start : at]
                is_doubtful = len(own) > 1 or (bool(quote) and own[0].count(quote) % 2 == 1)
                if is_doubtful and ((len(own) > 1 and line in alone) or not _is_whole(own, delimiter, quote)):
                    yield Row(line, line, [], UNCLOSED)
                    at = line - start + 1
                    break
                if len(cells) > 1 or (cells and cells[0].strip()):
                    yield Row(line, start + at - 1, cells)
            else:
                return
        except csv.Error as error:
            yield Row(start + at, start + at, [], f"cannot be read: {error}")
            at += 1


def _reader(lines: Iterable[str], delimiter: str, quote: str, *, strict: bool) -> Any:
    if delimiter == " ":  # any number of spaces or tabs separates two columns
        lines = (" ".join(line.expandtabs(1).split(" ")).strip() for line in lines)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    return csv.reader(
        lines,
        delimiter=delimiter,
        quotechar=quote or None,
        quoting=quoting,
        skipinitialspace=delimiter == " ",
        strict=strict,
    )


def _is_whole(lines: Sequence[str], delimiter: str, quote: str) -> bool:
    """Return whether several lines are one row in which every quote is closed at the end of its cell."""
    try:
        return len(list(_reader(lines, delimiter, quote, strict=True))) == 1
    except csv.Error:
        return False
