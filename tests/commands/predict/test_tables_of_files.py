"""``trainer predict`` of the files that a table names."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer import compose, run
from trainer.__main__ import main


def pictures(folder: Path, prefix: str, count: int) -> list[str]:
    """Write pictures, every second one bright; return their names without the ending."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(count):
        pixels = draw.integers(0, 100, (8, 8), dtype=np.uint8) + 120 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{prefix}{number}.png")
    return [f"{prefix}{number}" for number in range(count)]


def test_a_table_of_test_pictures_becomes_a_submission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = pictures(tmp_path / "train", "a", 40)
    rows = [f"{name},{'bright' if number % 2 else 'dark'}" for number, name in enumerate(names)]
    (tmp_path / "train.csv").write_text("\n".join(["id,label", *rows]) + "\n")
    words = [f"dataset.path={tmp_path / 'train'}", f"dataset.labels={tmp_path / 'train.csv'}", "model.channels=[4]"]
    run(compose("dataset=image_folder", *words, "epochs=2", "logger=none", f"run_dir={tmp_path / 'run'}"))
    asked = pictures(tmp_path / "test", "t", 6)[::-1]
    (tmp_path / "test.csv").write_text("\n".join(["id", *asked, "gone"]) + "\n")
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "test.csv")]) == 1
    found = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["id"] for row in found] == [*asked, "gone"]
    assert [Path(row["input"]).stem for row in found[:-1]] == asked
    assert "gone: no such file" in found[-1]["error"]
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "test.csv"), "--submission"]) == 1
    handed_in = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert handed_in == [["id", "label"], *([row["id"], row["prediction"]] for row in found)]
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "test"), "--submission"]) == 0
    of_folder = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert of_folder == [["id", "label"], *handed_in[1:-1][::-1]]
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "missing.png"), "--submission"]) == 2
    refused = capsys.readouterr()
    assert refused.out == ""
    assert "--submission: " in refused.err
    assert "missing.png: no such file or folder" in refused.err


def test_files_without_a_table_are_named_by_themselves_in_a_submission(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("cat", "dog"):
        pictures(tmp_path / label, f"{label}.", 20)
    words = [f"dataset.path={tmp_path}", 'dataset.pattern="{label}.#.*"', "model.channels=[4]", "epochs=1"]
    run(compose("dataset=image_folder", *words, "logger=none", f"run_dir={tmp_path / 'run'}"))
    pictures(tmp_path / "test", "", 3)
    words = ["predict", str(tmp_path / "run"), str(tmp_path / "test")]
    capsys.readouterr()
    assert main([*words, "--submission"]) == 0
    found = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert [row[0] for row in found] == ["id", "0", "1", "2"]
    assert found[0] == ["id", "label"]
    assert {row[1] for row in found[1:]} <= {"cat", "dog"}
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("input,prediction,probability,p_cat,p_dog,error\n")
    pictures(tmp_path / "test" / "more", "", 1)
    assert main([*words, "--submission"]) == 2
    assert "0.png has the identifier 0 too" in capsys.readouterr().err
