"""Mixing, against every sample mixed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainer.data.augment_images import OFF
from trainer.data.mixup import MixImages, beta_quantiles
from trainer.data.random_numbers import SampleRandom

MIDDLES = (torch.arange(4096).double() + 0.5) / 4096
SIZES = [(6, 6), (5, 8), (32, 32), (1, 7), (1, 1)]
sizes = pytest.mark.parametrize(("height", "width"), SIZES)


def make_images(samples: int, height: int, width: int, seed: int) -> Tensor:
    return torch.randn(samples, 3, height, width, generator=torch.Generator().manual_seed(seed))


def mixed(images: Tensor, others: Tensor, draws: SampleRandom, *, mixup: float, cutmix: float) -> tuple[Tensor, Tensor]:
    """The images, and the shares that stay."""
    mix = MixImages(mixup=mixup, cutmix=cutmix, height=images.shape[2], width=images.shape[3])
    result, *rest = mix((images,), (others,), draws)
    assert not rest
    return result, mix.shares(draws)


def test_the_quantiles_are_those_of_the_distributions_with_a_formula() -> None:
    uniform, arcsine, two = (beta_quantiles(alpha).double() for alpha in (1.0, 0.5, 2.0))
    torch.testing.assert_close(uniform, MIDDLES, rtol=0, atol=1e-6)
    torch.testing.assert_close(arcsine, torch.sin(math.pi / 2 * MIDDLES) ** 2, rtol=0, atol=1e-6)
    torch.testing.assert_close(3 * two**2 - 2 * two**3, MIDDLES, rtol=0, atol=1e-6)  # the distribution function


@pytest.mark.parametrize("alpha", [1e-300, 1e-3, 0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 1e3, 1e300])
def test_the_quantiles_have_mean_and_variance_of_the_distribution(alpha: float) -> None:
    quantiles = beta_quantiles(alpha).double()
    assert quantiles.isfinite().all() and (quantiles >= 0).all() and (quantiles <= 1).all()
    assert (quantiles.diff() >= 0).all()
    assert float(quantiles.mean()) == pytest.approx(0.5, abs=1e-6)
    variance = 1 / (4 * (2 * alpha + 1))
    assert float(quantiles.var(correction=0)) == pytest.approx(variance, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
@sizes
def test_mixup_blends_as_by_hand(height: int, width: int, alpha: float) -> None:
    images, others = (make_images(50, height, width, seed) for seed in (0, 1))
    draws = SampleRandom(torch.arange(50), 3)
    result, shares = mixed(images, others, draws, mixup=alpha, cutmix=0)
    table = beta_quantiles(alpha).tolist()
    for number, draw in enumerate(draws.uniform("mix", 4).tolist()):
        share = table[math.floor(draw[1] * 4096)]
        assert float(shares[number]) == pytest.approx(share, abs=1e-7)
        wanted = share * images[number] + (1 - share) * others[number]
        torch.testing.assert_close(result[number], wanted, rtol=0, atol=1e-6)


@sizes
def test_cutmix_pastes_a_box_as_by_hand_and_counts_the_pixels_that_stay(height: int, width: int) -> None:
    images, others = (make_images(50, height, width, seed) for seed in (0, 1))
    draws = SampleRandom(torch.arange(50), 3)
    result, shares = mixed(images, others, draws, mixup=0, cutmix=1.0)
    table = beta_quantiles(1.0)
    for number, draw in enumerate(draws.uniform("mix", 4).tolist()):
        side = float((1 - table[math.floor(draw[1] * 4096)]).sqrt())
        rows, columns = math.floor(height * side), math.floor(width * side)
        top, left = math.floor(draw[2] * height) - rows // 2, math.floor(draw[3] * width) - columns // 2
        wanted, stays = images[number].clone(), height * width
        for row in range(max(top, 0), min(top + rows, height)):
            for column in range(max(left, 0), min(left + columns, width)):
                wanted[:, row, column] = others[number, :, row, column]
                stays -= 1
        assert torch.equal(result[number], wanted)
        assert float(shares[number]) == pytest.approx(stays / (height * width), abs=1e-7)


def test_with_both_every_second_sample_takes_one_and_none_takes_two() -> None:
    images, draws = torch.zeros(2000, 1, 16, 16), SampleRandom(torch.arange(2000), 3)
    result, shares = mixed(images, images + 1, draws, mixup=1.0, cutmix=1.0)
    levels = result.flatten(1)
    torch.testing.assert_close(1 - levels.mean(1), shares, rtol=0, atol=1e-6)
    pasted = ((levels == 0) | (levels == 1)).all(1)
    blended = (levels == levels[:, :1]).all(1)
    assert (pasted | blended).all()
    assert abs(int((pasted & ~blended).sum()) - 950) < 5 * 22 + 50  # a box may be empty, or all


def test_shares_of_cutmix_reach_every_part_and_have_the_mean_of_clipped_boxes() -> None:
    images, draws = torch.zeros(4000, 1, 32, 32), SampleRandom(torch.arange(4000), 1)
    result, shares = mixed(images, images + 1, draws, mixup=0, cutmix=1.0)
    # a side s of a picture of side 1, about a uniform place: s - s²/4 of it is inside; s² is uniform, so the area is
    # E[(s - s²/4)²] = E[s²] - E[s³]/2 + E[s⁴]/16 = 1/2 - 1/5 + 1/48
    assert 1 - float(shares.mean()) == pytest.approx(0.5 - 0.2 + 1 / 48, abs=0.02)
    hits = result.mean(0)[0]
    assert float(hits.min()) > 0.1 and float((hits - hits.flip(0)).abs().max()) < 0.06


def test_a_sample_does_not_depend_on_its_batch_and_differs_in_another_epoch() -> None:
    images, others = make_images(30, 9, 7, 0), make_images(30, 9, 7, 1)
    mix = MixImages(mixup=0.4, cutmix=1.0, height=9, width=7)
    positions = torch.arange(100, 130)
    (together,) = mix((images,), (others,), SampleRandom(positions, 0, 1))
    for number in range(30):
        only = slice(number, number + 1)
        (alone,) = mix((images[only],), (others[only],), SampleRandom(positions[only], 0, 1))
        assert torch.equal(alone[0], together[number])
        assert float(mix.shares(SampleRandom(positions[only], 0, 1))) == float(
            mix.shares(SampleRandom(positions, 0, 1))[number]
        )
    assert not torch.equal(mix((images,), (others,), SampleRandom(positions, 0, 2))[0], together)


def test_other_inputs_pass_and_nothing_is_changed_in_place() -> None:
    images, others, sizes = make_images(4, 5, 5, 0), make_images(4, 5, 5, 1), torch.arange(4)
    before = images.clone(), others.clone()
    mix = MixImages(mixup=0.4, cutmix=1.0, height=5, width=5)
    _, passed = mix((images, sizes), (others, sizes + 1), SampleRandom(sizes, 0))
    assert passed is sizes
    assert torch.equal(images, before[0]) and torch.equal(others, before[1])


def test_nothing_is_mixed_where_both_keys_are_off() -> None:
    assert MixImages.from_keys({**OFF, "crop": 3, "policy": "rand"}, 8, 8) is None
    assert isinstance(MixImages.from_keys({**OFF, "mixup": 0.1}, 8, 8), MixImages)
    assert isinstance(MixImages.from_keys({**OFF, "cutmix": 0.1}, 8, 8), MixImages)
