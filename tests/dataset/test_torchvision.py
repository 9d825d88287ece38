"""The data sets that torchvision downloads, read from files that are there."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import Train
from trainer.config import RunError
from trainer.data import Data, Normalise
from trainer.data.augment_images import OFF
from trainer.data.torchvision_import import torchvision
from trainer.dataset import DATASETS

KEYS: dict[str, Any] = {
    "val_fraction": 0.1,
    "val_seed": None,
    "sampler": "shuffle",
    "in_memory": True,
    "workers": 0,
    "augment": OFF,
}


def build(name: str, root: Path) -> Data:
    data: Data = DATASETS.build({"name": name, "root": str(root), **KEYS}, 0)
    return data


def write_idx(path: Path, array: np.ndarray[Any, Any]) -> None:
    """The IDX format: two zeros, the type (8 is uint8), the dimensions, the sizes, the bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes())


def write_grey_set(folder: Path, labels: int = 10) -> np.ndarray[Any, Any]:
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (60, 28, 28))
    for split in ("train", "t10k"):
        write_idx(folder / f"{split}-images-idx3-ubyte", images)
        write_idx(folder / f"{split}-labels-idx1-ubyte", np.arange(60) % labels)
    return images


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_grey_sets_are_read_from_their_raw_files(name: str, folder: str, tmp_path: Path) -> None:
    images = write_grey_set(tmp_path / folder / "raw")
    data = build(name, tmp_path)
    assert (data.spec.kind, data.spec.shape, len(data.spec.classes)) == ("image", (1, 28, 28), 10)
    assert {split: len(part) for split, part in data.splits().items()} == {"train": 54, "val": 6, "test": 60}
    assert torch.equal(data.test.head(60).squeeze(1), torch.from_numpy(images).to(torch.uint8))


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_colour_sets_are_read_channels_first(
    name: str, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_class = getattr(torchvision.datasets, name.upper())
    folder = tmp_path / dataset_class.base_folder
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (2 * classes, 3, 32, 32), dtype=np.uint8)
    key = "labels" if name == "cifar10" else "fine_labels"

    def write(file: str, content: object) -> list[str]:
        (folder / file).write_bytes(pickle.dumps(content))
        return [file, hashlib.md5((folder / file).read_bytes()).hexdigest()]

    batch = write("batch", {"data": images.reshape(len(images), -1), key: [n % classes for n in range(len(images))]})
    names = write("names", {"label_names": [f"class {n}" for n in range(classes)]})
    monkeypatch.setattr(dataset_class, "train_list", [batch])
    monkeypatch.setattr(dataset_class, "test_list", [batch])
    monkeypatch.setattr(dataset_class, "meta", {"filename": names[0], "key": "label_names", "md5": names[1]})
    data = DATASETS.build({"name": name, "root": str(tmp_path), **KEYS, "val_fraction": 0.5}, 0)
    assert (data.spec.shape, len(data.spec.classes), data.spec.classes[3]) == ((3, 32, 32), classes, "class 3")
    assert torch.equal(data.test.head(5), torch.from_numpy(images[:5]))


def test_a_label_outside_the_classes_is_a_failed_run(train: Train, tmp_path: Path) -> None:
    write_grey_set(tmp_path / "MNIST" / "raw", labels=12)
    result = train("dataset=mnist", f"dataset.root={tmp_path}", "model.channels=[2]")
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert "dataset=mnist: train sample 10 has label 10, outside 0 to 9 (10 of 60 labels are)" in line


@pytest.mark.parametrize(
    "damage", [b"", b"\0\0\x08\x03\0\0\0\x3c", b"\0" * 100, b"\0\0\x08\0\x05", b"\0\0\x08\x01\0\0\0\0"]
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes) -> None:
    write_grey_set(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(damage)
    with pytest.raises(RunError, match=r"dataset=mnist: cannot read the files in .*MNIST/raw: "):
        build("mnist", tmp_path)


def test_fewer_labels_than_images_are_noticed(tmp_path: Path) -> None:
    write_grey_set(tmp_path / "MNIST" / "raw")
    write_idx(tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte", np.arange(10))
    with pytest.raises(RunError, match="60 images but 10 labels"):
        build("mnist", tmp_path)


def test_mnist_itself_is_read(data_root: Path) -> None:
    data = build("mnist", data_root)
    assert {split: len(part) for split, part in data.splits().items()} == {"train": 54000, "val": 6000, "test": 10000}
    assert isinstance(data.normalise, Normalise)
    assert data.normalise.mean.item() == pytest.approx(255 * 0.1307, rel=5e-3)  # the figures everybody uses
    assert data.normalise.std.item() == pytest.approx(255 * 0.3081, rel=5e-3)
