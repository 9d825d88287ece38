"""Dates and times as tables hold them."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from tests.helpers import everything, load_data, refused
from trainer.data import Data
from trainer.data.readers.tables.date_cells import DateOrder, parse_dates
from trainer.data.table_encoding import TableEncoding


def days(*moment: int) -> float:
    return (datetime(*moment) - datetime(1970, 1, 1)).total_seconds() / 86_400  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("order", "cell", "want"),
    [
        ("year", "2025-12-31", days(2025, 12, 31)),
        ("year", "2025/1/2", days(2025, 1, 2)),
        ("year", "2025-12-31T23:59:30Z", days(2025, 12, 31, 23, 59, 30)),
        ("year", "2025-12-31 23:59:30.5+00:00", days(2025, 12, 31, 23, 59, 30) + 0.5 / 86_400),
        ("day", "31.12.2025", days(2025, 12, 31)),
        ("day", "1.2.25 6:30", days(2025, 2, 1, 6, 30)),
        ("day", "01.02.69", days(1969, 2, 1)),
        ("day", "01.02.68", days(2068, 2, 1)),
        ("day", "31 Dec 2025", days(2025, 12, 31)),
        ("day", "3-march-2025", days(2025, 3, 3)),
        ("month", "12/31/2025 11:59 pm", days(2025, 12, 31, 23, 59)),
        ("month", "12/31/2025 12:01 a.m.", days(2025, 12, 31, 0, 1)),
        ("month", "Sept. 3, 2025", days(2025, 9, 3)),
        ("time", "23:59", (23 * 60 + 59) / 1440),
        ("time", "6:00:30 PM", (18 * 3600 + 30) / 86_400),
    ],
)
def test_a_date_is_read_in_its_form(order: DateOrder, cell: str, want: float) -> None:
    assert parse_dates(pa.array([cell]), order).tolist() == pytest.approx([want], abs=1e-9)


def test_plain_dates_are_the_same_numbers_beside_others_and_alone() -> None:
    draw = random.Random(0)
    forms = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S")
    moments = [datetime(1890, 1, 1) + timedelta(seconds=draw.randrange(10**10)) for _ in range(300)]
    cells = [f"{each:{forms[n % 3]}}" for n, each in enumerate(moments)]
    alone = parse_dates(pa.array([*cells, None, ""]), "year")
    beside = parse_dates(pa.array([*cells, None, "", "2025/1/1"]), "year")
    assert np.array_equal(alone, beside[:-1], equal_nan=True)
    assert np.isnan(alone[-2:]).all() and not np.isnan(alone[:-2]).any()


@pytest.mark.parametrize(
    ("order", "cell"),
    [
        ("year", "2025-02-30"),
        ("year", "2025-12-31 24:00"),
        ("year", "2025-12-31T1"),
        ("month", "02/30/2025"),
        ("day", "29.2.2025"),
        ("year", "2025-13-01"),
        ("year", "2025-12-31T23:59:30+02:00"),
        ("time", "24:00"),
        ("day", "12/31/2025"),
        ("year", ""),
    ],
)
def test_what_is_no_date_is_nan(order: DateOrder, cell: str) -> None:
    assert np.isnan(parse_dates(pa.array([cell, None]), order)).all()


COUNT = 60


def of_csv(folder: Path, form: Any, **keys: Any) -> Data:
    return load_data("csv", write(folder, form), **keys)


def write(folder: Path, form: Any) -> Path:
    rows = "".join(f"{form(n)},{n % 7 / 3},{'ab'[n % 2]}\n" for n in range(COUNT))
    (folder / "a.csv").write_text("when,x,kind\n" + rows)
    return folder / "a.csv"


def test_a_date_that_may_begin_with_the_day_or_the_month_is_asked_about(tmp_path: Path) -> None:
    file = write(tmp_path, lambda n: f"{n % 12 + 1}/{n % 11 + 1}/2025")
    assert refused(lambda path: load_data("csv", path), file) == (
        f"dataset.columns: null: does 1/1/2025 in when of {file} begin with the day or the month? "
        "'dataset.columns={when:day_first}' or 'dataset.columns={when:month_first}' says so"
    )
    found = {}
    for kind in ("day_first", "month_first"):
        inputs, _ = everything(load_data("csv", file, columns={"when": kind}))
        found[kind] = (inputs[1, 0] - inputs[0, 0]).item()
    assert found == {"day_first": 32, "month_first": 32}  # of 2/2, and …
    inputs, _ = everything(load_data("csv", file, columns={"when": "month_first"}))
    assert (inputs[11, 0] - inputs[0, 0]).item() == (datetime(2025, 12, 1) - datetime(2025, 1, 1)).days


def test_a_day_that_the_month_does_not_have_is_a_bad_row(tmp_path: Path) -> None:
    file = write(tmp_path, lambda n: "02/30/2025" if n == 5 else f"{n % 12 + 1}/{n % 27 + 1}/2025")
    assert f"1 bad sample: {file}:7: when: 02/30/2025 is no " in refused(lambda path: load_data("csv", path), file)


@pytest.mark.parametrize("name", ["a.parquet", "a.feather"])
@pytest.mark.parametrize("kind", [pa.timestamp("ns"), pa.timestamp("s", tz="UTC"), pa.date32()])
def test_dates_of_arrow_are_those_of_text(tmp_path: Path, name: str, kind: pa.DataType) -> None:
    moments = [datetime(2025, 1 + n % 12, 1 + n % 28) for n in range(COUNT)]
    cells = [None if n == 3 else moment for n, moment in enumerate(moments)]
    rows = pa.table(
        {
            "when": pa.array(cells, pa.timestamp("us")).cast(kind, safe=False),
            "x": [n % 7 / 3 for n in range(COUNT)],
            "kind": ["ab"[n % 2] for n in range(COUNT)],
        }
    )
    (parquet.write_table if name == "a.parquet" else feather.write_feather)(rows, tmp_path / name)
    data = load_data("csv", tmp_path / name)
    text = of_csv(tmp_path, lambda n: "" if n == 3 else f"{moments[n]:%Y-%m-%d}")
    assert isinstance(data.normalise, TableEncoding)
    assert isinstance(text.normalise, TableEncoding)
    assert data.normalise.columns == text.normalise.columns
    assert [each.kind for each in data.normalise.columns] == ["date", "number"]
    assert np.array_equal(everything(data)[0].numpy(), everything(text)[0].numpy(), equal_nan=True)
