"""What each column of a table holds, and the findings of a table with categories and gaps."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import load_data, told
from trainer import compose
from trainer.data.checks import survey
from trainer.data.column_summary import ColumnSummary, summarise_columns

COUNT = 300
WORDS = ["good", "bad", "cheap", "loud", "small"]


def write(folder: Path, **more: Any) -> Path:
    draw = random.Random(0)
    towns = [draw.choice(["Rome", "Oslo", "Bonn"]) for _ in range(COUNT)]
    cells: dict[str, Any] = {
        "town": lambda n: "" if n % 10 == 0 else "Rare" if n == 7 else towns[n],
        "size": lambda n: f"{n * n % 17 / 4 + n / 1000:.3f}",
        "when": lambda n: f"2024-{n % 12 + 1:02d}-{n % 28 + 1:02d}",
        "split": lambda n: "train" if n < 240 else "val" if n < 270 else "test",
        **more,
        "kind": lambda n: "ab"[n * n % 7 % 2],
    }
    lines = [",".join(cells), *(",".join(str(cell(n)) for cell in cells.values()) for n in range(COUNT))]
    (folder / "a.csv").write_text("\n".join(lines) + "\n")
    return folder / "a.csv"


def findings(file: Path, check: str, **keys: Any) -> list[str]:
    data = load_data("csv", file, **{"target": "kind", **keys})
    settings = compose("dataset=csv", f"dataset.path={file}").settings
    return [finding.text for finding in survey(data, settings).findings if finding.check == check]


def test_each_column_is_summed_up(tmp_path: Path) -> None:
    town, size, when = summarise_columns(load_data("csv", write(tmp_path), target="kind"))
    assert {*town.levels} == {"Rome", "Oslo", "Bonn"}
    assert (town.kind, town.missing, town.others) == ("category", 24, 1)
    assert town.content == f"3 levels: {', '.join(town.levels)}, … and 1 cells of other levels"
    assert (size.kind, size.missing) == ("number", 0)
    assert when == ColumnSummary("when", "date", (), "2024-01-01", "2024-12-28", 0, 0)


def test_the_command_and_the_page_show_the_columns(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["data", "dataset=csv", f"dataset.path={write(tmp_path)}", "dataset.target=kind"]
    _, out, _ = told(capfd, *words, "--page", str(tmp_path / "page.html"))
    assert "2024-01-01 to 2024-12-28" in out
    assert "2024-01-01 to 2024-12-28" in (tmp_path / "page.html").read_text()
    _, out, _ = told(capfd, *words, "--json")
    assert [each["kind"] for each in json.loads(out)["columns"]] == ["category", "number", "date"]


def test_a_column_of_one_value_is_constant_unless_cells_are_missing(tmp_path: Path) -> None:
    file = write(
        tmp_path, one=lambda n: "same", other=lambda n: "same" if n % 3 else "", six=lambda n: 6 if n % 3 else ""
    )
    (text,) = findings(file, "constant")
    assert text.endswith("leave it out: one is same")


def test_words_of_a_text_have_names_in_findings(tmp_path: Path) -> None:
    def note(n: int) -> str:
        words = [WORDS[(n * k + n // 5) % 5] for k in range(1, 4)]
        return " ".join(["room", *words, f"n{n}"])

    file = write(tmp_path, note=note)
    (text,) = findings(file, "constant", columns={"note": "text"})
    assert text.endswith("leave it out: note=room is 1")
    assert summarise_columns(load_data("csv", file, target="kind", columns={"note": "text"}))[3].kind == "text"


def test_a_category_that_tells_the_class_is_found_beside_gaps(tmp_path: Path) -> None:
    file = write(tmp_path, code=lambda n: ["alpha", "beta"][n * n % 7 % 2], gaps=lambda n: n if n % 2 else "")
    (text,) = findings(file, "target_column")
    assert text.startswith("column code tells the class")


def test_a_copy_of_a_value_is_found_although_cells_are_missing(tmp_path: Path) -> None:
    file = write(tmp_path, copy=lambda n: "" if n % 5 == 0 else f"{2 * (n * n % 17 / 4 + n / 1000):.3f}")
    (text,) = findings(file, "target_column", target="size", task="regression")
    assert text.startswith("column copy is nearly a copy of size (correlation 1.00000)")


def test_a_column_that_runs_with_sorted_classes_is_found_although_cells_are_missing(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    rows = [f"{'' if n % 4 == 0 else n + 0.5},{n * n % 17},{'a' if n < 150 else 'b'}" for n in range(COUNT)]
    file.write_text("\n".join(["run,x,kind", *rows]) + "\n")
    (text,) = findings(file, "order", target="kind", features=["run", "x"])
    assert "column run runs with their order" in text
