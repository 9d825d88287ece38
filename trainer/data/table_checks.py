"""Checks of tables: rows that are equal by chance, columns that tell the target, and rows sorted by class."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainer.config import Settings
from trainer.data.column_summary import raw_names
from trainer.data.data import Data, generator
from trainer.data.duplicates import Duplicates
from trainer.data.findings import Finding, listed
from trainer.data.random_numbers import STEP, mix_bits
from trainer.data.table_encoding import TableEncoding

MAX_ROWS, MAX_VALUES = 50_000, 2**24  # rows, and values, that are compared; of a larger table, rows at random
MAX_BLOCKS = 32  # blocks of columns that are left out in turn
BLOCK_SHARE = 4  # a block has a quarter of the columns, so that it can hold the columns of a one-hot code
CHANCE = 10  # equal rows by chance are at most so many times as frequent as if the columns were independent
MIN_ROWS = 20  # among fewer rows, a column follows the target or the order by chance
MIN_REPEATS = 5  # rows for each value of a column, on average, for the values to stand for classes
MIN_CORRELATION = 0.999  # of a column and a target, for the column to be called a copy of the target
MIN_ORDER = 0.99  # rank correlation of a column and the order of the rows, for the column to count the rows
MAX_RUNS = 2  # runs of equal classes for each class, for the rows to be called sorted by class


def repeat_by_chance(data: Data, duplicates: Duplicates) -> bool:
    """Return whether equal rows of a table are to be expected, because its columns have few different values.

    A block of columns is left out in turn. If rows repeat by chance, many rows differ only in the block. Of the rows
    that agree elsewhere, about the same share agrees in the block as of all rows, or a few times as large a share if
    columns depend on each other. If rows are copies, hardly any row differs only in a block.
    """
    if data.spec.kind != "table" or not len(duplicates.group):
        return False
    total = sum(map(len, data.splits().values()))
    rows = torch.cat([_sample(data, name, MAX_ROWS * len(part) // total)[0] for name, part in data.splits().items()])
    codes = mix_bits((rows + 0.0).view(torch.int32).long() + (torch.arange(rows.shape[1]) + 1) * STEP)
    whole, num_all = codes.sum(1), len(codes) * (len(codes) - 1) / 2
    num_equal = duplicates.num_pairs * num_all / (total * (total - 1) / 2)
    width = max(1, codes.shape[1] // BLOCK_SHARE)
    last = codes.shape[1] - width
    for start in range(0, last + 1, max(1, -(-(last + 1) // MAX_BLOCKS))):
        block = codes[:, start : start + width].sum(1)
        num_near = _count_pairs(whole - block) - _count_pairs(whole)
        share = _count_pairs(block) / max(1.0, num_all)
        if share < 1 and num_equal <= CHANCE * num_near * share / (1 - share):
            return True
    return False


def _count_pairs(values: Tensor) -> float:
    """Return the number of pairs of equal values."""
    counts = values.unique(return_counts=True)[1].double()
    return float((counts * (counts - 1) / 2).sum())


def _sample(data: Data, split: str, most: int) -> tuple[Tensor, Tensor]:
    """Return the values (rows, columns) float32 and the targets of rows in the order of the file."""
    part = data.splits()[split]
    most = max(1, min(most, MAX_VALUES // max(1, part.source.fetch(part.positions[:1])[0].shape[1])))
    chosen = torch.randperm(len(part), generator=generator("rows", split))[:most]
    positions = part.positions[chosen].sort().values
    return part.source.fetch(positions)[0].float(), part.source.targets.index_select(0, positions)


# ---- columns that tell the target


def find_target_columns(data: Data, settings: Settings) -> list[Finding]:
    """Find columns that tell the target of every training row: copies of the target, or what follows from it."""
    if data.spec.kind != "table" or len(data.train) < MIN_ROWS:
        return []
    values, targets = _sample(data, "train", MAX_ROWS)
    found = []
    if data.spec.task == "classification":
        names = [name for name, column in zip(_names(data), values.T, strict=True) if _tells_class(column, targets)]
        if names:
            them = (
                f"column {names[0]} tells"
                if len(names) == 1
                else f"each of the columns {listed(names, len(names))} tells"
            )
            found.append(f"{them} the class of every train sample alone")
    else:
        correlations = _correlations(values, targets)
        for at, target in enumerate(data.spec.classes):
            for column in (correlations[:, at].abs() >= MIN_CORRELATION).nonzero()[:, 0].tolist():
                text = f"column {_names(data)[column]} is nearly a copy of {target}"
                found.append(f"{text} (correlation {float(correlations[column, at]):.5f})")
    key = " (dataset.ignore)" if "ignore" in settings.dataset else ""
    advice = f"; leave out{key} what is known only with the answer"
    return [Finding("note", "target_column", text + advice) for text in found]


def _tells_class(column: Tensor, targets: Tensor) -> bool:
    """Return whether a column has one range of values for each class, or repeated values of one class each."""
    values, which = column.nan_to_num(-math.inf).unique(return_inverse=True)  # missing is a value of its own
    first = torch.zeros(len(values), dtype=torch.int64)
    first[which] = targets
    if not torch.equal(first[which], targets):
        return False
    num_classes = len(targets.unique())
    num_runs = 1 + int((first.diff() != 0).sum())
    return num_classes > 1 and (num_runs == num_classes or len(values) * MIN_REPEATS <= len(targets))


def _correlations(values: Tensor, targets: Tensor) -> Tensor:
    """Return the correlation of each column with each target, (columns, targets) float64; NaN for a constant column.

    The rows in which a column is missing do not count for it.
    """
    there = (~values.isnan()).double()
    counts = there.sum(0)
    one, other = values.double().nan_to_num(0.0), targets.double() - targets.double().mean(0)
    one = (one - one.sum(0) / counts) * there
    spread = there.T @ other.square() - (there.T @ other).square() / counts[:, None]
    found: Tensor = one.T @ other / (one.norm(dim=0)[:, None] * spread.clamp_min(0).sqrt())
    return found.masked_fill((counts < MIN_ROWS)[:, None], math.nan)


def _names(data: Data) -> list[str]:
    if isinstance(data.normalise, TableEncoding):
        return raw_names(data.normalise)
    return [str(name) for name in data.preprocess.get("columns") or range(data.spec.shape[0])]


# ---- the order of the rows


def find_order(data: Data, settings: Settings) -> list[Finding]:
    """Find out if the rows are sorted by class, and which columns run with that order and so give the class away."""
    if data.spec.kind != "table" or data.spec.task != "classification" or len(data.train) < MIN_ROWS:
        return []
    values, targets = _sample(data, "train", MAX_ROWS)
    num_classes = len(targets.unique())
    if num_classes < 2 or 1 + int((targets.diff() != 0).sum()) > MAX_RUNS * num_classes:
        return []
    runs = [name for name, column in zip(_names(data), values.T, strict=True) if _follows_order(column)]
    if not runs:
        return [Finding("note", "order", "the rows are sorted by class; training shuffles them")]
    one, it = len(runs) == 1, "it" if len(runs) == 1 else "they"
    what = f"column {runs[0]} runs" if one else f"the columns {listed(runs, len(runs))} run"
    key = " (dataset.ignore)" if "ignore" in settings.dataset else ""
    text = f"the rows are sorted by class, and {what} with their order, so {it} may give the class away"
    return [Finding("warning", "order", f"{text}; leave {'it' if one else 'them'} out{key}")]


def _follows_order(column: Tensor) -> bool:
    """Return whether a column of mostly different values rises or falls with the order of the rows."""
    there = (~column.isnan()).nonzero()
    values, ranks = column[there[:, 0]].unique(return_inverse=True)
    if len(values) * 2 < len(column):
        return False
    correlation = _correlations(ranks[:, None].float(), there)
    return abs(float(correlation)) >= MIN_ORDER
