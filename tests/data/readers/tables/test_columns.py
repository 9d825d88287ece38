"""The target and the identifiers of tables are found, or asked for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import load_data, refused
from trainer.data import Data

ROWS = 60


def load(path: object, **keys: Any) -> Data:
    return load_data("csv", path, **keys)


def table(path: Path, header: str, columns: Sequence[Sequence[Any]]) -> Path:
    lines = [",".join(map(str, row)) for row in zip(*columns, strict=True)]
    path.write_text("\n".join([header, *lines] if header else lines) + "\n")
    return path


def measured(seed: int) -> list[float]:
    draw = random.Random(seed)
    return [round(draw.gauss(0, 1), 3) for _ in range(ROWS)]


CLASSES = [n // 20 for n in range(ROWS)]  # in the order of the classes
NAMES = [f"class {number}" for number in CLASSES]
SHUFFLED = random.Random(0).sample(range(ROWS), ROWS)


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("Id", range(1, ROWS + 1)),
        ("", range(ROWS)),
        ("", SHUFFLED),
        ("Unnamed: 0", SHUFFLED),
        ("PassengerId", [892 + 2 * n for n in range(ROWS)]),
        ("sample", SHUFFLED),
        ("X", [n + 1 for n in SHUFFLED]),
        ("Measurement", [1001 + n for n in SHUFFLED]),
        ("OBJECTID", [7 * n + 5 for n in SHUFFLED]),
        ("Kunden-Nr.", [7 * n + 5 for n in SHUFFLED]),
        ("Roll No", [7 * n + 5 for n in SHUFFLED]),
        ("objid", [1237648720693755918 + n for n in SHUFFLED]),  # more digits than float64 has
        ("Id", [f"'{n:,}'".replace("'", '"') for n in range(990, 990 + ROWS)]),
        ("customer", [f"name {n}" for n in range(ROWS)]),
    ],
)
def test_an_identifier_is_left_out_and_named(tmp_path: Path, name: str, cells: Sequence[Any]) -> None:
    file = table(tmp_path / "a.csv", f"{name},a,b,species", [cells, measured(1), measured(2), NAMES])
    data = load(file)
    shown = name or "column 0 without a name"
    assert data.preprocess["columns"] == ["a", "b"]
    assert f"left out {shown} (an identifier; dataset.features takes columns in)" in data.notes
    assert data.preprocess["id"] == (name or None)


def test_dataset_features_takes_an_identifier_in(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", "Id,a,species", [range(ROWS), measured(1), NAMES])
    assert load(file, features=["Id", "a"]).preprocess["columns"] == ["Id", "a"]
    assert load(file, ignore=["a"]).preprocess["columns"] == ["Id"]  # nothing else is left


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("year", range(1950, 1950 + ROWS)),
        ("time", range(ROWS)),
        ("size", [3 * n + 7 for n in range(ROWS)]),
        ("count", [n % 30 for n in range(ROWS)]),
        ("key", [n % 12 for n in range(ROWS)]),
        ("Number", [n % 10 + 1 for n in range(ROWS)]),
        ("order", [n % 7 for n in range(ROWS)]),
        ("sku_count", [7 * n + 5 for n in SHUFFLED]),
        ("price", [n + 0.5 for n in range(ROWS)]),
    ],
)
def test_other_columns_of_numbers_are_features(tmp_path: Path, name: str, cells: Sequence[Any]) -> None:
    file = table(tmp_path / "a.csv", f"{name},a,species", [cells, measured(1), NAMES])
    assert load(file).preprocess["columns"] == [name, "a"]


@pytest.mark.parametrize(
    ("header", "columns", "target"),
    [
        ("a,b,species", [measured(1), measured(2), NAMES], "species (found by its name)"),
        ("label,p1,p2", [CLASSES, measured(1), measured(2)], "label (found by its name)"),
        ("a,target,b", [measured(1), CLASSES, measured(2)], "target (found by its name)"),
        ("a,b,kind", [measured(1), measured(2), CLASSES], "kind (the last column)"),
        ("kind,x1,x2,x3", [CLASSES, measured(1), measured(2), measured(3)], "kind (found by its name)"),
        ("x1,x2,yield", [CLASSES, measured(1), measured(2)], "yield (found by its name)"),
        ("", [CLASSES, measured(1), measured(2)], "0 (the first column)"),
        ("", [measured(1), CLASSES, CLASSES[::-1]], "2 (the last column)"),
        ("a,b,c", [measured(1), measured(2), measured(3)], "c (the last column)"),
        ("a,code,price", [measured(1), CLASSES, measured(2)], "price (found by its name)"),
        ("x,y", [measured(1), measured(2)], "y (found by its name)"),
    ],
)
def test_the_target_is_found_by_its_name_or_place(
    tmp_path: Path, header: str, columns: list[Sequence[Any]], target: str
) -> None:
    assert load(table(tmp_path / "a.csv", header, columns)).notes[0] == f"target {target}"


@pytest.mark.parametrize(
    ("header", "columns", "candidates", "example"),
    [
        ("x,y,z", [measured(1), measured(2), CLASSES], None, None),
        ("kind,a,b", [CLASSES, measured(1), measured(2)], f"kind (0), b ({measured(2)[0]})", "kind"),
        ("y1,y2,a", [measured(1), measured(2), CLASSES], f"y1 ({measured(1)[0]}), y2 ({measured(2)[0]})", "y2"),
        ("code,a,kind", [CLASSES, measured(1), CLASSES], "code (0), kind (0)", "kind"),
        (
            "a,flag,kind",
            [measured(1), [n % 2 for n in range(ROWS)], CLASSES],
            f"a ({measured(1)[0]}), flag (0), kind (0)",
            "kind",
        ),
        ("label,a,class", [CLASSES, measured(1), CLASSES], "label (0), class (0)", "class"),
        ("", [CLASSES, measured(1), CLASSES], "0 (0), 2 (0)", "2"),
    ],
)
def test_an_unclear_target_is_a_question_whose_answer_works(
    tmp_path: Path, header: str, columns: list[Sequence[Any]], candidates: str | None, example: str | None
) -> None:
    file = table(tmp_path / "a.csv", header, columns)
    if candidates is None:
        assert load(file).notes[0] == "target z (the last column)"
        return
    line = refused(load, file)
    assert line == (
        f"dataset.target: null: which column of {file} is to be predicted? {candidates}; "
        f"such as dataset.target={example}"
    )
    assert load(file, target=example).preprocess["target"] == [example]


@pytest.mark.parametrize("words", [(0, 1), ("False", "True"), ("no", "yes")])
def test_several_columns_of_flags_at_the_end_are_offered_as_labels(tmp_path: Path, words: Sequence[Any]) -> None:
    flags = [words[n % 2] for n in range(ROWS)], [words[n // 3 % 2] for n in range(ROWS)]
    columns: list[Sequence[Any]] = [measured(1), *flags]
    assert "or 'dataset.target=[toxic,rude]' for labels" in refused(
        load, table(tmp_path / "a.csv", "a,toxic,rude", columns)
    )


@pytest.mark.parametrize("name", ["patient_id", "subject", "customer_id", "speakerId"])
def test_a_column_that_names_what_several_rows_are_about_is_left_out_and_proposed_as_group(
    tmp_path: Path, name: str
) -> None:
    columns: list[Sequence[Any]] = [[n // 3 for n in range(ROWS)], measured(1), NAMES]
    data = load(table(tmp_path / "a.csv", f"{name},a,species", columns))
    assert data.preprocess["columns"] == ["a"]
    assert any(f"dataset.group={name} keeps these in one split" in note for note in data.notes)


def test_a_group_that_says_the_target_is_no_group(tmp_path: Path) -> None:
    columns: list[Sequence[Any]] = [measured(1), [n * 7 for n in CLASSES], NAMES]
    data = load(table(tmp_path / "a.csv", "a,species_id,species", columns))
    assert "left out species_id (says which target a row has)" in data.notes


@pytest.mark.parametrize("name", ["heat_index", "body mass index", "pct_no"])
def test_a_measurement_with_a_name_that_ends_like_an_identifier_is_a_feature(tmp_path: Path, name: str) -> None:
    cells = random.Random(1).sample(range(500, 5000), ROWS)
    assert load(table(tmp_path / "a.csv", f"{name},a,species", [cells, measured(1), NAMES])).preprocess["columns"] == [
        name,
        "a",
    ]


@pytest.mark.parametrize("cells", [SHUFFLED[:30] * 2, [7 * n for n in range(ROWS)]])
def test_an_index_without_a_name_may_have_gaps_and_repeat(tmp_path: Path, cells: list[int]) -> None:
    assert load(table(tmp_path / "a.csv", ",a,species", [cells, measured(1), NAMES])).preprocess["columns"] == ["a"]


def test_an_identifier_may_repeat_once_or_be_missing_once(tmp_path: Path) -> None:
    for cells in ([*range(ROWS - 1), 3], ["", *range(1, ROWS)]):
        assert load(table(tmp_path / "a.csv", "Id,a,species", [cells, measured(1), NAMES])).preprocess["columns"] == [
            "a"
        ]


def test_the_columns_that_pandas_writes_without_names_are_read_beside_its_index(tmp_path: Path) -> None:
    columns: list[Sequence[Any]] = [range(ROWS), measured(1), measured(2), NAMES]
    data = load(table(tmp_path / "a.csv", ",0,1,2", columns), target="2")
    assert data.preprocess["columns"] == ["0", "1"]
    assert len(data.train.source.targets) == ROWS


@pytest.mark.parametrize("form", ["{:.2f} kg", "<{:.2f}", "ca. {:.2f}", "~{:.1f}%"])
def test_texts_that_measure_something_are_no_identifiers(tmp_path: Path, form: str) -> None:
    cells = [form.format(70 + n / 7) for n in range(ROWS)]
    file = table(tmp_path / "a.csv", "weight,a,species", [cells, measured(1), NAMES])
    assert f"the numbers of weight (such as {cells[0]}) cannot be read (" in refused(load, file)
    assert load(file, columns={"weight": "category"}).preprocess["columns"] == ["weight", "a"]


def test_an_identifier_with_a_sum_below_it_is_left_out(tmp_path: Path) -> None:
    columns: list[Sequence[Any]] = [[*range(5001, 5000 + ROWS), "Sum"], measured(1), NAMES]
    assert load(table(tmp_path / "a.csv", "client,a,species", columns)).preprocess["columns"] == ["a"]
