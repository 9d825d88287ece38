"""How the columns of a finished run write numbers: what the run saves, and a layout that reads a file the same way."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from trainer.data.readers.tables.layout import Layout
from trainer.data.readers.tables.number_cells import PLAIN_FORM, Decimal, NumberForm


def saved_forms(layout: Layout, columns: Sequence[int]) -> list[dict[str, Any] | None]:
    """Return the forms of columns as plain types; empty if all are numbers as Python writes them."""
    forms = [layout.forms[column] for column in columns]
    plain = all(form == PLAIN_FORM for form in forms)
    return [] if plain else [None if form is None else dataclasses.asdict(form) for form in forms]


def with_origins(layout: Layout, columns: Sequence[int]) -> Layout:
    """Return a layout in which the dates of columns count from the first day that the layout shows.

    As float32, days since 1970 have a precision of some minutes; days since an origin nearby have one of seconds.
    """
    forms = list(layout.forms)
    for column in columns:
        form = forms[column]
        assert form is not None
        days = [day for day in form.numbers(layout.filled(column)) if day == day]
        forms[column] = dataclasses.replace(form, origin=float(math.floor(min(days, default=0.0))))
    return layout._replace(forms=forms)


def with_saved_forms(
    layout: Layout, columns: Sequence[int], saved: Sequence[dict[str, Any] | None] | None, decimal: Decimal | None
) -> Layout:
    """Return a layout in which columns have the forms of a finished run, which ``saved_forms`` returned.

    A run of an earlier version saved none, and read all numbers as Python writes them. ``decimal``, the key
    ``dataset.decimal``, holds for a new file that writes fractions in another way than the training data.
    """
    forms: list[NumberForm | None] = list(layout.forms)
    for at, column in enumerate(columns):
        kept = saved[at] if saved else None
        form = PLAIN_FORM if kept is None else NumberForm(**kept)
        if decimal is not None and form.kind == "number" and form.decimal != decimal:
            form = dataclasses.replace(form, decimal=decimal, grouped=True)
        forms[column] = form
        layout.check_points(column, form)
    return layout._replace(forms=forms)
