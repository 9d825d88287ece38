"""What the columns of a table hold: numbers, categories, dates or free texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from trainer.config import ConfigError
from trainer.config.messages import as_word
from trainer.data.readers.tables.date_cells import pattern_of
from trainer.data.readers.tables.layout import ColumnKey, Layout, listed
from trainer.data.readers.tables.number_cells import CURRENCIES, PLAIN_FORM, NumberForm, find_form
from trainer.data.table_encoding import ColumnKind

ChosenKind = Literal["number", "category", "date", "day_first", "month_first", "text"]
ORDERS = {"day_first": "day", "month_first": "month"}  # of the dates of a chosen kind
MAX_LEVELS_OF_ALL = 0.5  # share of different cells up to which longer texts are the levels of a category
MIN_WORDS = 4  # mean number of words of a cell from which texts are free texts
MANY = 20  # different cells from which texts that measure something are no levels
MAX_NAMED = 12  # columns that a note names
# A number with its unit or sign, such as 73.66 kg, <0.5, ca. 4 and CHF 4'753.58.
BEFORE = "|".join((*map(re.escape, CURRENCIES), r"(?i:ca|circa|about|approx|approximately)\.?"))
MEASURED = re.compile(rf"({BEFORE}|[^\w.,]{{0,3}})\s*[-+]?\d[\d.,'’ ]*(\D{{0,12}})")
MAX_UNITS, MOST = 4, 0.95  # so many units are those of this share of the cells of a column that measures something


def find_kinds(layout: Layout, wanted: Mapping[ColumnKey, ChosenKind]) -> tuple[Layout, dict[int, ColumnKind]]:
    """Return the kind of each column, and the layout with the forms of numbers and dates that ``wanted`` asks for.

    Args:
        layout: the layout of the table that the model learns from.
        wanted: the key ``dataset.columns``.

    Raises:
        ConfigError: a column of ``wanted`` does not exist, or has no dates.
    """
    chosen = {at: kind for column, kind in wanted.items() for at in layout.find_all("columns", column)}
    forms = list(layout.forms)
    for at, kind in chosen.items():
        forms[at] = _form(layout, at, kind)
    layout = layout._replace(forms=forms)
    kinds = {at: _kind(layout, at) for at in range(len(layout.names))}
    for at, kind in chosen.items():
        kinds[at] = "date" if kind == "day_first" or kind == "month_first" else kind
    return layout, kinds


def _form(layout: Layout, at: int, kind: ChosenKind) -> NumberForm | None:
    """Return how the cells of a column of a chosen kind are read as numbers; None for texts."""
    form = layout.forms[at]
    if kind == "number" and form is None:
        return PLAIN_FORM
    if kind not in ("date", *ORDERS):
        return form
    order: Any = ORDERS.get(kind)
    found = form or find_form(layout.filled(at), layout.missing, None).form
    if found is None or found.kind != "date" or (order is not None and found.order not in ("unclear", order)):
        cells = layout.filled(at)
        dates = re.compile(pattern_of(order or "year"))
        example = next((cell for cell in cells if not dates.match(cell.strip())), *cells[:1])[:24]
        raise ConfigError(
            f"dataset.columns: {layout.names[at]}: {kind}: holds no such dates, but {example or 'nothing'}; dates are "
            "written as 2025-12-31, 31.12.2025, 12/31/2025 or 31 Dec 2025, a time of the day may follow"
        )
    return found if order is None else replace(found, order=order)


def _kind(layout: Layout, at: int) -> ColumnKind:
    form = layout.forms[at]
    if form is not None:
        return "date" if form.kind == "date" else "number"
    cells = layout.filled(at)
    num_words = sum(cell.count(" ") + 1 for cell in cells)
    is_free = len({*cells}) > MAX_LEVELS_OF_ALL * len(cells) and num_words >= MIN_WORDS * len(cells)
    return "text" if is_free else "category"


def check_dates(layout: Layout, columns: Sequence[int], kinds: Mapping[int, ColumnKind]) -> None:
    """Raise ConfigError if each date in one of some columns may begin with the day or with the month."""
    for at in columns:
        form, name = layout.forms[at], layout.names[at]
        if form is not None and form.kind == "date" and form.order == "unclear" and kinds[at] != "category":
            example = next(iter(layout.filled(at)), "")
            day, month = (as_word("dataset.columns", {name: kind}) for kind in ORDERS)
            raise ConfigError(
                f"dataset.columns: null: does {example} in {name} of {layout.file} begin with the day or the month? "
                f"{day} or {month} says so"
            )


def check_texts(
    layout: Layout,
    features: Sequence[int],
    kinds: Mapping[int, ColumnKind],
    chosen: Collection[int],
    ignore: Sequence[ColumnKey],
) -> None:
    """Raise ConfigError if many different texts of a feature measure something, such as 73.66 kg, and are no levels.

    Args:
        layout: the layout of the table.
        features: the columns to learn from.
        kinds: the kind of each column.
        chosen: the columns whose kinds ``dataset.columns`` names.
        ignore: the key ``dataset.ignore``.
    """
    measured = [
        at
        for at in features
        if layout.holds_text(at) and at not in chosen and kinds[at] == "category" and _measures(layout.filled(at))
    ]
    if measured:
        names = [layout.names[at] for at in measured]
        shown = [f"{layout.names[at]} (such as {next(iter(layout.filled(at)), '')[:24]})" for at in measured]
        word = as_word("dataset.columns", dict.fromkeys(names, "category"))
        out = as_word("dataset.ignore", [*map(str, ignore), *names])
        raise ConfigError(
            f"dataset.features: the numbers of {listed(shown)} cannot be read ({layout.file}); write plain numbers, "
            f"leave {'it' if len(names) == 1 else 'them'} out: {out}, or learn from each text as a level: {word}"
        )


def _measures(cells: Sequence[str]) -> bool:
    """Return whether nearly all cells, many of them different, are numbers with one of a few units."""
    if len({*cells}) <= max(MANY, len(cells) // 10):
        return False
    units = Counter(found.groups() for cell in cells if (found := MEASURED.fullmatch(cell)))
    return sum(count for _, count in units.most_common(MAX_UNITS)) >= MOST * len(cells)


def kind_notes(layout: Layout, features: Sequence[int], kinds: Mapping[int, ColumnKind]) -> Iterator[str]:
    """Yield phrases that say which of the features are categories, yes or no, dates and texts."""
    flags = {at for at in features if (form := layout.forms[at]) is not None and form.kind == "bool"}
    nouns = {"category": "categories", "flag": "yes or no", "date": "dates", "text": "texts"}
    for kind, noun in nouns.items():
        names = [
            layout.names[at]
            for at in features
            if ("flag" if at in flags and kinds[at] == "number" else kinds[at]) == kind
        ]
        if names:
            more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
            yield f"{noun} {', '.join(names[:MAX_NAMED])}{more}"
