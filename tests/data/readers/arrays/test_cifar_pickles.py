"""CIFAR's pickles, whole and in part, and pickles that would run code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import everything, load_data, refused
from trainer.config import untrusted_files
from trainer.data.readers.arrays.cifar_pickles import read_plain
from trainer.data.readers.arrays.stores import TooLargeError, WrongFormError

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 3072), dtype=np.uint8)
NAMES = ["airplane", "automobile", "bird"]


def dump(file: Path, content: Any, protocol: int = 2) -> Path:
    with file.open("wb") as opened:
        pickle.dump(content, opened, protocol=protocol)
    return file


def batch(start: int, **more: Any) -> dict[str, Any]:
    return {
        "data": PIXELS[start : start + 20],
        "labels": [at % 3 for at in range(20)],
        "filenames": ["a.png"] * 20,
        **more,
    }


def as_python_2(content: dict[str, Any]) -> bytes:
    """Return a pickle as the files of the set are: of Python 2, with texts as bytes."""

    def text(some: bytes) -> bytes:
        return b"U" + bytes([len(some)]) + some

    data: bytes = content["data"].tobytes()
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"K\x01M\x14\x00M\x00\x0c\x86" + dtype + b"\x89"
    numbers = b"T" + len(data).to_bytes(4, "little") + data
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(" + state + numbers + b"tb"
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in content["labels"]) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + labels + text(b"batch_label") + text(b"1") + b"u."


def test_batches_of_a_split_are_joined_though_others_are_missing(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(as_python_2(batch(0)))
    dump(tmp_path / "data_batch_4", batch(20))
    dump(tmp_path / "test_batch", batch(40), protocol=4 if np.lib.NumpyVersion(np.__version__) < "2.0.0" else 2)
    dump(tmp_path / "batches.meta", {"label_names": NAMES, "num_vis": 3072})
    (tmp_path / "readme.html").write_text("<html>")
    data = load_data("npz", tmp_path)
    assert (data.spec.kind, data.spec.shape, data.spec.classes) == ("image", (3, 32, 32), tuple(NAMES))
    inputs, targets = everything(data)
    order = [*range(40, 60), *range(40)]  # test comes first
    assert inputs.reshape(60, -1).tolist() == PIXELS[order].tolist()
    assert targets.tolist() == [at % 20 % 3 for at in range(60)]
    assert {name: len(split) for name, split in data.splits().items()} == {"train": 36, "val": 4, "test": 20}
    assert data.notes == ("samples x_train, targets y_train",)


def test_cifar_100_and_the_small_imagenet_have_other_names(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    for name in ("train", "test"):
        fine = batch(0, fine_labels=[at % 2 for at in range(20)], coarse_labels=[0] * 20)
        fine.pop("labels")
        dump(tmp_path / "a" / name, fine)
    dump(tmp_path / "a" / "meta", {"fine_label_names": ["apple", "fish"]})
    data = load_data("npz", tmp_path / "a")
    assert data.spec.classes == ("apple", "fish")
    assert "classes fine_labels, not coarse_labels" in data.notes
    for name in ("train_data_batch_1", "train_data_batch_2", "val_data"):
        dump(tmp_path / "b" / name, batch(0, mean=np.zeros(3072)))
    data = load_data("npz", tmp_path / "b")
    assert (data.spec.classes, len(data.val or ())) == (("0", "1", "2"), 20)


class Evil:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_never_runs_code(tmp_path: Path, protocol: int) -> None:
    made = tmp_path / "made"
    for call in (
        (os.mkdir, (str(made),)),
        (eval, (f"__import__('os').mkdir({str(made)!r})",)),
        (getattr, (dict, "get")),
    ):
        dump(tmp_path / "data_batch_1", {"data": Evil(*call), "labels": [0]}, protocol)
        line = refused(lambda path: load_data("npz", path), tmp_path)
        assert "is no pickle of CIFAR's form: calls " in line
    assert not made.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02r\xff\xff\xff\x7f.",  # stores nothing under the number 2**31
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0f.",  # bytes that the file does not have
        b"\x80\x02}(" + b"K\x00\x85" + b"2\x86" * 60 + b"K\x01u.",  # a key of tuples whose hash takes 2**60 steps
        b"\x80\x02" + b"(" * 50_000,
        b"\x80\x02" + b"](" * 50_000 + b"e" * 50_000 + b".",
        b"\x80\x02cnumpy\nndarray\n(N}U\x01aK\x01stb.",  # sets an attribute of a class
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(N}U\x01aK\x01stb.",
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02}",
        b"\x80",
    ],
    ids=range(10),
)
def test_a_pickle_that_was_made_to_harm_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(content)
    with pytest.raises(WrongFormError, match="is no pickle of CIFAR's form"):
        read_plain(tmp_path / "data_batch_1")


def test_a_pickle_beyond_the_free_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump(tmp_path / "data_batch_1", batch(0))
    monkeypatch.setattr(untrusted_files, "UNCHECKED", 1000)
    monkeypatch.setattr(untrusted_files, "free_memory", lambda: 2000)
    with pytest.raises(TooLargeError, match="data_batch_1 needs about 463 kB of memory, 2 kB are free"):
        read_plain(tmp_path / "data_batch_1")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": PIXELS[:20, :3000]}, "its pictures have 3000 numbers, and are not square"),
        ({"data": [1, 2]}, "holds no pictures"),
        ({"labels": "abc"}, "holds no classes"),
        ({"data": PIXELS[:19]}, "has 20 samples, but"),
        ({"data": PIXELS[:20].astype(float)}, "cannot be read"),
    ],
)
def test_what_does_not_fit_is_one_line(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    dump(tmp_path / "data_batch_1", {**batch(0), **change})
    assert reason in refused(lambda path: load_data("npz", path), tmp_path)
