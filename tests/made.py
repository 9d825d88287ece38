"""Small data sets of every kind and runs trained on them, for tests of the commands that open finished runs."""

from __future__ import annotations

import functools
import math
import random
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import trainer
from trainer import compose, run

MODELS, KINDS = ("cnn", "gru", "lstm"), ("image", "text", "audio", "table", "sequence")
DIGITS = Path(trainer.__file__).with_name("dataset") / "digits.safetensors"
WORDS = {"good": "charming moving funny warm brilliant", "bad": "dull flat stale weak tedious"}
BETWEEN = ["the", "film", "is", "a", "story", "of", "and", "with", "in", "its", "own"]


def pictures(folder: Path, count: int = 150) -> list[str]:
    """Write digits as PNG files in class folders; return the words for the data set."""
    found = load_file(DIGITS)
    for number in range(count):
        file = folder / str(int(found["labels"][number])) / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((found["images"][number, 0].numpy() * 15.9).astype("uint8")).save(file)
    return ["dataset=image_folder", f"dataset.path={folder}"]


def texts(folder: Path, count: int = 60) -> list[str]:
    """Write a file with lines of different lengths for each class; return the words for the data set."""
    draw = random.Random(0)
    folder.mkdir()
    for name, words in WORDS.items():
        lines = []
        for _ in range(count):
            line = [*draw.choices(BETWEEN, k=draw.randint(2, 12)), *draw.choices(words.split(), k=draw.randint(1, 3))]
            draw.shuffle(line)
            lines.append(" ".join(line))
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ["dataset=text", f"dataset.path={folder}"]


def sounds(folder: Path, count: int = 14) -> list[str]:
    """Write tones of three pitches and different lengths at 8 kHz; return the words for the data set."""
    draw = np.random.default_rng(0)
    for name, pitch in {"low": 220, "middle": 700, "high": 1900}.items():
        for number in range(count):
            steps = np.arange(int(draw.integers(900, 3000)))
            tone = 0.4 * np.sin(2 * math.pi * pitch * draw.uniform(0.9, 1.1) * steps / 8000)
            file = folder / name / f"{number}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            with wave.open(str(file), "wb") as opened:
                opened.setparams((1, 2, 8000, 0, "NONE", ""))
                opened.writeframes(((tone + draw.normal(0, 0.02, len(steps))) * 32767).astype("<i2").tobytes())
    return ["dataset=audio_folder", f"dataset.path={folder}"]


def table(file: Path, count: int = 120, *, steps: bool = False) -> list[str]:
    """Write rows of four numbers around a mean for each class; return the words for the data set.

    With ``steps`` a sample has two to seven rows.
    """
    draw = np.random.default_rng(0)
    lines = ["walk,a,b,c,d,kind"]
    for number in range(count):
        kind = number % 3
        for _ in range(int(draw.integers(2, 8)) if steps else 1):
            row = draw.normal([kind, -kind, 5 * kind, 100], [0.6, 0.6, 3, 9])
            lines.append(f"{number},{','.join(f'{value:.3f}' for value in row)},{'xyz'[kind]}")
    file.write_text("\n".join(lines) + "\n")
    extra = ["dataset.group_by=walk"] if steps else ["dataset.ignore=[walk]"]
    return ["dataset=csv", f"dataset.path={file}", "dataset.target=kind", *extra]


def several_labels(file: Path, count: int = 300) -> list[str]:
    """Write rows of six numbers with three labels, the last of them rare; return the words for the data set."""
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(count, 6)).astype("float32")
    labels = rows[:, :3] + draw.normal(size=(count, 3)) > [0, 0.5, 1.2]
    np.savez(file, x=rows, y=labels.astype("int64"))
    return ["dataset=npz", f"dataset.path={file}", "dataset.val_fraction=0.3", "loss=bce", "optimizer.lr=0.03"]


class Made:
    """Data and runs in one folder; each is made when a test first asks for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.words = functools.cache(self._words)
        self.run = functools.cache(self._run)

    def _words(self, kind: str) -> tuple[str, ...]:
        make: dict[str, Callable[[], list[str]]] = {
            "image": lambda: pictures(self.folder / "pictures"),
            "text": lambda: texts(self.folder / "texts"),
            "audio": lambda: sounds(self.folder / "sounds"),
            "table": lambda: table(self.folder / "table.csv"),
            "labels": lambda: several_labels(self.folder / "labels.npz"),
            "sequence": lambda: table(self.folder / "walks.csv", steps=True),
        }
        return tuple(make[kind]())

    def _run(self, model: str, kind: str, *more: str) -> Path:
        """Train a model on a kind of data for two epochs; return the run directory."""
        small = {"cnn": ["model.channels=[8]"], "mlp": ["model.hidden=[16]"]}.get(model, ["model.hidden=16"])
        folder = self.folder / "runs" / f"{model}-{kind}{len(list(self.folder.glob('runs/*')))}"
        words = [f"model={model}", *small, *self.words(kind), "epochs=2", "batch_size=32", "logger=none", *more]
        run(compose(*words, f"run_dir={folder}", "device=cpu"))
        return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return data and runs shared by all tests of a process, which must not change them."""
    return Made(tmp_path_factory.mktemp("made"))
