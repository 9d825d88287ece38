"""What ``trainer predict`` writes about a table whose rows have names."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import refusal
from trainer import compose, run
from trainer.__main__ import main
from trainer.commands.opened_run import answers, load

ROWS = 60


def write(path: Path, *, labelled: bool) -> list[str]:
    """Write a table in the order of its identifiers, or a table without labels in another order; return these."""
    draw = random.Random(labelled)
    names = [f"{900 + n}" for n in range(ROWS)]
    if not labelled:
        draw.shuffle(names)
    header = "PassengerId,a,b" + ",Survived" * labelled
    lines = [
        f"{name},{draw.gauss(n % 2 * 4, 1):.3f},{draw.random():.3f}{f',{n % 2}' * labelled}"
        for n, name in enumerate(names)
    ]
    path.write_text("\n".join([header, *lines]) + "\n")
    return names


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    write(tmp_path / "train.csv", labelled=True)
    words = [f"dataset.path={tmp_path / 'train.csv'}", "model=lstm", "model.hidden=8", "epochs=2", "logger=none"]
    run(compose("dataset=csv", *words, f"run_dir={tmp_path / 'run'}"))
    return tmp_path / "run"


def predicted(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    capsys.readouterr()
    assert main(["predict", *map(str, words)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_the_name_of_a_row_is_kept_in_the_answer(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = write(tmp_path / "test.csv", labelled=False)
    rows = list(csv.DictReader(io.StringIO(predicted(capsys, trained, tmp_path / "test.csv"))))
    assert [row["PassengerId"] for row in rows] == names
    assert [row["input"] for row in rows] == [f"{tmp_path / 'test.csv'}:{n}" for n in range(2, ROWS + 2)]
    lines = predicted(capsys, trained, tmp_path / "test.csv", "--format", "jsonl").splitlines()
    assert [json.loads(line)["id"] for line in lines] == names
    assert [json.loads(line)["prediction"] for line in lines] == [row["prediction"] for row in rows]


def test_a_submission_is_ready_to_hand_in(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = write(tmp_path / "test.csv", labelled=False)
    rows = list(csv.DictReader(io.StringIO(predicted(capsys, trained, tmp_path / "test.csv"))))
    for _ in range(2):  # the second time, the command replaces its own output
        predicted(capsys, trained, tmp_path / "test.csv", "-o", tmp_path / "submission.csv", "--submission")
        found = list(csv.reader(io.StringIO((tmp_path / "submission.csv").read_text())))
        assert found == [
            ["PassengerId", "Survived"],
            *([name, row["prediction"]] for name, row in zip(names, rows, strict=True)),
        ]
    assert (
        refusal("predict", capsys, trained, tmp_path / "test.csv", "--submission", "--format", "jsonl")
        == "trainer: error: --submission: is written as CSV, got jsonl\n"
    )


def test_a_submission_may_have_the_probability_of_each_class(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "test.csv", labelled=False)
    rows = list(csv.DictReader(io.StringIO(predicted(capsys, trained, tmp_path / "test.csv"))))
    words = (trained, tmp_path / "test.csv", "--submission", "--probabilities")
    found = list(csv.reader(io.StringIO(predicted(capsys, *words))))
    assert found == [["PassengerId", "0", "1"], *([row["PassengerId"], row["p_0"], row["p_1"]] for row in rows)]
    refused = refusal("predict", capsys, trained, tmp_path / "test.csv", "--probabilities")
    assert (
        refused == "trainer: error: --probabilities: goes with --submission; the usual output has the probabilities\n"
    )


def test_a_submission_of_labels_has_a_column_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"row{n},{n % 7 / 3},{n % 4},{n % 2},{int(n % 3 == 0)}" for n in range(ROWS)]
    (tmp_path / "train.csv").write_text("\n".join(["id,a,b,even,third", *lines]) + "\n")
    words = [f"dataset.path={tmp_path / 'train.csv'}", "dataset.target=[even,third]", "loss=bce", "model=lstm"]
    words += ["model.hidden=4", "epochs=1", "logger=none", f"run_dir={tmp_path / 'run'}"]
    run(compose("dataset=csv", *words))
    rows = list(csv.DictReader(io.StringIO(predicted(capsys, tmp_path / "run", tmp_path / "train.csv"))))
    asked = (tmp_path / "run", tmp_path / "train.csv", "--submission")
    found = list(csv.reader(io.StringIO(predicted(capsys, *asked))))
    named = [row["prediction"].split(";") for row in rows]
    zeros_and_ones = [[str(int(label in some)) for label in ("even", "third")] for some in named]
    assert found == [["id", "even", "third"], *([f"row{n}", *some] for n, some in enumerate(zeros_and_ones))]
    shares = list(csv.DictReader(io.StringIO(predicted(capsys, *asked, "--probabilities"))))
    assert [row["third"] for row in shares] == [row["p_third"] for row in rows]


def test_a_submission_needs_a_column_that_names_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{n % 7 / 3},{n % 2}" for n in range(ROWS)]
    (tmp_path / "train.csv").write_text("\n".join(["a,label", *lines]) + "\n")
    words = [f"dataset.path={tmp_path / 'train.csv'}", "model=lstm", "model.hidden=4", "epochs=1", "logger=none"]
    run(compose("dataset=csv", *words, f"run_dir={tmp_path / 'run'}"))
    assert (
        refusal("predict", capsys, tmp_path / "run", tmp_path / "train.csv", "--submission")
        == "trainer: error: --submission: the run knows no column that names the rows; train with dataset.id=NAME\n"
    )


@pytest.mark.parametrize("shape", ["[4,2]", "[2,2,2]", "[4,4,1]"])
def test_rows_that_are_samples_of_a_shape_are_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: str
) -> None:
    draw = random.Random(0)
    width = 16 if shape == "[4,4,1]" else 8
    rows = [[f"{draw.gauss(n % 2, 1):.3f}" for _ in range(width)] + ["ab"[n % 2]] for n in range(ROWS)]
    header = [*(f"p{at}" for at in range(width)), "label"]
    (tmp_path / "d.csv").write_text("\n".join(map(",".join, [header, *rows])) + "\n")
    words = [f"dataset.path={tmp_path / 'd.csv'}", f"dataset.shape={shape}", "model=lstm", "model.hidden=4", "epochs=1"]
    run(compose("dataset=csv", *words, "logger=none", f"run_dir={tmp_path / 'run'}"))
    trained = load(str(tmp_path / "run"))
    data = trained.data()
    given, _ = answers(trained, data, data.test)
    expected = trained.loss.scores(given.outputs)[:, 0].tolist()
    found = list(csv.DictReader(io.StringIO(predicted(capsys, tmp_path / "run", tmp_path / "d.csv"))))
    assert [float(found[at]["p_a"]) for at in given.positions.tolist()] == pytest.approx(expected, abs=2e-6)


def test_lists_of_numbers_are_predicted_in_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(0)
    lists = [[round(draw.gauss(n % 2, 1), 3) for _ in range(9)] for n in range(ROWS)]
    lines = [f"{'ab'[n % 2]},{' '.join(map(str, some))}" for n, some in enumerate(lists)]
    (tmp_path / "d.csv").write_text("\n".join(["emotion,pixels", *lines]) + "\n")
    words = [
        f"dataset.path={tmp_path / 'd.csv'}",
        "dataset.shape=[1,3,3]",
        "model=cnn",
        "model.channels=[4]",
        "epochs=1",
    ]
    run(compose("dataset=csv", *words, "logger=none", f"run_dir={tmp_path / 'run'}"))
    (tmp_path / "p.json").write_text(json.dumps([{"pixels": some} for some in lists]))

    def chances(name: str) -> list[str]:
        return [row["p_a"] for row in csv.DictReader(io.StringIO(predicted(capsys, tmp_path / "run", tmp_path / name)))]

    assert chances("d.csv") == chances("p.json")
    assert len({*chances("d.csv")}) > ROWS // 2
    (tmp_path / "p.csv").write_text("pixels\n" + " ".join(map(str, lists[0])) + "\n")
    assert chances("p.csv") == chances("d.csv")[:1]


def test_a_table_with_another_decimal_sign_than_that_of_training_is_read_as_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"{n % 7 / 3:.2f}", f"{n % 5 + 0.5:.2f}", "ab"[n % 2]) for n in range(ROWS)]
    commas = [";".join(row).replace(".", ",") for row in rows]
    (tmp_path / "train.csv").write_text("\n".join(["x;z;label", *commas]) + "\n")
    (tmp_path / "new.csv").write_text("\n".join(["x,z", *(",".join(row[:2]) for row in rows)]) + "\n")
    words = [f"dataset.path={tmp_path / 'train.csv'}", "model=lstm", "model.hidden=4", "epochs=1", "logger=none"]
    run(compose("dataset=csv", *words, f"run_dir={tmp_path / 'run'}"))
    wanted = list(csv.DictReader(io.StringIO(predicted(capsys, tmp_path / "run", tmp_path / "train.csv"))))
    found = list(
        csv.DictReader(io.StringIO(predicted(capsys, tmp_path / "run", tmp_path / "new.csv", "dataset.decimal=.")))
    )
    assert [row["p_a"] for row in found] == [row["p_a"] for row in wanted]


@pytest.mark.parametrize(("target", "rows"), [(1, ["8.6,0", "3.5,1"]), (2, ["1,0,x", "0,1,y"])])
def test_the_first_row_of_a_table_without_a_header_is_a_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: int, rows: list[str]
) -> None:
    file = tmp_path / "a.data"  # whose first row has the numbers of columns in it
    file.write_text("\n".join(rows * 30) + "\n")
    words = [
        f"dataset.path={file}",
        f"dataset.target={target}",
        'dataset.delimiter=","',
        "model=lstm",
        "model.hidden=4",
        "epochs=1",
        "logger=none",
    ]
    run(compose("dataset=csv", *words, f"run_dir={tmp_path / 'run'}"))
    found = list(csv.DictReader(io.StringIO(predicted(capsys, tmp_path / "run", file))))
    assert len(found) == 60
    assert len({row["prediction"] for row in found[::2]}) == len({row["prediction"] for row in found[1::2]}) == 1
