"""Pictures that show the same with other bytes: which copies are found, and which pictures are taken for none."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from tests.data.test_checks import data_of, settings, texts
from tests.helpers import defaults
from trainer.data import TensorSource, checks, near_duplicates
from trainer.data.checks import survey
from trainer.data.near_duplicates import Thumbnails, find_pairs
from trainer.dataset import DATASETS

SCENES, SIZE = 120, 64


def scenes() -> Tensor:
    """Smooth random pictures, (SCENES, 3, SIZE, SIZE) uint8."""
    draws = torch.Generator().manual_seed(0)
    layers = [torch.rand(SCENES, 3, side, side, generator=draws) / side**0.5 for side in (3, 7, 16)]
    sum_ = sum(torch.nn.functional.interpolate(layer, size=SIZE, mode="bicubic") for layer in layers)
    assert isinstance(sum_, Tensor)
    least, most = sum_.amin((1, 2, 3), keepdim=True), sum_.amax((1, 2, 3), keepdim=True)
    return (255 * (sum_ - least) / (most - least)).to(torch.uint8)


def changed(picture: Tensor, how: str) -> Tensor:
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    if how == "half the size":
        image = image.resize((SIZE // 2, SIZE // 2)).resize((SIZE, SIZE))
    elif how == "brighter":
        image = ImageEnhance.Brightness(image).enhance(1.1)
    else:
        packed = io.BytesIO()
        image.save(packed, "JPEG", quality=int(how.removeprefix("JPEG ")))
        image = Image.open(packed)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def pairs_of(*pictures: Tensor) -> list[list[int]]:
    found: list[list[int]] = find_pairs(Thumbnails.join([Thumbnails.of((each,)) for each in pictures])).tolist()
    return found


@pytest.mark.parametrize("how", ["JPEG 75", "JPEG 40", "half the size", "brighter"])
def test_a_copy_that_was_saved_again_is_found_and_nothing_else(how: str) -> None:
    pictures = scenes()
    copies = torch.stack([changed(picture, how) for picture in pictures[:40]])
    assert pairs_of(pictures, copies) == [[number, SCENES + number] for number in range(40)]


def test_a_thumbnail_holds_the_means_of_the_parts_of_a_picture_of_any_size() -> None:
    picture = torch.rand(1, 1, 48, 40, generator=torch.Generator().manual_seed(0))
    grey = Thumbnails.of((picture,)).grey.view(16, 16).T
    corner = picture[0, 0, :3, :2].sum() + picture[0, 0, :3, 2].sum() / 2  # 3 rows and 2.5 columns
    assert grey[0, 0].item() == pytest.approx(float(corner) / 7.5)
    assert grey.mean().item() == pytest.approx(float(picture.mean()))
    assert Thumbnails.of((torch.full((1, 1, 8, 8), 7.0),)).grey.unique().tolist() == [7]


def test_pictures_that_differ_in_their_colours_or_show_nothing_are_no_copies() -> None:
    squares = torch.zeros(30, 3, 32, 32, dtype=torch.uint8)
    for number in range(30):
        squares[number, number % 3, 8:24, 8:24] = 200
    one_of_each = squares[:3]
    assert pairs_of(one_of_each) == []
    assert pairs_of(torch.full((40, 1, 32, 32), 7, dtype=torch.uint8)) == []
    noise = torch.randint(0, 256, (200, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert pairs_of(noise) == []


def test_digits_of_one_class_are_alike_but_no_copies() -> None:
    data = DATASETS.build(defaults("dataset", "digits"), 0)
    assert pairs_of(*(split.head(len(split)) for split in data.splits().values())) == []


@pytest.mark.slow
def test_no_two_digits_of_mnist_are_copies(data_root: Path) -> None:
    data = DATASETS.build(defaults("dataset", "mnist", root=str(data_root)), 0)
    assert pairs_of(*(split.head(len(split)) for split in data.splits().values())) == []


def test_too_many_pictures_are_not_compared_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (checks, near_duplicates):
        monkeypatch.setattr(module, "MAX_PICTURES", 3)
    source = TensorSource(
        (scenes()[:1].repeat(4, 1, 1, 1) + torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1),), torch.arange(4) % 2
    )
    found = survey(data_of(source, kind="image", train=[0, 1], test=[2, 3]), settings())
    assert texts(found, "near_leak") == []
    assert texts(found, "near_skipped") == [
        "more than 3 pictures, so those that show nearly the same were not looked for"
    ]


def test_copies_in_different_splits_are_a_warning_and_those_in_one_a_note() -> None:
    pictures = scenes()
    near = torch.stack([changed(picture, "JPEG 75") for picture in pictures[:4]])
    targets = torch.arange(SCENES + 5) % 2
    targets[SCENES] += 1
    source = TensorSource((torch.cat([pictures, near, pictures[:1]]),), targets)
    train, test = [*range(100), SCENES + 3], [*range(100, SCENES), SCENES, SCENES + 1, SCENES + 2, SCENES + 4]
    found = survey(data_of(source, kind="image", train=train, test=test), settings())
    assert texts(found, "near_leak") == [
        "3 test samples show nearly the same picture as one of train (12.5 %), so the test metrics are too good; "
        "remove them from train: test 20 ≈ train 0, test 21 ≈ train 1, test 22 ≈ train 2; 1 of them with another class"
    ]
    assert texts(found, "near_repeated") == [
        "1 train sample shows nearly the same picture as an earlier one (1.0 %): train 100 ≈ train 3",
        "1 test sample shows nearly the same picture as an earlier one (4.2 %): test 23 ≈ test 20; 1 of them "
        "with another class",
    ]
    assert texts(found, "leak")[0].endswith("test 23 = train 0")
