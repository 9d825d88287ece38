"""Columns of arrow: what they hold, and their cells as texts and as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.tables.date_cells import as_floats
from trainer.data.readers.tables.number_cells import PLAIN_FORM, NumberForm


def is_text(cells: Any) -> bool:
    """Return whether an arrow array holds texts, in whatever form."""
    return is_text_type(cells.type)


def is_text_type(kind: Any) -> bool:
    import pyarrow as pa

    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_string_view(inner))


def form_of(kind: Any) -> NumberForm | None:
    """Return the form of a column that holds no texts, as that of the same column in a text file; None for lists."""
    import pyarrow as pa

    if is_nested(kind):
        return None

    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_date(inner) or pa.types.is_timestamp(inner):
        return NumberForm("date")
    return NumberForm("bool") if pa.types.is_boolean(inner) else PLAIN_FORM


def texts_of(cells: Any) -> Any:
    """Return an arrow array of any plain type as texts."""
    import pyarrow as pa

    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    return cells if pa.types.is_string(cells.type) else cells.cast(pa.string())


def numbers_of(cells: Any) -> NDArray[np.float64]:
    """Return an arrow array of numbers, truth values or dates as numbers; NaN where a value is missing."""
    import pyarrow as pa

    kind = cells.dictionary_decode().type if pa.types.is_dictionary(cells.type) else cells.type
    if pa.types.is_temporal(kind):
        moment = pa.duration("us") if pa.types.is_duration(kind) else pa.timestamp("us", getattr(kind, "tz", None))
        moment = pa.time64("us") if pa.types.is_time(kind) else moment
        days = cells.cast(moment, safe=False).cast(pa.int64()).cast(pa.float64(), safe=False)
        return as_floats(days) / 86_400_000_000
    return as_floats(cells.cast(pa.float64(), safe=False))


def is_plain_type(kind: Any) -> bool:
    import pyarrow as pa

    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return not (pa.types.is_nested(inner) or pa.types.is_binary(inner) or pa.types.is_large_binary(inner))


def is_nested(kind: Any) -> bool:
    """Return whether an arrow type is one of lists."""
    import pyarrow as pa

    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list)


def holds_numbers(kind: Any) -> bool:
    """Return whether an arrow type is one of lists of numbers, or lists of these."""
    import pyarrow as pa

    while is_nested(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )
