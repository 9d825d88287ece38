from __future__ import annotations

import functools
import pickle
import shlex
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from tests.conftest import Train
from tests.helpers import assert_same_batches, defaults, load_data, refused
from trainer.config import RunError
from trainer.data import Normalise
from trainer.data.readers import pictures

build = functools.partial(load_data, "image_folder")
refusal = functools.partial(refused, build)


def write(root: Path, classes: dict[str, int], size: tuple[int, int] = (6, 8), mode: str = "L") -> np.ndarray[Any, Any]:
    """So many random pictures of each class, in the order in which they are found; returns their pixels."""
    random, made = np.random.default_rng(0), []
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (*size, *([3] if mode == "RGB" else [])), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
            made.append(pixels)
    return np.stack(made)


def read(root: Path, image: Image.Image, form: str = "png", **options: Any) -> dict[str, Any]:
    """The pixels of a picture in grey and in color, (height, width) and (height, width, 3)."""
    save_all: dict[str, Any] = (
        {"save_all": True, "append_images": [Image.new(image.mode, image.size)]} if form == "gif" else {}
    )
    for name in ("a", "b"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(2):
            image.save(root / name / f"{number}.{form}", **save_all, **options)
    grey, color = (build(root, mode=mode, test_fraction=0.5, val_fraction=0.0) for mode in ("grey", "color"))
    return {
        "grey": grey.train.head(1)[0, 0].tolist(),
        "color": color.train.head(1)[0].permute(1, 2, 0).tolist(),
        "auto": build(root, test_fraction=0.5, val_fraction=0.0).spec.shape[0],
    }


def test_class_folders_become_samples_with_the_folders_as_classes(tmp_path: Path) -> None:
    pixels = write(tmp_path, {"cat": 10, "dog": 10, "ant10": 10, "ant9": 10})
    data = build(tmp_path, val_fraction=0.25, test_fraction=0.2)
    assert data.spec.classes == ("ant9", "ant10", "cat", "dog")
    assert (data.spec.kind, data.spec.shape, data.spec.counts) == ("image", (1, 6, 8), (6, 6, 6, 6))
    assert {name: len(part) for name, part in data.splits().items()} == {"train": 24, "val": 8, "test": 8}
    everything = data.train.source.fetch(torch.arange(40))[0].squeeze(1)
    assert torch.equal(everything[20:30], torch.from_numpy(pixels[:10]))  # the cats, third in order
    assert data.train.source.targets[20:30].tolist() == [2] * 10
    assert data.places is not None
    assert data.places[20] == str(tmp_path / "cat" / "0.png")
    assert data.places[20:22] == [str(tmp_path / "cat" / f"{number}.png") for number in range(2)]


def test_test_is_the_same_for_every_seed_and_val_is_not(tmp_path: Path) -> None:
    write(tmp_path, {"a": 20, "b": 20})
    one, two = build(tmp_path, seed=0), build(tmp_path, seed=1)
    assert torch.equal(one.test.positions, two.test.positions)
    assert one.val is not None
    assert two.val is not None
    assert not torch.equal(one.val.positions, two.val.positions)
    assert not torch.equal(one.test.positions, build(tmp_path, test_seed=1).test.positions)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("training", "valid", "testing")])
def test_folders_of_splits_are_taken_as_they_are(tmp_path: Path, names: tuple[str, str, str]) -> None:
    for split, count in zip(names, (5, 3, 2), strict=True):
        write(tmp_path / split, {"a": count, "b": count})
    data = build(tmp_path)
    assert {name: len(part) for name, part in data.splits().items()} == {"train": 10, "val": 6, "test": 4}
    given = build({"train": tmp_path / names[0], "test": tmp_path / names[2]}, val_fraction=0.2)
    assert {name: len(part) for name, part in given.splits().items()} == {"train": 8, "val": 2, "test": 4}


RED = Image.new("RGB", (2, 1), (255, 0, 0))
HALF = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
HALF.putpixel((1, 0), (0, 0, 0, 0))  # black that nobody sees
CLEAR = Image.new("LA", (2, 1), (100, 255))
CLEAR.putpixel((1, 0), (100, 0))
STRIPES = Image.new("1", (2, 1))
STRIPES.putpixel((1, 0), 1)
SIXTEEN = Image.fromarray(np.array([[0x1234, 0xFFFF]], dtype=np.uint16))
PALETTE = Image.new("P", (2, 1))
PALETTE.putpalette([0, 0, 255, 0, 255, 0])
PALETTE.putpixel((1, 0), 1)
GREY_PALETTE = Image.new("P", (2, 1), 1)
GREY_PALETTE.putpalette([7, 7, 7, 9, 9, 9])


@pytest.mark.parametrize(
    ("image", "form", "grey", "color", "channels"),
    [
        (STRIPES, "png", [[0, 255]], [[[0, 0, 0], [255, 255, 255]]], 1),
        (Image.new("L", (2, 1), 100), "png", [[100, 100]], [[[100] * 3] * 2], 1),
        (CLEAR, "png", [[100, 255]], [[[100] * 3, [255] * 3]], 1),
        (SIXTEEN, "png", [[0x12, 0xFF]], [[[0x12] * 3, [0xFF] * 3]], 1),
        (SIXTEEN, "tiff", [[0x12, 0xFF]], [[[0x12] * 3, [0xFF] * 3]], 1),
        (SIXTEEN, "pgm", [[0x12, 0xFF]], [[[0x12] * 3, [0xFF] * 3]], 1),
        (RED, "bmp", [[76, 76]], [[[255, 0, 0]] * 2], 3),  # 0.299 red + 0.587 green + 0.114 blue
        (RED, "webp", [[76, 76]], [[[255, 0, 0]] * 2], 3),
        (HALF, "png", [[0, 255]], [[[0] * 3, [255] * 3]], 3),
        (PALETTE, "png", [[29, 150]], [[[0, 0, 255], [0, 255, 0]]], 3),
        (PALETTE, "gif", [[29, 150]], [[[0, 0, 255], [0, 255, 0]]], 3),  # the first of two pictures
        (GREY_PALETTE, "png", [[9, 9]], [[[9] * 3] * 2], 1),
        (Image.new("CMYK", (2, 1), (0, 255, 255, 0)), "tiff", [[76, 76]], [[[255, 0, 0]] * 2], 3),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else value if isinstance(value, str) else "",
)
def test_pictures_of_any_mode_are_read(
    tmp_path: Path, image: Image.Image, form: str, grey: list[Any], color: list[Any], channels: int
) -> None:
    options = {"lossless": True} if form == "webp" else {}
    assert read(tmp_path, image, form, **options) == {"grey": grey, "color": color, "auto": channels}


def test_a_photo_that_lies_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    lying = Image.new("L", (16, 8), 0)
    lying.paste(255, (0, 0, 16, 4))  # bright at the top; a quarter turn clockwise brings that to the right
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.array(read(tmp_path, lying, "jpg", exif=exif, quality=100)["grey"])
    assert upright.shape == (16, 8)
    assert upright[:, :4].max() < 20
    assert upright[:, 4:].min() > 235


def test_a_picture_is_resized_to_cover_and_its_middle_is_kept(tmp_path: Path) -> None:
    pixels = write(tmp_path, {"a": 2, "b": 2}, size=(40, 90), mode="RGB")
    data = build(tmp_path, size=[10, 20], test_fraction=0.5, val_fraction=0.0)
    found = data.train.source.fetch(torch.arange(4))[0].float()
    middle = torch.from_numpy(pixels).permute(0, 3, 1, 2)[:, :, :, 5:85].float()  # 40 × 80 has the shape of 10 × 20
    wanted = F.interpolate(middle, (10, 20), mode="bilinear", antialias=True)
    inner = (found - wanted)[..., 1:-1]  # at the cut Pillow looks at what lies beyond it, and torch cannot
    assert inner.abs().max() <= 1
    assert data.warnings == ()


def test_a_large_photo_is_read_smaller_and_looks_the_same(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 800, dtype=np.uint8)[None].repeat(800, 0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.fromarray(ramp).save(tmp_path / name / f"{number}.jpg", quality=95)
    found = build(tmp_path, size=20, test_fraction=0.5, val_fraction=0.0).train.head(1)[0, 0, 10].float()
    wanted = torch.from_numpy(ramp[0].reshape(20, 40).astype(np.float32)).mean(1)
    assert (found - wanted).abs().max() < 4


@pytest.mark.parametrize(
    ("sizes", "shape", "line"),
    [
        ([(6, 8)], (6, 8), None),
        (
            [(6, 8), (10, 9), (30, 12)],
            (9, 9),
            "pictures of 6×8 to 30×12 pixels are made 9×9; dataset.size=[height,width]",
        ),
        ([(448, 896)], (224, 448), "pictures of 448×896 pixels are made 224×448; dataset.size="),
        ([(500, 400), (300, 600), (400, 800)], (224, 224), "pictures of 300×600 to 400×800 pixels are made 224×224; "),
    ],
)
def test_without_a_size_pictures_keep_theirs_or_become_squares_and_the_user_hears(
    tmp_path: Path, sizes: list[tuple[int, int]], shape: tuple[int, int], line: str | None
) -> None:
    for folder in (tmp_path / split / name for split in ("train", "test") for name in ("a", "b")):
        folder.mkdir(parents=True)
        for number, (height, width) in enumerate(sizes):
            Image.new("L", (width, height)).save(folder / f"{number}.png")
    data = build(tmp_path, val_fraction=0.0)
    assert data.spec.shape == (1, *shape)
    assert data.train.head(2).shape == (2, 1, *shape)
    assert len(data.warnings) == (line is not None)
    assert all(each.startswith(str(line)) for each in data.warnings)


def test_pictures_are_grey_only_where_all_are(tmp_path: Path) -> None:
    write(tmp_path, {"a": 5, "b": 5})
    assert build(tmp_path).spec.shape == (1, 6, 8)
    write(tmp_path, {"c": 5}, mode="RGB")
    assert build(tmp_path).spec.shape == (3, 6, 8)
    assert build(tmp_path, mode="grey").spec.shape == (1, 6, 8)


@pytest.mark.parametrize("workers", [0, 2])
def test_in_memory_and_streamed_give_the_same_batches_bit_for_bit(tmp_path: Path, workers: int) -> None:
    for name, size in {"a": (20, 30), "b": (30, 20), "c": (24, 24)}.items():
        write(tmp_path / "train", {name: 8}, size=size, mode="RGB")
        write(tmp_path / "test", {name: 3}, size=size, mode="L")
    (tmp_path / "train" / "a" / "3.png").write_bytes(b"nothing")
    augment = {**defaults("dataset", "image_folder")["augment"], "crop": 2, "flip": True, "rotate": 5.0}
    keys: dict[str, Any] = {"size": 16, "on_error": "skip", "augment": augment, "val_fraction": 0.2}
    resident, streamed = (
        build(tmp_path, in_memory=True, **keys),
        build(tmp_path, in_memory=False, workers=workers, **keys),
    )
    assert (resident.in_memory, streamed.in_memory) == (True, False)
    assert resident.fingerprint() == streamed.fingerprint()
    assert resident.spec == streamed.spec
    assert resident.warnings == streamed.warnings
    assert [len(split) for split in resident.splits().values()] == [18, 5, 9]
    assert_same_batches(resident, streamed)


def test_what_fits_is_in_memory_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a": 5, "b": 5})
    assert build(tmp_path).in_memory
    monkeypatch.setattr("trainer.data.readers.files.MEMORY_SHARE", 1e-12)
    assert not build(tmp_path).in_memory


def test_the_normalisation_is_that_of_training_pictures_evenly_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = write(tmp_path / "train", {"a": 10, "b": 10}, mode="RGB")
    write(tmp_path / "test", {"a": 1, "b": 1}, mode="RGB")
    monkeypatch.setattr(pictures, "MAX_MEASURED", 7)
    for in_memory in (True, False):
        normalise = build(tmp_path, val_fraction=0.0, in_memory=in_memory).normalise
        assert isinstance(normalise, Normalise)
        few = pixels[::3]  # 20 / 7 rounded up
        np.testing.assert_allclose(normalise.mean.numpy(), few.mean((0, 1, 2)), rtol=1e-5)
        np.testing.assert_allclose(normalise.std.numpy(), few.std((0, 1, 2)), rtol=1e-5)


def test_the_fingerprint_is_of_names_sizes_and_keys_and_not_of_the_place(tmp_path: Path) -> None:
    write(tmp_path / "one", {"a": 5, "b": 5})
    write(tmp_path / "two", {"a": 5, "b": 5})
    first = build(tmp_path / "one").fingerprint()
    assert first == build(tmp_path / "two").fingerprint()
    assert first != build(tmp_path / "one", size=4).fingerprint()
    assert first != build(tmp_path / "one", mode="color").fingerprint()
    file = tmp_path / "two" / "a" / "0.png"
    file.write_bytes(file.read_bytes() + b"\0")
    assert first != build(tmp_path / "two").fingerprint()
    file.rename(file.with_name("00.png"))
    write(tmp_path / "three", {"a": 5, "b": 5})
    assert build(tmp_path / "two").fingerprint() != build(tmp_path / "three").fingerprint() == first


def png(width: int, height: int) -> bytes:
    """A black 1-bit PNG of any size, in a few bytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = zlib.compress(bytes(height * (1 + -(-width // 8))))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def fractions(path: Path) -> bytes:
    Image.fromarray(np.ones((6, 8), dtype=np.float32)).save(path, "tiff")
    return path.read_bytes()


def spoil(root: Path, how: str) -> str:
    """Make the picture a/1.png bad; returns what the message has to say of it."""
    file = root / "a" / "1.png"
    content = file.read_bytes()
    contents = {
        "empty": (b"", "is empty"),
        "text": (b"this is no picture\n", "cannot be read: no picture of a known form"),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "cannot be read: no picture of a known form"),
        "truncated": (content[: len(content) * 2 // 3], "cannot be read: "),
        "flipped": (content[:45] + bytes([content[45] ^ 255]) + content[46:], "cannot be read: "),
        "huge": (
            png(20_000, 20_000),
            "cannot be read: has more than 178,956,970 pixels; save it smaller",
        ),
        "fractions": (fractions(root.parent / "f.tiff"), "cannot be read: its pixels are fractions of no known range"),
    }
    new, reason = contents[how]
    file.write_bytes(new)
    return f"{file}: {reason}"


BAD = ["empty", "text", "postscript", "truncated", "flipped", "huge", "fractions"]


@pytest.mark.parametrize("how", BAD)
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_bad_picture_is_left_out_and_named(tmp_path: Path, how: str, in_memory: bool) -> None:
    write(tmp_path / "data", {"a": 5, "b": 5})
    reason = spoil(tmp_path / "data", how)
    data = build(tmp_path / "data", on_error="skip", in_memory=in_memory, val_fraction=0.0, test_fraction=0.2)
    (line,) = data.warnings
    assert line.startswith(f"1 bad sample left out: {reason}")
    assert "\n" not in line
    assert len(data.train) + len(data.test) == 9
    assert data.train.source.fetch(data.train.positions)[0].shape == (7, 1, 6, 8)
    assert data.spec.counts == (3, 4)


@pytest.mark.parametrize("how", BAD)
def test_a_bad_picture_is_refused_before_training(tmp_path: Path, how: str) -> None:
    write(tmp_path / "data", {"a": 5, "b": 5})
    reason = spoil(tmp_path / "data", how)
    line = refusal(tmp_path / "data")
    assert line.startswith(f"dataset=image_folder: 1 bad sample: {reason}")
    assert line.endswith("(dataset.on_error=skip leaves it out)")


def test_a_bad_picture_that_normalisation_meets_is_refused_before_training(tmp_path: Path) -> None:
    write(tmp_path / "train", {"a": 5, "b": 5})
    write(tmp_path / "test", {"a": 5, "b": 5})
    reason = spoil(tmp_path / "train", "text")
    assert refusal(tmp_path, in_memory=False).startswith(f"dataset=image_folder: 1 bad sample: {reason}")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_picture_that_is_streamed_ends_the_run_with_its_name(tmp_path: Path, train: Train, workers: int) -> None:
    write(tmp_path / "data" / "train", {"a": 20, "b": 20})
    write(tmp_path / "data" / "test", {"a": 5, "b": 5})
    reason = spoil(tmp_path / "data" / "test", "text")
    stream = ("dataset.in_memory=false", f"dataset.workers={workers}")
    result = train(
        *("dataset=image_folder", f"dataset.path={tmp_path / 'data'}", *stream, "model.channels=[2]", "epochs=1")
    )
    assert result.code == 1
    assert "epoch 1/1" in result.err + result.out
    lines = [line for line in result.err.splitlines() if line.startswith("train: error: ")]
    assert lines == [f"train: error: {reason} (the log: {result.run_dir.relative_to(result.folder) / 'train.log'})"]


def test_what_is_no_picture_by_name_is_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "a" / ".hidden.png").write_text("x")
    data = build(tmp_path)
    assert len(data.train.source.targets) == 10
    assert data.warnings == (f"1 file is no picture by name and left out, such as {tmp_path / 'a' / 'notes.txt'}",)


@pytest.mark.parametrize("file", [None, "notes.txt"])
def test_a_class_without_a_picture_is_named(tmp_path: Path, file: str | None) -> None:
    write(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "none").mkdir()
    if file is not None:
        (tmp_path / "none" / file).write_text("x")
    assert f"1 bad sample: {tmp_path / 'none'}: a class without a " in refusal(tmp_path)
    assert build(tmp_path, on_error="skip").spec.classes == ("a", "b")


def test_a_class_whose_pictures_are_all_bad_is_no_class(tmp_path: Path) -> None:
    write(tmp_path, {"a": 5, "b": 5, "c": 2})
    for number in range(2):
        (tmp_path / "c" / f"{number}.png").write_bytes(b"x")
    for in_memory in (True, False):
        data = build(tmp_path, on_error="skip", in_memory=in_memory)
        assert data.spec.classes == ("a", "b")
        assert data.warnings[0].startswith("2 bad samples left out: ")


def test_a_class_that_only_test_has_is_named(tmp_path: Path) -> None:
    write(tmp_path / "train", {"a": 5, "b": 5})
    write(tmp_path / "test", {"a": 2, "bird": 3})
    assert "class bird is in test (3 samples) but not in train" in refusal(tmp_path)
    data = build(tmp_path, on_error="skip")
    assert (data.spec.classes, len(data.test)) == (("a", "b"), 2)


def test_nothing_to_learn_from_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(b"")
    empty = f"{tmp_path}/a/0.png: is empty"
    assert f"1 bad sample: {empty}" in refusal(tmp_path)
    assert f"no samples in dataset.path; 1 bad sample left out: {empty}" in refusal(tmp_path, on_error="skip")
    write(tmp_path / "one", {"a": 5})
    assert "only 1 class, a; there must be at least 2" in refusal(tmp_path / "one")


def test_names_that_are_no_utf_8_are_read_too(tmp_path: Path) -> None:
    write(tmp_path, {"a": 5, "b": 5})
    odd = bytes(tmp_path / "a") + b"/caf\xe9.png"
    (tmp_path / "a" / "0.png").rename(Path(odd.decode("utf-8", "surrogateescape")))
    names = pictures.Names([str(path) for path in (tmp_path / "a").iterdir()])
    assert sorted(pickle.loads(pickle.dumps(names))) == sorted(map(str, (tmp_path / "a").iterdir()))
    data = build(tmp_path, in_memory=False)
    assert data.train.source.fetch(torch.arange(10))[0].shape == (10, 1, 6, 8)
    assert len(data.fingerprint()["sha256"]) == 64


def test_a_picture_that_is_gone_is_named_when_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, {"a": 5, "b": 5})
    data = build(tmp_path, in_memory=False)
    (tmp_path / "b" / "4.png").unlink()
    with pytest.raises(RunError, match=r"b/4.png: cannot be read: No such file or directory$"):
        data.train.source.fetch(torch.arange(10))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("cnn", (3, 12, 16)),
        ("gru", (3, 12, 16)),
        ("lstm", (1, 12, 16)),
        ("torchvision model.arch=squeezenet1_1 model.size=32", (1, 12, 16)),
    ],
)
def test_models_train_on_pictures(tmp_path: Path, train: Train, model: str, shape: tuple[int, int, int]) -> None:
    write(tmp_path / "data", {"a": 16, "b": 16}, size=shape[1:], mode="RGB" if shape[0] == 3 else "L")
    augment = ("dataset.augment.flip=true", "dataset.augment.crop=1")
    words = (*f"model={model}".split(), "dataset=image_folder", f"dataset.path={tmp_path / 'data'}", *augment)
    result = train(*words, "epochs=1", "batch_size=8", "dataset.test_fraction=0.2")
    assert result.code == 0, result.err
    assert f"image {'×'.join(map(str, shape))}, 2 classes; train 23, val 3, test 6" in result.err + result.out
    assert result.summary["state"] == "finished"


def test_pictures_stay_beside_their_classes_where_a_class_is_lost(tmp_path: Path) -> None:
    for split, names in (("train", "abc"), ("test", "abc")):
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(2):
                pixels = np.full((4, 4), 10 * "abc".index(name) + number, np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    for number in range(2):  # the pictures of a class in train turn out bad only when they are read
        whole = (tmp_path / "train" / "b" / f"{number}.png").read_bytes()
        (tmp_path / "train" / "b" / f"{number}.png").write_bytes(whole[:50])
    data = build(tmp_path, on_error="skip", in_memory=True, val_fraction=0.0)
    assert data.spec.classes == ("a", "c")
    assert data.test.head(4)[:, 0, 0, 0].tolist() == [0, 1, 20, 21]
    assert data.test.targets.tolist() == [0, 0, 1, 1]


def test_train_among_other_classes_is_a_vehicle_and_alone_a_folder_without_labels(tmp_path: Path) -> None:
    write(tmp_path, {"bus": 5, "car": 5, "train": 5})
    data = build(tmp_path)
    assert data.spec.classes == ("bus", "car", "train")
    assert "train is taken for a class" in data.warnings[0]
    write(tmp_path / "flat", {"train": 2, "test": 2})
    assert f"{tmp_path}/flat/train: has pictures but no class folders" in refusal(tmp_path / "flat")


def test_the_answer_to_a_question_trains_as_it_is_typed(tmp_path: Path, train: Train) -> None:
    for name, count in (("group one", 9), ("group two", 6)):
        write(tmp_path / "photos (1)" / name, {"a": count, "b": count})
    answer = refusal(tmp_path / "photos (1)").partition("for splits type ")[2].partition(", or name other")[0]
    result = train("dataset=image_folder", "model.channels=[2]", "epochs=1", "logger=none", *shlex.split(answer))
    assert result.code == 0, result.err
    assert "2 classes; train 16, val 2, test 12" in result.err + result.out
