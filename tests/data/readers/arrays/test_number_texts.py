"""Folders of text files of numbers, as UCI HAR has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers import load_data, refused
from trainer.config import untrusted_files

FEATURES = np.random.default_rng(0).normal(size=(60, 7))
CHANNELS = ("body_acc_x", "body_acc_y", "total_acc_x")


@pytest.fixture
def har(tmp_path: Path) -> Path:
    for split, rows in (("train", slice(0, 40)), ("test", slice(40, 60))):
        (tmp_path / split / "Inertial Signals").mkdir(parents=True)
        part = FEATURES[rows]
        np.savetxt(tmp_path / split / f"X_{split}.txt", part, fmt="%16.7e")
        np.savetxt(tmp_path / split / f"y_{split}.txt", np.arange(len(part)) % 2 + 1, fmt="%d")
        np.savetxt(tmp_path / split / f"subject_{split}.txt", np.arange(len(part)) // 10, fmt="%d")
        for at, name in enumerate(CHANNELS):
            np.savetxt(tmp_path / split / "Inertial Signals" / f"{name}_{split}.txt", part[:, :5] + at, fmt="%16.7e")
    (tmp_path / "activity_labels.txt").write_text("1 WALKING\n2 WALKING_UPSTAIRS\n")
    return tmp_path


def test_the_features_are_a_table_and_the_classes_have_names(har: Path) -> None:
    data = load_data("npz", har, inputs="X")
    assert (data.spec.kind, data.spec.shape, data.spec.classes) == ("table", (7,), ("WALKING", "WALKING_UPSTAIRS"))
    np.testing.assert_allclose(data.test.head(20).numpy(), FEATURES[40:], rtol=1e-6)
    assert data.test.targets.tolist() == [0, 1] * 10


def test_the_signals_are_the_channels_of_a_sequence(har: Path) -> None:
    data = load_data("npz", har, inputs="signals")
    assert (data.spec.kind, data.spec.shape) == ("sequence", (5, 3))
    wanted = np.stack([FEATURES[40:, :5] + at for at in range(3)], axis=-1)
    np.testing.assert_allclose(data.test.head(20).numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_features_and_signals_are_a_question(har: Path) -> None:
    line = refused(lambda path: load_data("npz", path), har)
    assert line.startswith(f"dataset.inputs: null: which array of {har} holds the samples? for example dataset.inputs=")
    assert "signals_train (40, 5, 3) float32" in line
    assert "X_train (40, 7) float64" in line
    for part in ("train", "test"):
        for file in (har / part / "Inertial Signals").iterdir():
            file.unlink()
    assert load_data("npz", har).spec.shape == (7,)


def test_a_wrong_line_is_named(har: Path) -> None:
    file = har / "train" / "X_train.txt"
    file.write_text(file.read_text().replace("e", "?", 1))
    line = refused(lambda path: load_data("npz", path, inputs="X"), har)
    assert line.startswith(f"dataset.inputs: X_train of {har}: X_train.txt: could not convert string")
    assert "\n" not in line


def test_texts_beyond_the_free_memory_are_not_read(har: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted_files, "UNCHECKED", 1000)
    monkeypatch.setattr(untrusted_files, "free_memory", lambda: 2000)
    assert "of memory, 2 kB are free" in refused(lambda path: load_data("npz", path, inputs="X"), har)
