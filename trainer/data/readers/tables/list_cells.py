"""Lists of numbers in the cells of a table: as texts such as 70 80 82 or [0.1, 0.2], or as lists of arrow."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.tables.arrow_cells import is_nested, numbers_of, texts_of
from trainer.data.readers.tables.number_cells import MIN_CELLS, MISSING, MOSTLY, PLAIN_FORM

OPEN, BETWEEN = b"[(", b"[]() \t\r\n"  # brackets, and what stands between numbers besides a comma
LEAST_BARE = 5  # mean of numbers in cells without brackets from which they are lists of different lengths, and no texts
BEGINNING = re.compile(r"[\[(\s]*[-+.0-9nN\])]")
LEADING_ZERO = re.compile(r"(?<![0-9.])0[0-9]")  # as in numbers of telephones, which measure nothing
INNERMOST = re.compile(r"[\[(]([^\[\]()]*)[\])]")
MISSING_TOKENS = sorted(MISSING - {"", "-", "--", "."})
SEVERAL = re.compile(r"[^\s,]+")


class ListForm(NamedTuple):
    """How the cells of a column hold lists.

    Args:
        size: the numbers in each list.
        brackets: the opening brackets in each cell that is a text.
        commas: whether commas separate the numbers, and not blanks alone.
    """

    size: int
    brackets: int
    commas: bool


class _Tokens(NamedTuple):
    """The parts of some cells that may be numbers.

    Args:
        texts: all of them, as an arrow array.
        counts: (cells,) how many each cell has.
        brackets: (cells,) the opening brackets of each cell.
        are_split: (cells,) whether a comma stands between any two of its parts, if commas separate them.
    """

    texts: Any
    counts: NDArray[np.int64]
    brackets: NDArray[np.int64]
    are_split: NDArray[np.bool_]


def _tokens(cells: Any, *, commas: bool) -> _Tokens:
    """Return the parts of arrow texts between blanks, commas and brackets; a null has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ended = pc.binary_join_element_wise(pc.fill_null(cells, ""), "", " ")  # a blank ends each cell
    _, places, content = ended.buffers()
    offsets = np.frombuffer(places, np.int32, len(ended) + 1, 4 * ended.offset)
    signs = np.frombuffer(content, np.uint8)[offsets[0] : offsets[-1]]
    offsets = offsets - offsets[0]
    is_kept = signs != ord(" ")
    for sign in {*BETWEEN, *(b"," if commas else b"")} - {ord(" ")}:
        is_kept &= signs != sign
    edges = np.flatnonzero(np.diff(is_kept, prepend=False))  # the beginning and the end of each part, in turn
    ends = np.zeros(len(edges) // 2 + 1, dtype=np.int32)
    np.cumsum(edges[1::2] - edges[::2], out=ends[1:])
    texts = pa.StringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(np.compress(is_kept, signs)))
    counts = np.diff(np.searchsorted(edges[::2], offsets))

    def count(sign: int) -> NDArray[np.int64]:
        found = np.flatnonzero(signs == sign)
        return np.diff(np.searchsorted(found, offsets)) if len(found) else np.zeros(len(ended), dtype=np.int64)

    are_split = count(ord(",")) == counts - 1 if commas else counts >= 0
    return _Tokens(texts, counts, count(OPEN[0]) + count(OPEN[1]), are_split)


def _values(texts: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the numbers of arrow texts, NaN for others, and whether each is a number or means a missing one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return np.asarray(pc.cast(texts, pa.float64())), np.ones(len(texts), dtype=np.bool_)
    except pa.ArrowInvalid:
        values = PLAIN_FORM.parse(texts)
        missing = pc.is_in(pc.utf8_lower(texts), pa.array(MISSING_TOKENS)).to_numpy(zero_copy_only=False)
        return values, ~np.isnan(values) | missing


# ---- detection


def find_list(cells: Sequence[str], missing: Collection[str], count: int = 0) -> ListForm | str | None:
    """Find how the cells of a column hold lists of numbers.

    Args:
        cells: some cells of the column.
        missing: the cells that mean a missing one, in lower case.
        count: the numbers in each list that a finished run reads, if the cells do not show it; 0 without one.

    Returns:
        The form of most cells; a text if they are lists of different lengths; None if they are no lists of numbers.
    """
    import pyarrow as pa

    there = [text for cell in cells if (text := cell.strip()).lower() not in missing]
    if not there or sum(bool(BEGINNING.match(cell)) for cell in there) < MOSTLY * len(there):
        return None
    several = [cell for cell in there if len(cell.strip("[]() ").split(maxsplit=1)) > 1 or "," in cell]
    commas = sum("," in cell for cell in several) * 2 > len(several)
    found = _tokens(pa.array(there, pa.string()), commas=commas)
    _, are_values = _values(found.texts)
    wrong = np.bincount(np.repeat(np.arange(len(there)), found.counts)[~are_values], minlength=len(there))
    are_empty = (found.counts == 0) & (found.brackets > 0)
    good = (wrong == 0) & ((found.are_split & (found.counts > 0)) | are_empty)
    if not _are_most(int(good.sum()), len(there)):
        return None
    brackets = Counter(found.brackets[good].tolist()).most_common(1)[0][0]
    some = [cell for cell, is_good in zip(there[:MIN_CELLS], good, strict=False) if is_good]
    if not brackets and any(map(LEADING_ZERO.search, some)):
        return None
    counts = found.counts[good]
    usual, share = Counter(counts.tolist()).most_common(1)[0]
    is_regular = _are_most(share, len(there))
    if not is_regular and count and count in counts:
        usual, is_regular = count, True
    if not is_regular and (brackets or counts.mean() >= LEAST_BARE):
        return f"lists of {counts.min():,} to {counts.max():,} numbers"
    if not is_regular or usual < 2 - bool(brackets):
        return None
    inner = {len(SEVERAL.findall(part)) for cell in some if brackets > 1 for part in INNERMOST.findall(cell)}
    if len(inner) > 1:
        return f"lists of lists of {min(inner):,} to {max(inner):,} numbers"
    return ListForm(usual, brackets, commas)


def _are_most(count: int, all: int) -> bool:
    return count >= MOSTLY * all if all >= MIN_CELLS else count * 2 > all


# ---- reading


def read_lists(
    cells: Any, form: ListForm, names: Sequence[str], *, missing: bool
) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Return the numbers of the lists in arrow cells, (cells, form.size), and why a cell is bad, by its number.

    A bad cell has zeros. Missing numbers, and all of a missing cell, are NaN if that is allowed.

    Args:
        cells: texts or lists.
        form: how they hold lists.
        names: the name of the column, and that of each number in a list, for messages.
        missing: whether cells, and numbers in lists, may be missing.
    """
    if is_nested(cells.type):
        values, counts = _flattened(cells)
        are_lists, are_values, shown = counts >= 0, np.ones(len(values), dtype=np.bool_), None
    else:
        found = _tokens(texts_of(cells), commas=form.commas)
        values, are_values = _values(found.texts)
        counts, shown = found.counts, found.texts
        are_lists = found.are_split & (found.brackets == form.brackets)
    ends = np.cumsum(counts)
    empty = counts == 0
    alone = np.flatnonzero(counts == 1)
    empty[alone[np.isnan(values[ends[alone] - 1]) & are_values[ends[alone] - 1]]] = True  # such as nan for a whole list
    good = are_lists & (counts == form.size) & ~empty
    reasons = dict[int, str]()
    for at in np.flatnonzero(~are_values).tolist():
        row = int(np.searchsorted(ends, at, side="right"))
        place = at - int(ends[row] - counts[row])
        if good[row] and shown is not None:
            reasons[row] = f"{names[1 + place]}: {str(shown[at])[:40]} is no number"
            good[row] = False
    if good.all():
        matrix = values.reshape(-1, form.size)
    else:
        matrix = np.zeros((len(counts), form.size))
        matrix[good] = values[np.repeat(good, counts)].reshape(-1, form.size)
        if missing:
            matrix[empty] = np.nan
    for row in np.flatnonzero(~good & ~empty).tolist():
        text = "" if shown is None else str(cells[row]).strip()
        reasons.setdefault(row, f"{names[0]}: {_fault(text, int(counts[row]), form.size)}")
    for row in np.flatnonzero(empty).tolist() if not missing else ():
        reasons[row] = f"{names[0]}: is empty"
    return _within_range(matrix, names, reasons, missing=missing), reasons


def _fault(text: str, there: int, count: int) -> str:
    """Return why a cell is no list of a column."""
    if there != count and (not text or BEGINNING.match(text)):
        return f"has {there:,} number{'s' * (there != 1)} instead of {count:,}"
    return f"{text[:40]}{'…' * (len(text) > 40)} is no list of {count:,} numbers as in other rows"


def _within_range(
    matrix: NDArray[np.float64], names: Sequence[str], reasons: dict[int, str], *, missing: bool
) -> NDArray[np.float64]:
    """Return lists, of which those with numbers that are missing, not finite or too large for float32 are 0.

    The reasons for these are added to ``reasons``.
    """
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(matrix) <= np.finfo(np.float32).max)
    bad = np.flatnonzero(wrong.any(axis=1)).tolist()
    matrix = matrix.copy() if bad else matrix  # which arrow may hold
    for row in bad:
        for place in np.flatnonzero(wrong[row]).tolist():
            value, name = matrix[row, place], names[1 + place]
            if not np.isnan(value):
                reasons.setdefault(row, f"{name}: {value:g} is {'not finite' if np.isinf(value) else 'too large'}")
            elif not missing:
                reasons.setdefault(row, f"{name}: is empty")
        if row in reasons:
            matrix[row] = 0
    return matrix


def _flattened(cells: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the numbers in an arrow array of lists, or lists of lists, and how many each cell has."""
    import pyarrow as pa
    import pyarrow.compute as pc

    counts: NDArray[np.int64] | None = None
    while is_nested(cells.type):
        if pa.types.is_fixed_size_list(cells.type):
            cells = cells.cast(pa.list_(cells.type.value_type))
        own = pc.fill_null(pc.list_value_length(cells), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        if counts is None:
            counts = own
        else:  # those of each list within a list
            ends = np.concatenate([[0], np.cumsum(own)])[np.concatenate([[0], np.cumsum(counts)])]
            counts = np.diff(ends)
        cells = pc.list_flatten(cells)
    assert counts is not None
    return numbers_of(cells), counts
