"""Names of arrays: which array is what, and of which split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import load_data, refused
from trainer.data.readers.arrays.names import parse

NUMBERS = np.random.default_rng(0).normal(size=(40, 5))
CLASSES = np.arange(40) % 2


@pytest.mark.parametrize(
    ("name", "base", "split"),
    [
        ("x_train", "x", "train"),
        ("XTrain", "X", "train"),
        ("train_images", "images", "train"),
        ("valid-labels", "labels", "val"),
        ("train/x_train", "x", "train"),
        ("test/labels", "labels", "test"),
        ("latest", "latest", ""),
        ("contest", "contest", ""),
        ("trainable", "trainable", ""),
        ("testx", "x", "test"),
        ("y", "y", ""),
        ("train", "train", ""),
    ],
)
def test_a_split_is_part_of_a_name_only_as_a_word(name: str, base: str, split: str) -> None:
    assert parse(name) == (base, split)


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (("X", "Y"), "samples X, targets Y"),
        (("images", "labels"), "samples images, targets labels"),
        (("data", "target"), "samples data, targets target"),
        (("arr_0", "arr_1"), "samples arr_0, targets arr_1"),
        (("spectra", "y"), "samples spectra, targets y"),
    ],
)
def test_usual_names_are_found(names: tuple[str, str], note: str, tmp_path: Path) -> None:
    arrays: dict[str, Any] = {names[0]: NUMBERS, names[1]: CLASSES}
    np.savez(tmp_path / "a.npz", **arrays)
    data = load_data("npz", tmp_path / "a.npz")
    assert (data.notes, data.spec.shape, data.spec.classes) == ((note,), (5,), ("0", "1"))


@pytest.mark.parametrize(
    ("arrays", "key", "example"),
    [
        ({"X": NUMBERS, "images": NUMBERS, "y": CLASSES}, "inputs", "X"),
        ({"spectra": NUMBERS, "amount": CLASSES}, "inputs", "spectra"),
        ({"x": NUMBERS, "amount": CLASSES}, "targets", "amount"),
        ({"x": NUMBERS, "y": CLASSES, "labels": CLASSES}, "targets", "y"),
        ({f"arr_{at}": NUMBERS for at in range(4)}, "inputs", "arr_0"),
    ],
)
def test_two_readings_are_a_question_whose_advice_works(
    arrays: dict[str, Any], key: str, example: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    line = refused(lambda path: load_data("npz", path), tmp_path / "a.npz")
    assert f"which array of {tmp_path / 'a.npz'} holds the" in line
    assert f"for example dataset.{key}={example}; arrays: {next(iter(arrays))} (40, 5) float64, " in line
    typed: dict[str, Any] = {key: example}
    for _ in range(2):  # the advice leads from question to question until the data are read
        try:
            assert load_data("npz", tmp_path / "a.npz", **typed).spec.shape == (5,)
            break
        except Exception as error:
            asked, name = str(error).split("for example dataset.")[1].split(";")[0].split("=")
            assert asked not in typed
            typed[asked] = name


def test_an_array_without_a_split_beside_one_with_is_train(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=NUMBERS, y=CLASSES, x_test=NUMBERS[:7], y_test=CLASSES[:7])
    assert len(load_data("npz", tmp_path / "a.npz").test) == 7
    np.savez(tmp_path / "b.npz", x=NUMBERS, y=CLASSES, x_train=NUMBERS, y_train=CLASSES)
    assert "holds x, x_train, and so train twice" in refused(lambda path: load_data("npz", path), tmp_path / "b.npz")


@pytest.mark.parametrize("form", ["X_{0}", "{0}/X", "{0}/X_{0}"])
def test_a_folder_of_npy_files_is_read_by_their_names(form: str, tmp_path: Path) -> None:
    for split, rows in (("train", slice(0, 30)), ("test", slice(30, 40))):
        for letter, values in (("X", NUMBERS), ("y", CLASSES)):
            file = tmp_path / f"{form.format(split).replace('X', letter)}.npy"
            file.parent.mkdir(exist_ok=True)
            np.save(file, values[rows])
    data = load_data("npz", tmp_path)
    assert {name: len(split) for name, split in data.splits().items()} == {"train": 27, "val": 3, "test": 10}
    assert data.test.head(10).tolist() == NUMBERS[30:].astype(np.float32).tolist()
    if "/" in form:
        both = {split: str(tmp_path / split) for split in ("train", "test")}
        assert len(load_data("npz", both).test) == 10
