"""The signs of a table in a text file: the delimiter between cells, and the quote around them."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.config import ConfigError
from trainer.data.readers.tables.rows import split_rows

DELIMITERS = "\t;|, "  # in the order in which ``find_delimiter`` tries them
WORDS = {"tab": "\t", "\\t": "\t", "space": " "}


def one_character(delimiter: str) -> str:
    """Return the character between columns that ``dataset.delimiter`` names.

    Raises:
        ConfigError: it is not one character, or a line break.
    """
    character = WORDS.get(delimiter, delimiter)
    if len(character) != 1 or character in "\r\n":
        raise ConfigError(f"dataset.delimiter: must be one character, tab or space, got {delimiter}")
    return character


def _is_usual(width: int, widths: Sequence[int]) -> bool:
    return widths.count(width) * 2 > len(widths)


def find_delimiter(lines: Sequence[str]) -> str:
    """Return the first delimiter that splits most lines into equally many columns; a comma if there is one column."""
    widths = {sign: [len(row.cells) for row in split_rows(lines[:100], sign, '"')] for sign in DELIMITERS}
    # the first row is like most others, unless it is a title above the table
    usual = {sign: some[0] for sign, some in widths.items() if some and some[0] > 1 and _is_usual(some[0], some)}
    if not usual:
        modes = {sign: max({*some}, key=some.count, default=1) for sign, some in widths.items()}
        usual = {sign: width for sign, width in modes.items() if width > 2 and _is_usual(width, widths[sign])}
    first = next(iter(usual), ",")
    is_aligned = usual.get(" ", 0) >= 2 * usual.get(first, 1) and any("  " in line.strip() for line in lines[:100])
    return " " if is_aligned else first


def quote_of(lines: Sequence[str], delimiter: str) -> str:
    """Return the sign around cells: ``'`` if nearly all cells that have one begin and end with it, else ``"``."""
    if any('"' in line for line in lines):
        return '"'
    cells = [cell.strip() for row in split_rows(lines[:100], delimiter, "") for cell in row.cells if "'" in cell]
    closed = sum(len(cell) > 1 and cell[0] == cell[-1] == "'" for cell in cells)
    return "'" if closed >= 5 and closed >= 0.95 * len(cells) else '"'
