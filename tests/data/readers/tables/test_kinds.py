"""What the columns of a table hold is found, said, and overridden by ``dataset.columns``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import everything, load_data, refused
from trainer.data import Data
from trainer.data.table_encoding import TableEncoding

COUNT = 120
WORDS = ["good", "bad", "cheap", "loud", "small", "room", "view", "bed"]


def comment(n: int) -> str:
    return " ".join(WORDS[(n * (k + 3) + n // 8) % 8] for k in range(6)) + f" no {n}"


CELLS: dict[str, Callable[[int], object]] = {
    "size": lambda n: n % 13 / 7,
    "town": lambda n: ["Rome", "Oslo", "Bonn"][n % 3],
    "open": lambda n: ["yes", "no"][n // 2 % 2],
    "when": lambda n: f"2024-{n % 12 + 1:02d}-{n % 28 + 1:02d}",
    "comment": comment,
    "zip": lambda n: f"{n * 7 % 5:05d}",
    "name": lambda n: f"guest{n:04d}",
}


def write(folder: Path, **cells: Callable[[int], object]) -> Path:
    columns: dict[str, Callable[[int], object]] = {**cells, "kind": lambda n: "ab"[n % 2]}
    lines = [",".join(columns), *(",".join(str(cell(n)) for cell in columns.values()) for n in range(COUNT))]
    (folder / "a.csv").write_text("\n".join(lines) + "\n")
    return folder / "a.csv"


def kinds(data: Data) -> dict[str, str]:
    assert isinstance(data.normalise, TableEncoding)
    return {each.name: each.kind for each in data.normalise.columns}


def test_each_kind_is_found_and_said(tmp_path: Path) -> None:
    data = load_data("csv", write(tmp_path, **CELLS), target="kind")
    assert kinds(data) == {
        "size": "number",
        "town": "category",
        "open": "number",
        "when": "date",
        "zip": "number",
    }
    for note in (
        "categories town",
        "yes or no open",
        "dates when",
        "left out name (an identifier; dataset.features takes columns in)",
        "left out comment (free text; 'dataset.columns={comment:text}' learns from its words)",
    ):
        assert note in data.notes


@pytest.mark.parametrize(
    ("column", "kind", "found"),
    [
        ("zip", "category", "category"),
        ("size", "category", "category"),
        ("comment", "text", "text"),
        ("comment", "category", "category"),
        ("name", "category", "category"),
        ("town", "text", "text"),
        ("open", "category", "category"),
        ("when", "category", "category"),
        (3, "date", "date"),
        ("5", "category", "category"),
    ],
)
def test_a_kind_is_overridden(tmp_path: Path, column: str | int, kind: str, found: str) -> None:
    data = load_data("csv", write(tmp_path, **CELLS), target="kind", columns={column: kind})
    name = [*CELLS][int(column)] if str(column).isdigit() else str(column)
    assert kinds(data)[name] == found


def test_words_that_are_asked_for_by_features_are_learned_from(tmp_path: Path) -> None:
    data = load_data("csv", write(tmp_path, **CELLS), target="kind", features=["comment", "size"])
    assert isinstance(data.normalise, TableEncoding)
    words, size = data.normalise.columns
    assert (words.kind, size.kind) == ("text", "number")
    assert {*WORDS} <= {*words.levels}
    row, wanted = everything(data)[0][5], {*comment(5).split()}
    assert {word for word, there in zip(words.levels, row.tolist(), strict=False) if there} == wanted & {*words.levels}


def test_columns_without_names_are_numbered(tmp_path: Path) -> None:
    rows = "".join(f"{n % 13 / 7},{n * 7 % 5:05d},{'ab'[n % 2]}\n" for n in range(COUNT))
    (tmp_path / "a.csv").write_text(rows)
    assert [*kinds(load_data("csv", tmp_path / "a.csv", columns={1: "category"})).values()] == ["number", "category"]
    assert refused(lambda path: load_data("csv", path, columns={7: "category"}), tmp_path / "a.csv") == (
        f"dataset.columns: 7: {tmp_path / 'a.csv'} has the columns 0 to 2"
    )


@pytest.mark.parametrize(
    ("cells", "kind", "levels"),
    [
        (["True", "false", "TRUE", "False"], None, None),
        (["True", "false", "TRUE", "False"], "category", {"True", "False"}),
        (["1", "2", "1.0", "2.0"], "category", {"1", "2"}),
        (["01", "1", "10", "1"], "category", {"01", "1", "10"}),
        (["NA", "none", "x", "y"], None, {"none", "x", "y"}),
        (["nan", "None", "x", "null"], None, {"None", "x"}),
    ],
)
def test_levels_are_texts_or_numbers_and_missing_ones_are_none(
    tmp_path: Path, cells: list[str], kind: str | None, levels: set[str] | None
) -> None:
    file = write(tmp_path, size=CELLS["size"], c=lambda n: cells[n // 2 % 4])
    keys: dict[str, Any] = {} if kind is None else {"columns": {"c": kind}}
    data = load_data("csv", file, target="kind", **keys)
    assert isinstance(data.normalise, TableEncoding)
    column = data.normalise.columns[1]
    found = {level.lower() for level in column.levels}
    assert len(found) == len(column.levels)
    assert found == {level.lower() for level in levels or ()}
    assert column.missing == ({"NA", "nan"} >= {cells[0]})
    assert column.kind == ("number" if levels is None else "category")
