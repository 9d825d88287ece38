"""Columns that name their row, or the person or thing that several rows are about: nothing can be learned from them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.tables.layout import Layout
from trainer.data.readers.tables.number_cells import PLAIN_FORM

ID_WORDS = frozenset(
    (
        *("id", "ids", "identifier", "uid", "uuid", "guid", "pid", "oid", "fid", "eid", "udi", "mrn", "sku", "phone"),
        *("ssn", "isbn", "ean", "upc", "vin", "barcode", "seqn", "matricule", "kennung", "identifiant", "aadhaar"),
    )
)
NUMBER_WORDS = frozenset(("number", "no", "nr", "num", "nummer", "numero", "ref", "reference", "key"))
ID_NAMES = NUMBER_WORDS | {
    *("index", "idx", "row", "rows", "rownum", "rownames", "serial", "record", "line", "sn", "obs"),
    *("observation", "transaction"),
}
PERSONS = frozenset(
    (
        *("account", "customer", "user", "patient", "subject", "person", "participant", "speaker", "author", "client"),
        *("employee", "student", "member", "visitor", "respondent", "kunde"),
    )
)
ENTITIES = PERSONS | {"session", "invoice", "order", "ticket", "sample", "case"}
NUMBERED = ENTITIES | {  # what has such a number
    *("row", "id", "serial", "policy", "reg", "registration", "roll", "sr", "s", "sl", "lfd", "phone", "receipt"),
    *("permit", "license", "licence", "passport", "tracking", "booking", "reservation", "claim", "contract", "card"),
    *("kunden", "auftrags", "rechnungs", "matrikel", "personal", "product", "item", "record", "application", "loan"),
    "transaction",
}
JOINED = re.compile(  # several words in one, such as customerid, slno and lfdnr
    rf"(?:{'|'.join(sorted(ENTITIES))}|row|obj|object|record|image|img|item|product|nct|zp|ee|roll|reg|sl|sr|ms|lfd)s?"
    r"(?:id|no|nr|num|number|nummer)|sno"
)
TIME_NAMES = frozenset(
    ("t", "time", "year", "month", "week", "day", "hour", "minute", "second", "date", "step", "x", "age")
)
ITEM = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")  # a word of a name such as passengerId or PASSENGER_ID
MIN_ROWS = 20  # rows of the smallest table in which a column may be an identifier by its numbers alone
MAX_EXACT = 2.0**53  # whole numbers of this size and above are not exact as float64
NEARLY_ALL = 0.98  # share of different cells from which a column names its rows
# A text that measures something, such as 73.66 kg, <0.5 and CHF 4'753.58, rather than names its row.
MEASURED = re.compile(r"\w*\(?[\[{(]|[-+−(<>≤≥~≈±\s]*[$€£¥₹]?\s*\d|\D{1,4}\d[\d.,'’\s]*[.,]\d+\D{0,4}\Z")


def words_of(name: str) -> list[str]:
    return [word.lower() for word in ITEM.findall(name)]


def has_id_name(layout: Layout, column: int) -> bool:
    """Return whether the name of a column says that it names the rows."""
    words = words_of(layout.names[column]) if layout.header else []
    if not words:
        return False
    last, rest = words[-1], words[:-1]
    is_code = last in ("code", "index") and {*rest} & (ENTITIES | {"row", "id", "serial"})
    return bool(
        last in ID_WORDS
        or JOINED.fullmatch("".join(words))
        or is_code
        or (last in NUMBER_WORDS and {*rest} & NUMBERED)
        or (len(words) == 2 and words[0] in ID_WORDS and last in (*NUMBER_WORDS, "code", "key"))
        or (len(words) == 1 and last in ID_NAMES | ENTITIES)
        or (words[0] == "unnamed" and len(words) <= 2)
        or _is_index_of_r(layout, column)
    )


def looks_measured(layout: Layout, column: int) -> bool:
    """Return whether at least half of the cells of a column of texts measure something."""
    cells = layout.filled(column)
    return sum(bool(MEASURED.match(cell)) for cell in cells) * 2 >= max(1, len(cells))


def names_rows(layout: Layout, column: int) -> bool:
    """Return whether the texts of a column differ in nearly all rows, so that they name the rows.

    Texts that begin with a digit, such as 73.66 kg and 13.01.1986, measure something, unless the name says otherwise.
    """
    cells = layout.filled(column)
    if not layout.holds_text(column) or len(cells) < 10 or len({*cells}) < NEARLY_ALL * len(cells):
        return False
    return column in layout.unnamed or has_id_name(layout, column) or not looks_measured(layout, column)


def names_groups(layout: Layout, column: int) -> bool:
    """Return whether the cells of a column name persons or things that several rows are about, such as patients."""
    words = words_of(layout.names[column]) if layout.header else []
    cells = layout.filled(column)
    different = len({*cells})
    joined = "".join(words)
    is_named = bool(words) and (
        words[-1] in ID_WORDS
        or joined in PERSONS
        or (words[-1] in (*NUMBER_WORDS, "code", "index") and bool({*words} & ENTITIES))
        or (len(joined) > 3 and JOINED.fullmatch(joined) is not None)
    )
    whole = layout.holds_text(column) or _are_whole(layout, column, cells)
    return is_named and whole and len(cells) >= 10 and different >= 3 and different * 1.5 <= len(cells)


def may_be_index(layout: Layout, column: int) -> bool:
    """Return whether the first cells of a column are whole numbers, nearly all of them different."""
    cells = layout.filled(column)
    if not cells or layout.holds_text(column) or not _are_whole(layout, column, cells):
        return False
    if column in layout.unnamed and column == 0:  # an index, which a sample of rows or a joined table may repeat
        return len(cells) >= 3
    if len({*cells}) < NEARLY_ALL * len(cells):
        return False
    likely = has_id_name(layout, column)
    words = words_of(layout.names[column]) if layout.header else []
    return len(cells) >= (10 if likely else MIN_ROWS) and (likely or not {*words} & TIME_NAMES)


def _are_whole(layout: Layout, column: int, cells: Sequence[str]) -> bool:
    """Return whether nearly all cells are whole numbers from 0 on, without a sign such as % or $."""
    form = layout.forms[column] or PLAIN_FORM
    if form.kind != "number" or form.sign:
        return False
    whole = sum(number.is_integer() and number >= 0 for number in form.numbers(cells))
    return whole >= NEARLY_ALL * len(cells)  # the last row may be a sum


def _is_index_of_r(layout: Layout, column: int) -> bool:
    """Return whether a column has the name that R gives to an index, and no other one the name that follows."""
    name = layout.names[column]
    following = {"X": ("Y", "Z", "X2"), "X1": ("X2", "Y1"), "V1": ("V2",), "...1": ("...2",)}.get(name)
    return layout.header and column == 0 and following is not None and not {*following} & {*layout.names}


def is_index(layout: Layout, column: int, values: NDArray[np.float64]) -> bool:
    """Return whether a column that ``ChosenColumns.maybe_ids`` names is an identifier.

    It is the first column, and the header has no name for it. Or nearly all of its numbers are different, and its name
    says so, or they run with hardly a gap from 0 or 1, or without a gap from another number.

    Args:
        layout: the layout of the table.
        column: the number of the column.
        values: (rows,) its numbers; NaN where one is missing.
    """
    if column in layout.unnamed and column == 0:
        return True
    there = values[np.isfinite(values)]
    if len(there) < NEARLY_ALL * len(values):
        return False
    if has_id_name(layout, column) and there.max() >= MAX_EXACT:  # the first cells were different as texts
        return True
    if len(np.unique(there)) < NEARLY_ALL * len(there):
        return False
    least, span = there.min(), there.max() - there.min() + 1
    if has_id_name(layout, column) or (column in layout.unnamed and span <= 2 * len(there)):
        return True
    runs = span <= 1.05 * len(there) if least in (0, 1) else span == len(there)
    return bool(runs and (layout.header or column == 0))
