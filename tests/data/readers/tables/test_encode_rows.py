"""The encoding of a table is fitted on train alone, and is the same however the rows are read."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import assert_same_batches, everything, load_data, loaders_of
from trainer.data import Data, RaggedSource
from trainer.data.readers.tables import encode_rows
from trainer.data.table_encoding import OTHER, TableEncoding

COUNT = 90
TOWNS = ["Rome", "Oslo", "Bonn"]


def write(file: Path, change: Callable[[int, list[object]], list[object]] = lambda _, row: row) -> Path:
    """Write a table whose last rows are val and test; town is missing in rows 0, 20, …; one town is rare."""
    lines = ["town,size,when,split,kind"]
    for n in range(COUNT):
        town = "" if n % 20 == 0 else "Rare" if n == 7 else TOWNS[n % 3]
        split = "train" if n < 70 else "val" if n < 80 else "test"
        size = "" if n % 11 == 3 else f"{n * n % 17 / 4}"
        row: list[object] = [town, size, f"2024-{n % 12 + 1:02d}-{n % 28 + 1:02d}", split, "ab"[n % 2]]
        lines.append(",".join(map(str, change(n, row))))
    file.write_text("\n".join(lines) + "\n")
    return file


def encoding_of(data: Data) -> TableEncoding:
    assert isinstance(data.normalise, TableEncoding)
    return data.normalise


def test_missing_rare_and_unknown_cells_are_values_of_their_own(tmp_path: Path) -> None:
    def change(n: int, row: list[object]) -> list[object]:
        return ["Paris", *row[1:]] if n == 85 else row

    data = load_data("csv", write(tmp_path / "a.csv", change), target="kind")
    town, size, when = encoding_of(data).columns
    assert {*town.levels} == {*TOWNS} and town.missing and town.other
    assert size.missing and not when.missing
    inputs, _ = everything(data)
    assert inputs[7, 0] == inputs[85, 0] == OTHER  # rare in train, and not in train
    assert inputs[[0, 20, 40], 0].isnan().all()
    features = encoding_of(data)(inputs)
    names = encoding_of(data).names
    for name, rows in (("town=other", [7, 85]), ("town is missing", [*range(0, COUNT, 20)])):
        assert features[:, names.index(name)].nonzero().flatten().tolist() == rows
    assert features[:, names.index("size is missing")].nonzero().flatten().tolist() == [*range(3, COUNT, 11)]


def test_a_cell_of_val_or_test_changes_nothing_of_the_encoding(tmp_path: Path) -> None:
    def change(n: int, row: list[object]) -> list[object]:
        return ["Paris", 1e6, "2030-01-01", *row[3:]] if n >= 70 else row

    before = load_data("csv", write(tmp_path / "a.csv"), target="kind")
    after = load_data("csv", write(tmp_path / "b.csv", change), target="kind")
    assert encoding_of(before).columns == encoding_of(after).columns
    assert np.array_equal(everything(before)[0][:70], everything(after)[0][:70], equal_nan=True)


def test_a_column_of_texts_that_only_val_has_is_a_category_without_levels(tmp_path: Path) -> None:
    def change(n: int, row: list[object]) -> list[object]:
        return ["" if n < 70 else "Rome", *row[1:]]

    data = load_data("csv", write(tmp_path / "a.csv", change), target="kind")
    (town, *_) = encoding_of(data).columns
    assert (town.kind, town.levels, town.missing) == ("category", (), True)
    assert encoding_of(data)(everything(data)[0]).isfinite().all()


def test_a_row_without_any_cell_is_encoded(tmp_path: Path) -> None:
    def change(n: int, row: list[object]) -> list[object]:
        return ["", "", "", *row[3:]] if n % 30 == 1 else row

    data = load_data("csv", write(tmp_path / "a.csv", change), target="kind")
    inputs, _ = everything(data)
    assert inputs[1].isnan().all()
    assert encoding_of(data)(inputs).isfinite().all()


@pytest.mark.parametrize("rule", ["mark", "mean"])
def test_a_missing_number_is_filled_and_marked_if_that_is_asked_for(tmp_path: Path, rule: str) -> None:
    data = load_data("csv", write(tmp_path / "a.csv"), target="kind", missing=rule)
    inputs, _ = everything(data)
    trained = inputs[:70, 1]
    there = trained[~trained.isnan()].double()
    size = encoding_of(data).columns[1]
    assert size.missing == (rule == "mark")
    assert size.fill == pytest.approx(float(there.mean() if rule == "mean" else there.quantile(0.5)))


def test_rows_in_memory_and_streamed_are_the_same_batches(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv")
    held, streamed = (load_data("csv", file, target="kind", in_memory=each) for each in (True, False))
    assert_same_batches(held, streamed)


def test_the_steps_of_a_sequence_have_categories_and_padding_stays_zero(tmp_path: Path) -> None:
    lines = ["walk,town,x,kind"]
    for walk in range(30):
        lines += [
            f"w{walk},{TOWNS[(walk + k) % 3]},{'' if k == 1 else k + walk / 7},{'ab'[walk % 2]}"
            for k in range(1 + walk % 3)
        ]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    data = load_data("csv", tmp_path / "a.csv", target="kind", group_by="walk")
    assert isinstance(data.train.source, RaggedSource)
    assert (data.spec.kind, data.spec.shape) == ("sequence", (3, encoding_of(data).width))
    held, streamed = (
        load_data("csv", tmp_path / "a.csv", target="kind", group_by="walk", in_memory=each) for each in (True, False)
    )
    one, other = (next(iter(loader.train.epoch())) for loader in (loaders_of(held, 8), loaders_of(streamed, 8)))
    assert all(map(torch.equal, one.inputs, other.inputs))
    values, lengths = one.inputs
    assert lengths.min() < values.shape[1]
    for sample, length in zip(values, lengths.tolist(), strict=True):
        assert not sample[length:].any()
        assert sample[:length, 1:].any(1).all()


def test_a_category_of_many_texts_keeps_the_most_frequent_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode_rows, "MAX_LEVELS", 2)
    texts = ["a", "b", "c", "d"]
    cells = np.array([[0.0]] * 9 + [[1.0]] * 5 + [[2.0]] * 4 + [[3.0]] + [[math.nan]], np.float32)
    column = encode_rows.CellColumn("x", "category", texts)
    encoding = encode_rows.fit_encoding(cells, np.ones(len(cells), bool), [column], "mark")
    assert encoding.columns[0].levels == ("a", "b")
    raw = encode_rows.to_raw_rows(cells, [column], encoding)
    assert raw[:, 0].tolist()[:-1] == [0] * 9 + [1] * 5 + [OTHER] * 5
    assert np.isnan(raw[-1, 0])


def test_a_category_without_a_level_that_repeats_is_said_to_be_of_no_use(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", lambda n, row: [f"town{n}", *row[1:]])
    data = load_data("csv", file, target="kind", columns={"town": "category"})
    assert encoding_of(data).columns[0].levels == ()
    assert "nothing is learned from town (no value is in 3 rows of train)" in data.notes
    assert encoding_of(data)(everything(data)[0]).isfinite().all()
