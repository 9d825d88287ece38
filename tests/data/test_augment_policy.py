"""Policies: which operations with which strengths, against torchvision's operations on each sample."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers import torchvision_functional
from trainer.data.augment_policy import OPERATIONS, POLICIES

LEVEL = {"trivial": None, "rand": 9}
MOST: dict[str, dict[str, float]] = {  # the tables of the papers, as torchvision has them
    "trivial": {"shear": 0.99, "rotate": 135.0, "enhance": 0.99, "bits": 6},
    "rand": {"shear": 0.3, "rotate": 30.0, "enhance": 0.9, "bits": 4},
}


def make_pictures(samples: int, channels: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (samples, channels, height, width), dtype=torch.uint8, generator=generator)


def draws_of(operation: str, samples: int, turn: int = 0, rounds: int = 1) -> Tensor:
    """Every sample draws ``operation`` in that round, and nothing in the others; levels and signs of every kind."""
    draws = torch.zeros(samples, rounds, 3)
    draws[:, turn, 0] = (OPERATIONS.index(operation) + 0.5) / len(OPERATIONS)
    draws[:, turn, 1] = torch.linspace(0, 0.9999, samples)
    draws[:, turn, 2] = torch.arange(samples) % 2 * 0.5
    return draws


def by_torchvision(policy: str, operation: str, picture: Tensor, draw: list[float]) -> Tensor:
    """One operation on one uint8 picture, with the magnitudes of torchvision's TrivialAugmentWide and RandAugment."""
    functional, most = torchvision_functional(), MOST[policy]
    bilinear = {"interpolation": functional.InterpolationMode.BILINEAR}
    _, height, width = picture.shape
    number = 9 if policy == "rand" else math.floor(draw[1] * 31)
    level, sign = number / 30, -1 if draw[2] < 0.5 else 1

    def move(right: float = 0, below: float = 0, shear: tuple[float, float] = (0, 0), **keys: Any) -> Tensor:
        degrees = [math.degrees(math.atan(sign * level * each)) for each in shear]
        moved = functional.affine(picture.float(), 0.0, [int(right), int(below)], 1.0, degrees, **bilinear, **keys)
        assert isinstance(moved, Tensor)
        return moved

    def shift(size: int) -> float:
        return sign * (9 / 30 * 150 / 331 * size if policy == "rand" else number / 30 * min(32, size))

    factor = 1 + sign * level * most["enhance"]
    known: dict[str, Callable[[], Tensor]] = {
        "nothing": lambda: picture,
        "shear_x": lambda: move(shear=(most["shear"], 0), center=[0, 0]),
        "shear_y": lambda: move(shear=(0, most["shear"]), center=[0, 0]),
        "shift_x": lambda: move(right=shift(width)),
        "shift_y": lambda: move(below=shift(height)),
        "rotate": lambda: functional.rotate(picture.float(), sign * level * most["rotate"], **bilinear),
        "brightness": lambda: functional.adjust_brightness(picture, factor),
        "saturation": lambda: functional.adjust_saturation(picture, factor),
        "contrast": lambda: functional.adjust_contrast(picture, factor),
        "sharpness": lambda: functional.adjust_sharpness(picture, factor),
        "posterize": lambda: functional.posterize(picture, 8 - round(number / (30 / most["bits"]))),
        "solarize": lambda: functional.solarize(picture, 255 * (1 - level)),
        "autocontrast": lambda: functional.autocontrast(picture),
        "equalize": lambda: functional.equalize(picture),
    }
    return known[operation]().float()


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 32, 32), (1, 28, 28), (3, 20, 50), (1, 8, 8)])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", POLICIES)
def test_every_operation_is_torchvisions(name: str, operation: str, channels: int, height: int, width: int) -> None:
    policy = POLICIES[name]
    pictures = make_pictures(31, channels, height, width)
    for turn in range(policy.rounds):
        draws = draws_of(operation, 31, turn, policy.rounds)
        got = policy(pictures.float(), draws)
        pairs = zip(pictures, draws[:, turn].tolist(), strict=True)
        wanted = torch.stack([by_torchvision(name, operation, picture, draw) for picture, draw in pairs])
        cut = operation in ("brightness", "saturation", "contrast", "sharpness", "autocontrast")
        # what enhances is cut to whole numbers there, up to twice; 0.05 is a place that is off by 1e-4 pixels
        torch.testing.assert_close(got, wanted, rtol=0, atol=2 if cut else 0.05)
        assert float((got - wanted).abs().mean()) < 1


@pytest.mark.parametrize("name", POLICIES)
def test_in_a_mixed_batch_every_sample_gets_its_own(name: str) -> None:
    policy, pictures = POLICIES[name], make_pictures(200, 3, 16, 16).float()
    draws = torch.rand(200, policy.rounds, 3, generator=torch.Generator().manual_seed(1))
    together = policy(pictures, draws)
    chosen = Counter((draws[:, :, 0] * len(OPERATIONS)).long().flatten().tolist())
    assert len(chosen) == len(OPERATIONS)
    for number in range(200):
        alone = pictures[number : number + 1]
        for turn in range(policy.rounds):
            only = torch.zeros(1, policy.rounds, 3)  # nothing in the other rounds
            only[:, turn] = draws[number, turn]
            alone = policy(alone, only)
        assert torch.equal(alone[0], together[number])


def test_of_trivial_augment_every_level_and_way_is_as_likely() -> None:
    policy, samples = POLICIES["trivial"], 31 * 200
    draws = torch.rand(samples, 1, 3, generator=torch.Generator().manual_seed(2))
    draws[:, :, 0] = (OPERATIONS.index("brightness") + 0.5) / len(OPERATIONS)
    bright = policy(torch.full((samples, 1, 1, 1), 100.0), draws).flatten()
    steps = ((bright / 100 - 1) / 0.99 * 30).round()
    assert steps.unique().tolist() == list(range(-30, 31))
    counts = steps.abs().long().bincount()
    assert float((counts - 200).abs().max()) < 5 * 14  # a standard deviation of 13.9
    assert abs(float(steps.sign().sum())) < 5 * 79


def test_a_batch_without_samples_of_an_operation_is_fine() -> None:
    for policy in POLICIES.values():
        for operation in OPERATIONS:
            draws = draws_of(operation, 1, 0, policy.rounds)
            assert policy(torch.zeros(1, 1, 3, 3), draws).shape == (1, 1, 3, 3)
