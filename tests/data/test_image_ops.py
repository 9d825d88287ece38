"""Operations on batches of pictures, against torchvision's on each."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.helpers import torchvision_functional
from trainer.data import image_ops

SIZES = [(3, 32, 30), (1, 28, 28), (3, 16, 40), (1, 8, 8), (3, 2, 9), (1, 1, 1)]
sizes = pytest.mark.parametrize(("channels", "height", "width"), SIZES)
FACTORS = [0.0, 0.01, 0.35, 1.0, 1.2, 1.99]


def make_pictures(samples: int, channels: int, height: int, width: int) -> Tensor:
    """uint8 noise of every contrast, from one level to all of them; one nearly black, one nearly white."""
    noise = torch.rand(samples, channels, height, width, generator=torch.Generator().manual_seed(0))
    spread = torch.linspace(0, 255, samples).view(-1, 1, 1, 1)
    pictures = (noise * spread + (255 - spread) / 3).round().to(torch.uint8)
    pictures[1], pictures[2] = pictures[1] // 100, 255 - pictures[2] // 100
    return pictures


def each(pictures: Tensor, change: Callable[..., Tensor], *strengths: list[float]) -> Tensor:
    """One picture at a time, as torchvision does it with bytes."""
    changed = [change(picture, *those) for picture, *those in zip(pictures, *strengths, strict=True)]
    return torch.stack(changed).float()


@sizes
@pytest.mark.parametrize("name", ["brightness", "saturation", "contrast", "sharpness"])
def test_enhancing_is_torchvisions(name: str, channels: int, height: int, width: int) -> None:
    theirs = getattr(torchvision_functional(), f"adjust_{name}")
    pictures = make_pictures(len(FACTORS), channels, height, width)
    got = getattr(image_ops, name)(pictures.float(), torch.tensor(FACTORS))
    assert float(got.min()) >= 0 and float(got.max()) <= 255
    # theirs cuts fractions off, of grey levels and smoothed pixels before the result, and these count up to 1.99 times
    torch.testing.assert_close(got, each(pictures, theirs, FACTORS), rtol=0, atol=2)
    exact = each(pictures.float() / 255, theirs, FACTORS) * 255
    # in fractions there is nothing to cut, but contrast takes its mean of whole grey levels
    torch.testing.assert_close(got, exact, rtol=0, atol=1 if name == "contrast" else 1e-3)


@sizes
def test_posterize_is_torchvisions(channels: int, height: int, width: int) -> None:
    pictures, bits = make_pictures(9, channels, height, width), list(range(9))
    got = image_ops.posterize(pictures.float(), torch.tensor(bits).float())
    assert torch.equal(got, each(pictures, torchvision_functional().posterize, bits))  # type: ignore[arg-type]


@sizes
def test_solarize_is_torchvisions(channels: int, height: int, width: int) -> None:
    pictures, thresholds = make_pictures(5, channels, height, width), [0.0, 1.0, 100.5, 200.0, 255.0]
    got = image_ops.solarize(pictures.float(), torch.tensor(thresholds))
    assert torch.equal(got, each(pictures, torchvision_functional().solarize, thresholds))


@sizes
def test_autocontrast_is_torchvisions(channels: int, height: int, width: int) -> None:
    pictures = make_pictures(8, channels, height, width)
    got = image_ops.autocontrast(pictures.float())
    torch.testing.assert_close(got, each(pictures, torchvision_functional().autocontrast), rtol=0, atol=1.001)
    exact = each(pictures.float() / 255, torchvision_functional().autocontrast) * 255
    torch.testing.assert_close(got, exact, rtol=0, atol=1e-3)


@sizes
def test_equalize_is_torchvisions(channels: int, height: int, width: int) -> None:
    pictures = make_pictures(12, channels, height, width)
    got = image_ops.equalize(pictures.float())
    assert torch.equal(got, each(pictures, torchvision_functional().equalize))
    assert torch.equal(got, pictures.float()) == (height * width < 256)  # Pillow's steps have no whole pixel there


def test_equalize_of_fractions_is_that_of_the_nearest_levels() -> None:
    pictures = make_pictures(6, 3, 32, 32)[3:].float()  # those of a single level stay as they are
    assert torch.equal(image_ops.equalize((pictures + 0.3).clamp(0, 255)), image_ops.equalize(pictures))


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 32, 30), (1, 28, 28), (3, 16, 41), (2, 9, 5)])
def test_a_look_up_is_torchvisions_affine_map(channels: int, height: int, width: int) -> None:
    functional = torchvision_functional()
    pictures = make_pictures(5, channels, height, width).float()
    for angle, right, below, zoom in ((0.0, 0, 0, 1.0), (90.0, 0, 0, 1.0), (33.0, 2, -3, 0.7), (-135.0, -4, 1, 1.6)):
        turn, where = math.radians(angle), torch.ones(5)
        cos, sin = math.cos(turn) / zoom, math.sin(turn) / zoom
        got = image_ops.look_up(
            pictures,
            (where * cos, where * sin, where * -(cos * right + sin * below)),
            (where * -sin, where * cos, where * (sin * right - cos * below)),
        )
        options = {"interpolation": functional.InterpolationMode.BILINEAR}
        wanted = functional.affine(pictures, angle, [right, below], zoom, [0.0, 0.0], **options)
        torch.testing.assert_close(got, wanted, rtol=0, atol=0.02)  # 255 levels, a place of 1e-5 pixels


def test_grey_pictures_have_no_saturation() -> None:
    pictures = make_pictures(4, 1, 6, 6).float()
    assert torch.equal(image_ops.saturation(pictures, torch.tensor([0.0, 0.5, 1.0, 2.0])), pictures)
