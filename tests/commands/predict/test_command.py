"""``trainer predict``: what a run says of files, by its own preprocessing."""

from __future__ import annotations

import csv
import functools
import io
import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.helpers import refusal
from tests.made import DIGITS, KINDS, MODELS, Made
from trainer import compose, run
from trainer.__main__ import main
from trainer.commands.opened_run import answers, load
from trainer.commands.predict import named_files, samples

refused = functools.partial(refusal, "predict")


class _Input(io.TextIOWrapper):
    """Standard input with these bytes."""

    def __init__(self, content: str) -> None:
        super().__init__(io.BytesIO(content.encode()), encoding="utf-8")


def rows(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> list[dict[str, str]]:
    """What ``trainer predict …`` prints as CSV."""
    capsys.readouterr()
    assert main(["predict", *map(str, words)]) == code, capsys.readouterr().err
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


FILES = {"image": "pictures", "text": "texts", "audio": "sounds", "table": "table.csv", "sequence": "walks.csv"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_every_sample_gets_the_answer_of_the_evaluation(
    made: Made, model: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made.run(model, kind)
    trained = load(str(folder))
    data = trained.data()
    given, _ = answers(trained, data, data.test)
    expected = trained.loss.scores(given.outputs)
    found = {row["input"]: row for row in rows(capsys, folder, made.folder / FILES[kind])}
    assert data.places is not None
    assert len(found) == sum(len(split) for split in data.splits().values())
    if kind == "sequence":  # a sample is called by its group there, and by its first line here
        lines = (made.folder / "walks.csv").read_text().splitlines()
        groups = [lines[int(place.rpartition(":")[2]) - 1].partition(",")[0] for place in data.places]
        names = [f"{made.folder / 'walks.csv'}: {group}" for group in groups]
    else:
        names = [str(place) for place in data.places]
    for position, scores in zip(given.positions.tolist(), expected, strict=True):
        row = found[names[position]]
        assert row["prediction"] == trained.spec.classes[int(scores.argmax())]
        said = [float(row[f"p_{name}"]) for name in trained.spec.classes]
        assert said == pytest.approx(scores.tolist(), abs=2e-6)
        assert float(row["probability"]) == max(said)
        assert row["error"] == ""


def test_a_bad_file_is_a_row_and_not_the_end(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = sorted((made.folder / "pictures" / "3").glob("*.png"))[:2] if made.words("image") else []
    (tmp_path / "bad.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(good[0].read_bytes()[:60])
    (tmp_path / "empty").mkdir()
    words = [good[0], tmp_path / "bad.png", tmp_path / "nope.png", tmp_path / "cut.png", tmp_path / "empty", good[1]]
    found = rows(capsys, made.run("cnn", "image"), *words, code=1)
    assert [row["input"] for row in found] == [str(word) for word in words]
    errors = [row["error"] for row in found]
    assert errors[0] == errors[5] == ""
    assert errors[1] == "no picture of a known form"
    assert errors[2].startswith("no such file or folder")
    assert errors[3] != ""
    assert errors[4] == "a folder without a picture"
    assert [row["prediction"] == "" for row in found] == [False, True, True, True, True, False]


def test_lines_of_standard_input_are_texts(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", _Input("a charming film\n\nof its own, dull and stale\n"))
    found = rows(capsys, made.run("cnn", "text"), "-")
    assert [row["input"] for row in found] == ["1", "3"]
    (made.folder / "lines.txt").write_text("a charming film\n")
    assert rows(capsys, made.run("cnn", "text"), made.folder / "lines.txt")[0]["p_good"] == found[0]["p_good"]


def test_standard_input_without_an_end_is_bounded(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(named_files, "MAX_ROW", 100)
    monkeypatch.setattr("sys.stdin", _Input("a charming film\n" + "0" * 200))
    assert main(["predict", str(made.run("cnn", "text")), "-"]) == 2
    assert capsys.readouterr().err.endswith("error: -: line 2 has more than 100 characters\n")
    monkeypatch.setattr(samples, "MEMORY_OF_TABLE", 10**15)
    monkeypatch.setattr("sys.stdin", _Input("a,b,c\n" * 200))
    (found,) = rows(capsys, made.run("lstm", "table"), "-", code=1)
    assert found["error"].startswith("needs about 1.2e+03 PB of memory")


def test_the_name_of_a_file_cannot_move_the_cursor_of_a_terminal(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(made.run("cnn", "image")), "x\x1b[31m\x07.png"]
    assert main(words) == 1
    assert "x\x1b[31m\x07.png" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(words) == 1
    assert "x\\x1b[31m\\x07.png" in capsys.readouterr().out


def test_texts_stand_in_columns_and_json_too(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made.run("gru", "text")
    (tmp_path / "some.csv").write_text('id,text\n7,"a charming, warm film"\n8,dull\n9\n')
    (tmp_path / "some.jsonl").write_text('{"text": "dull"}\n{"txet": "x"}\n[1]\nno\n')
    (tmp_path / "odd.csv").write_text("id,words\n7,dull\n")
    table = rows(capsys, folder, tmp_path / "some.csv", code=1)
    assert [row["input"].rpartition(":")[2] for row in table] == ["2", "3", "4"]
    assert table[2]["error"] == "1 column instead of 2"
    lines = rows(capsys, folder, tmp_path / "some.jsonl", code=1)
    assert lines[0]["p_bad"] == table[1]["p_bad"]
    assert [row["error"][:12] for row in lines[1:]] == ["no text", "must be an o", "no JSON: Exp"]
    assert "dataset.input=NAME" in rows(capsys, folder, tmp_path / "odd.csv", code=1)[0]["error"]
    named = rows(capsys, folder, tmp_path / "odd.csv", "dataset.input=words")
    assert named[0]["p_bad"] == table[1]["p_bad"]


def test_a_table_comes_from_standard_input_with_its_columns_anywhere(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made.run("lstm", "table")
    lines = (made.folder / "table.csv").read_text().splitlines()
    usual = rows(capsys, folder, made.folder / "table.csv")
    moved = [",".join(reversed(line.split(",")[1:5])) for line in lines[:4]]
    monkeypatch.setattr("sys.stdin", _Input("\n".join([*moved, "1,x,3,4", ""])))
    found = rows(capsys, folder, "-", code=1)
    assert [row["input"] for row in found] == ["-:2", "-:3", "-:4", "-:5"]
    assert [row["p_x"] for row in found[:3]] == [row["p_x"] for row in usual[:3]]
    assert found[3]["error"] == "c: x is no number"


def test_json_lines_hold_the_same_and_a_file_is_written_whole(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, files = made.run("cnn", "audio"), made.folder / "sounds"
    usual = rows(capsys, folder, files)
    for name in ("out.jsonl", "out.csv"):
        assert main(["predict", str(folder), str(files), "-o", str(tmp_path / name)]) == 0
        assert re.search(r"42 predicted in .* s, .* a second\n$", capsys.readouterr().err)
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [each["input"] for each in found] == [row["input"] for row in usual]
    assert [each["probabilities"]["low"] for each in found] == [float(row["p_low"]) for row in usual]
    assert list(csv.DictReader((tmp_path / "out.csv").open())) == usual
    assert main(["predict", str(folder), str(files), "-o", str(tmp_path / "out.csv")]) == 0  # ours, so replaced
    (tmp_path / "mine.csv").write_text("precious")
    assert "no output of this command" in refused(capsys, folder, files, "-o", tmp_path / "mine.csv")
    assert "must end in" in refused(capsys, folder, files, "-o", tmp_path / "out.png")
    assert (tmp_path / "mine.csv").read_text() == "precious"


@pytest.mark.parametrize(("num_lines", "number", "code"), [(0, signal.SIGINT, 130), (3, signal.SIGTERM, 143)])
def test_an_interrupted_prediction_leaves_no_file_and_changes_none(
    made: Made, num_lines: int, number: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(_Input):
        """Standard input at whose end the command is interrupted."""

        def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
            line = super().readline(size)
            if not line:
                signal.raise_signal(number)
            return line

    monkeypatch.setattr("trainer.commands.exit_code.ignore", lambda: None)
    output = tmp_path / "answers.csv"
    words = ["predict", str(made.run("cnn", "text")), "-", "-o", str(output), "--batch-size", "1"]
    monkeypatch.setattr("sys.stdin", Interrupted("a charming film\n" * num_lines))
    assert main(words) == code
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("sys.stdin", _Input("dull\n"))
    assert main(words) == 0
    before = output.read_text()
    monkeypatch.setattr("sys.stdin", Interrupted("a charming film\n" * num_lines))
    assert main(words) == code
    assert (list(tmp_path.iterdir()), output.read_text()) == ([output], before)


def test_the_answer_does_not_depend_on_the_batch(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    for model in MODELS:
        folder = made.run(model, "audio")
        one, many = (rows(capsys, folder, made.folder / "sounds", "--batch-size", size) for size in (1, 64))
        assert [row["input"] for row in one] == [row["input"] for row in many]
        for row, other in zip(one, many, strict=True):
            assert float(row["p_low"]) == pytest.approx(float(other["p_low"]), abs=2e-6)


def test_pictures_for_a_run_on_the_digits_are_read_in_its_units(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(compose("epochs=6", f"run_dir={tmp_path / 'run'}", "logger=none"))
    found = load_file(DIGITS)
    for number in range(40):
        pixels = (found["images"][number, 0].numpy().astype("float32") * 255 / 16).round().astype("uint8")
        Image.fromarray(pixels).resize((24, 24), Image.Resampling.NEAREST).save(tmp_path / f"{number:02}.png")
    read = rows(capsys, tmp_path / "run", tmp_path)
    right = sum(row["prediction"] == str(int(found["labels"][at])) for at, row in enumerate(read))
    assert right >= 34


def test_values_and_labels_have_a_column_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(80, 3)).astype("float32")
    np.savez(tmp_path / "values.npz", x=x, y=(x[:, :2] * 3 + 100).astype("float32"))
    np.savez(tmp_path / "labels.npz", x=x, y=(x[:, :2] > 0).astype("int64"))
    small = ["model=gru", "model.hidden=8", "epochs=3", "logger=none", "dataset=npz"]
    run(compose(*small, "loss=mse", f"dataset.path={tmp_path / 'values.npz'}", f"run_dir={tmp_path / 'v'}"))
    run(compose(*small, "loss=bce", f"dataset.path={tmp_path / 'labels.npz'}", f"run_dir={tmp_path / 'l'}"))
    values = rows(capsys, tmp_path / "v", tmp_path / "values.npz")
    assert list(values[0]) == ["input", "y 0", "y 1", "error"]
    assert values[7]["input"] == f"{tmp_path / 'values.npz'}: x[7]"
    assert 90 < float(values[0]["y 0"]) < 110
    labels = rows(capsys, tmp_path / "l", tmp_path / "labels.npz")
    thresholds = json.loads((tmp_path / "l" / "summary.json").read_text())["thresholds"]
    fixed = rows(capsys, tmp_path / "l", tmp_path / "labels.npz", "thresholds=0.5")
    assert fixed != labels
    for row, plain in zip(labels, fixed, strict=True):
        for found, bounds in ((row, thresholds), (plain, dict.fromkeys(thresholds, 0.5))):
            said = [name for name, bound in bounds.items() if float(found[f"p_{name}"]) > bound]
            assert found["prediction"] == ";".join(said)
    bad = x[:3].copy()
    bad[1, 2] = np.nan
    np.savez(tmp_path / "bad.npz", x=bad)
    np.savez(tmp_path / "wide.npz", x=np.zeros((1, 4)))
    (tmp_path / "no.npz").write_text("x")
    files = sorted(tmp_path.glob("[bnw]*.npz"))
    errors = [row["error"] for row in rows(capsys, tmp_path / "v", *files, code=1)]
    not_one, wide = "is no .npz, .npy or .mat file", "is 4; the run reads 3"
    assert errors == ["", "holds a number that is not finite", "", not_one, wide]


def test_unix_times_in_a_folder_of_arrays_keep_their_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = np.random.default_rng(0).normal(size=(200, 2)).astype("float32")
    times = 1.7e9 + draw[:, 0].astype(float) * 25
    folder = tmp_path / "arrays"
    folder.mkdir()
    for split, part in {"train": slice(0, 150), "test": slice(150, 200)}.items():
        np.save(folder / f"X_{split}.npy", draw[part])
        np.save(folder / f"y_{split}.npy", times[part])
    words = [
        "model=gru",
        "model.hidden=8",
        "loss=mse",
        "epochs=15",
        "batch_size=16",
        "optimizer.lr=0.01",
        "logger=none",
    ]
    run(compose(*words, "dataset=npz", f"dataset.path={folder}", f"run_dir={tmp_path / 'run'}"))
    said = rows(capsys, tmp_path / "run", folder)
    assert [row["input"] for row in said[:2]] == [f"{folder}: X_test[0]", f"{folder}: X_test[1]"]
    error = np.array([float(row["y"]) for row in said]) - times[150:]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 0.1 < summary["test/mae"] < 15
    assert summary["test/mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert summary["test/r2"] == pytest.approx(1 - (error**2).sum() / (times[150:].var() * 50), rel=1e-5)
    trained = load(str(tmp_path / "run"))
    assert trained.data().fingerprint() == trained.fingerprint
    assert trained.scores(draw[150:]).dtype == torch.float64
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert "equal    to the last digit with summary.json" in capsys.readouterr().out


def test_a_whole_file_is_a_text_where_it_was_one_in_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, word in {"pos": "good", "neg": "bad"}.items():
        (tmp_path / "texts" / name).mkdir(parents=True)
        for number in range(20):
            (tmp_path / "texts" / name / f"{number}.txt").write_text(f"a {word}\nfilm {number}\n")
    words = ["dataset=text", f"dataset.path={tmp_path / 'texts'}", "epochs=1", "logger=none"]
    run(compose("model=gru", "model.hidden=8", *words, f"run_dir={tmp_path / 'run'}"))
    found = rows(capsys, tmp_path / "run", tmp_path / "texts" / "pos")
    assert [Path(row["input"]).suffix for row in found] == [".txt"] * 20


def test_weights_of_a_failed_run_are_used_with_a_warning(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made.run("cnn", "table"), tmp_path / "run")
    (tmp_path / "run" / "summary.json").write_text(json.dumps({"state": "failed", "reason": "a wall"}))
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "run"), str(made.folder / "table.csv")]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 121
    assert captured.err.startswith(f"trainer: warning: {tmp_path / 'run'}: the run has not finished (failed: a wall)")


def test_what_cannot_be_predicted_is_one_line(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made.run("cnn", "table")
    monkeypatch.chdir(tmp_path)
    assert "nope: no such folder" in refused(capsys, "nope", "x.csv")
    assert "needs a FILE" in refused(capsys, folder, "device=cpu")
    assert "--batch-size" in refused(capsys, folder, "x.csv", "--batch-size", "0")
    for name in ("one", "two"):
        shutil.copytree(folder, tmp_path / "several" / name)
    assert "several: holds 2 runs; name one of them" in refused(capsys, "several", "x.csv")


def test_many_batches_keep_their_order(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.words("image")
    files = sorted((made.folder / "pictures").rglob("*.png"), key=lambda file: int(file.stem))
    found = rows(capsys, made.run("cnn", "image"), *files, "--batch-size", 4)
    assert [row["input"] for row in found] == [str(file) for file in files]
    assert torch.tensor([float(row["probability"]) for row in found]).isfinite().all()


def test_a_file_that_is_read_or_only_begins_alike_is_not_replaced(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made.run("gru", "text")
    (tmp_path / "data.jsonl").write_text('{"input": "a good film", "label": "pos"}\n')
    (tmp_path / "data.csv").write_text("input,label\ndull,neg\n")
    (tmp_path / "other.txt").write_text("dull\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "data.csv")
    for name in ("data.jsonl", "data.csv", "link.csv"):
        before = (tmp_path / name).read_text()
        refused(capsys, folder, tmp_path / "other.txt", "-o", tmp_path / name)
        refused(capsys, folder, tmp_path / name, "-o", tmp_path / name)
        assert (tmp_path / name).read_text() == before


def test_a_name_that_no_system_has_is_a_row(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strange = [str(tmp_path / ("x" * 5000)), "~nobody-at-all/x.png"]
    found = rows(capsys, made.run("cnn", "image"), *strange, code=1)
    assert [row["input"] for row in found] == strange
    assert all(row["error"] for row in found)


@pytest.mark.parametrize(
    ("name", "sign", "keys"),
    [
        ("table.csv", ",", ["dataset.input=1", "dataset.target=2"]),
        ("table.txt", "|", ['dataset.delimiter="|"']),
        ("table.csv", ",", ["dataset.input=1", "dataset.target=2", "dataset.header=true"]),
    ],
)
def test_a_table_of_texts_is_read_as_in_training(
    tmp_path: Path, name: str, sign: str, keys: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [sign.join(("id", "text", "label"))]
    lines += [sign.join((str(at), f"{'good' if at % 2 else 'bad'} film {at}", "ny"[at % 2])) for at in range(40)]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    words = ["dataset=text", f"dataset.path={tmp_path / name}", *keys, "epochs=1", "logger=none"]
    run(compose("model=gru", "model.hidden=8", *words, f"run_dir={tmp_path / 'run'}"))
    trained = load(str(tmp_path / "run"))
    data = trained.data()
    given, _ = answers(trained, data, data.test)
    found = {row["input"]: row for row in rows(capsys, tmp_path / "run", tmp_path / name)}
    assert len(found) == 40
    assert f"{tmp_path / name}:1" not in found
    assert data.places is not None
    for position, scores in zip(given.positions.tolist(), trained.loss.scores(given.outputs), strict=True):
        row = found[str(data.places[position])]
        assert [float(row["p_n"]), float(row["p_y"])] == pytest.approx(scores.tolist(), abs=2e-6)
