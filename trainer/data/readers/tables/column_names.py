"""The names of the columns of a table, as its header or their places say them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.config import ConfigError
from trainer.data.readers.encodings import ESCAPED, encoding_hint

MAX_NAMED = 3  # the maximum number of renamed columns that a note names


class ColumnNames(NamedTuple):
    """The names of columns, all of them different, and what to say about them.

    Args:
        names: a name for each column; a column without one has its number, from 0.
        unnamed: the numbers of the columns whose names in the header are empty.
        note: which columns were renamed; empty if none was.
    """

    names: list[str]
    unnamed: frozenset[int]
    note: str = ""


def column_names(file: Path, first: Sequence[str], encoding: str, *, header: bool) -> ColumnNames:
    """Return the names of columns. If several have the same one, the second is called ``a.1``, as pandas calls it.

    Args:
        file: the file, for messages.
        first: the cells of the first row.
        encoding: the encoding of the file.
        header: whether the first row names the columns.

    Raises:
        ConfigError: a name is not in the encoding of the file.
    """
    numbers = [str(number) for number in range(len(first))]
    if not header:
        return ColumnNames(numbers, frozenset())
    given = [cell.strip() for cell in first]
    wrong = next((name for name in given if ESCAPED.search(name)), None)
    if wrong is not None:
        shown = wrong.encode(errors="surrogateescape").decode(errors="backslashreplace")
        hint = encoding_hint(encoding) or "name another one"
        raise ConfigError(f"dataset.encoding: {encoding}: does not fit the column {shown} of {file}; {hint}")
    names, seen, renamed = list[str](), Counter[str](), list[str]()
    for name, number in zip(given, numbers, strict=True):
        own = name or (f"Unnamed: {number}" if number in given else number)  # as pandas calls them
        seen[own] += 1
        if seen[own] > 1:
            known = {*given, *names}
            new = next(new for at in range(seen[own] - 1, 2 * len(first)) if (new := f"{own}.{at}") not in known)
            renamed.append(f"column {number}, another {own}, is called {new}")
            own = new
        names.append(own)
    unnamed = frozenset(at for at, name in enumerate(given) if not name)
    more = f" and {len(renamed) - MAX_NAMED} more" if renamed[MAX_NAMED:] else ""
    return ColumnNames(names, unnamed, "; ".join(renamed[:MAX_NAMED]) + more)
