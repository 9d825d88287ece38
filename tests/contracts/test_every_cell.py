"""Every model on every data set, in memory and streamed: the contract that a new one of either has to keep."""

from __future__ import annotations

import importlib.util
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import Train
from tests.helpers import cells
from trainer.config.registry import registry

CLASSES, EACH = ("first", "second"), 10
MODELS = ("cnn", "gru", "lstm", "mlp", "tabm")
IN_THE_PACKAGE = {"digits", "synthetic"}
DOWNLOADED = {"mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100"}  # tests/dataset/test_torchvision.py has them


def pictures(folder: Path) -> Path:
    for number, label in enumerate(CLASSES):
        (folder / label).mkdir(parents=True)
        for at in range(EACH):
            pixels = np.random.default_rng(at).integers(0, 80, (12, 12, 3)) + 150 * number
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{at}.png")
    return folder


def texts(folder: Path) -> Path:
    folder.mkdir()
    for label in CLASSES:
        (folder / f"{label}.txt").write_text(
            "".join(f"the {label} of them {at}{' or so' * at}\n" for at in range(EACH))
        )
    return folder


def sounds(folder: Path) -> Path:
    for number, label in enumerate(CLASSES):
        (folder / label).mkdir(parents=True)
        for at in range(EACH):
            steps = np.arange(1500 + 100 * at)
            tone = (8000 * np.sin(steps * (0.1 + number))).astype("<i2")
            with wave.open(str(folder / label / f"{at}.wav"), "wb") as file:
                file.setparams((1, 2, 8000, len(tone), "NONE", ""))
                file.writeframes(tone.tobytes())
    return folder


def table(folder: Path) -> Path:
    folder.mkdir()
    lines = [f"{number + at / 100},{at},{label}" for number, label in enumerate(CLASSES) for at in range(EACH)]
    path = folder / "table.csv"
    path.write_text("\n".join(["height,width,label", *lines]) + "\n")
    return path


def arrays(folder: Path) -> Path:
    folder.mkdir()
    targets = np.repeat([0, 1], EACH)
    inputs = np.random.default_rng(0).normal(size=(len(targets), 6, 3)) + targets[:, None, None]
    np.savez(folder / "arrays.npz", x=inputs.astype(np.float32), y=targets)
    return folder / "arrays.npz"


MAKE: dict[str, Callable[[Path], Path]] = {
    "image_folder": pictures,
    "text": texts,
    "audio_folder": sounds,
    "csv": table,
    "npz": arrays,
    "huggingface": table,
}
NEEDS = {"audio_folder": "soundfile", "huggingface": "datasets"}


def test_every_data_set_is_in_this_test() -> None:
    assert set(registry("dataset").names()) == {*MAKE, *IN_THE_PACKAGE, *DOWNLOADED}


@pytest.mark.parametrize(("dataset", "model"), cells([*MAKE, *sorted(IN_THE_PACKAGE)], MODELS))
def test_a_run_is_the_same_in_memory_and_streamed(train: Train, tmp_path: Path, dataset: str, model: str) -> None:
    library = NEEDS.get(dataset)
    if library is not None and importlib.util.find_spec(library) is None:
        pytest.skip(f"dataset={dataset} needs {library}")
    words = [f"dataset={dataset}", f"model={model}", "epochs=2", "batch_size=8", "limit_batches=3", "logger=none"]
    if dataset in MAKE:
        words += [
            f"dataset.path={MAKE[dataset](tmp_path / 'data')}",
            "dataset.test_fraction=0.2",
            "dataset.val_fraction=0.2",
        ]
    if dataset in ("csv", "huggingface") and model == "cnn":
        words.append("model.channels=[8]")  # two columns can be halved once
    resident, streamed = (train(*words, f"dataset.in_memory={value}") for value in ("true", "false"))
    for result in (resident, streamed):
        assert result.code == 0, result.err
    weights = [
        torch.load(result.run_dir / "checkpoints" / "last.pt", weights_only=True)["model"]
        for result in (resident, streamed)
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(one, weights[1][name]) for name, one in weights[0].items())
    assert resident.points("train/loss") == streamed.points("train/loss")
