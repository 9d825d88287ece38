"""A run of a table with categories, gaps and dates: every command reads the raw row."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

import trainer
from tests.conftest import Train
from tests.helpers import told
from trainer import compose, run
from trainer.commands.opened_run import answers
from trainer.data.table_encoding import OTHER, TableEncoding

COUNT = 150
NAMES = ["town", "size", "when", "open", "survived"]


def row_of(n: int) -> dict[str, str]:
    town = "" if n % 17 == 0 else ["Rome", "Oslo", "Bonn"][n % 3]
    size = "" if n % 11 == 3 else f"{n * n % 17 / 4}"
    label = int((n * n % 17 > 7) != (town == "Rome"))
    return dict(
        zip(NAMES, [town, size, f"{n % 28 + 1}.{n % 12 + 1}.2024", ["yes", "no"][n // 2 % 2], str(label)], strict=True)
    )


def write(file: Path, rows: list[dict[str, str]]) -> Path:
    with file.open("w", newline="") as stored:
        writer = csv.DictWriter(stored, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    return file


WORDS = [
    "dataset=csv",
    "model=mlp",
    "model.hidden=[16]",
    "epochs=3",
    "logger=none",
    "batch_size=32",
    "dataset.target=survived",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    write(folder / "all.csv", [row_of(n) for n in range(COUNT)])
    run(compose(*WORDS, f"dataset.path={folder / 'all.csv'}", f"run_dir={folder / 'run'}"))
    return folder


def predicted(capfd: pytest.CaptureFixture[str], *words: object) -> list[dict[str, Any]]:
    code, out, err = told(capfd, "predict", *map(str, words), "--format", "jsonl")
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


def scores_of(rows: list[dict[str, Any]]) -> torch.Tensor:
    return torch.tensor([[row["probabilities"][name] for name in ("0", "1")] for row in rows])


def test_predict_on_the_raw_file_is_evaluate_row_by_row(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opened = trainer.load(str(trained / "run"))
    data = opened.data()
    found, _ = answers(opened, data, data.test)
    wanted = opened.loss.scores(found.outputs)
    rows = scores_of(predicted(capfd, trained / "run", trained / "all.csv"))
    torch.testing.assert_close(rows[found.positions], wanted, atol=1e-5, rtol=0)


def test_rows_from_python_are_those_of_the_file(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opened = trainer.load(str(trained / "run"))
    rows = scores_of(predicted(capfd, trained / "run", trained / "all.csv"))
    cells = [row_of(n) for n in range(COUNT)]
    torch.testing.assert_close(opened.scores(cells), rows, atol=1e-5, rtol=0)
    typed = [["Rome", 2.0, date(2024, 3, 1), True], [None, None, None, None]]
    texts = [["Rome", "2", "1.3.2024", "yes"], ["", "", "", ""]]
    assert torch.equal(opened.scores(typed), opened.scores(texts))
    raw = torch.tensor([[0.0, 2, 0, 1]])
    assert opened.scores(raw).shape == (1, 2)
    with pytest.raises(ValueError, match=r"samples: town: 7 is no code from 0 to 2, -1 \(another level\) or NaN"):
        opened.scores(torch.tensor([[7.0, 2, 0, 1]]))
    with pytest.raises(ValueError, match="row 0: has no column open; columns: town, size, when"):
        opened.scores([{"town": "Rome", "size": 1, "when": None}])


def test_new_levels_gaps_and_another_order_are_read_and_a_missing_column_is_named(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [row_of(n) for n in range(20)]
    before = predicted(capfd, trained / "run", write(tmp_path / "a.csv", rows))
    turned = [{name: row[name] for name in ("open", "survived", "when", "town", "size")} for row in rows]
    after = predicted(capfd, trained / "run", write(tmp_path / "b.csv", turned))
    assert torch.equal(scores_of(before), scores_of(after))
    new = scores_of(
        predicted(
            capfd, trained / "run", write(tmp_path / "c.csv", [{**r, "town": "Paris", "size": "?"} for r in rows])
        )
    )
    assert new.isfinite().all()
    less = [{name: row[name] for name in ("size", "when", "open")} for row in rows]
    code, out, err = told(capfd, "predict", str(trained / "run"), str(write(tmp_path / "d.csv", less)))
    assert code != 0
    assert "has no column town; columns: size, when, open" in out + err


def test_explain_gives_one_number_for_a_column_and_its_cell_as_text(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("captum")
    file = write(tmp_path / "a.csv", [row_of(n) for n in (1, 17)])
    code, out, err = told(
        capfd, "explain", str(trained / "run"), str(file), "-o", str(tmp_path / "page.html"), "--steps", "8", "--json"
    )
    assert code == 0, err
    page = (tmp_path / "page.html").read_text() if (tmp_path / "page.html").exists() else ""
    assert all(name in out + page for name in NAMES[:4])
    assert "town=Rome" not in out + page and "is missing" not in out + page


def test_a_resumed_run_and_a_streamed_one_have_the_same_bits(trained: Path, train: Train) -> None:
    words = [*WORDS, f"dataset.path={trained / 'all.csv'}", "run_dir=run"]
    whole, streamed = train(*words), train(*words, "dataset.in_memory=false")
    part = train(*words, "epochs=1")
    resumed = resumed_to_the_end(train, part.folder / "run")
    weights = [
        torch.load(each / "checkpoints" / "last.pt", weights_only=True)["model"]
        for each in (whole.folder / "run", streamed.folder / "run", resumed)
    ]
    for other in weights[1:]:
        assert all(torch.equal(weights[0][name], other[name]) for name in weights[0])


def resumed_to_the_end(train: Train, folder: Path) -> Path:
    found = train(f"resume={folder}", "epochs=3")
    assert found.code == 0, found.err
    return folder


READ = """
import json, sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
about = session.get_modelmeta().custom_metadata_map
(inputs, *_) = json.loads(about["inputs"])
rows = []
for row in json.load(sys.stdin):
    values = []
    for column, cell in zip(inputs["columns"], row):
        if cell is None: values.append(float("nan"))
        elif column["kind"] == "category": values.append(column["codes"].get(cell, column["other"]))
        else: values.append(cell)
    rows.append(values)
print(json.dumps(session.run(None, {"inputs": numpy.array(rows, numpy.float32)})[0].tolist()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_an_exported_file_reads_raw_rows_elsewhere(
    trained: Path, tmp_path: Path, form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript" if form == "onnx" else "torch")
    opened = trainer.load(str(trained / "run"))
    file = tmp_path / ("model.onnx" if form == "onnx" else "model.pt2")
    code, _, err = told(capfd, "export", str(trained / "run"), "--format", form, "-o", str(file))
    assert code == 0, err
    rows: list[list[Any]] = [["Rome", 2.0, 10.0, 1], ["Paris", None, 3.5, 0], [None, 1.0, None, None]]
    assert isinstance(opened.normalise, TableEncoding)
    town, _, when, _ = opened.normalise.columns
    if form == "onnx":
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        command = [sys.executable, "-c", READ, str(file)]
        done = subprocess.run(
            command, input=json.dumps(rows), env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        found = torch.tensor(json.loads(done.stdout))
    else:
        codes = {"Rome": float(town.levels.index("Rome")), "Paris": OTHER, None: math.nan}
        raw = [[codes[row[0]], *(math.nan if cell is None else cell for cell in row[1:])] for row in rows]
        found = torch.export.load(file).module()(torch.tensor(raw))
    origin = datetime(1970, 1, 1) + timedelta(days=when.origin)
    moments = [None if row[2] is None else origin + timedelta(days=row[2]) for row in rows]
    cells = [[*row[:2], moment, row[3]] for row, moment in zip(rows, moments, strict=True)]
    torch.testing.assert_close(found, opened.scores(cells), atol=1e-5, rtol=0)


ADULT = (
    Path(os.environ.get("TRAINER_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
    / "tables"
    / "adult-train.csv"
)


@pytest.mark.slow
@pytest.mark.skipif(not ADULT.is_file(), reason="tables/adult-train.csv is missing")
def test_adult_is_predicted_from_its_raw_file_as_it_is_evaluated(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = ADULT.read_text().splitlines()[:3000]
    (tmp_path / "adult.csv").write_text("\n".join(lines) + "\n")
    words = ["dataset=csv", f"dataset.path={tmp_path / 'adult.csv'}", "dataset.target=14", "epochs=2", "logger=none"]
    run(compose(*words, f"run_dir={tmp_path / 'run'}"))
    opened = trainer.load(str(tmp_path / "run"))
    data = opened.data()
    found, _ = answers(opened, data, data.test)
    wanted = opened.loss.scores(found.outputs)[:, 1]
    rows = predicted(capfd, tmp_path / "run", tmp_path / "adult.csv")
    classes = opened.spec.classes
    given = torch.tensor([row["probabilities"][classes[1]] for row in rows])
    assert len(given) == len(lines)
    torch.testing.assert_close(given[found.positions], wanted, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_two_processes_learn_the_same_as_one(trained: Path, train: Train) -> None:
    words = [*WORDS, f"dataset.path={trained / 'all.csv'}", "run_dir=run", "model.dropout=0"]
    one, two = train(*words), train(*words, "device=ddp", "device.processes=2")
    assert two.code == 0, two.err
    one_test, two_test = (json.loads((each.folder / "run" / "summary.json").read_text()) for each in (one, two))
    assert two_test["test/loss"] == pytest.approx(one_test["test/loss"], rel=1e-4)
    assert two_test["test/accuracy"] == one_test["test/accuracy"]
