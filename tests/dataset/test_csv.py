"""Tables in CSV files: how they are written, what is predicted, sequences, and everything that may be wrong."""

from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import REPOSITORY, Train
from tests.helpers import assert_same_batches, everything, load_data, refused
from trainer.data import RaggedSource
from trainer.data.readers.tables import lines as table_lines
from trainer.data.table_encoding import TableEncoding

IRIS = REPOSITORY / "examples" / "iris" / "iris.csv"
ROWS = [[1.5, 2.0, "a"], [3.0, -4.0, "b"], [5.0, 6.25, "a"], [7.0, 8.0, "b"]] * 5


load = functools.partial(load_data, "csv")
refusal = functools.partial(refused, load)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def table(path: Path, rows: list[list[Any]] = ROWS, header: str = "x,y,kind", delimiter: str = ",") -> Path:
    lines = [delimiter.join(map(str, row)) for row in rows]
    return write(path, "\n".join([*([header.replace(",", delimiter)] if header else []), *lines]) + "\n")


def test_the_irises_are_read_as_they_stand_in_the_file() -> None:
    data = load(IRIS)
    inputs, targets = everything(data)
    with IRIS.open(newline="") as lines:
        _, *rows = csv.reader(lines)
    assert inputs.tolist() == torch.tensor([[float(cell) for cell in row[:-1]] for row in rows]).tolist()
    assert [data.spec.classes[target] for target in targets.tolist()] == [row[-1] for row in rows]
    assert (data.spec.kind, data.spec.shape, data.spec.task) == ("table", (4,), "classification")
    assert data.spec.classes == ("setosa", "versicolor", "virginica")
    assert data.spec.counts == tuple(data.train.targets.bincount().tolist())
    assert {name: len(split) for name, split in data.splits().items()} == {"train": 121, "val": 14, "test": 15}
    assert data.preprocess["columns"] == ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    assert data.places is not None
    assert data.places[0] == f"{IRIS}:2"
    assert len(data.places) == 150


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
@pytest.mark.parametrize("header", ["x,y,kind", ""])
def test_delimiter_and_header_are_found_out(tmp_path: Path, delimiter: str, header: str) -> None:
    inputs, targets = everything(load(table(tmp_path / "a.txt", header=header, delimiter=delimiter)))
    assert inputs.tolist() == [row[:2] for row in ROWS]
    assert targets.tolist() == [0, 1, 0, 1] * 5


@pytest.mark.parametrize(("word", "sign"), [("tab", "\t"), (r"\t", "\t"), ("space", " "), ("#", "#")])
def test_a_delimiter_can_be_said(tmp_path: Path, word: str, sign: str) -> None:
    inputs, _ = everything(load(table(tmp_path / "a.csv", delimiter=sign), delimiter=word))
    assert inputs.tolist() == [row[:2] for row in ROWS]


def test_numbers_from_0_name_columns_as_pandas_writes_them_unless_that_is_denied(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", rows=[[n**2, 2 * n, n % 2] for n in range(20)], header="0,1,2")
    data = load(file)
    assert len(data.train.source.targets) == 20
    assert "line 1 is read as the names of the columns (dataset.header=false: as a sample)" in data.notes
    assert len(load(file, header=False, target=2).train.source.targets) == 21
    inputs, targets = everything(load(file, header=True, target=1, task="regression"))
    assert inputs[3].tolist() == [9, 1]
    assert targets[3].tolist() == [6]


@pytest.mark.parametrize(
    ("encoding", "key"), [("utf-8-sig", "utf-8"), ("latin-1", "latin-1"), ("utf-16", "utf-16"), ("cp1252", "cp1252")]
)
def test_files_of_several_encodings_are_read(tmp_path: Path, encoding: str, key: str) -> None:
    text = "größe,art\r\n" + "1,süß\r\n2,sauer\r\n" * 10
    data = load(write(tmp_path / "a.csv", text, encoding), encoding=key)
    assert data.preprocess["columns"] == ["größe"]
    assert data.spec.classes == ("sauer", "süß")


@pytest.mark.parametrize("target", ["kind", 0, "0"])
def test_the_target_is_named_or_numbered(tmp_path: Path, target: Any) -> None:
    rows = [[row[2], *row[:2]] for row in ROWS]
    header = "kind,x,y" if target != "0" else "0,x,y"
    inputs, targets = everything(load(table(tmp_path / "a.csv", rows, header), target=target))
    assert inputs.tolist() == [row[:2] for row in ROWS]
    assert targets.tolist() == [0, 1, 0, 1] * 5


def test_features_are_chosen_or_left_out(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", [[n, "word", 10 * n, n % 2] for n in range(20)], "x,name,y,z")
    inputs, _ = everything(load(file, features=["y", 0]))
    assert inputs[7].tolist() == [70, 7]
    inputs, _ = everything(load(file, ignore=["name"]))
    assert inputs[7].tolist() == [7, 70]


def test_the_advice_about_a_column_named_like_a_reference_works(train: Train, tmp_path: Path) -> None:
    file = table(
        tmp_path / "a.csv", rows=[[n, n % 7, f"{n / 7:.2f} kg", n % 2] for n in range(40)], header="x,z,${seed},label"
    )
    first = train("dataset=csv", f"dataset.path={file}", "dry_run=true")
    assert r"""leave it out: 'dataset.ignore=["\${seed}"]', or learn""" in first.err
    assert r"""'dataset.columns={"${seed}":category}'""" in first.err
    for word in (r'dataset.ignore=["\${seed}"]', 'dataset.columns={"${seed}":category}'):
        found = train("dataset=csv", f"dataset.path={file}", word, "model=lstm", "dry_run=true")
        assert found.code == 0, found.err


def test_columns_of_one_name_are_told_apart_as_pandas_does(tmp_path: Path) -> None:
    rows = [[n, n % 7, n % 5, "ab"[n % 2]] for n in range(20)]
    data = load(table(tmp_path / "a.csv", rows=rows, header="x,x,x.1,kind"), target="kind")
    assert data.preprocess["columns"] == ["x", "x.2", "x.1"]
    assert "column 1, another x, is called x.2" in data.notes


def test_rows_of_delimiters_alone_are_no_samples(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", header="x,y,kind")
    file.write_text(file.read_text() + ",,\n,, \n")
    assert len(everything(load(file))[0]) == len(ROWS)


@pytest.mark.parametrize(
    ("cells", "hint"),
    [
        (
            ["k.A."] * 2,
            "'dataset.missing_values=[k.A.]' reads k.A. as a missing number, and dataset.missing=mark fills it in",
        ),
        ([""] * 2, "dataset.missing=mark fills and marks empty cells"),
    ],
)
def test_cells_that_may_mean_missing_are_proposed_as_such(tmp_path: Path, cells: list[str], hint: str) -> None:
    rows = [[0.5 * n, n % 2] for n in range(20)] + [[cell, 1] for cell in cells]
    assert hint in refused(load, table(tmp_path / "a.csv", rows=rows, header="x,kind"), missing="bad")


def test_nothing_is_proposed_for_labels_that_are_missing(tmp_path: Path) -> None:
    rows = [[0.5 * n, n % 2] for n in range(20)] + [[1.5, ""]] * 3
    assert "missing" not in refused(load, table(tmp_path / "a.csv", rows=rows, header="x,kind"))


def test_a_column_that_counts_the_rows_is_left_out_and_said(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", [[n, n**2, n % 2] for n in range(20)], ",x,z")
    data = load(file)
    assert data.notes[1] == "left out column 0 without a name (an identifier; dataset.features takes columns in)"
    assert data.spec.shape == (1,)
    assert load(file, features=[0]).spec.shape == (1,)


@pytest.mark.parametrize(
    ("cells", "keys", "task", "names"),
    [
        (["red", "green"], {}, "classification", ("green", "red")),
        (["10", "9", "2.0", "2"], {}, "classification", ("2", "9", "10")),
        (["-1", "1"], {}, "classification", ("-1", "1")),
        (["class10", "class9"], {}, "classification", ("class9", "class10")),
        (["0.5", "1"], {}, "regression", ("z",)),
        ([str(3 * n) for n in range(21)], {}, "regression", ("z",)),
        ([str(n) for n in range(21)], {"task": "classification"}, "classification", tuple(map(str, range(21)))),
        (["0", "1"], {"task": "regression"}, "regression", ("z",)),
        (["0", "1"], {"task": "multilabel"}, "multilabel", ("z",)),
        (["0,1", "1,1"], {"target": ["z", "w"]}, "multilabel", ("z", "w")),
        (["0,2", "1,1"], {"target": ["z", "w"]}, "regression", ("z", "w")),
    ],
    ids=str,
)
def test_the_task_is_found_or_said(
    tmp_path: Path, cells: list[str], keys: dict[str, Any], task: str, names: tuple[str, ...]
) -> None:
    header = "x,z,w" if "," in cells[0] else "x,z"
    file = write(tmp_path / "a.csv", "\n".join([header, *(f"{n},{cells[n % len(cells)]}" for n in range(200))]))
    spec = load(file, **keys).spec
    assert (spec.task, spec.classes) == (task, names)
    assert (len(spec.target_mean) > 0) == (task == "regression")
    assert len(spec.counts) == (0 if task == "regression" else len(names))


BAD = b"""x,y,z
1,2,a
3,b
4,5,6,a
7,,a
8,n/a,b

9,abc,a
10,inf,b
11,1e60,b
12,13,
14,15,\xe4
16,1_7,b
"18",19,"b"
"""
REASONS = [
    "3: 2 columns instead of 3",
    "4: 4 columns instead of 3",
    "5: y: is empty",
    "6: y: n/a is no number",
    "8: y: abc is no number",
    "9: y: inf is not finite",
    "10: y: 1e60 is too large",
    "11: z: is empty",
    "12: z: byte 0xe4 is no text",
    "13: y: 1_7 is no number",
]


@pytest.mark.parametrize("chunk", [20, 30, 8192])
def test_every_bad_row_is_named_with_its_line_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(table_lines, "BLOCK", chunk)
    monkeypatch.setattr("trainer.data.readers.files.MAX_NAMED", 20)
    file = tmp_path / "a.csv"
    file.write_bytes(BAD)
    named = "; ".join(f"{file}:{reason}" for reason in REASONS)
    advice = "dataset.on_error=skip leaves them out; dataset.missing=mark fills and marks empty cells"
    assert refusal(file, missing="bad") == f"dataset=csv: 10 bad samples: {named} ({advice})"
    data = load(file, on_error="skip", test_fraction=0.5, val_fraction=0, missing="bad")
    assert data.warnings == (f"10 bad samples left out: {named}",)
    inputs, targets = everything(data)
    assert inputs.tolist() == [[1, 2], [18, 19]]
    assert targets.tolist() == [0, 1]
    assert data.places is not None
    assert [*data.places] == [f"{file}:2", f"{file}:14"]


def test_cells_over_several_lines_are_one_cell_wherever_the_reading_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(f'{n},"a ""note""\nof, {n}\nlines",{n % 2}\n' for n in range(20))
    file = write(tmp_path / "a.csv", "x,note,z\n" + rows + "oops,note,1\n")
    for chunk in (1, 20, 50, 8192):
        monkeypatch.setattr(table_lines, "BLOCK", chunk)
        data = load(file, ignore=["note"], on_error="skip")
        assert everything(data)[0].flatten().tolist() == list(range(20))
        assert data.warnings == (f"1 bad sample left out: {file}:62: x: oops is no number",)


def test_numbers_are_those_that_python_reads(tmp_path: Path) -> None:
    cells = ["0.1", "-1e-3", " 2.5 ", "1E5", "+7", ".5", "3.", "16777217", "1e-50", "0.30000001192092896"] * 2
    file = write(tmp_path / "a.csv", "\n".join(["x,z", *(f"{cell},{n % 2}" for n, cell in enumerate(cells))]))
    wanted = [np.float32(float(cell)) for cell in cells]
    fast = everything(load(file))[0].flatten().tolist()
    file.write_text(file.read_text() + "\n\n8,1")  # a blank line is read by Python itself
    assert fast == wanted
    assert everything(load(file))[0].flatten().tolist() == [*wanted, 8]


def test_a_missing_number_may_become_the_mean_of_train(tmp_path: Path) -> None:
    cells = ["", "NA", *map(str, range(18))]
    file = write(tmp_path / "a.csv", "\n".join(["x,y,z", *(f"{cell},1,{n % 2}" for n, cell in enumerate(cells))]))
    assert ":2: x: is empty; " in refusal(file, missing="bad")
    data = load(file, missing="mean")
    inputs, _ = everything(data)
    trained = [position for position in data.train.positions.tolist() if position > 1]
    assert inputs[:2, 0].isnan().all()
    assert inputs[2:, 0].tolist() == list(range(18))
    assert isinstance(data.normalise, TableEncoding)
    mean = torch.tensor([[float(np.mean([position - 2 for position in trained])), 1.0]])
    torch.testing.assert_close(data.normalise(inputs)[:2], data.normalise(mean.expand(2, 2)))


def test_a_column_without_a_number_in_train_has_no_mean(tmp_path: Path) -> None:
    file = table(tmp_path / "a.csv", [[n, "", n % 2] for n in range(20)], "x,y,z")
    message = refusal(file, missing="mean", features=["x", "y"])
    assert message == "dataset=csv: no sample of train has a number in y; 'dataset.ignore=[y]' leaves it out"
    assert "left out y (empty)" in load(file).notes


def test_columns_are_normalised_by_those_of_train(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    numbers = (generator.normal(size=(50, 2)) * [1, 1000] + [0, 1e6]).round(3)
    file = table(tmp_path / "a.csv", [[*row, n % 2] for n, row in enumerate(numbers.tolist())], "x,y,z")
    data = load(file)
    assert isinstance(data.normalise, TableEncoding)
    trained = numbers[data.train.positions.numpy()]
    low, median, high = np.quantile(trained, [0.25, 0.5, 0.75], axis=0)
    assert data.normalise.centre.tolist() == pytest.approx(median.tolist(), rel=1e-5)
    assert data.normalise.scale.tolist() == pytest.approx((1 / (high - low)).tolist(), rel=1e-3)


def test_values_are_normalised_for_the_loss_and_not_for_the_metrics(tmp_path: Path, train: Train) -> None:
    prices = [200_000 + 1000.0 * n for n in range(100)]
    file = table(tmp_path / "a.csv", [[n, n % 7, price] for n, price in enumerate(prices)], "x,y,price")
    data = load(file, task="regression")
    trained = np.array(prices)[data.train.positions.numpy()]
    assert data.spec.target_mean == pytest.approx((trained.mean(),))
    assert data.spec.target_std == pytest.approx((trained.std(),))
    assert data.train.source.targets[3].tolist() == [203_000]
    assert load(file, normalise_targets=False, task="regression").spec.target_mean == ()
    words = ["dataset=csv", f"dataset.path={file}", "loss=mse", "epochs=15", "batch_size=8", "model=cnn"]
    result = train(
        *words, "model.channels=[8]", "optimizer=adam", "optimizer.lr=0.01", "scheduler=constant", "logger=none"
    )
    assert result.code == 0, result.err
    assert 1 < result.summary["test/mae"] < 10_000  # of prices that are 29,000 from their mean
    assert result.summary["test/loss"] < 0.2


GROUPS = """walk,x,y,kind
b,1,10,left
a,2,20,right
b,3,30,left
a,4,40,right
b,5,50,left
c,6,60,left
d,7,70,right
"""


def test_rows_of_a_group_are_the_steps_of_a_sample(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", GROUPS)
    data = load(file, group_by="walk", val_fraction=0, test_fraction=0.5)
    spec = data.spec
    assert (spec.kind, spec.shape, spec.varying, spec.task) == ("sequence", (3, 2), True, "classification")
    inputs, lengths = data.train.source.fetch(torch.arange(4))
    assert lengths.tolist() == [3, 2, 1, 1]
    assert inputs.tolist() == [
        [[1, 10], [3, 30], [5, 50]],
        [[2, 20], [4, 40], [0, 0]],
        [[6, 60], [0, 0], [0, 0]],
        [[7, 70], [0, 0], [0, 0]],
    ]
    assert data.train.source.targets.tolist() == [0, 1, 0, 1]
    assert data.places is not None
    assert data.places[2] == f"{file}:7"


@pytest.mark.parametrize(("most", "shape"), [(2, (2, 2)), (1, (1, 2))])
def test_long_groups_are_cut_at_their_end(tmp_path: Path, most: int, shape: tuple[int, int]) -> None:
    data = load(write(tmp_path / "a.csv", GROUPS), group_by="walk", max_length=most, val_fraction=0, test_fraction=0.5)
    assert data.spec.shape == shape
    assert data.spec.varying == (most == 2)
    assert data.train.source.fetch(torch.tensor([0]))[0][0].tolist() == [[1, 10], [3, 30]][:most]


def test_groups_of_one_length_are_one_tensor_and_those_of_two_files_are_apart(tmp_path: Path) -> None:
    rows = [[n // 3, n, n // 3 % 2] for n in range(30)]
    paths = {name: str(table(tmp_path / f"{name}.csv", rows, "walk,x,z")) for name in ("train", "test")}
    data = load(paths, group_by="walk")
    assert (data.spec.kind, data.spec.shape, data.spec.varying) == ("sequence", (3, 1), False)
    inputs, _ = everything(data)
    assert inputs.flatten().tolist() == [*range(30), *range(30)]
    assert {name: len(split) for name, split in data.splits().items()} == {"train": 9, "val": 1, "test": 10}
    assert isinstance(data.normalise, TableEncoding)
    assert data.normalise.centre.shape == (1,)


def test_a_bad_row_makes_its_whole_group_one_bad_sample(tmp_path: Path) -> None:
    text = GROUPS.replace("3,30", "three,30").replace("b,5", "b,five").replace("a,4,40,right", "a,4,40,left")
    file = write(tmp_path / "a.csv", text + "e,8\n")
    data = load(file, group_by="walk", val_fraction=0, test_fraction=0.5, on_error="skip")
    assert data.warnings == (
        f"3 bad samples left out: {file}:4: x: three is no number; "
        f"{file}:5: kind: left, but right in the first row of the same sample; {file}:9: 2 columns instead of 4",
    )
    assert everything(data)[0].tolist() == [[[6, 60]], [[7, 70]]]


def test_splits_are_files_with_columns_in_any_order(tmp_path: Path) -> None:
    train = table(tmp_path / "a.csv")
    val = table(tmp_path / "v.csv", [["b", 1, 2]], "kind,y,x")
    test = table(tmp_path / "t.csv", [["a", 5, 6], ["b", 7, 8]], "kind,y,x")
    data = load({"test": str(test), "val": str(val), "train": str(train)})
    assert data.val is not None
    assert data.val.head(1).tolist() == [[2, 1]]
    assert data.test.head(2).tolist() == [[6, 5], [8, 7]]
    assert data.test.targets.tolist() == [0, 1]
    assert len(data.train) == 20


def test_a_class_that_train_does_not_have_is_a_problem(tmp_path: Path) -> None:
    paths = {
        "train": str(table(tmp_path / "a.csv")),
        "test": str(table(tmp_path / "t.csv", [[1, 2, "a"], [3, 4, "c"], [5, 6, "c"]])),
    }
    named = f"{paths['test']}:3: class c is in test (2 samples) but not in train"
    assert refusal(paths) == f"dataset=csv: 1 bad sample: {named} (dataset.on_error=skip leaves it out)"
    data = load(paths, on_error="skip")
    assert data.test.head(9).tolist() == [[1, 2]]
    assert data.warnings == (f"1 bad sample left out: {named}",)


@pytest.mark.parametrize(
    ("rows", "header", "keys", "line"),
    [
        (
            ROWS,
            "x,y,kind",
            {"target": "knid"},
            "dataset.target: knid: {} has no such column; did you mean kind? columns: x, y, kind",
        ),
        (ROWS, "x,y,kind", {"ignore": [3]}, "dataset.ignore: 3: {} has the columns 0 to 2"),
        (ROWS, "", {"target": "kind"}, "dataset.target: kind: {} names no columns; say a number, 0 to 2"),
        (ROWS, "x,y,kind", {"ignore": ["kind"], "target": "kind"}, "dataset.ignore: kind: is the target"),
        (ROWS, "x,y,kind", {"features": [2], "target": 2}, "dataset.features: kind: is the target"),
        (ROWS, "x,y,kind", {"group_by": 2, "target": 2}, "dataset.group_by: kind: is the target"),
        (
            ROWS,
            "x,y,kind",
            {"ignore": ["x", "y"]},
            "dataset.features: no column is left to learn from; columns: x, y, kind",
        ),
        (ROWS, "x,y,kind", {"target": []}, "dataset.target: names no column; columns: x, y, kind"),
        (
            ROWS,
            "x,y,kind",
            {"target": ["x", "kind"]},
            "dataset.target: kind: holds text, not numbers, which task=regression needs",
        ),
        (
            ROWS,
            "x,y,kind",
            {"target": ["x", "y"], "ignore": [], "task": "classification", "features": ["x"]},
            "dataset.features: x: is the target",
        ),
        (
            ROWS,
            "x,y,kind",
            {"target": "y", "shape": [2]},
            "dataset.shape: [2]: must be made of numbers, and kind holds texts",
        ),
        (
            [[f"{n / 7:.3f} kg", f"~{n}", 1.5, n % 2] for n in range(60)],
            "a,b,c,d",
            {"ignore": ["c"], "target": "d"},
            "dataset.features: the numbers of a (such as 0.000 kg), b (such as ~0) cannot be read ({}); write plain "
            "numbers, leave them out: 'dataset.ignore=[c,a,b]', or learn from each text as a level: "
            "'dataset.columns={{a:category,b:category}}'",
        ),
        (
            ROWS,
            "x,y,kind",
            {"columns": {"kinds": "category"}},
            "dataset.columns: kinds: {} has no such column; did you mean kind? columns: x, y, kind",
        ),
        (
            ROWS,
            "x,y,kind",
            {"columns": {"x": "date"}},
            "dataset.columns: x: date: holds no such dates, but 1.5; dates are written as 2025-12-31, 31.12.2025, "
            "12/31/2025 or 31 Dec 2025, a time of the day may follow",
        ),
        ([[1, "a"]] * 9, "x,kind", {}, "dataset=csv: only 1 class, a; there must be at least 2 to tell apart"),
        ([[1, "a", "test"]] * 9, "x,kind,split", {}, "dataset=csv: no samples in train"),
        (
            [[n // 3, n, "ab"[n % 2]] for n in range(30)],
            "seq,x,kind",
            {"group_by": "seq"},
            "dataset.target: kind: differs within 10 of 10 samples of dataset.group_by; a target for each row of a "
            "sample is not supported",
        ),
        (ROWS, "x,y,kind", {"delimiter": "::"}, "dataset.delimiter: must be one character, tab or space, got ::"),
        (
            ROWS,
            "x,y,kind",
            {"encoding": "utf-9"},
            "dataset.encoding: utf-9: no such encoding; such as utf-8, latin-1, cp1252",
        ),
        (
            ROWS,
            "x,y,kind",
            {"test_fraction": 0},
            "dataset.test_fraction: must be greater than 0, as there is no test split, got 0",
        ),
        ([], "x,y,kind", {}, "dataset.path: {}: has no rows"),
        (
            ROWS,
            "x,y,kind",
            {"target": "x", "ignore": ["kind"], "sampler": "balanced", "task": "regression"},
            "dataset.sampler: balanced needs one class for each sample; dataset=csv is table 1, 1 value",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, rows: list[list[Any]], header: str, keys: dict[str, Any], line: str
) -> None:
    file = table(tmp_path / "a.csv", rows, header)
    assert refusal(file, **keys) == line.format(file)


def test_files_that_are_no_tables_are_one_line(tmp_path: Path) -> None:
    assert refusal(write(tmp_path / "a.csv", "")) == f"dataset.path: {tmp_path / 'a.csv'}: has no rows"
    assert "is a folder with a.csv; name one of them" in refusal(tmp_path)
    picture = tmp_path / "b.csv"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    assert refusal(picture) == f"dataset.path: {picture}: is no text in utf-8; must be a table"
    write(tmp_path / "c.csv", "größe,z\n" + "1,a\n2,b\n" * 9, "latin-1")
    assert refusal(tmp_path / "c.csv").startswith("dataset.encoding: utf-8: does not fit the column gr\\xf6\\xdfe of ")
    narrow = table(tmp_path / "d.csv", [[1, "a"]], "x,kind")
    assert refusal({"train": str(table(tmp_path / "e.csv")), "test": str(narrow)}, target="kind") == (
        f"dataset.path: {narrow}: has no column y, as {tmp_path / 'e.csv'} has"
    )
    bare = table(tmp_path / "f.csv", [[1, "a"]], "")
    assert refusal({"train": str(table(tmp_path / "e.csv")), "test": str(bare)}, header=False).startswith(
        f"dataset.path: {bare}: has 2 columns, but "
    )


@pytest.mark.parametrize("group_by", [None, "walk"])
@pytest.mark.parametrize("workers", [0, 1])
def test_in_memory_and_streamed_give_the_same_batches(tmp_path: Path, group_by: str | None, workers: int) -> None:
    generator = np.random.default_rng(0)
    walks = np.repeat(np.arange(40), generator.integers(1, 6, 40))
    rows = [[walk, *generator.normal(size=2).round(4).tolist(), walk % 3] for walk in walks.tolist()]
    file = table(tmp_path / "a.csv", rows, "walk,x,y,z")
    resident, streamed = (load(file, group_by=group_by, in_memory=here, workers=workers) for here in (True, False))
    assert isinstance(resident.train.source, RaggedSource) == (group_by is not None)
    assert_same_batches(resident, streamed)


@pytest.mark.parametrize("model", ["cnn", "gru", "lstm"])
@pytest.mark.parametrize(
    ("words", "loss"),
    [
        (["dataset.ignore=[walk,one,two,price]"], "cross_entropy"),
        (["dataset.target=[one,two]", "dataset.ignore=[walk,kind,price]"], "bce"),
        (["dataset.target=price", "dataset.ignore=[kind]", "dataset.group_by=walk"], "huber"),
        (["dataset.target=price", "dataset.ignore=[kind,walk]"], "l1"),
    ],
)
def test_every_model_trains_on_every_task(
    tmp_path: Path, train: Train, model: str, words: list[str], loss: str
) -> None:
    rows = [[n // 3 + n // 50, n, n % 7, n % 2, n // 2 % 2, 1000 + (n // 3 + n // 50), "abc"[n % 3]] for n in range(90)]
    file = table(tmp_path / "a.csv", rows, "walk,x,y,one,two,price,kind")
    words = [f"dataset.path={file}", *words, f"loss={loss}", f"model={model}", "epochs=1", "limit_batches=2"]
    extra = ["model.channels=[4]"] if model == "cnn" else ["model.hidden=4"]
    result = train("dataset=csv", *words, *extra, "logger=none")
    assert result.code == 0, result.err
    assert np.isfinite(result.summary["test/loss"])
