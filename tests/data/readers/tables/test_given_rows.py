"""Rows that a program gives: cells as Python has them."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from trainer.data.readers.tables.given_rows import GivenRows
from trainer.data.table_encoding import OTHER, EncodedColumn, TableEncoding

NAN = math.nan
ENCODING = TableEncoding.of(
    [
        EncodedColumn("sex", "category", levels=("f", "m"), missing=True),
        EncodedColumn("age", missing=True),
        EncodedColumn("when", "date", origin=19_723.0),
        EncodedColumn("open"),
    ]
)
PLAIN = {"kind": "number", "decimal": ".", "grouped": False, "sign": ""}
FORMS = [
    None,
    {**PLAIN, "decimal": ","},
    {**PLAIN, "kind": "date", "order": "day", "origin": 19_723.0},
    {**PLAIN, "kind": "bool"},
]
GIVEN = GivenRows(ENCODING, FORMS, ["unknown", -999], is_bad=False)
NAMES = ["sex", "age", "when", "open"]
EAST = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("row", "raw"),
    [
        (["f", 1.5, datetime(2024, 1, 2, 12), True], [0, 1.5, 1.5, 1]),
        ([" m ", "1,5", "3.1.2024", "no"], [1, 1.5, 2, 0]),
        (["x", 7, date(2024, 1, 1), "Yes"], [OTHER, 7, 0, 1]),
        ([None, None, None, None], [NAN, NAN, NAN, NAN]),
        (["", "NA", NAN, "unknown"], [NAN, NAN, NAN, NAN]),
        (["none", -999, np.datetime64("2024-01-03"), np.bool_(True)], [OTHER, NAN, 2, 1]),
        (["f", np.int64(3), datetime(2024, 1, 1, 2, tzinfo=EAST), 0], [0, 3, 0, 0]),
    ],
)
def test_cells_are_those_of_a_file(row: list[Any], raw: list[float]) -> None:
    for given in ([row], [dict(zip(NAMES, row, strict=True))], {n: [c] for n, c in zip(NAMES, row, strict=True)}):
        assert GIVEN.raw(given).tolist()[0] == pytest.approx(raw, nan_ok=True)


def test_a_time_of_the_day_is_a_part_of_a_day() -> None:
    encoding = TableEncoding.of([EncodedColumn("at", "date")])
    given = GivenRows(encoding, [{**PLAIN, "kind": "date", "order": "time", "origin": 0.0}], [], is_bad=False)
    assert given.raw([[time(18)], ["6:00 pm"], [None]]).flatten().tolist() == pytest.approx(
        [0.75, 0.75, NAN], nan_ok=True
    )


def test_a_data_frame_gives_its_columns_by_name() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "more": [1, 2],
            "open": [True, False],
            "when": pandas.to_datetime(["2024-01-02 12:00", None]),
            "age": pandas.array([3, None], dtype="Int64"),
            "sex": ["m", None],
        }
    )
    assert GIVEN.raw(frame)[0].tolist() == [1, 3, 1.5, 1]
    assert GIVEN.raw(frame)[1].tolist() == pytest.approx([NAN, NAN, NAN, 0], nan_ok=True)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"sex": "f", "Age": 3, "when": None, "open": 1}],
            r"row 0: has no column age; did you mean Age\? columns: sex",
        ),
        ({"sex": ["f"], "when": [None], "open": [1]}, "samples: has no column age; columns: sex, when, open"),
        ([["f", 1, None]], r"row 0: must have 4 cells \(sex, age, when, open\), or name its columns, got 3 cells"),
        (["f"], "row 0: must have 4 cells .* got 1 cells"),
        ([5], "row 0: must have 4 cells .* got int"),
        ([["f", "old", None, 1]], "row 0: age: 'old' is no finite number"),
        ([["f", math.inf, None, 1]], "row 0: age: 'inf' is no finite number"),
        ([["f", 1e39, None, 1]], r"row 0: age: '1e\+39' is no finite number"),
        ([["f", 1, 5.0, 1]], "row 0: when: '5.0' is no date"),
        ([["f", 1, "2024-01-03", 1]], "row 0: when: '2024-01-03' is no date"),
        ({"sex": ["f"], "age": [1, 2], "when": [None], "open": [1]}, "the same number of cells"),
    ],
)
def test_what_does_not_fit_is_named(rows: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GIVEN.raw(rows)


def test_a_run_without_missing_cells_accepts_none() -> None:
    strict = GivenRows(ENCODING, FORMS, [], is_bad=True)
    with pytest.raises(ValueError, match=r"row 1: age: is empty, and the run has dataset\.missing=bad"):
        strict.raw([["f", 1, date(2024, 1, 1), 1], ["f", None, date(2024, 1, 1), 1]])
