"""The command ``trainer data``: what it prints, writes and returns, for good data and for bad files."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import told
from tests.html_page import Page

Look = Callable[..., tuple[int, str, str]]


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Look:
    """``look("dataset=digits", …)`` in an empty folder: exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(sys, "argv", ["trainer"])
    return functools.partial(told, capfd, "data")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of pictures: seven bad files, one in train and test, one in two classes."""
    random, root = np.random.default_rng(0), tmp_path / "pictures"
    for split, count in (("train", 40), ("val", 5), ("test", 5)):
        for label in ("cat", "dog"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    copies = {"test/cat/leak.png": "train/cat/0.png", "train/dog/same.png": "train/cat/1.png"}
    for copy, original in copies.items():
        (root / copy).write_bytes((root / original).read_bytes())
    for number in range(7):
        (root / f"train/cat/bad{number}.png").write_bytes(b"\x89PNG nothing")
    return root


def page_of(folder: Path, name: str = "data.html") -> Page:
    return Page((folder / name).read_text(encoding="utf-8"))


def test_good_data_is_told_in_numbers_and_ends_with_0(look: Look, tmp_path: Path) -> None:
    code, out, err = look()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "data     digits: image 1×8×8, 10 classes; train 1,298, val 229, test 270"
    assert lines[1] == "raw      uint8 of 1×8×8, 0 to 16; in memory, 0.1 MiB"
    assert "classes     train  val  test" in lines
    assert "         3    132   24    27" in lines
    assert lines[-2:] == ["page     data.html", "verdict  nothing found"]
    assert [path.name for path in tmp_path.iterdir()] == ["data.html"]


def test_every_bad_file_is_listed_whatever_on_error_says(look: Look, pictures: Path) -> None:
    for words in ([], ["dataset.on_error=skip"], ["dataset.in_memory=false"]):
        code, out, _ = look("dataset=image_folder", f"dataset.path={pictures}", "--no-page", *words)
        assert code == 1
        bad = [line for line in out.splitlines() if line.startswith("warning  bad sample: ")]
        assert [re.search(r"bad\d\.png", line)[0] for line in bad] == [f"bad{n}.png" for n in range(7)]  # type: ignore[index]
        leaks = [line for line in out.splitlines() if "1 test sample has the same content as one of train" in line]
        assert [line.endswith("test/cat/leak.png = " + str(pictures / "train/cat/0.png")) for line in leaks] == [True]
        (contradiction,) = [line for line in out.splitlines() if "different classes" in line]
        assert "cat/1.png (cat)" in contradiction
        assert "dog/same.png (dog)" in contradiction
        assert out.splitlines()[-1] == "verdict  9 warnings, 1 note; bad samples: 7"


def test_how_the_data_were_read_is_told_in_all_forms(look: Look, tmp_path: Path) -> None:
    rows = [f"{number * 7 % 30},{number % 3},{'ab'[number % 2]}" for number in range(60)]
    (tmp_path / "table.csv").write_text("\n".join(["age,size,kind", *rows]) + "\n")
    words = ["dataset=csv", "dataset.path=table.csv"]
    _, out, err = look(*words)
    assert err == ""
    note = "target kind"
    assert note in out.splitlines()[0]
    assert note in (tmp_path / "data.html").read_text(encoding="utf-8")
    (told_,) = [each for each in json.loads(look(*words, "--json")[1])["notes"] if note in each]
    assert told_ in out.splitlines()[0]


def test_json_holds_the_same_and_nothing_else(look: Look, tmp_path: Path) -> None:
    code, out, _ = look("--json", "dataset=synthetic", "dataset.samples=30", "dataset.kind=table", "dataset.shape=[3]")
    found = json.loads(out)
    assert code == 1
    assert found["splits"]["train"]["samples"] == 26  # 30 less 15 %, to whole samples
    assert sum(found["splits"]["train"]["counts"]) == 26
    checks = [finding["check"] for finding in found["findings"] if finding["level"] == "warning"]
    assert "few_samples" in checks
    assert found["warnings"] == len(checks)
    assert found["raw"]["dtype"] == "float32"
    assert list(tmp_path.iterdir()) == []


def test_the_page_needs_nothing_else_and_shows_samples_of_each_class(look: Look, tmp_path: Path) -> None:
    assert look("--page", "digits.html")[0] == 0
    page = page_of(tmp_path, "digits.html")
    assert page.loaded == [] and not page.named("script")
    assert [picture.size for picture in page.pictures] == [(8, 8)] * 60
    assert max(np.asarray(picture).max() for picture in page.pictures) == 255  # pixels of 0 to 16 become 0 to 255
    assert look("--page", "augmented.html", "dataset.augment.crop=2")[0] == 0
    augmented = page_of(tmp_path, "augmented.html")
    assert len(augmented.pictures) == 120
    first = [np.asarray(picture) for picture in augmented.pictures[:12]]
    plain = [np.asarray(picture) for picture in page.pictures[:6]]
    assert all(np.array_equal(one, other) for one, other in zip(first[:6], plain, strict=True))
    assert any(not np.array_equal(one, other) for one, other in zip(first[6:], plain, strict=True))


@pytest.mark.parametrize(
    ("kind", "words", "tag"),
    [
        ("table", ["dataset.shape=[5]"], "rect"),
        ("table", ["dataset.shape=[5]", "dataset.task=regression", "loss=mse"], "rect"),
        ("sequence", ["dataset.shape=[300,2]", "dataset.min_steps=3"], "polyline"),
        ("sequence", ["dataset.shape=[9,2]", "dataset.task=multilabel", "loss=bce"], "polyline"),
        ("spectrogram", ["dataset.shape=[1,30,8]"], "img"),
        ("tokens", ["dataset.shape=[12]", "dataset.min_steps=3"], "div"),
    ],
)
def test_every_kind_has_its_pictures(look: Look, tmp_path: Path, kind: str, words: list[str], tag: str) -> None:
    code, out, err = look("dataset=synthetic", f"dataset.kind={kind}", "dataset.classes=3", *words)
    assert code in (0, 1), err
    page = page_of(tmp_path)
    assert len(page.named(tag)) >= 12
    assert len(page.named("figure")) in (18, 24)  # six of each of three classes, or 24 without classes
    if kind == "spectrogram":
        assert page.pictures[0].size == (30, 8)  # steps to the right
    assert ("steps" in out) == any("min_steps" in word for word in words)


def test_low_bands_are_at_the_bottom_and_loud_is_dark(tmp_path: Path, look: Look) -> None:
    import soundfile

    rate, steps = 8000, np.arange(8000)
    for label, hertz in (("low", 300), ("high", 3000)):
        for number in range(10):
            (tmp_path / "sounds" / label).mkdir(parents=True, exist_ok=True)
            wave = 0.3 * np.sin(2 * np.pi * (hertz + number) * steps / rate)
            soundfile.write(tmp_path / "sounds" / label / f"{number}.wav", wave, rate)
    code, _, err = look("dataset=audio_folder", "dataset.path=sounds", "batch_size=4")
    assert code in (0, 1), err
    high, low = (np.asarray(page_of(tmp_path).pictures[at]).astype(float) for at in (0, 6))
    half = high.shape[0] // 2
    assert high[:half].mean() < low[:half].mean()
    assert high[half:].mean() > low[half:].mean()


def test_what_stands_in_the_data_cannot_be_code_of_the_page(look: Look, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    for label in ("<b>x", "y"):
        (tmp_path / "texts" / label).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "texts" / label / f"{number}.txt").write_text(f"{evil} {label} {number}")
    code, _, err = look("dataset=text", "dataset.path=texts", "dataset.tokens=characters", "batch_size=4")
    assert code in (0, 1), err
    page = page_of(tmp_path)
    assert not page.named("script")
    assert "<script>alert(1)</script> <b>x" in page.text


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["datset=digits"], ["datset: no such key (from the command line); did you mean dataset?"]),
        (["dataset=digit", "epoch=3"], ["dataset=digit: no such option", "epoch: no such key"]),
        (["dataset=mnist,digits"], ["dataset=mnist,digits: several values, but one data set is looked at"]),
        (["--page", "nowhere/data.html"], ["--page: nowhere/data.html: there is no such folder"]),
        (["--page", "."], ["--page: .: is a folder"]),
        (["--multirun"], ["unrecognized arguments: --multirun"]),
        (["--config-dir", "nowhere"], ["--config-dir: nowhere: "]),
        (["dataset=image_folder"], ["dataset.path: missing"]),
        (["dataset=image_folder", "dataset.path=nowhere"], ["dataset.path: nowhere: no such file or folder"]),
        (["dataset=synthetic", "dataset.shape=[3]"], ["dataset.shape: must have 3 numbers for kind=image, got [3]"]),
    ],
)
def test_a_mistake_is_a_line_of_trainer_and_nothing_is_written(
    look: Look, tmp_path: Path, words: list[str], lines: list[str]
) -> None:
    code, out, err = look(*words)
    assert (code, out) == (2, "")
    found = err.splitlines()
    assert len(found) == len(lines)
    for got, wanted in zip(found, lines, strict=True):
        assert got.startswith(f"trainer: error: {wanted}")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_page_of_ours_is_not_overwritten(look: Look, tmp_path: Path) -> None:
    (tmp_path / "data.html").write_text("mine")
    code, _, err = look()
    assert code == 2
    assert "--page: data.html: is there already, and no page of this command" in err
    assert (tmp_path / "data.html").read_text() == "mine"
    assert look("--page", "other.html")[0] == 0
    assert look("--page", "other.html")[0] == 0  # one of ours is replaced


def test_damaged_data_is_one_line_and_not_a_stack(look: Look, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for name in ("images-idx3", "labels-idx1"):
            (folder / f"{part}-{name}-ubyte").write_bytes(b"\0\0\x08\x03nothing")
    code, out, err = look("dataset=mnist")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("trainer: error: dataset=mnist: cannot read the files in data/MNIST/raw: ")


def test_a_table_without_names_of_columns_has_a_page(look: Look, tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=np.arange(120.0).reshape(30, 4), y=np.arange(30) % 2)
    code, out, err = look("dataset=npz", "dataset.path=t.npz")
    assert code in (0, 1), err
    assert "npz: table 4, 2 classes" in out
    assert "<svg" in (tmp_path / "data.html").read_text(encoding="utf-8")
