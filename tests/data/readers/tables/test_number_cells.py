"""How columns write numbers: found from their cells, and read exactly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.helpers import everything, load_data
from trainer.data.readers.tables.number_cells import MISSING, Decimal, FoundForm, NumberForm, find_form, to_float


def found(cells: list[str], decimal: Decimal | None = None) -> FoundForm:
    return find_form(cells, MISSING, decimal)


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1", "2.5", " 3 ", "1e-3", ".5", "+4."], [1, 2.5, 3, 0.001, 0.5, 4]),
        (["1,5", "-2,75", "3"], [1.5, -2.75, 3]),
        (["1.234,5", "7,0"], [1234.5, 7]),
        (["1,234.00", "12,345,678.9", "5"], [1234, 12345678.9, 5]),
        (["1 234,5", "2\u202f000,25"], [1234.5, 2000.25]),
        (["45%", "3.5 %"], [45, 3.5]),
        (["$5", "$1,200.50", "-$3"], [5, 1200.5, -3]),
        (["5 €", "7,25 €"], [5, 7.25]),
        (["3,4\u00a0%", "12\u202f%"], [3.4, 12]),
        (["(1,250.00)", "935.02", "(12.50)"], [-1250, 935.02, -12.5]),
        (["0,107", "0,350"], [0.107, 0.35]),
        (["2020-08-16T00:00:00Z"], [18490]),
        (["True", "FALSE", "true"], [1, 0, 1]),
        (["\u22120.5", "1.5", "\uff0d2", "3e\u22122"], [-0.5, 1.5, -2, 0.03]),
        (["\uff11\uff12", "\uff10\uff0e\uff15"], [12, 0.5]),
        (["\u0661\u0662", "\u0660\u066b\u0665", "\u22126"], [12, 0.5, -6]),
        (["\u22121\u202f234,5", "2,5"], [-1234.5, 2.5]),
        (["USD 1.50", "USD -1,200.5", "(USD 3)"], [1.5, -1200.5, -3]),
        (["1.50 EUR", "2e3 EUR"], [1.5, 2000]),
        (["Rs. 5", "Rs. 1,234.5"], [5, 1234.5]),
        (["₹ 5", "₹1,00,001.5", "₹12,34,567"], [5, 100001.5, 1234567]),
        (["US$ 5", "US$6"], [5, 6]),
        (["1970-01-02", "1969-12-31", "1970-01-01 12:00"], [1, -1, 0.5]),
    ],
)
def test_numbers_are_read_as_people_write_them(cells: list[str], numbers: list[float]) -> None:
    form, unclear = found(cells)
    assert form is not None
    assert not unclear
    np.testing.assert_allclose(form.parse(pa.array(cells)), numbers, rtol=1e-15)
    assert form.numbers([cell.strip() for cell in cells]) == form.parse(pa.array(cells)).tolist()


@pytest.mark.parametrize("cell", ["x", "1_0", "0x10", "１２", "1,2,3", "--1", "1.2.3", "", "nan", "12 apples"])
def test_what_is_no_number_is_none(cell: str) -> None:
    assert math.isnan(to_float(cell))
    assert np.isnan(NumberForm().parse(pa.array(["1", cell]))).tolist() == [False, True]


def test_a_column_of_decimal_commas_decides_how_points_are_read(tmp_path: Path) -> None:
    lines = [f"{n % 9},{n % 7}5;{['950', '1.234', '12.345'][n % 3]};{'ab'[n % 2]}" for n in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(["x;y;kind", *lines]) + "\n")
    inputs, _ = everything(load_data("csv", tmp_path / "a.csv"))
    assert inputs[:3, 1].tolist() == [950, 1234, 12345]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["0.5", "(1.5)"], "negative numbers in brackets"),
        (["\u22120.5", "1.5"], "minus signs or digits of Unicode"),
        (["Rs. 5", "Rs. 6"], "thousands in groups and a sign Rs."),
        (["1.5", "2"], ""),
    ],
)
def test_a_form_says_how_it_differs(cells: list[str], words: str) -> None:
    assert str(found(cells).form) == words


@pytest.mark.parametrize("cell", ["<5.5", "5 kg", "\u22125 kg"])
def test_measured_values_with_other_signs_stay_texts(cell: str) -> None:
    assert found([cell] * 30).form is None


def test_texts_have_no_form() -> None:
    assert found(["a", "b", "1"]).form is None
    assert found(["1", "2", "x"]).form == NumberForm()


def test_a_group_of_three_digits_can_be_read_in_two_ways_until_the_decimal_sign_is_said() -> None:
    assert found(["1,234", "2,500"]).open == "1,234"
    for decimal, number in ((".", 1234), (",", 1.234)):
        form, unclear = found(["1,234", "2,500"], decimal)  # type: ignore[arg-type]
        assert form is not None
        assert not unclear
        assert form.numbers(["1,234"]) == [number]


def test_a_number_of_another_form_is_none() -> None:
    percent, _ = found(["45%", "3%", "7%"])
    euro, _ = found(["5 €", "6 €", "7 €"])
    assert percent is not None
    assert euro is not None
    assert np.isnan(percent.numbers(["0.45"])[0])
    assert np.isnan(euro.numbers(["$5"])[0])
    assert np.isnan(NumberForm("date").numbers(["2024-02-30"])[0])
