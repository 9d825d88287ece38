"""The table of points: a CSV reader finds what was written."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.logger.helpers import TESTING, TRAINING, VALIDATION, build, run_through


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_row_for_each_point_at_once(tmp_path: Path) -> None:
    logger = build("csv", tmp_path)
    for step in (1, 2, 3):
        logger.log({"train/loss": step / 8}, step, 1)
        read_now = rows(tmp_path / "metrics.csv")  # before it is closed
        assert [row["train/loss"] for row in read_now] == [str(each / 8) for each in range(1, step + 1)]
    logger.close()
    assert rows(tmp_path / "metrics.csv")[-1] == {"step": "3", "epoch": "1", "train/loss": "0.375"}


def test_csv_takes_new_columns_later(tmp_path: Path) -> None:
    run_through(build("csv", tmp_path))
    table = rows(tmp_path / "metrics.csv")
    assert list(table[0]) == ["step", "epoch", *TRAINING, *VALIDATION, *TESTING]
    assert [(row["step"], row["epoch"]) for row in table] == [("10", "1")] * 2 + [("20", "2")] * 3
    for row, point in zip(table, [TRAINING, VALIDATION, TRAINING, VALIDATION, TESTING], strict=True):
        values = {name: float(value) for name, value in row.items() if value and name not in ("step", "epoch")}
        assert values == point  # and what a point does not have stays empty


def test_csv_goes_where_its_key_says(tmp_path: Path) -> None:
    run_through(build("csv", tmp_path, file="curves.csv"))
    assert [path.name for path in tmp_path.iterdir()] == ["curves.csv"]


def test_csv_keeps_every_digit(tmp_path: Path) -> None:
    logger = build("csv", tmp_path)
    logger.log({"train/loss": 1 / 3, "lr": 1e-12}, 1, 1)
    (row,) = rows(tmp_path / "metrics.csv")
    assert float(row["train/loss"]) == 1 / 3 and float(row["lr"]) == 1e-12
