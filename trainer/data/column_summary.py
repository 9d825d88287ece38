"""What each column of a table holds in train: its kind, its range or its levels, and how many cells are missing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.data.data import Data
from trainer.data.sources import channel_values, value_range
from trainer.data.statistics import readable_batches
from trainer.data.table_encoding import EncodedColumn, TableEncoding

MAX_LEVELS = 8  # levels or words that a summary names


@dataclass(frozen=True)
class ColumnSummary:
    """A column of a table, in the training samples.

    Args:
        name: the name of the column.
        kind: number, category, date or text.
        levels: the levels of a category, or the words of a text.
        least, most: the range of numbers and dates, as texts; empty if there are none.
        missing: the number of missing cells.
        others: the number of cells of a category whose level is rare.
    """

    name: str
    kind: str
    levels: tuple[str, ...]
    least: str
    most: str
    missing: int
    others: int

    @property
    def content(self) -> str:
        """The range or the first levels, for a line."""
        if self.kind in ("number", "date"):
            return f"{self.least} to {self.most}" if self.least else "nothing"
        noun = "level" if self.kind == "category" else "word"
        more = f", … and {self.others:,} cells of other levels" if self.others else ""
        cut = ", …" * (len(self.levels) > MAX_LEVELS and not more)
        count = f"{len(self.levels):,} {noun}{'s' * (len(self.levels) != 1)}"
        return f"{count}: {', '.join(self.levels[:MAX_LEVELS])}{cut}{more}" if self.levels else f"{count}{more}"


def summarise_columns(data: Data) -> tuple[ColumnSummary, ...]:
    """Return a summary of each encoded column of a table; empty for other data."""
    encoding = data.normalise
    if not isinstance(encoding, TableEncoding):
        return ()
    least, most = torch.tensor(math.inf), torch.tensor(-math.inf)
    missing = others = torch.tensor(0)
    for _, (values, *lengths) in readable_batches(data.train, []):
        found = channel_values(values.double(), lengths, values.ndim - 1)
        low, high = value_range(found)
        least, most = torch.minimum(least, low), torch.maximum(most, high)
        missing, others = missing + found.isnan().sum(1), others + (found < 0).sum(1)
    summaries, at = list[ColumnSummary](), 0
    for column in encoding.columns:
        bounds = float(least[at]), float(most[at])
        shown = [*map(column.shown, bounds)] if column.is_number and bounds[0] <= bounds[1] else ["", ""]
        rare = int(others[at]) if column.kind == "category" else 0
        gaps_there = int(missing[at]) if column.kind != "text" else 0
        summaries.append(ColumnSummary(column.name, column.kind, column.levels, shown[0], shown[1], gaps_there, rare))
        at += column.raw_width
    return tuple(summaries)


def raw_names(encoding: TableEncoding) -> list[str]:
    """Return a name for each value of a raw row: that of its column, and the word of a text."""
    return [name for column in encoding.columns for name in _names_of(column)]


def raw_texts(encoding: TableEncoding, row: Tensor) -> list[str]:
    """Return each value of a raw row, (raw width,), as text; an infinite value stands for a missing cell."""
    columns = [column for column in encoding.columns for _ in range(column.raw_width)]
    pairs = zip(columns, row.tolist(), strict=True)
    return ["missing" if math.isinf(value) else _text(column, value) for column, value in pairs]


def _text(column: EncodedColumn, value: float) -> str:
    return f"{value:g}" if column.kind == "text" else column.shown(value)


def _names_of(column: EncodedColumn) -> list[str]:
    return [f"{column.name}={word}" for word in column.levels] if column.kind == "text" else [column.name]
