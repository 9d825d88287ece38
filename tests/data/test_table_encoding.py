"""The features of table rows: scaled numbers, marks of missing cells, one-hot levels, and cyclic parts of dates."""

from __future__ import annotations

import json
import math

import pytest
import torch

from trainer.data.table_encoding import OTHER, EncodedColumn, TableEncoding, restore_encoding

NAN = math.nan
COLUMNS = [
    EncodedColumn("sex", "category", levels=("f", "m"), missing=True),
    EncodedColumn("age", centre=30.0, scale=0.1, fill=35.0, missing=True),
    EncodedColumn("note", "text", levels=("good", "bad")),
    EncodedColumn("when", "date", centre=10.0, scale=0.05, fill=10.0, periods=(7.0,), origin=19_723.0),
    EncodedColumn("town", "category", levels=("x", "y", "z"), other=True),
]
ROWS = torch.tensor([[0, 40, 1, 0, 3.5, 2], [NAN, NAN, 0, 0, NAN, OTHER], [1, 30, 1, 1, 7, NAN]])


def test_the_features_are_those_that_the_names_say() -> None:
    encoding = TableEncoding.of(COLUMNS)
    assert encoding.names == [
        *("age", "when", "sex=f", "sex=m", "sex is missing", "age is missing", "note=good", "note=bad"),
        *("when sine of 7 days", "when cosine of 7 days", "town=x", "town=y", "town=z", "town=other"),
    ]
    found = encoding(ROWS)
    z = (40 - 30) * 0.1
    assert found[0, 0].item() == pytest.approx(z / math.sqrt(1 + (z / 3) ** 2))
    assert found[1, 0].item() == pytest.approx(0.5 / math.sqrt(1 + (0.5 / 3) ** 2))  # the fill
    assert found[:, 2:8].tolist() == [[1, 0, 0, 0, 1, 0], [0, 0, 1, 1, 0, 0], [0, 1, 0, 0, 1, 1]]
    assert found[:, 8].tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert found[:, 9].tolist() == pytest.approx([-1, 0, 1], abs=1e-5)
    assert found[:, 10:].tolist() == [[0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert (encoding.raw_width, encoding.width, encoding.blocks) == (6, 14, (3, 1, 2, 2, 4))


def test_a_sequence_is_encoded_as_its_rows() -> None:
    encoding = TableEncoding.of(COLUMNS)
    assert torch.equal(encoding(ROWS.view(1, 3, 6))[0], encoding(ROWS))


def test_a_saved_encoding_is_the_same_bit_for_bit() -> None:
    encoding = TableEncoding.of(COLUMNS)
    restored = restore_encoding(json.loads(json.dumps(encoding.preprocessing())))
    assert restored.columns == encoding.columns
    assert torch.equal(restored(ROWS), encoding(ROWS))


def test_a_number_far_away_stays_within_the_clip_and_one_column_of_numbers_has_no_blocks() -> None:
    encoding = TableEncoding.of([EncodedColumn("x", scale=1.0)])
    assert encoding(torch.tensor([[3e38], [-3e38], [0.0]])).flatten().tolist() == pytest.approx([3, -3, 0])
    assert encoding.blocks == ()


def test_the_sums_of_features_are_those_of_their_columns() -> None:
    encoding = TableEncoding.of(COLUMNS)
    sums = encoding.sum_by_column(torch.arange(14.0).view(1, 14))
    assert sums.tolist() == [[2 + 3 + 4, 0 + 5, 6 + 7, 1 + 8 + 9, 10 + 11 + 12 + 13]]


def test_cells_are_shown_as_texts() -> None:
    encoding = TableEncoding.of(COLUMNS)
    assert encoding.texts(ROWS[0]) == ["f", "40", "good", "2024-01-04 12:00", "z"]
    assert encoding.texts(ROWS[1]) == ["missing", "missing", "", "missing", "another level"]
