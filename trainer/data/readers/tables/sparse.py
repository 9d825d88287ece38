"""Read the rows of sparse ARFF files, which name the columns that are not 0."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.config.untrusted_files import need_memory
from trainer.data.readers.tables.rows import split_rows

CELL = 8  # bytes that a cell takes while the rows are read


def sparse_rows(
    file: Path, names: Sequence[str], kinds: Sequence[str], lines: Sequence[tuple[int, str]], quote: str
) -> tuple[Any, list[int], dict[int, str]]:
    """Return the rows of a sparse ARFF file as an arrow table of texts, the line of each, and why some are bad.

    Args:
        file: the file.
        names: the names of its columns.
        kinds: the type of each column; a list of classes in braces begins with the one that rows leave out.
        lines: the numbers and texts of the lines below ``@data``.
        quote: the sign around cells that hold commas.

    Raises:
        OSError: the table needs more memory than is free.
    """
    import pyarrow as pa

    kept = [(number, text.strip()) for number, text in lines if text.strip() and not text.strip().startswith("%")]
    need_memory(CELL * len(kept) * len(names), file)
    zeros = [
        next(split_rows([kind.strip("{} \t")], ",", quote)).cells[0].strip() if kind[:1] == "{" else "0"
        for kind in kinds
    ]
    columns = [[zero] * len(kept) for zero in zeros]
    faults = dict[int, str]()
    for row, (_, text) in enumerate(kept):
        cells = (
            next((found.cells for found in split_rows([text[1:-1]], ",", quote)), [])
            if text[:1] + text[-1:] == "{}"
            else None
        )
        if cells is None:
            faults[row] = "must be {NUMBER VALUE, …}, as the first rows are"
        for cell in cells or []:
            number, _, value = cell.strip().partition(" ")
            if not number.isdecimal() or int(number) >= len(names):
                faults[row] = f"{cell.strip()}: names no column from 0 to {len(names) - 1}"
            else:
                columns[int(number)][row] = value.strip().strip(quote)
    return pa.table(dict(zip(names, columns, strict=True))), [number for number, _ in kept], faults
