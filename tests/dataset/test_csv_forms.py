"""Tables as people write them, read by ``dataset=csv``."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.dataset.test_csv import table, write
from tests.helpers import everything, load_data, refused
from trainer.data.table_encoding import TableEncoding

load = functools.partial(load_data, "csv")
refusal = functools.partial(refused, load)


def test_a_constant_column_cannot_destroy_the_answers(tmp_path: Path) -> None:
    rows = [[14.62, 1 / 3, 0.7, n * 0.37 % 1, n % 2] for n in range(2000)]
    data = load(table(tmp_path / "a.csv", rows, "a,b,c,d,label"))
    assert isinstance(data.normalise, TableEncoding)
    others = torch.tensor([[14.62, 1 / 3, 0.7, 0.5], [1e9, -1e9, math.nan, 0.5]])
    assert data.normalise(others)[:, :3].tolist() == [[0, 0, 0], [0, 0, 0]]
    train = np.array([row[3] for row in rows], np.float32)[data.train.positions].astype(np.float64)
    low, high = np.quantile(train, [0.25, 0.75])
    assert data.normalise.scale[3].item() == pytest.approx(1 / (high - low), rel=1e-6)


def test_an_open_quote_in_the_middle_costs_its_line_alone(tmp_path: Path) -> None:
    rows = [f'{n},"note {n}",{n % 2}' for n in range(301)]
    rows[150] = '150,"open,0'
    file = write(tmp_path / "a.csv", "\n".join(["x,note,label", *rows]) + "\n")
    data = load(file, ignore=["note"], on_error="skip", features=["x"])
    assert data.warnings == (f"1 bad sample left out: {file}:152: a quote is not closed",)
    assert len(data.train.source.targets) == 300


def test_codes_with_leading_zeros_stay_as_they_are_and_1_and_1_0_are_one_class(tmp_path: Path) -> None:
    cells = ["01", "1", "10", "1.0"]
    data = load(table(tmp_path / "a.csv", [[n, n * n, cells[n % 4]] for n in range(40)], "a,b,label"))
    assert data.spec.classes == ("01", "1", "1.0", "10")
    numbers = load(table(tmp_path / "b.csv", [[n, n * n, cells[1 + n % 3]] for n in range(39)], "a,b,label"))
    assert numbers.spec.classes == ("1", "10")


def test_cells_that_mean_missing_can_be_named(tmp_path: Path) -> None:
    rows = [[["-999", "#N/A", r"\N", "-", "?", "."][n % 6] if n % 2 else n, n % 2] for n in range(60)]
    file = table(tmp_path / "a.csv", rows, "a,label")
    data = load(file, missing="mean", missing_values=[-999], features=["a"])
    inputs, _ = everything(data)
    assert inputs[0].item() == 0
    assert inputs[1::2].isnan().all()
    assert not inputs[::2].isnan().any()
    kind = table(tmp_path / "b.csv", [[n * n % 7, ["red", "blue", "unknown"][n % 3]] for n in range(60)], "a,label")
    assert load(kind, missing_values=["unknown"], on_error="skip").spec.classes == ("blue", "red")


@pytest.mark.parametrize(("shape", "kind"), [([1, 4, 4], "image"), ([8, 2], "sequence"), ([16], "table")])
def test_features_become_samples_of_a_shape(tmp_path: Path, shape: list[int], kind: str) -> None:
    rows = [[n % 3, *(2 * n * pixel % 251 for pixel in range(16))] for n in range(30)]
    file = table(tmp_path / "a.csv", rows, "label," + ",".join(f"pixel{pixel}" for pixel in range(16)))
    data = load(file, shape=shape)
    assert (data.spec.kind, data.spec.shape) == (kind, tuple(shape))
    assert everything(data)[0][5].flatten().tolist() == rows[5][1:]
    assert "has 9 numbers, but there are 16 features" in refusal(file, shape=[9])


def test_several_labels_may_stand_in_one_cell(tmp_path: Path) -> None:
    cells = ["red|round", "red", "", "blue|flat", "blue|round", "red|flat"]
    file = table(tmp_path / "a.csv", [[n, n * n, cells[n % 6]] for n in range(60)], "a,b,labels")
    data = load(file, label_separator="|", features=["a", "b"])
    assert (data.spec.task, data.spec.classes) == ("multilabel", ("blue", "flat", "red", "round"))
    assert everything(data)[1][:3].tolist() == [[0, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_labels_in_one_cell_are_asked_about(tmp_path: Path) -> None:
    parts = ["red", "round", "big", "old", "wet"]
    cells = [";".join(sorted({parts[n % 5], parts[n // 5 % 5], parts[n // 7 % 5]})) for n in range(75)]
    rows = "".join(f"{n * n},{n % 9 + 0.5},{cell}\n" for n, cell in enumerate(cells))
    file = write(tmp_path / "a.csv", "a,b,labels\n" + rows.replace(";", "|"))
    line = refusal(file)
    assert """'dataset.label_separator="|"' reads several labels a sample""" in line
    assert load(file, label_separator="|").spec.task == "multilabel"
    assert load(file, task="classification").spec.task == "classification"


def test_the_tables_of_a_folder_are_those_of_splits_and_one_without_the_target_is_left_out(tmp_path: Path) -> None:
    rows = [[n * n % 31, n % 7 / 3, n % 4] for n in range(80)]
    table(tmp_path / "train.csv", rows, "a,b,grade")
    table(tmp_path / "test.csv", [row[:2] for row in rows], "a,b")
    data = load(tmp_path)
    assert data.notes[0] == "target grade"
    left_out = f"{tmp_path / 'test.csv'}: left out, as it has no column grade; test is cut from train"
    assert data.warnings == (f"{left_out}; trainer predict reads it",)
    assert sum(map(len, data.splits().values())) == 80


def test_a_given_split_does_not_vanish_with_its_bad_samples(tmp_path: Path) -> None:
    files = {split: tmp_path / f"{split}.csv" for split in ("train", "test")}
    table(files["train"], [[n % 7, n % 5, ["<=50K", ">50K"][n % 2]] for n in range(40)], "a,b,label")
    table(files["test"], [[n % 7, n % 5, ["<=50K*", ">50K*"][n % 2]] for n in range(40)], "a,b,label")
    assert "class <=50K* is in test (20 samples) but not in train; train has <=50K" in refusal(files)
    assert refusal(files, on_error="skip") == "dataset=csv: no good sample is left of test"


def test_true_and_false_are_two_classes_however_they_are_written(tmp_path: Path) -> None:
    cells = ["True", "true", "False", "FALSE"]
    data = load(table(tmp_path / "a.csv", [[n * n, n % 7 / 3, cells[n % 4]] for n in range(40)], "a,b,late"))
    assert data.spec.classes == ("False", "True")


def test_a_class_that_may_mean_a_missing_one_is_said(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", [[n * n, n % 7 / 3, ["red", "blue", "?"][n % 3]] for n in range(60)], "a,b,label")
    (warning,) = load(file).warnings
    assert warning == "? is a class of label; if it means a missing one, 'dataset.missing_values=[\"?\"]'"
    assert load(file, missing_values=["?"], on_error="skip").spec.classes == ("blue", "red")


@pytest.mark.parametrize("cell", ["-999", "-999.0"])
def test_a_number_that_means_missing_is_one_however_it_is_written(tmp_path: Path, cell: str) -> None:
    file = table(tmp_path / "a.csv", [[cell if n % 9 == 0 else n * n, n % 2] for n in range(60)], "a,label")
    for value in (-999, -999.0, "-999"):
        inputs, _ = everything(load(file, missing="mean", missing_values=[value], features=["a"]))
        assert inputs[::9].isnan().all()
        assert np.nanmin(inputs.numpy()) == 1


def test_notes_above_a_table_are_no_header(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n * 7 % 5 + 0.5},{'ab'[n % 2]}\n" for n in range(60))
    for notes in ("A report\n\n", "A report,,\nof 2024,,\n"):
        data = load(write(tmp_path / "a.csv", f"{notes}Nr,size,kind\n{rows}"))
        assert data.preprocess["columns"] == ["size"]
        assert data.spec.classes == ("a", "b")
        assert len(data.train.source.targets) == 60


def test_comments_between_the_rows_and_a_comma_at_the_end_are_nothing(tmp_path: Path) -> None:
    rows = "".join(f"{n % 7 + 0.5},{n * 7 % 5 + 0.5},{'ab'[n % 2]}\n" for n in range(60))
    data = load(write(tmp_path / "a.csv", f"# made, by, hand\nlow,high,kind\n{rows}# the end\n"))
    assert (data.preprocess["columns"], len(data.train.source.targets)) == (["low", "high"], 60)
    data = load(write(tmp_path / "b.csv", f"low,high,kind\n{rows}".replace("\n", ",\n")), target="kind")
    assert (data.preprocess["columns"], len(data.train.source.targets)) == (["low", "high"], 60)


@pytest.mark.parametrize(
    ("name", "values", "sizes"),
    [
        ("split", ["train", "train", "val", "test"], (40, 20, 20)),
        ("Usage", ["Training", "Training", "PublicTest", "PrivateTest"], (40, 20, 20)),
        ("is_train", ["1", "1", "1", "0"], (54, 6, 20)),
    ],
)
def test_a_column_that_says_the_split_is_no_feature(
    tmp_path: Path, name: str, values: list[str], sizes: tuple[int, int, int]
) -> None:
    rows = [[n % 7 / 3, n % 5 / 3, values[n % 4], "ab"[n // 4 % 2]] for n in range(80)]
    file = table(tmp_path / "a.csv", rows, f"a,b,{name},kind")
    data = load(file)
    assert data.preprocess["columns"] == ["a", "b"]
    assert tuple(map(len, data.splits().values())) == sizes
    assert f"splits by {name}" in data.notes
    assert {n % 4 for n in data.test.positions.tolist()} == {3}
    if name == "is_train":
        assert load(file, split="none").preprocess["columns"] == ["a", "b", name]


def test_folds_are_no_feature(tmp_path: Path) -> None:
    rows = [[n % 7 / 3, n % 5, "ab"[n % 2]] for n in range(80)]
    data = load(table(tmp_path / "a.csv", rows, "a,fold,kind"))
    assert data.preprocess["columns"] == ["a"]
    assert "left out fold (folds; dataset.features takes columns in)" in data.notes


def test_columns_of_minus_1_and_1_are_labels(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", [[n % 7 / 3, [-1, 1][n % 2], [-1, 1][n // 2 % 2]] for n in range(60)], "x,big,red")
    data = load(file, target=["big", "red"])
    assert data.spec.task == "multilabel"
    assert everything(data)[1][:3].tolist() == [[0, 0], [1, 0], [0, 1]]
    assert "labels of -1 and 1 are read as 0 and 1" in data.notes


def test_a_name_in_brackets_is_typed_as_the_message_says(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", [[n % 7 / 3, "ab"[n % 2]] for n in range(60)], "x,[kind]")
    assert "; type 'dataset.target=\"[kind]\"'; columns: x, [kind]" in refusal(file, target=["kind"])


def test_points_that_may_stand_between_thousands_are_asked_about_where_semicolons_separate(tmp_path: Path) -> None:
    rows = [f"{number // 1000}.{number % 1000:03};{number % 3}" for number in range(1100, 4100, 97)]
    file = write(tmp_path / "a.csv", "\n".join(["pieces;kind", *rows, "834;1"]) + "\n")
    assert refusal(file) == (
        f"dataset.decimal: null: is 1.100 in pieces of {file} 1100 or 1.100? dataset.decimal=. or "
        "'dataset.decimal=\",\"' says so"
    )
    whole, _ = everything(load(file, decimal=","))
    assert (whole[0].item(), whole[-1].item()) == (1100, 834)
    fractions, _ = everything(load(file, decimal="."))
    assert fractions[0].item() == pytest.approx(1.1)
    other = write(
        tmp_path / "b.csv", "\n".join(["pieces;kg;kind", *(row.replace(";", ";0.25;") for row in rows)]) + "\n"
    )
    assert everything(load(other))[0][0].tolist() == pytest.approx([1.1, 0.25])  # the points of kg are decimal


def test_points_beside_decimal_commas_of_train_are_refused(tmp_path: Path) -> None:
    lines = [f"{n},{n % 9}5;{n % 2}" for n in range(30)]
    write(tmp_path / "train.csv", "\n".join(["x;kind", *lines]) + "\n")
    write(tmp_path / "test.csv", "\n".join(["x,kind", *(f"{n}.{n % 9}35,{n % 2}" for n in range(30))]) + "\n")
    assert refusal(tmp_path).startswith(
        f"dataset.decimal: null: x of {tmp_path / 'test.csv'} has points, such as 0.035, and decimal commas in the"
    )


def test_a_header_above_decimal_commas_and_amounts_is_one(tmp_path: Path) -> None:
    lines = [f"{n},{n % 7}1;{n % 5},50 €;{'xy'[n % 2]}" for n in range(40)]
    for header, names in (("402;415;species", ["402", "415"]), ("a;b;y", ["a", "b"])):
        data = load(write(tmp_path / "a.csv", "\n".join([header, *lines]) + "\n"))
        assert (data.preprocess["columns"], len(data.train.source.targets)) == (names, 40)


def test_an_identifier_beside_texts_that_name_the_rows_is_nothing_to_learn_from(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", [[n, f"name {n}", n % 2] for n in range(40)], "id,who,label")
    assert refusal(file) == (
        "dataset.features: no column is left to learn from; target label (found by its name); left out id, who "
        "(identifiers; dataset.features takes columns in)"
    )


def test_a_vague_name_and_that_of_a_value_are_a_question(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", [[n % 2, n / 3, n * 1.7] for n in range(40)], "class,days,price")
    assert refusal(file).endswith("class (0), price (0.0); such as dataset.target=price")
    assert load(file, target="class").notes[0] == "target class"


def test_numbers_with_commas_that_may_be_labels_are_asked_about(tmp_path: Path) -> None:
    cells = ["27", '"10,25"', "4", '"3,18"', '"2,5"', "9"]
    file = table(tmp_path / "a.csv", [[n / 3, n * n, cells[n % 6]] for n in range(60)], "x,z,labels")
    assert refusal(file, target="labels", decimal=None).startswith(
        "dataset.task: auto: is 10,25 in labels a number with a decimal comma, or two labels? "
        "dataset.task=regression or 'dataset.label_separator=\",\"' (with loss=bce) says so"
    )
    assert load(file, target="labels", label_separator=",").spec.task == "multilabel"
    assert load(file, target="labels", task="regression").spec.task == "regression"
