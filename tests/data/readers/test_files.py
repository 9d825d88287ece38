"""Bad samples, classes and file names, which all data sets of the user's own files share."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers import load_data, refused
from trainer.config import ConfigError
from trainer.data import ReadOptions
from trainer.data.readers.files import Item, Problems, classify, natural_key


def test_bad_samples_are_refused_left_out_or_each_reported() -> None:
    stop, skip, report = Problems("mine", "stop"), Problems("mine", "skip"), Problems("mine", "skip", report_all=True)
    for problems in (stop, skip, report):
        for number in range(7):
            problems.add(f"{number}.png", "is empty")
    with pytest.raises(ConfigError, match=r"^dataset=mine: 7 bad samples: 0\.png: is empty; .* … and 2 more \("):
        stop.settle()
    skip.settle()
    skip.settle()
    assert [line[:40] for line in skip.warnings] == ["7 bad samples left out: 0.png: is empty;"]
    report.settle()
    assert report.warnings == [f"bad sample: {number}.png: is empty" for number in range(7)]


def test_the_classes_of_a_finished_run_take_the_place_of_those_of_train() -> None:
    items = [Item("", label, f"{at}", None) for at, label in enumerate(["b", "c", "b10", "b9"])]
    problems = Problems("mine", "skip")
    kept, classes, targets = classify(items, ReadOptions(), problems)
    assert (kept, classes, targets.tolist()) == (items, ("b", "b9", "b10", "c"), [0, 3, 2, 1])
    kept, classes, targets = classify(items, ReadOptions({"classes": ["c", "b"]}), problems)
    assert (kept, classes, targets.tolist()) == (items[:2], ("c", "b"), [1, 0])
    assert problems.warnings == [
        "2 bad samples left out: 2: class b10 is here (1 sample) but not in train; "
        "3: class b9 is here (1 sample) but not in train"
    ]


def test_numbers_in_names_are_sorted_by_value_and_no_two_names_are_equal() -> None:
    names = ["10", "9", "a10", "a9", "a09", "1", "01"]
    assert sorted(names, key=natural_key) == ["01", "1", "9", "10", "a09", "a9", "a10"]


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs users")
def test_a_folder_that_cannot_be_read_is_a_bad_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in range(12):
        file = tmp_path / "p" / "abc"[at % 3] / f"{at}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 3), at).save(file)
    locked = tmp_path / "p" / "a" / "locked"
    locked.mkdir()
    monkeypatch.chdir(tmp_path)  # others may not pass the folders above
    tmp_path.chmod(0o755)
    load_data("image_folder", "p")
    locked.chmod(0)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.seteuid(65534)  # root may read everything
        error = refused(functools.partial(load_data, "image_folder"), "p")
    finally:
        if is_root:
            os.seteuid(0)
        locked.chmod(0o755)
    assert "1 bad sample: p/a/locked: cannot be read: Permission denied" in error
