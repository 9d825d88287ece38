"""Whether the first row of a table names its columns, as pandas, csv writers and instruments write it."""

from __future__ import annotations

import pytest

from trainer.data.readers.tables.header import find_header, num_titles, with_row_names

SPECTRA = [[f"0.{n}", f"0.{n + 1}", f"0.{n + 3}", f"0.{n % 7}", "ab"[n % 2]] for n in range(20)]
NUMBERS = [[f"{n * 7 % 5}.25", f"{n * 3 % 11}.5", f"{n % 13}.75", f"{n * 5 % 17}.5"] for n in range(20)]
TEXTS = [[f"a film that is number {n} of all, and not bad.", "yn"[n % 2]] for n in range(20)]


@pytest.mark.parametrize(
    ("first", "rows"),
    [
        ("sepal,petal,third,fourth,species", SPECTRA),
        ("400,410,420,430,species", SPECTRA),
        ("400.1,410.2,420.3,430.4,species", SPECTRA),
        ("0,1,2,3", NUMBERS),
        ("1990,1991,1992,1993", NUMBERS),
        (",0,1,2,3", [[str(n), *row] for n, row in enumerate(NUMBERS)]),
        (",1990,1992,1999,2000", [[str(n), *row] for n, row in enumerate(NUMBERS)]),
        ("text,label", TEXTS),
        ("v1,v2,,", [["ham", f"text {n}", "", ""] for n in range(20)]),
        ("Class Index,Title", [[str(n % 4), f"A title, {n}"] for n in range(20)]),
        (
            "country,1990,1995,2000,region",
            [[f"land {n}", f"{n}.5", f"{n}.25", f"{n}.75", "NS"[n % 2]] for n in range(20)],
        ),
        ("401.32,405.11,412.9,430.07,species", SPECTRA),
        ("400,410,species", [row[2:] for row in SPECTRA]),
        ("400,species", [row[3:] for row in SPECTRA]),
        ("2010,2015,2018,2022", [[str(100 + n * k % 700) for k in (37, 51, 83, 29)] for n in range(1, 20)]),
        (["id,Do you smoke?,GDP per capita in dollars of the year", "PPP"][0], [["1", "0", "2.5"]] * 9),
        ("colour,shape", [["red", "round"], ["blue", "flat"]] * 5),
    ],
)
def test_a_row_of_names_is_a_header(first: str, rows: list[list[str]]) -> None:
    assert find_header([first.split(","), *rows]).header


@pytest.mark.parametrize(
    ("first", "rows"),
    [
        ("0.1,0.2,0.4,0.2,a", SPECTRA),
        ("0.1,0.2,0.4,0.2,c", SPECTRA),  # the only sample of its class
        ("5.25,3.5,2.75,8.5", NUMBERS),
        ("1,2,3,4", [[str(n + 1), str(n + 2), str(n + 3), str(n + 4)] for n in range(20)]),
        ("a fine film.,y", TEXTS),
        ("tag,y", [["tag", "n"], ["class", "y"], ["title", "n"]] * 5),
        ("title,class", [["title", "class"], ["y", "tag"]] * 5),
        ("40-49,premeno,yes", [["50-59", "ge40", "no"], ["40-49", "premeno", "yes"]] * 5),
        ("?,1,2", [["3", "4", "5"], ["1", "?", "6"]] * 5),
    ],
)
def test_a_sample_is_no_header(first: str, rows: list[list[str]]) -> None:
    assert not find_header([first.split(","), *rows]).header


def test_an_open_decision_is_said() -> None:
    note = find_header([["400", "410", "420", "430", "species"], *SPECTRA]).note
    assert note == "line 1 is read as the names of the columns (dataset.header=false: as a sample)"
    assert not find_header([["a", "b", "c", "d"], *NUMBERS]).note


@pytest.mark.parametrize("first", ["0,1", "2015,2016,2017"])
def test_a_sample_that_may_be_a_header_is_said(first: str) -> None:
    cells = first.split(",")
    found = find_header([cells, *([str(n * k % 4001) for k in (37, 2051, 1483)[: len(cells)]] for n in range(1, 60))])
    assert found == (False, "line 1 is read as a sample (dataset.header=true: as the names of the columns)")


def test_lines_above_a_table_are_titles() -> None:
    table = [["a", "b", "kind"], *([str(n), "2", "x"] for n in range(20))]
    assert num_titles([["A report"], ["of 2024", "", ""], *table]) == 2
    assert num_titles(table) == 0
    assert num_titles([["a title"], ["text", "label"], ["one", "x"]]) == 0


def test_a_header_with_one_name_less_than_the_rows_has_none_for_the_names_of_the_rows() -> None:
    rows = [["a", "b"], ["row 1", "1", "2"], ["row 2", "3", "4"]]
    assert with_row_names(rows) == [["", "a", "b"], *rows[1:]]


@pytest.mark.parametrize(
    "rows",
    [
        [["a", "b"], ["1", "2"], ["3", "4", "5"], ["6", "7"]],
        [["1", "2"], ["1", "2", "3"], ["3", "4", "5"]],
        [["a title"], ["1", "2"], ["3", "4"]],
    ],
)
def test_other_first_rows_that_are_too_short_stay_as_they_are(rows: list[list[str]]) -> None:
    assert with_row_names(rows) == rows


def test_a_delimiter_behind_every_row_is_no_column_of_row_names() -> None:
    assert with_row_names([["a", "b"], ["1", "2", ""], ["3", "4", ""]])[0] == ["a", "b", ""]
