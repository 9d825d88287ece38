"""Columns of splits: which column it is, and what its values mean."""

from __future__ import annotations

import pytest

from trainer.data.readers.tables.split_columns import find_split_columns, said, splits_of_values


@pytest.mark.parametrize(
    ("name", "values", "meaning", "line"),
    [
        ("split", ["train", "TEST", "valid"], "train test val", ""),
        ("is_train", ["1", "0"], "train test", " (0 is test, 1 is train)"),
        ("isTraining", ["True", "False"], "train test", " (False is test, True is train)"),
        ("is_training_img", ["1.0", "0.0"], "train test", " (0.0 is test, 1.0 is train)"),
        ("is_val", ["no", "yes"], "train val", " (no is train, yes is val)"),
        (
            "Usage",
            ["Training", "PublicTest", "PrivateTest"],
            "train val test",
            " (PrivateTest is test, PublicTest is val)",
        ),
        ("partition", ["0", "1", "2"], "train val test", " (0 is train, 1 is val, 2 is test)"),
    ],
)
def test_the_values_of_a_column_mean_splits(name: str, values: list[str], meaning: str, line: str) -> None:
    found = splits_of_values(name, [*values, ""])
    assert found == dict(zip(values, meaning.split(), strict=True))
    assert said(found) == line


@pytest.mark.parametrize(("name", "values"), [("split", ["0", "1"]), ("part", ["a", "train"]), ("is_train", ["2"])])
def test_other_values_mean_no_splits(name: str, values: list[str]) -> None:
    assert splits_of_values(name, values) is None


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"label": "ab", "phase": ["train", "test"]}, ["phase"]),
        ({"label": ["train", "bus"], "phase": ["train", "train"]}, ["phase"]),
        ({"label": ["train", "train"], "n": "12"}, []),
        ({"label": "ab", "is_train": "11"}, ["is_train"]),
        ({"red": "01", "is_train": "01"}, ["is_train"]),
        ({"label": "ab", "train": ["True", "False"]}, ["train"]),
        ({"bus": "01", "train": "01"}, []),
        ({"age": "34", "test": "01"}, []),
        ({"moon": "ab", "phase": ["full", "new"]}, []),
    ],
)
def test_the_column_of_splits_is_found_by_its_cells_and_its_name(
    columns: dict[str, list[str]], found: list[str]
) -> None:
    names = list(columns)
    cells = [list(some) for some in columns.values()]
    targets = [at for at, name in enumerate(names) if name == "label"]
    assert [names[at] for at in find_split_columns(names, cells, range(len(names)), targets)] == found


def test_words_and_codes_of_splits_are_found_by_the_name_of_their_column() -> None:
    names = ["a", "flag", "train", "partition", "label"]
    cells = [["0.5", "1.5", "2"], ["0", "1", "1"], ["T", "F", "T"], ["0", "1", "2"], ["x", "y", "x"]]
    assert find_split_columns(names, cells, range(5), [4]) == [2, 3]
    assert find_split_columns(["b", "flag", "train"], [*cells[:2], ["0", "1", "1"]], range(3), []) == []
